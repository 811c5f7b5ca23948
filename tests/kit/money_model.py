"""A model of money: the same rules folded in the plainest way, without the product.

Each call is one committed transaction. It states what every table and event must hold afterwards.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

KOPECKS_A_STAR = 150
FROM_BALANCE = "order"
"""In the key of a purchase that no charge paid for."""
BOUGHT = ("paid", "partly_refunded", "refunded")


@dataclass(frozen=True)
class Charge:
    """Money that an acquirer reports as taken."""

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
        """A listing may report another time, payer or payload, but the sum may not differ."""
        return self.currency, self.amount_minor


@dataclass(frozen=True)
class Refund:
    """Money of a charge that was returned. A charge is returned once, or a part of it."""

    acquirer: str
    charge: str
    currency: str
    amount_minor: int
    refunded_at: datetime

    @property
    def key(self) -> tuple[str, str]:
        return self.acquirer, self.charge


@dataclass
class Invoice:
    worth_minor: int
    asked_minor: int
    received_stars: int = 0
    """What the order's person paid by it."""

    def worth(self, stars: int) -> int:
        return stars * self.worth_minor // self.asked_minor


@dataclass
class Order:
    """Orders are in their list by age."""

    id: UUID
    person: UUID
    price_minor: int
    price_stars: int
    what: str = "subscription"
    from_balance: bool = False
    invoices: list[Invoice] = field(default_factory=list)
    """The newest is the last, and the only one that may be charged."""
    received_minor: int = 0
    state: str = "open"
    from_wallet: int = 0
    """What of its price the wallet paid; `earned` paid the rest."""
    paid_at: int = 0
    undone_minor: int = 0
    months: int = 0
    """Since it was placed. After one its invoice may no longer be charged, and its price is no
    longer honoured. After two it may be pruned."""
    named: bool = False
    """Whether a booking names it or its invoice."""

    @property
    def payable(self) -> bool:
        return self.state in ("open", "superseded")

    @property
    def left_minor(self) -> int:
        """The part of a purchase that is not undone."""
        return self.price_minor - self.undone_minor if self.state in BOUGHT else 0

    def undo(self, minor: int) -> int:
        """Undo so much of it. Answers what of that the wallet had paid."""
        before = self.undone_minor * self.from_wallet // self.price_minor
        self.undone_minor += minor
        if minor:
            self.state = "partly_refunded" if self.left_minor else "refunded"
        return self.undone_minor * self.from_wallet // self.price_minor - before


@dataclass
class Balances:
    wallet: int = 0
    earned: int = 0
    owed: int = 0


@dataclass(frozen=True)
class Parked:
    """The content of `payments.receipt.parked`."""

    reason: str


@dataclass(frozen=True)
class Confirmed:
    """The content of `payments.payment.confirmed`: the order that was bought, or the reason."""

    payer: UUID
    value_minor: int
    bought: UUID | None
    reason: str | None
    missing_minor: int
    over_minor: int
    wallet_minor: int


@dataclass(frozen=True)
class Refunded:
    """The content of `payments.payment.refunded`."""

    payer: UUID
    value_minor: int
    undone: tuple[tuple[UUID, int], ...]
    owed_minor: int
    wallet_minor: int


class Money:
    """Balances, orders, charges and refunds."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.named: dict[str, tuple[Order, Invoice | None]] = {}
        """By payload: the order, and the invoice beside it if it belongs to it."""
        self.balances: dict[UUID, Balances] = defaultdict(Balances)
        self.first: dict[tuple[str, str], Charge] = {}
        self.published: dict[tuple[str, str], Confirmed | Parked] = {}
        self.conflicting: set[tuple[str, str]] = set()
        self.rewarded: set[UUID] = set()
        self.moment = 0
        """Each transaction that buys has its own."""
        self.booked_at: dict[tuple[str, str], int] = {}
        self.counted: dict[tuple[str, str], Order] = {}
        """The order that counts the money of a charge."""
        self.refunds: dict[tuple[str, str], Refund] = {}
        self.refunded: dict[tuple[str, str], Refunded] = {}
        """The published ones. A refund whose charge is unknown waits."""
        self.reversed: set[UUID] = set()

    def place(self, order: Order) -> None:
        """A newer order supersedes the older open ones of its kind."""
        for older in self.orders:
            if (older.person, older.what, older.state) == (order.person, order.what, "open"):
                older.state = "superseded"
        self.orders.append(order)

    def missing(self, order: Order, *, from_balance: bool | None = None) -> int:
        held = self.balances[order.person]
        if order.what == "topup":
            return order.price_minor
        if order.from_balance if from_balance is None else from_balance:
            return order.price_minor - held.wallet - held.earned
        return order.price_minor - min(order.received_minor, held.wallet)

    def invoice(self, order: Order, asked_minor: int, *, from_balance: bool) -> Invoice:
        """An invoice for what is missing. The order is open again if it was superseded."""
        self.reopen(order, from_balance=from_balance)
        order.invoices.append(Invoice(self.missing(order), asked_minor))
        return order.invoices[-1]

    def reopen(self, order: Order, *, from_balance: bool) -> None:
        order.state, order.from_balance = "open", from_balance

    def pay_from_balance(self, order: Order) -> int:
        """The missing amount; if it is zero, the order is paid from the wallet, then `earned`."""
        missing_minor = self.missing(order, from_balance=True)
        self.moment += 1
        if missing_minor <= 0:
            self._buy(order)
            self.settle(order.person)
            self.published[FROM_BALANCE, str(order.id)] = Confirmed(
                order.person, 0, order.id, None, 0, 0, self.balances[order.person].wallet
            )
        return missing_minor

    def _buy(self, order: Order) -> None:
        held = self.balances[order.person]
        from_wallet = min(order.price_minor, held.wallet)
        held.wallet -= from_wallet
        held.earned -= order.price_minor - from_wallet
        order.from_wallet = from_wallet
        self._end(order)

    def _end(self, order: Order) -> None:
        """It is paid, and the older orders of its kind are closed."""
        order.state, order.paid_at = "paid", self.moment
        for older in self.orders[: self.orders.index(order)]:
            if (older.person, older.what) == (order.person, order.what) and older.payable:
                older.state = "closed"

    def end_orders(self) -> None:
        """Expire what is overdue; prune what nobody paid for."""
        for order in self.orders:
            if order.payable and order.months >= 1:
                order.state = "expired"
            if order.state in ("expired", "closed") and order.months >= 2 and not order.named:
                order.state = "pruned"
        self.orders = [order for order in self.orders if order.state != "pruned"]

    def book(self, charges: Iterable[Charge]) -> None:
        """Book charges, and then the refunds that waited for them."""
        self.moment += 1
        waited = []
        for charge in sorted(charges, key=lambda charge: charge.paid_at):
            if charge.key not in self.first:
                self.first[charge.key] = charge
                self.booked_at[charge.key] = self.moment
                self.published[charge.key] = self._booked(charge)
                waited += [self.refunds[charge.key]] if charge.key in self.refunds else []
            elif self.first[charge.key].business != charge.business:
                self.conflicting.add(charge.key)
        self._return(waited)

    def give_back(self, refunds: Iterable[Refund]) -> None:
        fresh = {one.key: one for one in refunds if one.key not in self.refunds}
        self.refunds |= fresh
        self._return(one for one in fresh.values() if one.key in self.first)

    def is_spent(self, charge: Charge) -> bool:
        """Whether the payer of a booked charge holds less than it was worth."""
        published = self.published.get(charge.key)
        if not isinstance(published, Confirmed):
            return False
        held = self.balances[published.payer]
        return held.wallet + held.earned < published.value_minor

    def _return(self, refunds: Iterable[Refund]) -> None:
        for refund in sorted(refunds, key=lambda refund: refund.refunded_at):
            published = self.published[refund.key]
            if isinstance(published, Confirmed):
                self.refunded[refund.key] = self._taken_back(refund, published)

    def _taken_back(self, refund: Refund, paid: Confirmed) -> Refunded:
        charge, held = self.first[refund.key], self.balances[paid.payer]
        value_minor = paid.value_minor * refund.amount_minor // charge.amount_minor
        order, undone = self.counted.get(refund.key), []
        if order is not None and order.payable:
            order.received_minor = max(0, order.received_minor - value_minor)
        elif order is not None and order.what == "topup":
            order.undo(order.price_minor * refund.amount_minor // charge.amount_minor)
        elif order is not None:
            whole = refund.amount_minor == charge.amount_minor
            most_minor = order.price_minor if whole else max(0, value_minor - held.wallet)
            undone.append(self._undone(order, min(most_minor, order.left_minor)))
        for newer in self._bought_since(refund, paid.payer):
            if held.wallet + held.earned < value_minor and newer is not order:
                undone.append(self._undone(newer, newer.left_minor))
        owed_minor = self._take(held, value_minor, "wallet", "earned")
        self.settle(paid.payer)
        shares = tuple((id_, minor) for id_, minor in undone if minor)
        return Refunded(paid.payer, value_minor, shares, owed_minor, held.wallet)

    def _undone(self, order: Order, minor: int) -> tuple[UUID, int]:
        """Each part returns to the account that paid it."""
        held, to_wallet = self.balances[order.person], order.undo(minor)
        held.wallet += to_wallet
        held.earned += minor - to_wallet
        return order.id, minor

    def _bought_since(self, refund: Refund, person: UUID) -> list[Order]:
        """The orders that the balance paid since the charge was booked, the newest first."""
        found = [
            order
            for order in self.orders
            if order.person == person
            and order.what == "subscription"
            and order.state in ("paid", "partly_refunded")
            and order.received_minor < order.price_minor
            and order.paid_at >= self.booked_at[refund.key]
        ]
        return sorted(found, key=lambda order: (order.paid_at, order.id), reverse=True)

    def _take(self, held: Balances, minor: int, first: str, second: str) -> int:
        """Take from both accounts; the lack is owed. Returns the lack."""
        for kind in (first, second):
            taken = min(minor, getattr(held, kind))
            setattr(held, kind, getattr(held, kind) - taken)
            minor -= taken
        held.owed += minor
        return minor

    def reverse(self, reversals: Iterable[tuple[UUID, UUID, int]]) -> None:
        """Take rewards back: refund, partner, amount."""
        for refund, partner, reversed_minor in reversals:
            if refund not in self.reversed:
                self.reversed.add(refund)
                self._take(self.balances[partner], reversed_minor, "earned", "wallet")

    def _booked(self, charge: Charge) -> Confirmed | Parked:
        order, invoice = self.named.get(charge.payload, (None, None))
        if order is not None and order.state == "pruned":
            order = None
        value_minor = charge.amount_minor
        if charge.payer is None:
            return Parked("payer_unknown")
        if charge.currency == "XTR" and order and invoice:
            before = invoice.received_stars if charge.payer == order.person else 0
            value_minor = invoice.worth(before + charge.amount_minor) - invoice.worth(before)
            invoice.received_stars += charge.amount_minor * (charge.payer == order.person)
        elif charge.currency == "XTR":
            value_minor = charge.amount_minor * KOPECKS_A_STAR
        elif charge.currency != "RUB":
            return Parked("no_rate")
        if order is not None:
            order.named |= invoice is not None or order.person == charge.payer
        held = self.balances[charge.payer]
        held.wallet += value_minor
        reason, missing_minor, over_minor = self._spent(charge.payer, order, value_minor)
        if order is not None and reason in (None, "too_little", "part_spent", "topped_up"):
            self.counted[charge.key] = order
        self.settle(charge.payer)
        bought = order.id if order and reason is None else None
        over_minor = min(over_minor, held.wallet)
        return Confirmed(
            charge.payer, value_minor, bought, reason, missing_minor, over_minor, held.wallet
        )

    def _spent(
        self, payer: UUID, order: Order | None, value_minor: int
    ) -> tuple[str | None, int, int]:
        """The reason why nothing was bought (or None), the missing amount, and the excess."""
        if order is None:
            return "no_order", 0, 0
        if order.person != payer:
            return "not_yours", 0, 0
        if order.state in (*BOUGHT, "closed"):
            return "order_closed", 0, 0
        if order.months:
            return "order_too_old", 0, 0
        order.received_minor += value_minor
        if order.what == "topup":
            self._end(order)
            return "topped_up", 0, 0
        missing_minor = self.missing(order)
        if missing_minor > 0:
            short = order.received_minor < order.price_minor
            return "too_little" if short else "part_spent", missing_minor, 0
        self._buy(order)
        over_minor = -missing_minor if order.from_balance else order.received_minor
        over_minor -= 0 if order.from_balance else order.price_minor
        return None, 0, min(over_minor, order.received_minor)

    def settle(self, person: UUID) -> None:
        """Settle the debt from money that no payable order has received, then from `earned`."""
        held = self.balances[person]
        from_wallet = min(held.owed, max(0, held.wallet - self._reserved(person)))
        from_earned = min(held.owed - from_wallet, held.earned)
        held.wallet -= from_wallet
        held.earned -= from_earned
        held.owed -= from_wallet + from_earned

    def _reserved(self, person: UUID) -> int:
        orders = (one for one in self.orders if one.person == person)
        return sum(one.received_minor for one in orders if one.payable)

    def accounts_of_the_shop(self) -> dict[tuple[str, str], int]:
        """Clearing is negative by the amount that acquirers hold. Parked money is in suspense."""
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for key, charge in self.first.items():
            returned = self.refunds[key].amount_minor if key in self.refunds else 0
            sums[f"clearing:{charge.acquirer}", charge.currency] -= charge.amount_minor - returned
            if isinstance(self.published[key], Parked):
                sums["suspense", charge.currency] += charge.amount_minor - returned
        return sums

    def reward(self, rewards: Iterable[tuple[UUID, UUID, int]]) -> None:
        """Book rewards: receipt, partner, amount."""
        for receipt, partner, reward_minor in rewards:
            if receipt not in self.rewarded:
                self.rewarded.add(receipt)
                self.balances[partner].earned += reward_minor
                self.settle(partner)
