"""The count after a row: each charge that was taken, in the ledger, in its effects, in chats.

The expected result follows from the actions of the driver (the payer, the order, the inviter),
never from the shop's own account of itself. Only balances are sums of the shop's own rows, whose
amounts are checked before.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tests.chaos.chats import check_chats
from tests.chaos.counted import Count
from tests.chaos.load import BUYS, PaidPurchase
from tests.chaos.shop import Shop
from tests.kit.acquirers import Taken
from vpn_provisioner.panels.xray.panel import XrayPanel

# Each charge with all of its effects, and how often each is found.
EFFECTS = """
with charged as (
  select * from unnest($1::text[], $3::text[]) as c (charge, acquirer)
), booked as (
  select c.charge, c.acquirer, r.id as receipt, r.payer, b.order_id, b.outcome, b.because,
    b.value_minor as worth_minor, o.price_minor,
    w.outcome as decided, w.partner, w.percent, w.reward_minor
  from charged c
  left join payments.receipts r on r.acquirer = c.acquirer and r.charge = c.charge
  left join payments.bookings b on b.receipt = r.id
  left join payments.orders o on o.id = b.order_id
  left join referrals.rewards w on w.receipt = r.id
)
select charge, acquirer, payer, order_id, outcome, because, worth_minor, price_minor,
  decided, partner, percent, reward_minor,
  count(receipt) over (partition by charge) as receipts,
  coalesce((
    select -sum(e.amount_minor)
    from payments.transfers t
    join payments.entries e on e.transfer = t.id
    join payments.accounts a on a.id = e.account and a.kind = 'clearing:' || acquirer
    where t.cause = acquirer || ':' || charge
  ), 0)::bigint as cleared,
  (
    select count(*)
    from payments.transfers t
    where t.cause = 'order:' || order_id and t.reason = 'purchase'
  ) as bought,
  (
    select array_agg((p.person, p.plan, p.months))
    from vpn.periods p
    where p.order_id = b.order_id
  ) as periods,
  (
    select count(*)
    from vpn.grants g
    where g.order_id = b.order_id and g.announced_at is not null
  ) as granted,
  (
    select count(*)
    from notifier.deliveries d
    where d.person = b.payer and d.cause = b.order_id::text and d.kind = 'access_ready'
      and (d.state = 'sent' or d.state = 'superseded' and exists (
        select
        from notifier.deliveries l
        where l.thread = d.thread and l.kind = 'left_over' and l.state = 'sent'
      ))
  ) as keys,
  (
    select count(*)
    from notifier.deliveries d
    where d.person = b.payer and d.cause = b.receipt::text and d.state = 'sent'
      and d.kind in ('topped_up', 'missing')
  ) as acknowledged,
  (
    select count(*)
    from payments.transfers t
    where t.cause = 'reward:' || receipt and t.reason = 'reward'
  ) as rewards,
  (
    select count(*)
    from notifier.deliveries d
    join notifier.recipients p using (person)
    where d.person = b.partner and d.cause = b.receipt::text and d.kind = 'reward_earned'
      and (d.state = 'sent' or d.state = 'unreachable' and p.chat_id = any($2::bigint[]))
  ) as reward_messages
from booked b
"""

BOOKED = """
select r.acquirer, r.charge, p.telegram_id, r.currency, r.amount_minor
from payments.receipts r
left join bot.people p on p.person = r.payer
"""

REWARDED = """
select r.charge, w.percent
from payments.receipts r
join referrals.rewards w on w.receipt = r.id
"""

# A partner's percent by the count of their paying friends, as shipped; no row changes it.
LEVELS = {50: 45, 25: 25, 1: 10}

# Each person's balance against the sum of its causes, computed here from insert-only rows.
BALANCES = """
with held as (
  select owner as person, sum(balance_minor) as minor
  from payments.accounts
  where owner is not null
  group by owner
), moved as (
  select r.payer as person, b.value_minor as minor
  from payments.bookings b
  join payments.receipts r on r.id = b.receipt
  where b.outcome <> 'suspense'
  union all
  select person, -price_minor
  from payments.orders
  where state in ('paid', 'partly_refunded', 'refunded') and what = 'subscription'
  union all
  select partner, reward_minor from referrals.rewards where outcome = 'rewarded'
  union all
  select r.payer, -f.value_minor
  from payments.refunds f
  join payments.receipts r on r.id = f.receipt
  where f.state = 'booked'
  union all
  select o.person, u.undone_minor
  from payments.undone_orders u
  join payments.orders o on o.id = u.order_id
  where o.what = 'subscription'
  union all
  select partner, -reversed_minor from referrals.reversals where partner is not null
), wanted as (
  select person, sum(minor) as minor from moved group by person
)
select person, coalesce(h.minor, 0) as held, coalesce(w.minor, 0) as wanted
from held h
full join wanted w using (person)
where coalesce(h.minor, 0) <> coalesce(w.minor, 0)
"""

# People who pressed /start and are unknown, not bound to their inviter, not announced to the
# inviter exactly once, or taken for unreachable.
WRONG_ARRIVALS = """
with arrived as (
  select * from unnest($1::bigint[], $2::text[]) as a (chat, code)
), seen as (
  select a.chat, p.person, i.person as inviter, r.person as known, r.partner,
    p.reachable, n.reachable as can_be_notified, a.chat = any($4::bigint[]) as blocks,
    (
      select count(*)
      from notifier.deliveries d
      join notifier.recipients t using (person)
      where d.person = i.person and d.cause = p.person::text and d.kind = 'friend_registered'
        and (d.state = 'sent' or d.state = 'unreachable' and t.chat_id = any($3::bigint[]))
    ) as messages
  from arrived a
  left join bot.people p on p.telegram_id = a.chat
  left join bot.people i on i.code = a.code
  left join referrals.people r on r.person = p.person
  left join notifier.recipients n on n.person = p.person
)
select chat, messages > 1 as twice, to_json(seen)::text as seen
from seen
where known is null or partner is distinct from inviter
  or messages <> (inviter is not null)::int
  or reachable = blocks or coalesce(can_be_notified, not blocks) = blocks
"""

FAILED_UPDATES = "select seq, reason from bot.updates where state = 'failed'"

LIVE_KEYS = "select person, key from vpn.subscriptions where state = 'live'"

Key = tuple[str, str]
"""An acquirer and its charge."""
Charge = tuple[int | None, str, int]
"""The chat of the payer, the currency and the amount."""


async def count_effects(shop: Shop, paid: Sequence[PaidPurchase], sent_again_before: int) -> Count:
    """Compare the charges of all acquirers with the rows of the shop.

    `sent_again_before` repeated messages belong to earlier rows.
    """
    count = Count(payments=len(paid))
    blocked = sorted(shop.crowd.blocked)
    acquirers = [one.purchase.acquirer for one in paid]
    rows = await shop.fetch(EFFECTS, [one.charge for one in paid], blocked, acquirers)
    effects = {(row["acquirer"], row["charge"]): row for row in rows}
    by_providers = await shop.tills.taken()
    for one in paid:
        key = one.purchase.acquirer, one.charge
        taken = by_providers.get(key)
        check_charge(one, effects[key], count, taken.cleared[1] if taken else None)
    charges = await _taken(shop, by_providers)
    await _check_receipts(shop, charges, count)
    await _check_levels(shop, charges, count)
    for row in await shop.fetch(BALANCES):
        sentence = f"person {row['person']} holds {row['held']} instead of {row['wanted']}"
        count.add(sentence, lost=row["held"] < row["wanted"], doubled=row["held"] > row["wanted"])
    for row in await shop.fetch(FAILED_UPDATES):
        count.add(f"update {row['seq']} failed: {row['reason']}", lost=True)
    await _check_arrivals(shop, blocked, count)
    await _check_node(shop, count)
    too_much = {one.purchase.invoice.order for one in paid if one.purchase.kind == "too much"}
    await check_chats(shop, too_much, count)
    count.sent_again -= sent_again_before
    return count


async def _taken(shop: Shop, by_providers: Mapping[tuple[str, str], Taken]) -> dict[Key, Charge]:
    """All that the acquirers took, by acquirer and charge. A payment of no Stars has no effects."""
    stars = {
        ("telegram_stars", charge): (chat, "XTR", amount)
        for charge, (chat, amount) in (await shop.crowd.charges()).items()
        if amount
    }
    return stars | {
        key: (shop.tills.payers.get(key), taken.currency, taken.amount_minor)
        for key, taken in by_providers.items()
    }


def check_charge(
    paid: PaidPurchase, row: Mapping[str, Any], count: Count, cleared: int | None = None
) -> None:
    """One charge. A late payment buys its order, or comes after a newer order has closed it.

    `cleared` is what reached the account at the provider; without it, Stars did.
    """
    purchase = paid.purchase
    buyer, invoice, kind = purchase.buyer, purchase.invoice, purchase.kind
    # Without its notice, money of a provider may come after the person's next purchase.
    may_be_late = kind == "late" or (kind in BUYS and purchase.reference != "")
    bought = row["outcome"] == "bought" if may_be_late else kind in BUYS
    period = (buyer.person, invoice.plan, invoice.months)
    periods: list[tuple[UUID, str, int]] = [tuple(one) for one in row["periods"] or []]
    wanted = {
        "receipts": 1,
        "cleared": purchase.charge.stars if cleared is None else cleared,
        "bought": int(bought),
        "periods": int(bought),
        "granted": int(bought),
        "keys": int(bought),
        "acknowledged": int(not bought),
        "rewards": int(buyer.inviter is not None),
        "reward_messages": int(buyer.inviter is not None),
    }
    seen = dict(row) | {"periods": len(periods)}
    fewer = [name for name, times in wanted.items() if seen[name] < times]
    more = [name for name, times in wanted.items() if seen[name] > times]
    expected = {
        "payer": buyer.person,
        "order_id": invoice.order,
        "outcome": "bought" if bought else "wallet",
        "worth_minor": purchase.worth_minor,
        "price_minor": invoice.price_minor,
        "decided": "rewarded" if buyer.inviter else "no_partner",
        "partner": buyer.inviter,
        "reward_minor": purchase.worth_minor * (row["percent"] or 0) // 100,
    }
    if may_be_late and not bought:
        expected["because"] = "order_closed"
    wrong = [
        f"{name} is {row[name]} instead of {right}"
        for name, right in expected.items()
        if row[name] != right
    ]
    wrong += [f"{one} was bought" for one in periods if one != period]
    if fewer or more or wrong:
        what = f"charge {paid.charge} ({kind})"
        sentence = f"{what} lacks {fewer}, has too often {more}; {', '.join(wrong)}"
        count.add(sentence, lost=bool(fewer or wrong), doubled=bool(more))


async def _check_receipts(shop: Shop, charges: Mapping[Key, Charge], count: Count) -> None:
    """All that the acquirers took against all receipts: the payer and the amount."""
    booked = {
        (row["acquirer"], row["charge"]): (row["telegram_id"], row["currency"], row["amount_minor"])
        for row in await shop.fetch(BOOKED)
    }
    for key in sorted(charges.keys() | booked.keys()):
        taken, receipt = charges.get(key), booked.get(key)
        if taken != receipt:
            sentence = f"charge {key[1]} was taken as {taken} and booked as {receipt}"
            count.add(sentence, lost=taken is not None, doubled=taken is None)


async def _check_levels(shop: Shop, charges: Mapping[Key, Charge], count: Count) -> None:
    """Each partner's rewards for all payments of friends, against the count of paying friends."""
    percents = {row["charge"]: row["percent"] for row in await shop.fetch(REWARDED)}
    friends: defaultdict[str, set[int]] = defaultdict(set)
    earned: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for (_, charge), (chat, _, _) in charges.items():
        if chat is None:
            continue
        if code := _code_in(shop.crowd.first_messages[chat]):
            friends[code].add(chat)
            earned[code][percents.get(charge)] += 1
    for code, chats in friends.items():
        if not rewards_match_levels(len(chats), earned[code]):
            paying = f"{len(chats)} friends invited by {code} paid"
            count.add(f"{paying}, and it earned by percent {dict(earned[code])}", lost=True)


def rewards_match_levels(paying: int, earned: Counter[int | None]) -> bool:
    """Whether so many paying friends can earn these percents, each so often, in any order.

    The first payment of each friend raises the count by one. Any other payment earns the percent
    of a level that was reached.
    """
    at_first = Counter[int | None](
        next(percent for begins, percent in LEVELS.items() if nth >= begins)
        for nth in range(1, paying + 1)
    )
    return at_first <= earned and earned.keys() == at_first.keys()


def _code_in(first_message: str) -> str:
    """The inviter's code in a first message; empty without an inviter."""
    return first_message.removeprefix("/start").strip().removeprefix("r_")


async def _check_arrivals(shop: Shop, blocked: list[int], count: Count) -> None:
    messages = shop.crowd.first_messages
    codes = [_code_in(text) for text in messages.values()]
    blocking = sorted(shop.crowd.blocking)
    for row in await shop.fetch(WRONG_ARRIVALS, list(messages), codes, blocked, blocking):
        sentence = f"the person of chat {row['chat']} arrived, and is {row['seen']}"
        count.add(sentence, lost=not row["twice"], doubled=row["twice"])


async def _check_node(shop: Shop, count: Count) -> None:
    """The users of the node itself, independent of the shop's last reading of it."""
    assert shop.node is not None
    panel = XrayPanel(shop.node.xray.api, shop.node.xray.inbound, flow="")
    try:
        on_node = {
            user.person_id: user.key async for user in panel.users() if user.person_id is not None
        }
    finally:
        await panel.close()
    live = {row["person"]: row["key"] for row in await shop.fetch(LIVE_KEYS)}
    for person in live.keys() | on_node.keys():
        if live.get(person) != on_node.get(person):
            has_key = f"person {person} has a key: {person in live}"
            sentence = f"{has_key}, and the node lets them in: {person in on_node}"
            count.add(sentence, lost=person in live, doubled=person not in live)
