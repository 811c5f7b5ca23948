"""What must become of money and invitations, folded once more in the plainest way; the product is asked nothing.

A fold is told what was committed, one call per transaction, and says what every table and every fact must hold then.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

KOPECKS_A_STAR = 150
LEVELS = {0: 10, 2: 25, 4: 45}  # From so many paying invitees: percent. Lower than those of a shop, to be reached here.


@dataclass(frozen=True)
class Charge:
    """What an acquirer says that it took."""

    acquirer: str
    charge: str
    payer: UUID | None
    currency: str
    amount_minor: int
    payload: str
    paid_at: datetime

    @property
    def key(self) -> tuple[str, str]:
        return self.acquirer, self.charge

    @property
    def business(self) -> tuple[object, ...]:
        """When it was paid may be told differently by a listing; the rest may not."""
        return self.payer, self.currency, self.amount_minor, self.payload


@dataclass
class Order:
    """Orders stand in their list by age."""

    id: UUID
    person: UUID
    price_minor: int
    asked_minor: int
    received_minor: int = 0
    state: str = "open"
    overdue: bool = False
    """Neither its invoice may be charged any more, nor is its price honoured."""


@dataclass
class Purse:
    wallet: int = 0
    earned: int = 0
    owed: int = 0


@dataclass(frozen=True)
class Parked:
    reason: str


@dataclass(frozen=True)
class Confirmed:
    """What is told of a charge that was booked: to whom, its value, the order that it bought or why it bought none."""

    payer: UUID
    value_minor: int
    bought: UUID | None
    reason: str | None
    missing_minor: int
    over_minor: int
    wallet_minor: int


class Money:
    """Wallets, orders and charges."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.named: dict[str, tuple[Order, bool]] = {}
        """By payload: the order, and whether the invoice beside it is its own."""
        self.purses: dict[UUID, Purse] = defaultdict(Purse)
        self.first: dict[tuple[str, str], Charge] = {}
        self.told: dict[tuple[str, str], Confirmed | Parked] = {}
        self.contradicted: set[tuple[str, str]] = set()
        self.rewarded: set[UUID] = set()

    def book(self, charges: Iterable[Charge]) -> None:
        for charge in sorted(charges, key=lambda charge: charge.paid_at):
            if charge.key not in self.first:
                self.first[charge.key] = charge
                self.told[charge.key] = self._booked(charge)
            elif self.first[charge.key].business != charge.business:
                self.contradicted.add(charge.key)

    def _booked(self, charge: Charge) -> Confirmed | Parked:
        order, own_invoice = self.named.get(charge.payload, (None, False))
        value_minor = charge.amount_minor
        if charge.payer is None:
            return Parked("payer_unknown")
        if charge.currency == "XTR" and order and own_invoice:
            value_minor = charge.amount_minor * order.price_minor // order.asked_minor
        elif charge.currency == "XTR":
            value_minor = charge.amount_minor * KOPECKS_A_STAR
        elif charge.currency != "RUB":
            return Parked("no_rate")
        purse = self.purses[charge.payer]
        purse.wallet += value_minor
        reason, missing_minor, over_minor = self._spent(charge.payer, order, value_minor)
        self.settle(charge.payer)
        bought = order.id if order and reason is None else None
        over_minor = min(over_minor, purse.wallet)
        return Confirmed(charge.payer, value_minor, bought, reason, missing_minor, over_minor, purse.wallet)

    def _spent(self, payer: UUID, order: Order | None, value_minor: int) -> tuple[str | None, int, int]:
        """Why the order did not buy (None: it did), what it lacks, and what came above its price."""
        if order is None:
            return "no_order", 0, 0
        if order.person != payer:
            return "not_yours", 0, 0
        if order.state != "open":
            return "order_closed", 0, 0
        if order.overdue:
            return "order_too_old", 0, 0
        order.received_minor += value_minor
        if order.received_minor < order.price_minor:
            return "too_little", order.price_minor - order.received_minor, 0
        if self.purses[payer].wallet < order.price_minor:
            return "part_spent", order.price_minor - self.purses[payer].wallet, 0
        self.purses[payer].wallet -= order.price_minor
        order.state = "paid"
        for older in self.orders[: self.orders.index(order)]:
            if older.person == payer and older.state == "open":
                older.state = "closed"
        return None, 0, order.received_minor - order.price_minor

    def settle(self, person: UUID) -> None:
        """What is owed is paid from what no open order waits for, then from what was earned."""
        purse = self.purses[person]
        waiting = sum(one.received_minor for one in self.orders if one.person == person and one.state == "open")
        from_wallet = min(purse.owed, max(0, purse.wallet - waiting))
        from_earned = min(purse.owed - from_wallet, purse.earned)
        purse.wallet -= from_wallet
        purse.earned -= from_earned
        purse.owed -= from_wallet + from_earned

    def shops(self) -> dict[tuple[str, str], int]:
        """Clearing is negative by what acquirers hold for us; what can be given to nobody rests in suspense."""
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for key, charge in self.first.items():
            sums[f"clearing:{charge.acquirer}", charge.currency] -= charge.amount_minor
            if isinstance(self.told[key], Parked):
                sums["suspense", charge.currency] += charge.amount_minor
        return sums

    def reward(self, rewards: Iterable[tuple[UUID, UUID, int]]) -> None:
        """Receipt, partner, amount."""
        for receipt, partner, reward_minor in rewards:
            if receipt not in self.rewarded:
                self.rewarded.add(receipt)
                self.purses[partner].earned += reward_minor
                self.settle(partner)


@dataclass(frozen=True)
class Start:
    person: UUID
    invited_by: UUID | None
    at: datetime


@dataclass(frozen=True)
class Payment:
    """What referrals hears of one receipt. What was booked at one moment is in the order of the facts' ids."""

    receipt: UUID
    payer: UUID
    value_minor: int
    booked_at: datetime
    fact: UUID


@dataclass(frozen=True)
class Reward:
    partner: UUID | None
    paying: int | None = None
    percent: int | None = None
    reward_minor: int = 0


@dataclass
class Invitations:
    """Who is bound to whom, and what was decided of each receipt."""

    partner_of: dict[UUID, UUID | None] = field(default_factory=dict)
    paying: dict[UUID, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    waiting: dict[UUID, Payment] = field(default_factory=dict)
    rewards: dict[UUID, Reward] = field(default_factory=dict)

    def start(self, starts: Iterable[Start]) -> None:
        for start in sorted(starts, key=lambda start: start.at):
            if start.person not in self.partner_of:
                circle = start.person in self._chain_above(start.invited_by)
                self.partner_of[start.person] = None if circle else start.invited_by
        come = [payment for payment in self.waiting.values() if payment.payer in self.partner_of]
        for payment in come:
            del self.waiting[payment.receipt]
        self._decide(come)

    def _chain_above(self, person: UUID | None) -> Iterable[UUID]:
        while person is not None:
            yield person
            person = self.partner_of.get(person)

    def hear(self, payments: Iterable[Payment]) -> None:
        fresh = {payment.receipt: payment for payment in payments if payment.receipt not in self.rewards}
        self.waiting |= {receipt: one for receipt, one in fresh.items() if one.payer not in self.partner_of}
        self._decide(one for one in fresh.values() if one.payer in self.partner_of)

    def _decide(self, payments: Iterable[Payment]) -> None:
        for payment in sorted(payments, key=lambda payment: (payment.booked_at, payment.fact)):
            self.rewards[payment.receipt] = self._reward(payment, self.partner_of[payment.payer])

    def _reward(self, payment: Payment, partner: UUID | None) -> Reward:
        if partner is None:
            return Reward(None)
        if payment.value_minor:
            self.paying[partner].add(payment.payer)
        paying = len(self.paying[partner])
        percent = max((at, percent) for at, percent in LEVELS.items() if at <= paying)[1]
        return Reward(partner, paying, percent, payment.value_minor * percent // 100)
