"""Row 18: every stream in random order, to services that handle it as it comes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from nats.aio.msg import Msg

from shared.contracts.payments import OpenedInvoice
from shared.contracts.streams import DUPLICATE_WINDOW, SUBSCRIPTIONS, stream_of
from tests.chaos.crowd import Charge
from tests.chaos.load import AT_ONCE_PER_S, Buyer, Load, PaidPurchase, Purchase
from tests.chaos.shop import Shop
from tests.chaos.streams import (
    REQUEST_S,
    SHORTEST_WINDOW_S,
    call,
    last_sequences,
    paused,
    publish,
    set_duplicate_windows,
    until_published,
)
from tests.chaos.trial import Trial

REORDERED_WITHIN = 1_000
IN_PARTS_ONE_OF = 4
FORGOTTEN_WITHIN_S = 10.0
# A change of plan converts the rest in whole hours, and the two loads buy minutes apart.
ENDS_WITHIN_S = 6 * 3600.0

# Notifier's handlers of events by services that handle payments themselves.
AFTER_PAYMENTS = [
    subscription.handler
    for subscription in SUBSCRIPTIONS
    if subscription.service == "notifier" and subscription.owner in ("referrals", "vpn")
]


async def all_in_disorder(trial: Trial) -> None:
    """18: full reorder within 1 000 messages: the same final state as in order.

    Everyone buys several times, of two plans, many in two parts. Messages come one by one to
    running services: a batch, in which a handler sorts, holds few of them.
    """
    shop, people, seed = trial.shop, trial.size(350, 40), trial.random.random()
    purchases = range(trial.size(3, 2))
    in_order, shuffled = Load(shop, Random(seed)), Load(shop, Random(seed))
    parts: list[str] = []
    await in_order.add_people(people)
    for nth in purchases:
        paid = await in_order.pay(await _purchases(in_order, Random(f"{seed} {nth}")), trial.per_s)
        await trial.expect_quiescent("the shop with messages in order")
        parts += await _add_paid(trial, paid)

    begins = await last_sequences(shop)
    await shop.stop("referrals", "vpn", "notifier")
    await shuffled.add_people(people)
    for nth in purchases:
        wanted = await _purchases(shuffled, Random(f"{seed} {nth}"))
        await shop.stop("payments")
        paid = await shuffled.pay(wanted, AT_ONCE_PER_S)
        await until_published(shop, "bot")
        reported = await take(shop, "bot", begins["bot"])
        await shop.start("payments")
        await put_back(trial, reported)
        await until_published(shop, "payments")
        parts += await _add_paid(trial, paid)
    booked = await take(shop, "payments", begins["payments"])
    async with paused(shop, *AFTER_PAYMENTS):
        await asyncio.gather(*(shop.start(name) for name in ("referrals", "vpn", "notifier")))
        await put_back(trial, booked)
        await until_published(shop, "referrals", "vpn")
        followed = [await take(shop, owner, begins[owner]) for owner in ("referrals", "vpn")]
    for messages in followed:
        await put_back(trial, messages)
    await trial.expect_quiescent("the shop with messages in disorder", 120)
    counts = [len(messages) for messages in (reported, booked, *followed)]
    trial.faults.append(f"{', '.join(map(str, counts))} messages of four streams in random order")
    sent = await shop.fetch_value(ACKNOWLEDGED, parts)
    trial.expect(
        f"each of {len(parts)} first parts is acknowledged once: {sent}", sent == len(parts)
    )
    await _compare(trial, in_order.buyers, shuffled.buyers)


@dataclass(frozen=True)
class PartialPayment(Purchase):
    """One of two payments for one order."""

    stars: int = 0

    @property
    def charge(self) -> Charge:
        return Charge(self.buyer.chat, self.invoice.payload, self.stars)


async def _purchases(load: Load, random: Random) -> list[Purchase]:
    """One purchase of each buyer, by `random`: paying draws from the load's own as well.

    A buyer of too little pays the rest, too, and a Star more, in parts of which each is worth the
    same in either order. The next purchase comes after this one, because a newer order that is paid
    first would close this one.
    """
    load.random = random
    purchases = await load.place_orders(len(load.buyers), late=False, only_stars=True)
    rests: list[Purchase] = []
    for place, one in enumerate(purchases):
        if one.kind == "too little" or (one.kind == "right" and place % IN_PARTS_ONE_OF == 0):
            half = _half(one.invoice)
            rest = one.invoice.asked_minor - half + 1
            purchases[place] = PartialPayment(one.buyer, one.invoice, "too little", stars=half)
            rests.append(PartialPayment(one.buyer, one.invoice, "too little", stars=rest))
    return purchases + rests


def _half(invoice: OpenedInvoice) -> int:
    """About half of the asked Stars. Together with the rest it gains nothing by rounding once."""
    price_minor, asked = invoice.price_minor, invoice.asked_minor
    halves = range(asked // 2, 0, -1)
    return next(half for half in halves if half * price_minor % asked <= price_minor % asked)


OUTCOMES = """
select r.charge, b.outcome
from payments.receipts r
join payments.bookings b on b.receipt = r.id
where r.charge = any($1::text[])
"""

# The message about the missing rest, which is sent once.
ACKNOWLEDGED = """
select count(*)
from payments.receipts r
join notifier.deliveries d
  on d.cause = r.id::text and d.kind = 'missing' and d.state = 'sent'
where r.charge = any($1::text[])
"""


async def _add_paid(trial: Trial, paid: Sequence[PaidPurchase]) -> list[str]:
    """Add to the payments of the trial; returns the charges of the parts that did not buy.

    Of two parts the last one buys, whichever that is, and is too much by the extra Star.
    """
    parts = [one for one in paid if isinstance(one.purchase, PartialPayment)]
    rows = await trial.shop.fetch(OUTCOMES, [one.charge for one in parts])
    outcomes = {row["charge"]: row["outcome"] for row in rows}
    first = [one.charge for one in parts if outcomes.get(one.charge) == "wallet"]
    last = [one for one in parts if outcomes.get(one.charge) == "bought"]
    orders = {one.purchase.invoice.order for one in last}
    trial.expect(
        f"of two parts one buys: {len(last)} for {len(orders)} orders, {len(first)} do not",
        len(parts) == 2 * len(orders) == 2 * len(last) == 2 * len(first),
    )
    trial.paid += [one for one in paid if one not in parts]
    trial.paid += [replace(one, purchase=replace(one.purchase, kind="too much")) for one in last]
    return first


STATE = """
select m.place,
  (
    select string_agg(format('%s %s', kind, balance_minor), ',' order by kind)
    from payments.accounts a
    where a.owner = m.person and balance_minor <> 0
  ) as held,
  (
    select string_agg(format('%s %s', plan, state), ',' order by plan, state)
    from payments.orders o
    where o.person = m.person
  ) as orders,
  (
    select string_agg(format('%s %s', plan, state), ',')
    from vpn.subscriptions s
    where s.person = m.person
  ) as access,
  (select sum(months) from vpn.periods p where p.person = m.person) as months,
  (
    select string_agg(
      format('%s %s %s', outcome, percent, reward_minor), ',' order by percent, reward_minor
    )
    from referrals.rewards w
    where w.payer = m.person
  ) as rewards,
  (
    select string_agg(state, ',' order by state)
    from referrals.invitations i
    where i.invitee = m.person
  ) as invitation,
  (
    select string_agg(format('%s %s', kind, state), ',' order by kind, state)
    from notifier.deliveries d
    where d.person = m.person and kind not in ('paid_issuing', 'left_over')
  ) as messages
from unnest($1::uuid[]) with ordinality as m (person, place)
order by m.place
"""

LASTS = """
select coalesce((
    select extract(epoch from s.ends_at - (
      select min(booked_at) from vpn.periods p where p.person = m.person
    ))
    from vpn.subscriptions s
    where s.person = m.person
  ), 0)::float8 as seconds
from unnest($1::uuid[]) with ordinality as m (person, place)
order by m.place
"""


async def _compare(trial: Trial, in_order: Sequence[Buyer], shuffled: Sequence[Buyer]) -> None:
    one, other = await _state(trial.shop, in_order), await _state(trial.shop, shuffled)
    different = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    count = f"{len(different)} of {len(one)} people differ"
    trial.expect(f"the final state is the same, {count}: {different[:2]}", not different)
    lasts = zip(
        await _lasts_s(trial.shop, in_order), await _lasts_s(trial.shop, shuffled), strict=True
    )
    other_end = [pair for pair in lasts if abs(pair[0] - pair[1]) > ENDS_WITHIN_S or not all(pair)]
    trial.expect(
        f"access lasts as long, it does not for {len(other_end)}: {other_end[:2]}", not other_end
    )


async def _state(shop: Shop, buyers: Sequence[Buyer]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await shop.fetch(STATE, [buyer.person for buyer in buyers])]


async def _lasts_s(shop: Shop, buyers: Sequence[Buyer]) -> list[float]:
    """From the first purchase to the end of the access."""
    rows = await shop.fetch(LASTS, [buyer.person for buyer in buyers])
    return [row["seconds"] for row in rows]


async def take(shop: Shop, owner: str, after: int) -> list[Msg]:
    """Take the messages after a sequence, and leave the stream empty, without any known id."""
    stream = stream_of(owner)
    last = (await call(shop, f"STREAM.INFO.{stream}"))["state"]["last_seq"]
    taken = {}
    for seq in range(after + 1, last + 1):
        message = await shop.bus.client.request(
            f"$JS.API.DIRECT.GET.{stream}", b'{"seq":%d}' % seq, REQUEST_S
        )
        if message.headers and "Nats-Msg-Id" in message.headers:  # Else it was taken before.
            taken[message.headers["Nats-Msg-Id"]] = message
    await set_duplicate_windows(shop, SHORTEST_WINDOW_S)
    await call(shop, f"STREAM.PURGE.{stream}")
    await asyncio.sleep(3 * SHORTEST_WINDOW_S)
    return list(taken.values())


async def put_back(trial: Trial, taken: list[Msg]) -> None:
    """Publish one by one, in random order within each thousand."""
    for begin in range(0, len(taken), REORDERED_WITHIN):
        block = taken[begin : begin + REORDERED_WITHIN]
        trial.random.shuffle(block)
        for message in block:
            headers = message.headers or {}
            own = {
                name: value
                for name, value in headers.items()
                if name in ("Nats-Msg-Id", "traceparent") or name.startswith("Turnpike-")
            }
            give_up_at = time.monotonic() + FORGOTTEN_WITHIN_S
            while not (
                stored := await publish(trial.shop, headers["Nats-Subject"], message.data, own)
            ):
                if time.monotonic() > give_up_at:
                    break
                await asyncio.sleep(SHORTEST_WINDOW_S)  # The stream still knows the id.
            trial.expect(f"{headers['Nats-Msg-Id']} was put back", stored)
    await set_duplicate_windows(trial.shop, DUPLICATE_WINDOW.total_seconds())
