"""People, their orders, and their money: by a seed, through the doors that people use.

People press /start in the sandbox, orders are placed by the command over NATS, and money arrives as updates. Mixed in:
late money (its order is closed by a newer one, or its invoice is over), too little and too much, and repeats of both
kinds, the same update and another one about the same charge.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal
from uuid import UUID

from shared.bus import UnansweredError
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused
from tests.chaos.crowd import Charge
from tests.chaos.shop import Shop

Kind = Literal["right", "overdue", "too much", "too little", "late"]
"""What a person's money is; "overdue" is right money for an invoice that is over, "late" that for a closed order."""

BUYS: frozenset[Kind] = frozenset({"right", "overdue", "too much"})

LATE_OF_100, OVERDUE_OF_100, TOO_MUCH_OF_100, TOO_LITTLE_OF_100 = 8, 5, 5, 5
REPEATED_OF_100 = 10
FRIENDS_OF_ONE = 3
TICK_S = 0.05
ARRIVE_AT_ONCE = 100
PLACE_AT_ONCE = 24
LIFE_EVERY_S = 0.4
AT_ONCE_PER_S = 1e6
ARRIVE_WITHIN_S = 900.0
PLACED_WITHIN_S = 180.0

MET = "select person, telegram_id, code from bot.people where telegram_id = any($1::bigint[]) order by telegram_id"
OVER = """
update payments.invoices
set opened_at = opened_at - interval '2 hours', expires_at = expires_at - interval '2 hours'
where id = any($1::uuid[])
"""


@dataclass(frozen=True)
class Member:
    """Somebody who started: the shop's id of him, Telegram's, the code by which he invites, and who invited him."""

    person: UUID
    chat: int
    code: str
    inviter: UUID | None


@dataclass(frozen=True)
class Wanted:
    """An open order, and the money that is going to come for it."""

    member: Member
    invoice: Invoice
    kind: Kind

    @property
    def charge(self) -> Charge:
        asked = self.invoice.asked_minor
        stars = {"too much": asked + 7, "too little": asked // 2}.get(self.kind, asked)
        return Charge(self.member.chat, self.invoice.payload, stars)

    @property
    def worth_minor(self) -> int:
        """In kopecks, by the ratio of the invoice; a part of a kopeck is nobody's."""
        return self.charge.stars * self.invoice.price_minor // self.invoice.asked_minor


@dataclass(frozen=True)
class Paid:
    """Money that Telegram took and reported."""

    charge: str
    wanted: Wanted


class Town:
    """Everybody who lives around the shop. A third of them invited the others."""

    def __init__(self, shop: Shop, random: Random) -> None:
        self.shop = shop
        self.random = random
        self.members: list[Member] = []
        self.restless: list[Member] = []
        self._by_code: dict[str, UUID] = {}
        self._turn = 0

    async def grow(self, people: int) -> None:
        """So many people who pay, and a few who only block the bot and let it in again."""
        roots = await self.arrive(["/start"] * max(1, people // (FRIENDS_OF_ONE + 1)))
        friends = people - len(roots)
        said = [f"/start r_{roots[place % len(roots)].code}" for place in range(friends)]
        self.members += roots + await self.arrive(said)
        self.restless += await self.arrive(["/start"] * 4)

    async def arrive(self, says: Sequence[str]) -> list[Member]:
        """They press /start, and the shop has met them."""
        chats: list[int] = []
        for begin in range(0, len(says), ARRIVE_AT_ONCE):
            chats += await self.shop.crowd.arrive(says[begin : begin + ARRIVE_AT_ONCE])
        give_up_at = time.monotonic() + ARRIVE_WITHIN_S
        while len(met := await self.shop.asked(MET, chats)) < len(chats):
            assert time.monotonic() < give_up_at, f"only {len(met)} of {len(chats)} people were met"
            await asyncio.sleep(0.1)
        self._by_code |= {row["code"]: row["person"] for row in met}
        said = dict(zip(chats, says, strict=True))
        inviters = [self._by_code.get(said[row["telegram_id"]].removeprefix("/start r_")) for row in met]
        return [
            Member(row["person"], row["telegram_id"], row["code"], inviter)
            for row, inviter in zip(met, inviters, strict=True)
        ]

    def next_members(self, count: int) -> list[Member]:
        """Whose turn it is to pay: everybody once before anybody comes again."""
        chosen = [self.members[(self._turn + step) % len(self.members)] for step in range(count)]
        self._turn = (self._turn + count) % len(self.members)
        return chosen

    async def orders(self, payments: int, *, late: bool = True) -> list[Wanted]:
        """Open orders for so many payments, in the order in which they are going to be paid."""
        assert payments <= len(self.members), "a person pays once in a row, else an own newer order may close his older"
        kinds = [self._kind(late=late) for _ in range(payments)]
        members = self.next_members(payments - kinds.count("late"))
        lags = members[: kinds.count("late")]
        kinds = [kind for kind in kinds if kind != "late"]
        older = await self._place(lags)
        newer = await self._place(members)
        wanted = [Wanted(*placed, kind) for placed, kind in zip(zip(members, newer, strict=True), kinds, strict=True)]
        overdue = [one.invoice.invoice for one in wanted if one.kind == "overdue"]
        await self.shop.asked(OVER, overdue)
        lagging = [Wanted(member, invoice, "late") for member, invoice in zip(lags, older, strict=True)]
        self.random.shuffle(wanted)
        return _mixed(wanted, lagging)

    def _kind(self, *, late: bool) -> Kind:
        drawn = self.random.randrange(0 if late else LATE_OF_100, 100)
        shares: tuple[tuple[Kind, int], ...] = (
            ("late", LATE_OF_100),
            ("overdue", OVERDUE_OF_100),
            ("too much", TOO_MUCH_OF_100),
            ("too little", TOO_LITTLE_OF_100),
        )
        for kind, share in shares:
            if drawn < share:
                return kind
            drawn -= share
        return "right"

    async def _place(self, members: Sequence[Member]) -> list[Invoice]:
        room = asyncio.Semaphore(PLACE_AT_ONCE)

        async def place(member: Member, order: UUID, plan: str) -> Invoice:
            async with room:
                return await self.place_order(member, order, plan)

        drawn = [(member, self._order_of(member), self.random.choice(("basic", "plus"))) for member in members]
        return list(await asyncio.gather(*(place(*one) for one in drawn)))

    def _order_of(self, member: Member) -> UUID:
        """An order's id: another one for each person, for two towns may be of one seed."""
        return UUID(int=self.random.getrandbits(128) ^ member.chat, version=4)

    async def place_order(self, member: Member, order: UUID | None = None, plan: str = "basic") -> Invoice:
        """As the pay screen does it, as often as it takes; raises TimeoutError after `PLACED_WITHIN_S`."""
        command = PlaceOrder(
            id=order or self._order_of(member),
            actor=f"person:{member.person}",
            deadline_at=datetime.now(UTC) + timedelta(hours=1),
            person=member.person,
            plan=plan,
            months=1,
            way="stars",
        )
        async with asyncio.timeout(PLACED_WITHIN_S):
            while True:
                with suppress(UnansweredError):
                    answer = await self.shop.bus.do(command)
                    assert not isinstance(answer, Refused), answer
                    return answer

    # Money

    async def pay(self, wanted: Sequence[Wanted], per_s: float) -> list[Paid]:
        """Telegram takes this money, so many payments a second, and reports some of it again. Returns what it took."""
        paid: list[Paid] = []
        began = time.monotonic()
        while len(paid) < len(wanted):
            due = min(len(wanted), int((time.monotonic() - began) * per_s) + 1)
            some = wanted[len(paid) : due]
            if some:
                charges = await self.shop.crowd.pay([one.charge for one in some])
                paid += [Paid(charge, one) for charge, one in zip(charges, some, strict=True)]
                await self._report_some_again(charges)
            await asyncio.sleep(TICK_S)
        return paid

    async def _report_some_again(self, charges: Iterable[str]) -> None:
        again = [charge for charge in charges if self.random.randrange(100) < REPEATED_OF_100]
        same = [charge for charge in again if self.random.random() < 0.5]
        other = [charge for charge in again if charge not in same]
        for repeats, same_update in ((same, True), (other, False)):
            if repeats:
                await self.shop.crowd.report_again(repeats, same_update=same_update)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Meanwhile friends come by invitation, and people block the bot and let it in again."""
        living = asyncio.create_task(self._live())
        try:
            yield
        finally:
            living.cancel()
            with suppress(asyncio.CancelledError):
                await living
            for member in self.restless:
                await self.shop.crowd.block(member.chat, blocked=False)

    async def _live(self) -> None:
        blocked = False
        while True:
            blocked = not blocked
            await self.shop.crowd.arrive([f"/start r_{self.random.choice(self.members).code}"])
            for member in self.restless:
                await self.shop.crowd.block(member.chat, blocked=blocked)
            await asyncio.sleep(LIFE_EVERY_S)


def _mixed(wanted: Sequence[Wanted], lagging: Sequence[Wanted]) -> list[Wanted]:
    """Each late payment some way behind the right one of the same person."""
    after = {one.member.person: one for one in lagging}
    mixed: list[Wanted] = []
    waiting: list[tuple[int, Wanted]] = []
    for place, one in enumerate(wanted):
        mixed.append(one)
        if one.member.person in after:
            waiting.append((place + 5, after[one.member.person]))
        mixed += [late for due, late in waiting if due == place]
    return mixed + [late for due, late in waiting if due >= len(wanted)]
