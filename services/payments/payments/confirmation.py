"""What a payment becomes. Money that arrived is always booked; the order only decides what it buys.

              ┌─ payer or rate unknown ─▶ suspense, told to the operators
    receipt ──┤                       ┌─ no order of this payer, or it is not open ─▶ wallet
              └─ its value in RUB ────┼─ too little, or an earlier part was spent ──▶ wallet, the order stays open
                                      └─ enough ─▶ wallet, and the order spends its price in the same transaction

A batch is a fold: each decision takes the state that the one before it left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple
from uuid import UUID

from payments import ledger
from payments.ledger import Holdings, Transfer
from shared.contract import derived_id
from shared.facts import Bought, Terms
from shared.money import converted

Because = Literal[
    "paid",
    "too_little",
    "part_spent",
    "order_closed",
    "order_too_old",
    "not_yours",
    "no_order",
    "payer_unknown",
    "no_rate",
]


Refusal = Literal[
    "payload_unknown",
    "not_yours",
    "order_closed",
    "invoice_superseded",
    "invoice_expired",
    "amount_differs",
    "currency_differs",
]


@dataclass(frozen=True)
class Receipt:
    """Money that an acquirer says it took. The charge is its key: never the payload, never the notice."""

    acquirer: str
    charge: str
    payer: UUID | None
    currency: str
    amount_minor: int
    payload: str
    paid_at: datetime
    trace: str | None = field(default=None, compare=False)

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


@dataclass(frozen=True)
class Order:
    id: UUID
    person: UUID
    price_minor: int
    received_minor: int
    state: str
    terms: Terms
    placed_at: datetime
    honoured_until: datetime
    trace: str | None

    @property
    def bought(self) -> Bought:
        return Bought(order=self.id, what="subscription", terms=self.terms, price_minor=self.price_minor)


@dataclass(frozen=True)
class Charge:
    """What an acquirer is about to take, and asks whether it may."""

    payer: UUID | None
    currency: str
    amount_minor: int


@dataclass(frozen=True)
class Offer:
    """An invoice as a checkout finds it, `state` being its order's."""

    person: UUID
    state: str
    asked_minor: int
    asked_currency: str
    superseded: bool
    expired: bool


@dataclass(frozen=True)
class Booking:
    """What became of one receipt."""

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
    """What money of another currency is worth: so many kopecks per so many of its minor units."""

    kopecks: int
    per_minor: int


@dataclass
class Book:
    """The locked state that a batch folds over, and what it has added so far."""

    now: datetime
    rates: Mapping[str, Rate]
    orders: dict[UUID, Order]
    invoices: Mapping[UUID, Invoice]
    holdings: dict[UUID, Holdings]
    transfers: list[Transfer] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)
    changed: set[UUID] = field(default_factory=set)
    """Orders whose row is another now."""
    orders_of: dict[UUID, list[UUID]] = field(init=False)
    """By person: a batch holds hundreds of people, and each looks at his own."""

    def __post_init__(self) -> None:
        self.orders_of = {}
        for order in self.orders.values():
            self.orders_of.setdefault(order.person, []).append(order.id)

    def held_by(self, person: UUID) -> Holdings:
        return self.holdings.get(person, Holdings(person))

    def write(self, holdings: Holdings, transfer: Transfer) -> Holdings:
        self.transfers.append(transfer)
        self.holdings[holdings.person] = holdings.after(transfer)
        return self.holdings[holdings.person]

    def set_order(self, order: Order) -> None:
        self.orders[order.id] = order
        self.changed.add(order.id)
        waiting_minor = order.received_minor if order.state == "open" else 0
        self.holdings[order.person] = self.held_by(order.person).waits_for(order.id, waiting_minor)


def confirm(receipts: Sequence[Receipt], book: Book) -> None:
    """Book every receipt, in the order in which they were paid."""
    for receipt in sorted(receipts, key=lambda receipt: (receipt.paid_at, receipt.id)):
        book.bookings.append(confirm_one(receipt, book))


def confirm_one(receipt: Receipt, book: Book) -> Booking:
    order_id, invoice_id = ids_in(receipt.payload)
    order = book.orders.get(order_id) if order_id else None
    invoice = book.invoices.get(invoice_id) if invoice_id else None
    if invoice and not (order and invoice.order == order.id):
        invoice = None  # It says nothing of this order, and is not paid by it.
    value_minor = value_of(receipt, order, invoice, book.rates)
    if receipt.payer is None:
        return park(receipt, "payer_unknown", book)
    if value_minor is None:
        return park(receipt, "no_rate", book)

    holdings = book.held_by(receipt.payer)
    book.write(
        holdings,
        ledger.receipt(holdings, receipt.cause, receipt.acquirer, receipt.currency, receipt.amount_minor, value_minor),
    )
    spent = settle_order(receipt.payer, value_minor, order, book)
    settle_owed(receipt.payer, receipt.cause, book)
    wallet_minor = book.held_by(receipt.payer).wallet_minor
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
    """What became of the order that money came for; `order` is None where it came for none of this payer's."""

    because: Because
    order: UUID | None = None
    missing_minor: int = 0
    over_minor: int = 0
    bought: Bought | None = None


def settle_order(payer: UUID, value_minor: int, order: Order | None, book: Book) -> Spent:
    """Let the order that this money came for spend it, if there is enough."""
    if order is None:
        return Spent("no_order")
    if order.person != payer:
        return Spent("not_yours")
    if order.state != "open":
        return Spent("order_closed", order.id)
    if book.now > order.honoured_until:
        return Spent("order_too_old", order.id)
    received_minor = order.received_minor + value_minor
    holdings = book.held_by(payer)
    if received_minor < order.price_minor:
        book.set_order(replace(order, received_minor=received_minor))
        return Spent("too_little", order.id, order.price_minor - received_minor)
    if holdings.wallet_minor < order.price_minor:
        book.set_order(replace(order, received_minor=received_minor))
        return Spent("part_spent", order.id, order.price_minor - holdings.wallet_minor)
    book.write(holdings, ledger.purchase(holdings, f"order:{order.id}", order.price_minor))
    close_older(order, book)
    book.set_order(replace(order, received_minor=received_minor, state="paid"))
    return Spent("paid", order.id, bought=order.bought, over_minor=received_minor - order.price_minor)


def close_older(paid: Order, book: Book) -> None:
    """That person's older open orders for the same subscription want nothing any more."""
    for order in [book.orders[order] for order in book.orders_of[paid.person]]:
        older = (order.placed_at, order.id) < (paid.placed_at, paid.id)
        if order.state == "open" and older:
            book.set_order(replace(order, state="closed"))


def settle_owed(person: UUID, cause: str, book: Book) -> None:
    """A credit pays what is owed, in the same transaction."""
    holdings = book.held_by(person)
    settled = ledger.owed_settled(holdings, cause)
    if settled is not None:
        book.write(holdings, settled)


def park(receipt: Receipt, because: Literal["payer_unknown", "no_rate"], book: Book) -> Booking:
    book.transfers.append(ledger.parked(receipt.cause, receipt.acquirer, receipt.currency, receipt.amount_minor))
    return Booking(receipt, "suspense", because)


def value_of(receipt: Receipt, order: Order | None, invoice: Invoice | None, rates: Mapping[str, Rate]) -> int | None:
    """What it is worth in kopecks: by the invoice's own ratio, else by the rate of the day, else nobody knows."""
    if receipt.currency == "RUB":
        return receipt.amount_minor
    if order and invoice and invoice.asked_currency == receipt.currency:
        return converted(receipt.amount_minor, order.price_minor, invoice.asked_minor)
    rate = rates.get(receipt.currency)
    return None if rate is None else converted(receipt.amount_minor, *rate)


def may_charge(charge: Charge, offer: Offer | None) -> Refusal | None:
    """Yes (None) only for the open, unexpired, newest invoice of an open order of that person, as it was asked."""
    if offer is None:
        return "payload_unknown"
    if charge.payer is None or charge.payer != offer.person:
        return "not_yours"
    if offer.state != "open":
        return "order_closed"
    if offer.superseded:
        return "invoice_superseded"
    if offer.expired:
        return "invoice_expired"
    if charge.currency != offer.asked_currency:
        return "currency_differs"
    if charge.amount_minor != offer.asked_minor:
        return "amount_differs"
    return None


def payload_of(order: UUID, invoice: UUID, trace: str | None) -> str:
    """What the provider carries back: order, invoice, and the span that the story continues from (82 characters)."""
    span = trace.split("-")[2] if trace else "0" * 16
    return f"{order.hex}.{invoice.hex}.{span}"


def ids_in(payload: str) -> tuple[UUID | None, UUID | None]:
    """The order and the invoice that a payload names; anything that is not of our form names neither."""
    parts = payload.split(".")
    try:
        order, invoice, _ = parts
        return UUID(hex=order), UUID(hex=invoice)
    except ValueError:
        return None, None
