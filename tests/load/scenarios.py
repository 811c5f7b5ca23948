"""The whole purchase: from Telegram's update to the key and the partner's reward at the Bot API.

getUpdates ─▶ bot ─▶ payments ─▶ referrals ─▶ payments, notifier ─▶ sendMessage (the reward)
                        └─▶ vpn ─▶ a real Xray ─▶ notifier ─▶ sendMessage (the key)
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from tests.load.bot_api import BotApi
from tests.load.pipeline import Run, check_effects, counts, cpu_us, evenly, until_quiescent
from tests.load.seed import Sale
from tests.load.testbed import Testbed
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
  (
    select count(*)
    from notifier.deliveries
    where kind = 'access_ready' and state = 'sent'
  ) as keys,
  (
    select count(*)
    from notifier.deliveries
    where kind = 'reward_earned' and state = 'sent'
  ) as reward_messages
"""

# Here each partner has one payer, and one reward.
REWARDS_BOOKED = """
select person, pg_xact_commit_timestamp(xmin) as at from payments.transfers where reason = 'reward'
"""


async def start_shop(
    testbed: Testbed, api: BotApi, settings: Mapping[str, str] | None = None
) -> None:
    """Start all five services and the node, without pacing: it would be the thing measured."""
    node = await XrayNode.start(testbed.folder / "xray", page_port=free_port())
    testbed.also_stop(node)
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
        await testbed.run(name, package, settings=given | link if name == "vpn" else given)


async def play(testbed: Testbed, api: BotApi, sold: Sequence[Sale], per_s: float | None) -> Run:
    """Pay all at once, or so many a second. Raises TimeoutError with the effects that lack."""
    cpu_before, before, began = testbed.cpu_s(), await counts(testbed, COUNTS), time.time()
    paid_at = dict.fromkeys(sold, began)
    if per_s is None:
        api.pay(sold)
    else:
        async for sale, due_at in evenly(sold, per_s):
            paid_at[sale] = due_at
            api.pay([sale])
    await _until_arrived(api, sold)
    await until_quiescent(testbed)
    await check_effects(testbed, COUNTS, before, len(sold))
    ended_at = await _ended_at(testbed, api, sold)
    latencies = tuple((ended_at[sale] - paid_at[sale]) * 1000 for sale in sold)
    took_s = max(ended_at.values()) - min(paid_at.values())
    return Run(len(sold), took_s, latencies, cpu_us(testbed, cpu_before, len(sold)))


async def _ended_at(testbed: Testbed, api: BotApi, sold: Sequence[Sale]) -> dict[Sale, float]:
    """When the last effect happened: the key, the reward's booking, or the reward's message."""
    rows = await testbed.fetch(REWARDS_BOOKED)
    booked_at = {row["person"]: row["at"].timestamp() for row in rows}
    return {
        sale: max(
            api.key_at[sale.telegram_id],
            api.message_at[sale.partner_telegram_id],
            booked_at[sale.partner],
        )
        for sale in sold
    }


async def _until_arrived(api: BotApi, sold: Sequence[Sale]) -> None:
    """Wait until every payer has their key and every partner the message about their reward."""
    ends_at = time.monotonic() + ARRIVE_TIMEOUT_S
    keys, rewards = {sale.telegram_id for sale in sold}, {sale.partner_telegram_id for sale in sold}
    while keys - api.key_at.keys() or rewards - api.message_at.keys():
        if time.monotonic() > ends_at:
            missing = len(keys - api.key_at.keys()), len(rewards - api.message_at.keys())
            raise TimeoutError(
                f"of {len(sold)} payments {missing[0]} keys and {missing[1]} rewards did not arrive"
            )
        await asyncio.sleep(POLL_S)
