"""The whole story measured: Telegram's update in, the key and the partner's reward handed to the Bot API.

getUpdates ─▶ bot ─▶ payments ─▶ referrals ─▶ payments, notifier ─▶ sendMessage (the reward)
                        └─▶ vpn ─▶ a real Xray ─▶ notifier ─▶ sendMessage (the key)
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence

from tests.load.bot_api import BotApi
from tests.load.ground import Ground
from tests.load.seed import Sale
from tests.load.spine import Run, cpu_us, evenly, settled
from turnpike_local.ports import free_port
from turnpike_local.xray import XrayNode

ARRIVE_TIMEOUT_S = 300.0
POLL_S = 0.1
UNPACED = {"TURNPIKE_BOT_MESSAGES_PER_S": "1000", "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "1000"}

COUNTS = """
select
  (select count(*) from payments.transfers where reason = 'purchase') as bought,
  (select count(*) from payments.transfers where reason = 'reward') as rewarded,
  (select count(*) from vpn.access_jobs where state = 'agreed' and present) as on_the_node,
  (select count(*) from notifier.deliveries where kind = 'access_ready' and state = 'sent') as keys,
  (select count(*) from notifier.deliveries where kind = 'reward_earned' and state = 'sent') as rewards_told
"""

# A story's partner has one payer here, and one reward.
REWARDS_BOOKED = """
select person, pg_xact_commit_timestamp(xmin) as at from payments.transfers where reason = 'reward'
"""


async def start_shop(ground: Ground, api: BotApi, settings: Mapping[str, str] | None = None) -> None:
    """All five services, the node, and no limit of Telegram's in the way: that limit would be what is measured."""
    node = await XrayNode.start(ground.folder / "xray", page_port=free_port())
    ground.also_stop(node)
    given = dict(settings or {}) | api.settings | UNPACED
    link = {
        "TURNPIKE_VPN_XRAY_API": node.api,
        "TURNPIKE_VPN_XRAY_INBOUND": node.inbound,
        "TURNPIKE_VPN_XRAY_LINK": node.link_template,
    }
    for name, package in (
        ("payments", "payments"),
        ("referrals", "referrals"),
        ("vpn", "vpn_provisioner"),
        ("notifier", "notifier"),
        ("bot", "bot_gateway"),
    ):
        await ground.run(name, package, settings=given | link if name == "vpn" else given)


async def play(ground: Ground, api: BotApi, sold: Sequence[Sale], per_s: float | None) -> Run:
    """All at once, or evenly so many a second. Raises TimeoutError with what is missing."""
    cpu_before, before, began = ground.cpu_s(), await _counts(ground), time.time()
    paid_at = dict.fromkeys(sold, began)
    if per_s is None:
        api.pay(sold)
    else:
        async for sale, due_at in evenly(sold, per_s):
            paid_at[sale] = due_at
            api.pay([sale])
    await _until_told(api, sold)
    await settled(ground.broker)
    gained = {name: count - before[name] for name, count in (await _counts(ground)).items()}
    assert gained == dict.fromkeys(gained, len(sold)), f"of {len(sold)} payments there are {json.dumps(gained)}"
    ended_at = await _ended_at(ground, api, sold)
    latencies = tuple((ended_at[sale] - paid_at[sale]) * 1000 for sale in sold)
    took_s = max(ended_at.values()) - min(paid_at.values())
    return Run(len(sold), took_s, latencies, cpu_us(ground, cpu_before, len(sold)))


async def _ended_at(ground: Ground, api: BotApi, sold: Sequence[Sale]) -> dict[Sale, float]:
    """When the last happened: the payer's key has arrived, the partner's reward is booked and he has heard of it."""
    booked_at = {row["person"]: row["at"].timestamp() for row in await ground.fetch(REWARDS_BOOKED)}
    return {
        sale: max(api.key_at[sale.telegram_id], api.told_at[sale.partner_telegram_id], booked_at[sale.partner])
        for sale in sold
    }


async def _until_told(api: BotApi, sold: Sequence[Sale]) -> None:
    """Every payer has his key, every partner has heard of his reward."""
    ends_at = time.monotonic() + ARRIVE_TIMEOUT_S
    keys, rewards = {sale.telegram_id for sale in sold}, {sale.partner_telegram_id for sale in sold}
    while keys - api.key_at.keys() or rewards - api.told_at.keys():
        if time.monotonic() > ends_at:
            missing = len(keys - api.key_at.keys()), len(rewards - api.told_at.keys())
            raise TimeoutError(f"of {len(sold)} payments {missing[0]} keys and {missing[1]} rewards did not arrive")
        await asyncio.sleep(POLL_S)


async def _counts(ground: Ground) -> dict[str, int]:
    (row,) = await ground.fetch(COUNTS)
    return dict(row)
