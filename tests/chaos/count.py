"""The count after a row: each charge that Telegram took, in the book, in every effect it has, and in the chats."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.load import BUYS, Paid
from tests.chaos.shop import Shop

# How often each charge is found in every place that it must reach.
FOUND = """
with charged as (
  select * from unnest($1::text[]) as c (charge)
), booked as (
  select c.charge, r.id as receipt, r.payer, b.order_id, b.outcome, w.outcome as decided, w.partner
  from charged c
  left join payments.receipts r on r.acquirer = 'telegram_stars' and r.charge = c.charge
  left join payments.bookings b on b.receipt = r.id
  left join referrals.rewards w on w.receipt = r.id
)
select charge, outcome, decided,
  count(receipt) over (partition by charge) as receipts,
  coalesce((
    select sum(e.amount_minor)
    from payments.transfers t
    join payments.entries e on e.transfer = t.id
    join payments.accounts a on a.id = e.account and a.kind = 'clearing:telegram_stars'
    where t.cause = 'telegram_stars:' || charge
  ), 0)::bigint as stars,
  (select count(*) from payments.transfers t where t.cause = 'order:' || order_id and t.reason = 'purchase') as bought,
  (select count(*) from vpn.periods p where p.order_id = b.order_id) as periods,
  (select count(*) from vpn.grants g where g.order_id = b.order_id and g.told_at is not null) as granted,
  (
    select count(*) from notifier.deliveries d
    where d.person = b.payer and d.cause = b.order_id::text and d.kind = 'access_ready' and d.state = 'sent'
  ) as keys,
  (
    select count(*) from notifier.deliveries d
    where d.person = b.payer and d.cause = b.receipt::text and d.state = 'sent'
      and d.kind in ('topped_up', 'missing', 'left_over')
  ) as acknowledged,
  (select count(*) from payments.transfers t where t.cause = 'reward:' || receipt and t.reason = 'reward') as rewards,
  (
    select count(*) from notifier.deliveries d
    where d.person = b.partner and d.cause = b.receipt::text and d.kind = 'reward_earned'
      and d.state in ('sent', 'unreachable')
  ) as rewards_told
from booked b
"""

# What everybody holds against what came and went, added up here once more from what is insert-only.
HELD = """
with held as (
  select owner as person, sum(balance_minor) as minor
  from payments.accounts
  where owner is not null
  group by owner
), came as (
  select r.payer as person, b.value_minor as minor
  from payments.bookings b
  join payments.receipts r on r.id = b.receipt
  where b.outcome <> 'suspense'
  union all
  select person, -price_minor from payments.orders where state = 'paid'
  union all
  select partner, reward_minor from referrals.rewards where outcome = 'rewarded'
), wanted as (
  select person, sum(minor) as minor from came group by person
)
select person, coalesce(h.minor, 0) as held, coalesce(w.minor, 0) as wanted
from held h
full join wanted w using (person)
where coalesce(h.minor, 0) <> coalesce(w.minor, 0)
"""

# What the chats must show, by the emoji that the message begins with.
TOLD = """
select r.chat_id as chat,
  count(*) filter (where d.kind = 'access_ready') as "✅",
  count(*) filter (where d.kind = 'reward_earned') as "🎁",
  count(*) filter (where d.kind in ('topped_up', 'missing', 'left_over')) as "💰"
from notifier.deliveries d
join notifier.recipients r using (person)
where d.state = 'sent' and r.chat_id is not null
group by r.chat_id
"""
KINDS = ("✅", "🎁", "💰")


@dataclass
class Count:
    """How many charges are short of an effect, how many have one twice, and how many messages were said again."""

    payments: int = 0
    lost: int = 0
    doubled: int = 0
    said_again: int = 0
    examples: list[str] = field(default_factory=list)
    chats: list[str] = field(default_factory=list)


async def counted(shop: Shop, paid: Sequence[Paid], said_before: int) -> Count:
    """Hold what Telegram took against what the shop has of it. `said_before` repeats are of earlier rows."""
    count = Count(payments=len(paid))
    rows = Counter[str]()
    found = {row["charge"]: row for row in await shop.asked(FOUND, [one.charge for one in paid])}
    for one in paid:
        rows[one.charge] += 1
        _hold(one, found[one.charge], count)
    for row in await shop.asked(HELD):
        count.doubled += row["held"] > row["wanted"]
        count.lost += row["held"] < row["wanted"]
        count.examples.append(f"person {row['person']} holds {row['held']}, and {row['wanted']} came and went")
    await _hold_chats(shop, count)
    count.said_again -= said_before
    return count


def _hold(paid: Paid, row: Any, count: Count) -> None:
    bought = row["outcome"] == "bought"
    rewarded = row["decided"] == "rewarded"
    wanted = {
        "receipts": 1,
        "stars": paid.wanted.charge.stars,
        "bought": int(bought),
        "periods": int(bought),
        "granted": int(bought),
        "keys": int(bought),
        "acknowledged": int(not bought or paid.wanted.kind == "too much"),
        "rewards": int(rewarded),
        "rewards_told": int(rewarded),
    }
    fewer = [name for name, times in wanted.items() if abs(row[name]) < times]
    more = [name for name, times in wanted.items() if abs(row[name]) > times]
    if row["decided"] is None:
        fewer.append("a decision about its reward")
    if not bought and paid.wanted.kind in BUYS:
        fewer.append(f"what it was paid for ({row['outcome']})")
    count.lost += bool(fewer)
    count.doubled += bool(more)
    if fewer or more:
        count.examples.append(f"charge {paid.charge} ({paid.wanted.kind}) lacks {fewer}, has too often {more}")


async def _hold_chats(shop: Shop, count: Count) -> None:
    """A message that the shop says it sent, and the chat does not show, is lost; one more than that was said again."""
    seen: Mapping[int, Mapping[str, int]] = await shop.crowd.said()
    told = {row["chat"]: row for row in await shop.asked(TOLD)}
    for chat, kinds in seen.items():
        for kind in KINDS:
            wanted = told[chat][kind] if chat in told else 0
            shown = kinds.get(kind, 0)
            count.lost += max(0, wanted - shown)
            count.said_again += max(0, shown - wanted)
            if wanted != shown:
                count.chats.append(f"chat {chat} shows {shown} of {wanted} messages with {kind}")
