"""Decides how each receipt is booked: to an order, to the wallet or to suspense.

Money that arrived is always booked; the order decides what it buys.

              ┌─ payer or rate unknown ─▶ suspense, published for the operators
    receipt ──┤                    ┌─ no unpaid order of this payer, or one that is too old
              │                    │  or closed by a newer paid one ─▶ wallet
              └─ its value in RUB ─┼─ too little, or an earlier part was spent ─▶ wallet;
                                   │                                    the order stays open
                                   │  enough ─▶ wallet, and the order spends its price in the
                                   │            same transaction
                                   └─ for a top-up ─▶ wallet, whatever came

A batch is a fold: each decision starts from the state that the decision before it left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple
from uuid import UUID

from payments.domain import ledger
from payments.domain.ledger import Holdings, Transfer
from payments.domain.provider import Sum
from shared.contracts.message import derived_id
from shared.contracts.money import converted
from shared.contracts.payload import read_payload
from shared.contracts.payments import Bought, OrderedWhat, PlanTerms

Because = Literal[
    "paid",
    "topped_up",
    "too_little",
    "part_spent",
    "order_closed",
    "order_too_old",
    "not_yours",
    "no_order",
    "payer_unknown",
    "no_rate",
]


OrderState = Literal[
    "open", "superseded", "closed", "expired", "paid", "partly_refunded", "refunded"
]

PAYABLE: frozenset[OrderState] = frozenset({"open", "superseded"})
"""Money for these buys. A superseded order is offered no more, but its money may come late."""

BOUGHT: frozenset[OrderState] = frozenset({"paid", "partly_refunded", "refunded"})
"""These were paid, and no later money buys them again."""


def gross_of(paid: Sum, arrived: Sum | None, fee_minor: int) -> Sum:
    """What the acquirer took in: the amount, or the asset that it came in."""
    if arrived is None or arrived.currency == paid.currency:
        return paid
    return Sum(arrived.currency, arrived.amount_minor + fee_minor)


@dataclass(frozen=True)
class Receipt:
    """Money that an acquirer reports as taken.

    Its key is (acquirer, charge). An invoice may be paid twice, and a charge may be reported twice.
    """

    acquirer: str
    charge: str
    payer: UUID | None
    currency: str
    amount_minor: int
    payload: str
    paid_at: datetime
    trace: str | None = field(default=None, compare=False)
    arrived: Sum | None = None
    """What reached the acquirer's account, less its fee. None: the amount itself."""
    fee_minor: int = 0
    """What the acquirer kept, in the currency of `arrived`."""
    telegram_charge: str | None = None
    """Telegram's id of it, where Telegram charged a card at this acquirer."""

    @property
    def gross(self) -> Sum:
        return gross_of(Sum(self.currency, self.amount_minor), self.arrived, self.fee_minor)

    @cached_property
    def cause(self) -> str:
        return f"{self.acquirer}:{self.charge}"

    @cached_property
    def id(self) -> UUID:
        return derived_id("receipt", self.acquirer, self.charge)


@dataclass(frozen=True)
class Invoice:
    id: UUID
    order: UUID
    asked_minor: int
    asked_currency: str
    received_minor: int = 0
    """What the order's person has paid by it, in its own currency."""
    worth_minor: int | None = None
    """What the asked amount is worth, in kopecks. None: the price of the order."""


@dataclass(frozen=True)
class Order:
    id: UUID
    person: UUID
    price_minor: int
    received_minor: int
    state: OrderState
    terms: PlanTerms | None
    """None for a top-up, which buys nothing: its money stays in the wallet."""
    placed_at: datetime
    honoured_until: datetime
    trace: str | None
    from_balance: bool = False
    """The balance pays too: the order buys as soon as wallet and `earned` hold its price."""
    restores: UUID | None = None
    """The undone order that it buys again, once its person has paid the debt."""

    @property
    def what(self) -> OrderedWhat:
        return "topup" if self.terms is None else "subscription"

    @property
    def age(self) -> tuple[datetime, UUID]:
        """Sorts the orders of a person, the oldest first."""
        return self.placed_at, self.id

    @property
    def bought(self) -> Bought:
        assert self.terms is not None, "a top-up buys nothing"
        return Bought(
            order=self.id,
            what="subscription",
            terms=self.terms,
            price_minor=self.price_minor,
            restores=self.restores,
        )

    def missing_from(self, holdings: Holdings, received_minor: int) -> int:
        """What has to come so that it buys, in kopecks: at most 0 where it can buy.

        Without `from_balance` the price must have come for this order, and still be there.
        """
        if self.from_balance:
            return self.price_minor - holdings.wallet_minor - holdings.earned_minor
        return self.price_minor - min(received_minor, holdings.wallet_minor)


@dataclass(frozen=True)
class Booking:
    """The decision about one receipt. Amounts are in kopecks."""

    receipt: Receipt
    outcome: Literal["bought", "wallet", "suspense"]
    because: Because
    order: UUID | None = None
    invoice: UUID | None = None
    value_minor: int | None = None
    missing_minor: int = 0
    over_minor: int = 0
    wallet_minor: int = 0
    bought: Bought | None = None


class Rate(NamedTuple):
    """The value of another currency: `kopecks` for every `per_minor` of its minor units."""

    kopecks: int
    per_minor: int


@dataclass
class Batch:
    """The locked state that the receipts of a batch fold over, and the decisions made so far."""

    now: datetime
    rates: Mapping[str, Rate]
    orders: dict[UUID, Order]
    invoices: dict[UUID, Invoice]
    holdings: dict[UUID, Holdings]
    transfers: list[Transfer] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)
    changed: set[UUID] = field(default_factory=set)
    """Orders whose row must be updated."""
    orders_of: dict[UUID, list[UUID]] = field(init=False)
    """Orders by person. A batch holds hundreds of people, and each needs only their own."""

    def __post_init__(self) -> None:
        self.orders_of = {}
        for order in self.orders.values():
            self.orders_of.setdefault(order.person, []).append(order.id)

    def held_by(self, person: UUID) -> Holdings:
        return self.holdings.get(person, Holdings(person))

    def add_transfer(self, holdings: Holdings, transfer: Transfer) -> None:
        """Add a transfer and apply it to the person's holdings."""
        self.transfers.append(transfer)
        self.holdings[holdings.person] = holdings.after(transfer)

    def set_order(self, order: Order) -> None:
        """Replace an order, and reserve the part that it has received while money for it buys."""
        self.orders[order.id] = order
        self.changed.add(order.id)
        reserved_minor = order.received_minor if order.state in PAYABLE else 0
        holdings = self.held_by(order.person).reserving(order.id, reserved_minor)
        self.holdings[order.person] = holdings


def confirm(receipts: Sequence[Receipt], batch: Batch) -> None:
    """Book every receipt, by time of payment."""
    for receipt in sorted(receipts, key=lambda receipt: (receipt.paid_at, receipt.id)):
        batch.bookings.append(confirm_one(receipt, batch))


def confirm_one(receipt: Receipt, batch: Batch) -> Booking:
    payload = read_payload(receipt.payload)
    order = batch.orders.get(payload.order) if payload else None
    invoice = batch.invoices.get(payload.invoice) if payload else None
    if invoice and not (order and invoice.order == order.id):
        invoice = None  # It belongs to another order: it has no ratio for this one.
    value_minor = value_of(receipt, order, invoice, batch.rates)
    if receipt.payer is None:
        return park(receipt, "payer_unknown", batch)
    if value_minor is None:
        return park(receipt, "no_rate", batch)

    holdings = batch.held_by(receipt.payer)
    if invoice and order and is_part(receipt, order, invoice):
        received_minor = invoice.received_minor + receipt.amount_minor
        batch.invoices[invoice.id] = replace(invoice, received_minor=received_minor)
    batch.add_transfer(
        holdings,
        ledger.receipt(holdings, receipt.cause, receipt.acquirer, *receipt.gross, value_minor),
    )
    take_fee(receipt, batch)
    spent = spend_on_order(receipt.payer, value_minor, order, batch)
    settle_owed(receipt.payer, receipt.cause, batch)
    wallet_minor = batch.held_by(receipt.payer).wallet_minor
    return Booking(
        receipt,
        outcome="bought" if spent.bought else "wallet",
        because=spent.because,
        order=spent.order,
        invoice=invoice.id if invoice else None,
        value_minor=value_minor,
        missing_minor=spent.missing_minor,
        over_minor=min(spent.over_minor, wallet_minor),
        wallet_minor=wallet_minor,
        bought=spent.bought,
    )


class Spent(NamedTuple):
    """The result for the order. `order` is None where the payload names no order of this payer."""

    because: Because
    order: UUID | None = None
    missing_minor: int = 0
    over_minor: int = 0
    bought: Bought | None = None


def spend_on_order(payer: UUID, value_minor: int, order: Order | None, batch: Batch) -> Spent:
    """Pay for the order from the payer's wallet, if it holds enough."""
    if order is None:
        return Spent("no_order")
    if order.person != payer:
        return Spent("not_yours")
    if order.state in BOUGHT or order.state == "closed":
        return Spent("order_closed", order.id)
    if batch.now > order.honoured_until:
        return Spent("order_too_old", order.id)
    received_minor = order.received_minor + value_minor
    holdings = batch.held_by(payer)
    if order.what == "topup":
        close_older(order, batch)
        batch.set_order(replace(order, received_minor=received_minor, state="paid"))
        return Spent("topped_up", order.id)
    missing_minor = order.missing_from(holdings, received_minor)
    if missing_minor > 0:
        batch.set_order(replace(order, received_minor=received_minor))
        because: Because = "too_little" if received_minor < order.price_minor else "part_spent"
        return Spent(because, order.id, missing_minor)
    buy(order, received_minor, batch)
    over_minor = -missing_minor if order.from_balance else received_minor - order.price_minor
    return Spent("paid", order.id, bought=order.bought, over_minor=min(over_minor, received_minor))


def buy_from_balance(order: Order, batch: Batch) -> int:
    """Pay for the order from the balance of its person.

    Returns what is missing, in kopecks: above 0, nothing was bought.
    """
    holdings = batch.held_by(order.person)
    missing_minor = replace(order, from_balance=True).missing_from(holdings, 0)
    if missing_minor <= 0:
        buy(order, order.received_minor, batch)
        settle_owed(order.person, f"order:{order.id}", batch)
    return missing_minor


def buy(order: Order, received_minor: int, batch: Batch) -> None:
    """Spend the price, close the person's older orders of this kind, and mark it paid."""
    holdings = batch.held_by(order.person)
    purchase = ledger.purchase(holdings, f"order:{order.id}", order.price_minor)
    batch.add_transfer(holdings, purchase)
    close_older(order, batch)
    batch.set_order(replace(order, received_minor=received_minor, state="paid"))


def close_older(paid: Order, batch: Batch) -> None:
    """Close the person's older orders of the same kind that the batch holds.

    The orders that no batch has loaded are closed when the purchase is written.
    """
    for order in [batch.orders[order] for order in batch.orders_of[paid.person]]:
        if order.state in PAYABLE and order.what == paid.what and order.age < paid.age:
            batch.set_order(replace(order, state="closed"))


def settle_owed(person: UUID, cause: str, batch: Batch) -> None:
    """Use the new credit to settle the person's debt, in the same transaction."""
    holdings = batch.held_by(person)
    settled = ledger.owed_settled(holdings, cause)
    if settled is not None:
        batch.add_transfer(holdings, settled)


def park(receipt: Receipt, because: Literal["payer_unknown", "no_rate"], batch: Batch) -> Booking:
    batch.transfers.append(ledger.parked(receipt.cause, receipt.acquirer, *receipt.gross))
    take_fee(receipt, batch)
    return Booking(receipt, "suspense", because)


def take_fee(receipt: Receipt, batch: Batch) -> None:
    """The shop bears it: the wallet gets the whole value."""
    if receipt.fee_minor:
        currency = receipt.gross.currency
        batch.transfers.append(
            ledger.fee(receipt.cause, receipt.acquirer, currency, receipt.fee_minor)
        )


def value_of(
    receipt: Receipt, order: Order | None, invoice: Invoice | None, rates: Mapping[str, Rate]
) -> int | None:
    """The value in kopecks.

    The amount itself in rubles, else by the invoice's ratio, else by the rate in force. None
    without a rate. A part is worth the difference that it makes to the sum of the parts: two parts
    that were each rounded down would lack a kopeck.
    """
    if receipt.currency == "RUB":
        return receipt.amount_minor
    if order and invoice and invoice.asked_currency == receipt.currency:
        before_minor = invoice.received_minor if is_part(receipt, order, invoice) else 0
        ratio = invoice.worth_minor or order.price_minor, invoice.asked_minor
        after_minor = before_minor + receipt.amount_minor
        return converted(after_minor, *ratio) - converted(before_minor, *ratio)
    rate = rates.get(receipt.currency)
    return None if rate is None else converted(receipt.amount_minor, *rate)


def is_part(receipt: Receipt, order: Order, invoice: Invoice) -> bool:
    """Whether the invoice counts this money. What another person pays is valued alone."""
    return receipt.payer == order.person and receipt.currency == invoice.asked_currency
