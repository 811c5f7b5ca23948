"""Row 39: many people pay at once, on a machine that is busy with something else."""

import asyncio

from tests.chaos.load import PLACED_AT_ONCE, Buyer, PaidPurchase, Purchase
from tests.chaos.trial import Trial
from tests.load.checkouts import busy

WITHIN_S = 3.0
BUSY_LOOPS = 4

# An invoice is held for a minute once its charge was approved.
HELD_TOO_LATE = """
select count(*)
from bot.updates u
join bot.checkout_holds h on h.query_id = u.body -> 'pre_checkout_query' ->> 'id'
where u.lane = 'checkout' and u.reason = 'too old' and u.tries = 1
"""


async def rush(trial: Trial) -> None:
    """39: 300 people open their pay sheets within 3 s beside four processes that spin.

    Who is refused is not charged, and nothing is worked on that Telegram no longer waits for.
    """
    crowd, count = trial.shop.crowd, trial.size(300, 60)
    purchases = await _orders(trial, trial.load.next_buyers(count))
    before = await crowd.charges()
    with busy(BUSY_LOOPS):
        opened = (
            _pay_after(trial, purchase, place * WITHIN_S / count)
            for place, purchase in enumerate(purchases)
        )
        approved = [charge for charge in await asyncio.gather(*opened) if charge is not None]
    taken = (await crowd.charges()).keys() - before.keys()
    trial.expect("nobody is charged who was refused", taken == set(approved))
    trial.expect_share("approved while busy", len(approved) / count, 0.9)
    late = await trial.shop.fetch_value(HELD_TOO_LATE)
    trial.expect(f"no invoice is held for a pay sheet that is too old: {late}", not late)
    trial.faults.append(f"{count} people pay within {WITHIN_S:g} s beside {BUSY_LOOPS} busy loops")


async def _orders(trial: Trial, buyers: list[Buyer]) -> list[Purchase]:
    purchases: list[Purchase] = []
    for begin in range(0, len(buyers), PLACED_AT_ONCE):
        some = buyers[begin : begin + PLACED_AT_ONCE]
        placed = await asyncio.gather(*(trial.load.place_order(buyer) for buyer in some))
        purchases += [
            Purchase(buyer, invoice, "right") for buyer, invoice in zip(some, placed, strict=True)
        ]
    return purchases


async def _pay_after(trial: Trial, purchase: Purchase, seconds: float) -> str | None:
    await asyncio.sleep(seconds)
    charge = await trial.shop.crowd.check_out(purchase.charge)
    if charge is not None:
        trial.paid.append(PaidPurchase(charge, purchase))
    return charge
