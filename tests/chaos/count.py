"""The count after a row: each charge that Telegram took, in the book, in every effect it has, and in the chats.

What must be there follows from what the driver did (who paid what for which order, and who invited him), never from
what the shop says of itself. Only balances are added up from the shop's own rows, whose amounts are held before.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.chaos.load import BUYS, Paid
from tests.chaos.shop import Shop
from vpn_provisioner.panels.xray import XrayPanel

# Each charge in every place that it must reach, and how often it is found there.
FOUND = """
with charged as (
  select * from unnest($1::text[]) as c (charge)
), booked as (
  select c.charge, r.id as receipt, r.payer, b.order_id, b.outcome, b.value_minor as worth_minor, o.price_minor,
    w.outcome as decided, w.partner, w.percent, w.reward_minor
  from charged c
  left join payments.receipts r on r.acquirer = 'telegram_stars' and r.charge = c.charge
  left join payments.bookings b on b.receipt = r.id
  left join payments.orders o on o.id = b.order_id
  left join referrals.rewards w on w.receipt = r.id
)
select charge, payer, order_id, outcome, worth_minor, price_minor, decided, partner, percent, reward_minor,
  count(receipt) over (partition by charge) as receipts,
  coalesce((
    select -sum(e.amount_minor)
    from payments.transfers t
    join payments.entries e on e.transfer = t.id
    join payments.accounts a on a.id = e.account and a.kind = 'clearing:telegram_stars'
    where t.cause = 'telegram_stars:' || charge
  ), 0)::bigint as stars,
  (select count(*) from payments.transfers t where t.cause = 'order:' || order_id and t.reason = 'purchase') as bought,
  (select array_agg((p.person, p.plan, p.months)) from vpn.periods p where p.order_id = b.order_id) as periods,
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
    join notifier.recipients p using (person)
    where d.person = b.partner and d.cause = b.receipt::text and d.kind = 'reward_earned'
      and (d.state = 'sent' or d.state = 'unreachable' and p.chat_id = any($2::bigint[]))
  ) as rewards_told
from booked b
"""

BOOKED = """
select r.charge, p.telegram_id, r.amount_minor
from payments.receipts r
left join bot.people p on p.person = r.payer
where r.acquirer = 'telegram_stars'
"""

REWARDED = """
select r.charge, w.percent
from payments.receipts r
join referrals.rewards w on w.receipt = r.id
where r.acquirer = 'telegram_stars'
"""

# From how many paying friends a partner earns how much, as shipped; no row changes it.
LEVELS = {50: 45, 25: 25, 1: 10}

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

# Who pressed /start and is not met, not bound to whom he came from, not told to him once, or taken for one who left.
AMISS = """
with arrived as (
  select * from unnest($1::bigint[], $2::text[]) as a (chat, code)
), seen as (
  select a.chat, p.person, i.person as inviter, r.person as known, r.partner, p.reachable, n.reachable as can_be_told,
    (
      select count(*) from notifier.deliveries d
      join notifier.recipients t using (person)
      where d.person = i.person and d.cause = p.person::text and d.kind = 'friend_registered'
        and (d.state = 'sent' or d.state = 'unreachable' and t.chat_id = any($3::bigint[]))
    ) as told
  from arrived a
  left join bot.people p on p.telegram_id = a.chat
  left join bot.people i on i.code = a.code
  left join referrals.people r on r.person = p.person
  left join notifier.recipients n on n.person = p.person
)
select chat, told > 1 as twice, to_json(seen)::text as seen
from seen
where known is null or partner is distinct from inviter or told <> (inviter is not null)::int
  or not reachable or not coalesce(can_be_told, true)
"""

FAILED = "select seq, reason from bot.updates where state = 'failed'"

LIVE = "select person, key from vpn.subscriptions where state = 'live'"

SENT = """
select r.chat_id, d.message_id, d.kind, d.story, s.key
from notifier.deliveries d
join notifier.recipients r using (person)
left join vpn.subscriptions s using (person)
where d.state = 'sent'
"""

# What a message begins with. One that says "is being issued" becomes the one with the key.
MARKS = {
    "paid_issuing": ("⏳", "✅"),
    "access_ready": ("✅",),
    "access_ended": ("⌛",),
    "reward_earned": ("🎁",),
    "friend_registered": ("👋 A friend",),  # The welcome waves, too.
    "topped_up": ("💰",),
    "missing": ("💰",),
    "left_over": ("💰",),
}


@dataclass
class Count:
    """How many charges are short of an effect, how many have one twice, and how many messages were said again."""

    payments: int = 0
    lost: int = 0
    doubled: int = 0
    said_again: int = 0
    examples: list[str] = field(default_factory=list)
    chats: list[str] = field(default_factory=list)

    def note(self, example: str, *, lost: bool = False, doubled: bool = False) -> None:
        self.lost += lost
        self.doubled += doubled
        self.examples.append(example)


async def counted(shop: Shop, paid: Sequence[Paid], said_before: int) -> Count:
    """Hold what Telegram took against what the shop has of it. `said_before` repeats are of earlier rows."""
    count = Count(payments=len(paid))
    blocked = sorted(shop.crowd.blocked)
    found = {row["charge"]: row for row in await shop.asked(FOUND, [one.charge for one in paid], blocked)}
    for one in paid:
        hold(one, found[one.charge], count)
    # No Stars are no money.
    taken = {charge: whose for charge, whose in (await shop.crowd.taken()).items() if whose[1]}
    await _hold_charges(shop, taken, count)
    await _hold_levels(shop, taken, count)
    for row in await shop.asked(HELD):
        sentence = f"person {row['person']} holds {row['held']}, and {row['wanted']} came and went"
        count.note(sentence, lost=row["held"] < row["wanted"], doubled=row["held"] > row["wanted"])
    for row in await shop.asked(FAILED):
        count.note(f"update {row['seq']} failed: {row['reason']}", lost=True)
    await _hold_arrivals(shop, blocked, count)
    await _hold_node(shop, count)
    await _hold_chats(shop, count)
    count.said_again -= said_before
    return count


def hold(paid: Paid, row: Mapping[str, Any], count: Count) -> None:
    """One charge. Money for an order that a newer one is about to close buys it, or comes too late."""
    member, invoice, kind = paid.wanted.member, paid.wanted.invoice, paid.wanted.kind
    bought = kind in BUYS or (kind == "late" and row["outcome"] == "bought")
    period = (member.person, invoice.plan, invoice.months)
    periods: list[tuple[UUID, str, int]] = [tuple(one) for one in row["periods"] or []]
    wanted = {
        "receipts": 1,
        "stars": paid.wanted.charge.stars,
        "bought": int(bought),
        "periods": int(bought),
        "granted": int(bought),
        "keys": int(bought),
        "acknowledged": int(not bought or kind == "too much"),
        "rewards": int(member.inviter is not None),
        "rewards_told": int(member.inviter is not None),
    }
    seen = dict(row) | {"periods": len(periods)}
    fewer = [name for name, times in wanted.items() if seen[name] < times]
    more = [name for name, times in wanted.items() if seen[name] > times]
    expected = {
        "payer": member.person,
        "order_id": invoice.order,
        "outcome": "bought" if bought else "wallet",
        "worth_minor": paid.wanted.worth_minor,
        "price_minor": invoice.price_minor,
        "decided": "rewarded" if member.inviter else "no_partner",
        "partner": member.inviter,
        "reward_minor": paid.wanted.worth_minor * (row["percent"] or 0) // 100,
    }
    wrong = [f"{name} is {row[name]} instead of {right}" for name, right in expected.items() if row[name] != right]
    wrong += [f"{one} was bought" for one in periods if one != period]
    if fewer or more or wrong:
        sentence = f"charge {paid.charge} ({kind}) lacks {fewer}, has too often {more}; {', '.join(wrong)}"
        count.note(sentence, lost=bool(fewer or wrong), doubled=bool(more))


async def _hold_charges(shop: Shop, taken: Mapping[str, tuple[int, int]], count: Count) -> None:
    """All that Telegram ever took, against all receipts: whose money it is, and how much."""
    booked = {row["charge"]: (row["telegram_id"], row["amount_minor"]) for row in await shop.asked(BOOKED)}
    for charge in sorted(taken.keys() | booked.keys()):
        if taken.get(charge) != booked.get(charge):
            sentence = f"charge {charge} was taken as {taken.get(charge)} and booked as {booked.get(charge)}"
            count.note(sentence, lost=charge in taken, doubled=charge not in taken)


async def _hold_levels(shop: Shop, taken: Mapping[str, tuple[int, int]], count: Count) -> None:
    """What each partner earned of all that his friends ever paid, against how many of them did."""
    percents = {row["charge"]: row["percent"] for row in await shop.asked(REWARDED)}
    friends: defaultdict[str, set[int]] = defaultdict(set)
    earned: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for charge, (chat, _) in taken.items():
        if code := _code_in(shop.crowd.arrived[chat]):
            friends[code].add(chat)
            earned[code][percents.get(charge)] += 1
    for code, chats in friends.items():
        if not as_levels_say(len(chats), earned[code]):
            count.note(
                f"by {code} came {len(chats)} who paid, and it earned by percent {dict(earned[code])}", lost=True
            )


def as_levels_say(paying: int, earned: Counter[int | None]) -> bool:
    """Whether so many friends can have earned him these percents, each so often, whoever of them was heard first.

    The first money of each makes them one more; whatever else they pay earns the percent of a level that was reached.
    """
    at_first = Counter[int | None](
        next(percent for begins, percent in LEVELS.items() if nth >= begins) for nth in range(1, paying + 1)
    )
    return at_first <= earned and earned.keys() == at_first.keys()


def _code_in(said: str) -> str:
    """By whose code somebody came who said this first; empty when he came alone."""
    return said.removeprefix("/start").strip().removeprefix("r_")


async def _hold_arrivals(shop: Shop, blocked: list[int], count: Count) -> None:
    codes = [_code_in(said) for said in shop.crowd.arrived.values()]
    for row in await shop.asked(AMISS, list(shop.crowd.arrived), codes, blocked):
        count.note(f"who arrived in chat {row['chat']}: {row['seen']}", lost=not row["twice"], doubled=row["twice"])


async def _hold_node(shop: Shop, count: Count) -> None:
    """The node itself is asked whom it lets in; what the shop last saw of it is another matter."""
    assert shop.node is not None
    panel = XrayPanel(shop.node.xray.api, shop.node.xray.inbound, flow="")
    try:
        held = {user.person_id: user.key async for user in panel.users() if user.person_id is not None}
    finally:
        await panel.close()
    live = {row["person"]: row["key"] for row in await shop.asked(LIVE)}
    for person in live.keys() | held.keys():
        if live.get(person) != held.get(person):
            sentence = f"person {person} has a key: {person in live}, and the node lets it in: {person in held}"
            count.note(sentence, lost=person in live, doubled=person not in live)


async def _hold_chats(shop: Shop, count: Count) -> None:
    """Each message that the shop says it sent is in its chat; one of its kind that no delivery knows was said again."""
    seen = await shop.crowd.said()
    whose: dict[tuple[int, int], UUID | None] = {}
    for row in await shop.asked(SENT):
        place = (row["chat_id"], row["message_id"])
        text = seen.get(place[0], {}).get(place[1], "")
        if not text.startswith(MARKS[row["kind"]]) or (row["kind"] == "access_ready" and str(row["key"]) not in text):
            count.note(f"chat {place[0]} shows {text[:40]!r} where {row['kind']} was sent", lost=True)
        if place in whose and (whose[place] is None or whose[place] != row["story"]):
            count.note(f"message {place[1]} of chat {place[0]} is two deliveries", lost=True)
        whose[place] = row["story"]
    marks = tuple({mark for kind in MARKS.values() for mark in kind})
    for chat, texts in seen.items():
        for number, text in texts.items():
            if text.startswith(marks) and (chat, number) not in whose:
                count.said_again += 1
                count.chats.append(f"message {number} of chat {chat} is of no delivery: {text[:40]!r}")
