"""Row 18: every stream in any order, to services that listen meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from nats.aio.msg import Msg

from shared.outbox import ROUND_TIMEOUT_S
from shared.streams import DUPLICATE_WINDOW, LISTENING, stream_of
from tests.chaos.crowd import Charge
from tests.chaos.load import AT_ONCE_PER_S, Member, Paid, Town, Wanted
from tests.chaos.shop import Shop
from tests.chaos.streams import SHORTEST_WINDOW_S, call, held_back, last_sequences, publish, until_told, windows
from tests.chaos.trial import Trial

REORDERED_WITHIN = 1_000
IN_PARTS_ONE_OF = 4
FORGETS_WITHIN_S = 10.0
ENDS_WITHIN_S = 6 * 3600.0  # Another plan converts what is left in whole hours, and the two towns buy minutes apart.

# What notifier hears of those who hear payments themselves.
HEARD_OF_OTHERS = [
    listening.handler
    for listening in LISTENING
    if listening.service == "notifier" and listening.owner in ("referrals", "vpn")
]


async def all_in_disorder(trial: Trial) -> None:
    """18: full reorder within 1 000 messages: the same final state as in order.

    Everybody buys several times, of two plans, many in two parts. Messages come one by one to services that listen: a
    batch, which sorts what it holds, has few of them.
    """
    shop, people, seed = trial.shop, trial.size(350, 40), trial.random.random()
    purchases = range(trial.size(3, 2))
    in_order, shuffled = Town(shop, Random(seed)), Town(shop, Random(seed))
    parts: list[str] = []
    await in_order.grow(people)
    for nth in purchases:
        paid = await in_order.pay(await _purchases(in_order, Random(f"{seed} {nth}")), trial.per_s)
        await trial.rests("what comes in order")
        parts += await _note(trial, paid)

    begins = await last_sequences(shop)
    await shop.stop("referrals", "vpn", "notifier")
    await shuffled.grow(people)
    for nth in purchases:
        wanted = await _purchases(shuffled, Random(f"{seed} {nth}"))
        await shop.stop("payments")
        paid = await shuffled.pay(wanted, AT_ONCE_PER_S)
        await until_told(shop, "bot")
        told = await take(shop, "bot", begins["bot"])
        await shop.start("payments")
        await put_back(trial, told)
        await until_told(shop, "payments")
        parts += await _note(trial, paid)
    booked = await take(shop, "payments", begins["payments"])
    async with held_back(shop, *HEARD_OF_OTHERS):
        await asyncio.gather(*(shop.start(name) for name in ("referrals", "vpn", "notifier")))
        await put_back(trial, booked)
        await until_told(shop, "referrals", "vpn")
        followed = [await take(shop, owner, begins[owner]) for owner in ("referrals", "vpn")]
    for messages in followed:
        await put_back(trial, messages)
    await trial.rests("what comes in disorder", 120)
    counts = [len(messages) for messages in (told, booked, *followed)]
    trial.faults.append(f"{', '.join(map(str, counts))} messages of four streams in random order")
    said = await shop.asked_one(ACKNOWLEDGED, parts)
    trial.expect(f"who paid a part is told what lacks, {len(parts)} times: {said}", said == len(parts))
    await _hold(trial, in_order.members, shuffled.members)


@dataclass(frozen=True)
class Part(Wanted):
    """One of two payments for one order."""

    stars: int = 0

    @property
    def charge(self) -> Charge:
        return Charge(self.member.chat, self.invoice.payload, self.stars)


async def _purchases(town: Town, random: Random) -> list[Wanted]:
    """One of everybody, drawn anew, for paying draws as well.

    Who pays too little pays the rest, too, and a star: the worth of each part is rounded down.
    An older order is closed by a newer one that is paid first, so the next purchase is for after this one.
    """
    town.random = random
    wanted = await town.orders(len(town.members), late=False)
    parts: list[Wanted] = []
    for place, one in enumerate(wanted):
        if one.kind == "too little" or (one.kind == "right" and place % IN_PARTS_ONE_OF == 0):
            asked = one.invoice.asked_minor
            wanted[place] = Part(one.member, one.invoice, "too little", asked // 2)
            parts.append(Part(one.member, one.invoice, "too little", asked - asked // 2 + 1))
    return wanted + parts


OUTCOMES = """
select r.charge, b.outcome
from payments.receipts r
join payments.bookings b on b.receipt = r.id
where r.charge = any($1::text[])
"""

# What lacked then is said once.
ACKNOWLEDGED = """
select count(*)
from payments.receipts r
join notifier.deliveries d on d.cause = r.id::text and d.kind = 'missing' and d.state = 'sent'
where r.charge = any($1::text[])
"""


async def _note(trial: Trial, paid: Sequence[Paid]) -> list[str]:
    """Of two parts the one that comes last buys, whichever it is, and is too much by the star. Answers the others."""
    parts = [one for one in paid if isinstance(one.wanted, Part)]
    outcomes = {
        row["charge"]: row["outcome"] for row in await trial.shop.asked(OUTCOMES, [one.charge for one in parts])
    }
    first = [one.charge for one in parts if outcomes.get(one.charge) == "wallet"]
    last = [one for one in parts if outcomes.get(one.charge) == "bought"]
    orders = {one.wanted.invoice.order for one in last}
    trial.expect(
        f"of two parts one buys: {len(last)} for {len(orders)} orders, {len(first)} do not",
        len(parts) == 2 * len(orders) == 2 * len(last) == 2 * len(first),
    )
    trial.paid += [one for one in paid if one not in parts]
    trial.paid += [replace(one, wanted=replace(one.wanted, kind="too much")) for one in last]
    return first


STATE = """
select m.place,
  (select string_agg(format('%s %s', kind, balance_minor), ',' order by kind)
   from payments.accounts a where a.owner = m.person and balance_minor <> 0) as held,
  (select string_agg(format('%s %s', plan, state), ',' order by plan, state)
   from payments.orders o where o.person = m.person) as orders,
  (select string_agg(format('%s %s', plan, state), ',') from vpn.subscriptions s where s.person = m.person) as access,
  (select sum(months) from vpn.periods p where p.person = m.person) as months,
  (select string_agg(format('%s %s %s', outcome, percent, reward_minor), ',' order by percent, reward_minor)
   from referrals.rewards w where w.payer = m.person) as rewards,
  (select string_agg(state, ',' order by state) from referrals.invitations i where i.invitee = m.person) as invitation,
  (select string_agg(format('%s %s', kind, state), ',' order by kind, state)
   from notifier.deliveries d where d.person = m.person and kind <> 'paid_issuing') as messages
from unnest($1::uuid[]) with ordinality as m (person, place)
order by m.place
"""

LASTS = """
select coalesce((
    select extract(epoch from s.ends_at - (select min(booked_at) from vpn.periods p where p.person = m.person))
    from vpn.subscriptions s
    where s.person = m.person
  ), 0)::float8 as seconds
from unnest($1::uuid[]) with ordinality as m (person, place)
order by m.place
"""


async def _hold(trial: Trial, in_order: Sequence[Member], shuffled: Sequence[Member]) -> None:
    one, other = await _state(trial.shop, in_order), await _state(trial.shop, shuffled)
    differing = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    trial.expect(
        f"the final state is the same, of {len(one)} people differ {len(differing)}: {differing[:2]}", not differing
    )
    lasts = zip(await _lasts_s(trial.shop, in_order), await _lasts_s(trial.shop, shuffled), strict=True)
    longer = [pair for pair in lasts if abs(pair[0] - pair[1]) > ENDS_WITHIN_S or not all(pair)]
    trial.expect(f"access lasts as long, it does not for {len(longer)}: {longer[:2]}", not longer)


async def _state(shop: Shop, members: Sequence[Member]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await shop.asked(STATE, [member.person for member in members])]


async def _lasts_s(shop: Shop, members: Sequence[Member]) -> list[float]:
    """From the first purchase to the end of the access."""
    return [row["seconds"] for row in await shop.asked(LASTS, [member.person for member in members])]


async def take(shop: Shop, owner: str, after: int) -> list[Msg]:
    """Take out of a stream what it got since `after`; it is empty then, and has forgotten every id."""
    stream = stream_of(owner)
    last = (await call(shop, f"STREAM.INFO.{stream}"))["state"]["last_seq"]
    taken = {}
    for seq in range(after + 1, last + 1):
        message = await shop.bus.client.request(f"$JS.API.DIRECT.GET.{stream}", b'{"seq":%d}' % seq, ROUND_TIMEOUT_S)
        if message.headers and "Nats-Msg-Id" in message.headers:  # Else it was taken out before.
            taken[message.headers["Nats-Msg-Id"]] = message
    await windows(shop, SHORTEST_WINDOW_S)
    await call(shop, f"STREAM.PURGE.{stream}")
    await asyncio.sleep(3 * SHORTEST_WINDOW_S)
    return list(taken.values())


async def put_back(trial: Trial, taken: list[Msg]) -> None:
    """In random order, each within its thousand, one by one."""
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
            give_up_at = time.monotonic() + FORGETS_WITHIN_S
            while not (stored := await publish(trial.shop, headers["Nats-Subject"], message.data, own)):
                if time.monotonic() > give_up_at:
                    break
                await asyncio.sleep(SHORTEST_WINDOW_S)  # The stream has not forgotten it yet.
            trial.expect(f"{headers['Nats-Msg-Id']} was put back", stored)
    await windows(trial.shop, DUPLICATE_WINDOW.total_seconds())
