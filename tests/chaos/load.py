"""The load: people, their orders, and their payments, chosen by a seed.

People press /start in the sandbox, orders are placed by the command over NATS, and payments arrive
as updates or as notices of YooKassa and Crypto Pay. Mixed in are late payments (a newer order has
closed theirs, or their invoice has expired), payments of too much and too little, and two kinds of
repeats: the same update again, and another update about the same charge. Notices of providers come
twice, late, or never.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal
from uuid import UUID

from shared.contracts.message import Answer, Command, Refused, derived_id
from shared.contracts.payments import OpenedInvoice, OpenInvoice, PlaceOrder
from shared.messaging.rpc import UnansweredError
from tests.chaos.crowd import Charge
from tests.chaos.shop import Shop
from tests.kit.acquirers import Fate, Way

Kind = Literal["right", "overdue", "too much", "too little", "late", "top-up"]
"""How a payment fits its order.

"overdue" is the right amount for an expired invoice, "late" the right one for a closed order, and
"top-up" the right one for an order of money in the wallet.
"""

BUYS: frozenset[Kind] = frozenset({"right", "overdue", "too much"})

LATE_OF_100, OVERDUE_OF_100, TOO_MUCH_OF_100, TOO_LITTLE_OF_100, TOP_UPS_OF_100 = 8, 5, 5, 5, 8
TOPUP_MINOR = 250_00
REPEATED_OF_100 = 10
EACH_PROVIDER_OF_6 = 1  # Of the payments that a provider can take: those of what was asked.
NEVER_OF_100, LATE_NOTICES_OF_100, TWICE_OF_100 = 15, 15, 20
ACQUIRERS = {"stars": "telegram_stars", "sbp": "yookassa", "crypto": "cryptobot"}
FRIENDS_OF_ONE = 3
TICK_S = 0.05
REGISTERED_AT_ONCE = 100
PLACED_AT_ONCE = 24
ACTIVITY_EVERY_S = 0.4
AT_ONCE_PER_S = 1e6
REGISTERED_WITHIN_S = 900.0
PLACED_WITHIN_S = 180.0

KNOWN = """
select person, telegram_id, code
from bot.people
where telegram_id = any($1::bigint[])
order by telegram_id
"""
EXPIRE = """
update payments.invoices
set opened_at = opened_at - interval '2 hours', expires_at = expires_at - interval '2 hours'
where id = any($1::uuid[])
"""
OPENED = """
select id, reference from payments.invoices where id = any($1::uuid[]) and reference is not null
"""


@dataclass(frozen=True)
class Buyer:
    """A person who started the bot.

    `person` is the shop's id and `chat` is Telegram's. `code` is for inviting others.
    """

    person: UUID
    chat: int
    code: str
    inviter: UUID | None


@dataclass(frozen=True)
class Purchase:
    """An open order, and the payment that will be made for it."""

    buyer: Buyer
    invoice: OpenedInvoice
    kind: Kind
    reference: str = ""
    """Of its invoice at its provider; empty for Stars."""

    @property
    def acquirer(self) -> str:
        return ACQUIRERS[self.invoice.way]

    @property
    def charge(self) -> Charge:
        asked = self.invoice.asked_minor
        stars = {"too much": asked + 7, "too little": asked // 2}.get(self.kind, asked)
        return Charge(self.buyer.chat, self.invoice.payload, stars)

    @property
    def worth_minor(self) -> int:
        """In kopecks, by the ratio of the invoice, rounded down."""
        return self.charge.stars * self.invoice.price_minor // self.invoice.asked_minor


@dataclass(frozen=True)
class PaidPurchase:
    """A purchase whose payment its acquirer took. `fate` is that of the report."""

    charge: str
    purchase: Purchase
    fate: Fate = "once"


class Load:
    """The people around one shop. A quarter of the buyers invited the others."""

    def __init__(self, shop: Shop, random: Random) -> None:
        self.shop = shop
        self.random = random
        self.buyers: list[Buyer] = []
        self.blockers: list[Buyer] = []
        self._by_code: dict[str, UUID] = {}
        self._turn = 0

    async def add_people(self, count: int) -> None:
        """So many buyers, and a few people who only block and unblock the bot."""
        partners = await self.register(["/start"] * max(1, count // (FRIENDS_OF_ONE + 1)))
        friends = count - len(partners)
        texts = [f"/start r_{partners[nth % len(partners)].code}" for nth in range(friends)]
        self.buyers += partners + await self.register(texts)
        self.blockers += await self.register(["/start"] * 4)

    async def register(self, texts: Sequence[str]) -> list[Buyer]:
        """New people send these first messages. Returns when the shop knows them."""
        chats: list[int] = []
        for begin in range(0, len(texts), REGISTERED_AT_ONCE):
            chats += await self.shop.crowd.register(texts[begin : begin + REGISTERED_AT_ONCE])
        give_up_at = time.monotonic() + REGISTERED_WITHIN_S
        while len(known := await self.shop.fetch(KNOWN, chats)) < len(chats):
            found = f"only {len(known)} of {len(chats)} people are known"
            assert time.monotonic() < give_up_at, found
            await asyncio.sleep(0.1)
        self._by_code |= {row["code"]: row["person"] for row in known}
        text_of = dict(zip(chats, texts, strict=True))
        inviters = [
            self._by_code.get(text_of[row["telegram_id"]].removeprefix("/start r_"))
            for row in known
        ]
        return [
            Buyer(row["person"], row["telegram_id"], row["code"], inviter)
            for row, inviter in zip(known, inviters, strict=True)
        ]

    def next_buyers(self, count: int) -> list[Buyer]:
        """Buyers take turns: each pays once before any pays again."""
        chosen = [self.buyers[(self._turn + step) % len(self.buyers)] for step in range(count)]
        self._turn = (self._turn + count) % len(self.buyers)
        return chosen

    async def place_orders(
        self, payments: int, *, late: bool = True, only_stars: bool = False
    ) -> list[Purchase]:
        """Open orders for so many payments, in the order of payment."""
        assert payments <= len(self.buyers), (
            "a person pays once in a row: their own newer order may close their older one"
        )
        kinds = [self._kind(late=late) for _ in range(payments)]
        buyers = self.next_buyers(payments - kinds.count("late"))
        late_buyers = buyers[: kinds.count("late")]
        kinds = [kind for kind in kinds if kind != "late"]
        lagging = await self._place_each([(one, "late") for one in late_buyers], only_stars)
        purchases = await self._place_each(list(zip(buyers, kinds, strict=True)), only_stars)
        overdue = [one.invoice.invoice for one in purchases if one.kind == "overdue"]
        await self.shop.fetch(EXPIRE, overdue)
        self.random.shuffle(purchases)
        return _mixed(purchases, lagging)

    def _kind(self, *, late: bool) -> Kind:
        drawn = self.random.randrange(0 if late else LATE_OF_100, 100)
        shares: tuple[tuple[Kind, int], ...] = (
            ("late", LATE_OF_100),
            ("overdue", OVERDUE_OF_100),
            ("too much", TOO_MUCH_OF_100),
            ("too little", TOO_LITTLE_OF_100),
            ("top-up", TOP_UPS_OF_100),
        )
        for kind, share in shares:
            if drawn < share:
                return kind
            drawn -= share
        return "right"

    async def _place_each(
        self, wanted: Sequence[tuple[Buyer, Kind]], only_stars: bool
    ) -> list[Purchase]:
        slots = asyncio.Semaphore(PLACED_AT_ONCE)

        async def place(
            buyer: Buyer, order: UUID, plan: str | None, way: Way, kind: Kind
        ) -> Purchase:
            async with slots:
                return Purchase(buyer, await self.place_order(buyer, order, plan, way), kind)

        drawn = [
            (buyer, self._order_of(buyer), self._plan_for(kind), self._way_for(kind), kind)
            for buyer, kind in wanted
        ]
        if only_stars:
            drawn = [(*one[:3], "stars", one[4]) for one in drawn]
        return await self.opened(await asyncio.gather(*(place(*one) for one in drawn)))

    def _way_for(self, kind: Kind) -> Way:
        """A provider takes exactly what was asked."""
        drawn = self.random.randrange(6)
        if kind in ("too much", "too little") or drawn >= 2 * EACH_PROVIDER_OF_6:
            return "stars"
        return "sbp" if drawn < EACH_PROVIDER_OF_6 else "crypto"

    async def opened(self, purchases: Sequence[Purchase]) -> list[Purchase]:
        """With the reference of each invoice, once its provider has opened it."""
        waiting = [one.invoice.invoice for one in purchases if one.invoice.way != "stars"]
        give_up_at = time.monotonic() + PLACED_WITHIN_S
        while len(rows := await self.shop.fetch(OPENED, waiting)) < len(waiting):
            found = f"only {len(rows)} of {len(waiting)} invoices are opened at their providers"
            if time.monotonic() > give_up_at:
                raise TimeoutError(found)
            await asyncio.sleep(0.1)
        references = {row["id"]: row["reference"] for row in rows}
        return [
            replace(one, reference=references.get(one.invoice.invoice, "")) for one in purchases
        ]

    def _plan_for(self, kind: Kind) -> str | None:
        return None if kind == "top-up" else self.random.choice(("basic", "plus"))

    def _order_of(self, buyer: Buyer) -> UUID:
        """The id of an order. The chat makes it unique when two loads have the same seed."""
        return UUID(int=self.random.getrandbits(128) ^ buyer.chat, version=4)

    async def place_order(
        self,
        buyer: Buyer,
        order: UUID | None = None,
        plan: str | None = "basic",
        way: Way = "stars",
    ) -> OpenedInvoice:
        """As the pay screen does it: an order, then its invoice. Without a plan it is a top-up.

        Raises TimeoutError after `PLACED_WITHIN_S`.
        """
        wanted = place_command(buyer, order or self._order_of(buyer), plan)
        asked = OpenInvoice(
            **by(buyer), id=derived_id("invoice of", wanted.id), order=wanted.id, way=way
        )
        async with asyncio.timeout(PLACED_WITHIN_S):
            await self.executed(wanted)
            return await self.executed(asked)

    async def executed(self, command: Command[Answer]) -> Answer:
        """Repeated until it is answered, and not refused."""
        answer = await self.answer_to(command)
        assert not isinstance(answer, Refused), answer
        return answer

    async def answer_to(self, command: Command[Answer]) -> Answer | Refused:
        """Repeated until it is answered. Raises TimeoutError after `PLACED_WITHIN_S`."""
        async with asyncio.timeout(PLACED_WITHIN_S):
            while True:
                with suppress(UnansweredError):
                    return await self.shop.bus.execute(command)

    # Payments

    async def pay(self, purchases: Sequence[Purchase], per_s: float) -> list[PaidPurchase]:
        """Acquirers take these payments, so many a second, and report some of them again."""
        paid: list[PaidPurchase] = []
        began = time.monotonic()
        while len(paid) < len(purchases):
            due = min(len(purchases), int((time.monotonic() - began) * per_s) + 1)
            some = purchases[len(paid) : due]
            if some:
                paid += await self._pay_stars([one for one in some if not one.reference])
                paid += await self._pay_providers([one for one in some if one.reference])
            await asyncio.sleep(TICK_S)
        return paid

    async def _pay_stars(self, purchases: Sequence[Purchase]) -> list[PaidPurchase]:
        if not purchases:
            return []
        charges = await self.shop.crowd.pay([one.charge for one in purchases])
        await self._report_some_again(charges)
        return [PaidPurchase(charge, one) for charge, one in zip(charges, purchases, strict=True)]

    async def _pay_providers(self, purchases: Sequence[Purchase]) -> list[PaidPurchase]:
        """The payers pay at the stand-ins' pages."""
        paid = [PaidPurchase(one.reference, one, self._fate()) for one in purchases]
        wanted = [
            (one.purchase.acquirer, one.charge, one.fate, one.purchase.buyer.chat) for one in paid
        ]
        await self.shop.tills.pay(wanted)
        return paid

    def _fate(self) -> Fate:
        drawn = self.random.randrange(100)
        shares: tuple[tuple[Fate, int], ...] = (
            ("never", NEVER_OF_100),
            ("late", LATE_NOTICES_OF_100),
            ("twice", TWICE_OF_100),
        )
        for fate, share in shares:
            if drawn < share:
                return fate
            drawn -= share
        return "once"

    async def _report_some_again(self, charges: Iterable[str]) -> None:
        again = [charge for charge in charges if self.random.randrange(100) < REPEATED_OF_100]
        same = [charge for charge in again if self.random.random() < 0.5]
        other = [charge for charge in again if charge not in same]
        for repeats, same_update in ((same, True), (other, False)):
            if repeats:
                await self.shop.crowd.report_again(repeats, same_update=same_update)

    @asynccontextmanager
    async def background_activity(self) -> AsyncIterator[None]:
        """During the block friends come by invitation, and people block and unblock the bot."""
        activity = asyncio.create_task(self._invite_and_block())
        try:
            yield
        finally:
            activity.cancel()
            with suppress(asyncio.CancelledError):
                await activity
            for buyer in self.blockers:
                await self.shop.crowd.block(buyer.chat, blocked=False)

    async def _invite_and_block(self) -> None:
        blocked = False
        while True:
            blocked = not blocked
            await self.shop.crowd.register([f"/start r_{self.random.choice(self.buyers).code}"])
            for buyer in self.blockers:
                await self.shop.crowd.block(buyer.chat, blocked=blocked)
            await asyncio.sleep(ACTIVITY_EVERY_S)


def _mixed(purchases: Sequence[Purchase], lagging: Sequence[Purchase]) -> list[Purchase]:
    """Each late payment follows the right one of the same person at some distance."""
    after = {one.buyer.person: one for one in lagging}
    mixed: list[Purchase] = []
    waiting: list[tuple[int, Purchase]] = []
    for place, one in enumerate(purchases):
        mixed.append(one)
        if one.buyer.person in after:
            waiting.append((place + 5, after[one.buyer.person]))
        mixed += [late for due, late in waiting if due == place]
    return mixed + [late for due, late in waiting if due >= len(purchases)]


def place_command(buyer: Buyer, order: UUID, plan: str | None) -> PlaceOrder:
    wanted = {"plan": plan, "months": 1} if plan else {"topup_minor": TOPUP_MINOR}
    return PlaceOrder(**by(buyer), id=order, **wanted)


def by(buyer: Buyer) -> dict[str, Any]:
    """The fields that the commands of a person have."""
    deadline = datetime.now(UTC) + timedelta(hours=1)
    actor = f"person:{buyer.person}"
    return {"actor": actor, "deadline_at": deadline, "person": buyer.person}
