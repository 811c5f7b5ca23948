"""Row 28: Telegram is away for longer than it keeps updates; its listing has what they reported."""

import time

from bot_gateway.domain.star_transactions import PAGE
from bot_gateway.workers.star_walk import FIRST_AFTER_S, LOOK_FOR_DUE_EVERY_S, PACE_S
from tests.chaos.trial import Trial
from tests.kit.waiting import until
from turnpike_local.sandbox import SandboxClient

AWAY_S = 3_600  # Until the row ends it.
PAGE_S = 1.5 * PACE_S
"""A page with its pause and its transaction."""
FROM_TO_END_PAGES = 4

WALK = "update bot.star_walks set due_at = now()"
WALKED = "select coalesce(max(walked), 0) from bot.star_walks"


async def updates_dropped(trial: Trial) -> None:
    """28 (R-60): Telegram takes payments, delivers nothing for a day, and drops the updates.

    The walk over its listing of Stars finds each payment, by its pages of a hundred a second. The
    others pay afterwards: the message about a reward that Telegram answers unclearly stays unknown.
    """
    shop = trial.shop
    purchases = await trial.load.place_orders(trial.size(800, 200))
    in_stars = [one for one in purchases if not one.reference]
    assert shop.sandbox is not None
    async with SandboxClient(shop.sandbox.url) as telegram:
        await telegram.go_down(AWAY_S)
        await trial.pay(in_stars)
        dropped = await telegram.drop_updates()
        await telegram.recover()
    trial.faults.append(f"{dropped} updates about {len(in_stars)} payments dropped")
    trial.expect("every report is dropped", dropped >= len(in_stars))
    await trial.pay([one for one in purchases if one.reference])
    listed, began = len(await shop.crowd.charges()), time.monotonic()
    pages = (listed - await shop.fetch_value(WALKED)) / (PAGE - 1) + FROM_TO_END_PAGES
    within_s = FIRST_AFTER_S + LOOK_FOR_DUE_EVERY_S + pages * PAGE_S
    await shop.fetch(WALK)

    async def is_walked() -> bool:
        return bool(await shop.fetch_value(WALKED) >= listed)

    await until(is_walked, within_s=3 * within_s)
    took_s = time.monotonic() - began
    trial.figures.append(f"walked in {took_s:.1f} s (at most {within_s:.0f})")
    trial.expect("the walk keeps its pace", trial.short or took_s <= within_s)
