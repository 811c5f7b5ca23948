"""Decides what a refund takes back, and which orders it undoes.

             ┌─ its payment is not booked yet ─▶ it waits, and the payment meets it
    refund ──┼─ the payment is in suspense ─▶ suspense gives the money back
             └─ otherwise
                  1. the payment's own order is undone: all of it once the whole payment is
                     returned, else only the share that the wallet lacks
                  2. while the wallet and `earned` hold too little: the newest order that the
                     balance paid since that payment is undone
                  3. the wallet pays, then `earned`; the rest is owed

A refund that an operator asked for has a hold, which is back in the wallet before all that.

A top-up bought nothing, so of its own order nothing comes back to the wallet.

A batch is a fold: each decision starts from the state that the decision before it left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from uuid import UUID

from payments.domain import ledger
from payments.domain.ledger import Holdings, Transfer
from payments.domain.outgoing import End, Outgoing, end_by
from payments.domain.provider import Sum
from shared.contracts.message import derived_id
from shared.contracts.money import converted


@dataclass(frozen=True)
class Refund:
    """Money that an acquirer reports as returned.

    `reference` is the acquirer's own id of the refund. Telegram has none: it returns a charge
    once, and the charge is the reference.
    """

    acquirer: str
    charge: str
    reference: str
    payer: UUID | None
    currency: str
    amount_minor: int
    refunded_at: datetime
    trace: str | None = field(default=None, compare=False)

    @cached_property
    def id(self) -> UUID:
        return derived_id("refund", self.acquirer, self.charge, self.reference)

    @cached_property
    def receipt(self) -> UUID:
        """The id of the receipt that is refunded, known or not."""
        return derived_id("receipt", self.acquirer, self.charge)

    @property
    def cause(self) -> str:
        return f"refund:{self.id}"


@dataclass(frozen=True)
class Payment:
    """A booked receipt, and what was returned of it before. `order` counts its money."""

    receipt: UUID
    payer: UUID | None
    currency: str
    amount_minor: int
    value_minor: int | None
    """In kopecks. None: it is in suspense."""
    order: UUID | None
    gross: Sum
    """What the acquirer took in: the amount, or the asset that it came in."""
    returned_minor: int = 0
    """In its own currency."""

    @property
    def is_returned(self) -> bool:
        return self.returned_minor == self.amount_minor

    def worth_minor(self, amount_minor: int) -> int:
        """A part in kopecks. Parts are worth the difference that they make: they lose nothing."""
        return converted(amount_minor, self.value_minor or 0, self.amount_minor)

    def went_back_since(self, before: "Payment") -> Sum:
        """The part of the gross amount that went back since then. The acquirer's fee stays paid."""
        ratio = self.gross.amount_minor, self.amount_minor
        gross_minor = converted(self.returned_minor, *ratio)
        return Sum(self.gross.currency, gross_minor - converted(before.returned_minor, *ratio))

    def undone_of_topup(self, price_minor: int) -> int:
        """The share of the top-up that it paid, in proportion to what was returned of it."""
        return converted(self.returned_minor, price_minor, self.amount_minor)


@dataclass(frozen=True)
class Purchase:
    """An order that was paid: the amounts from each account, and the amount that is undone."""

    order: UUID
    wallet_minor: int
    earned_minor: int
    undone_minor: int
    plan: str | None
    months: int | None

    @property
    def price_minor(self) -> int:
        return self.wallet_minor + self.earned_minor

    @property
    def left_minor(self) -> int:
        return self.price_minor - self.undone_minor

    def from_wallet(self, undone_minor: int) -> int:
        """The wallet's part of what is undone: in proportion, and all of it in the end."""
        return converted(undone_minor, self.wallet_minor, self.price_minor)


@dataclass(frozen=True)
class Undone:
    """A share of an order that a refund undoes. `transfer` returned it."""

    transfer: UUID
    minor: int
    purchase: Purchase
    """The order afterwards."""


@dataclass(frozen=True)
class RefundBooking:
    """The decision about one refund. Amounts are in kopecks, except `amount_minor`."""

    refund: Refund
    payment: Payment
    amount_minor: int
    """What is booked, in the currency of the payment: at most what was left of it."""
    value_minor: int = 0
    owed_minor: int = 0
    wallet_minor: int = 0
    undone: tuple[Undone, ...] = ()
    debt_minor: int = 0
    """All that the person owes afterwards."""
    parts_minor: int = 0
    """What open orders have received and the wallet lacks: new money is theirs first."""

    @property
    def lost_minor(self) -> int:
        """The prices of the orders that come back once the debt is paid: those undone whole."""
        if not self.owed_minor:
            return 0
        return sum(one.minor for one in self.undone if one.minor == one.purchase.price_minor)

    @property
    def restored_for_minor(self) -> int:
        """What pays the debt, and these orders again. The wallet holds the open parts then."""
        return self.debt_minor + self.lost_minor + self.parts_minor if self.lost_minor else 0

    @property
    def is_whole(self) -> bool:
        """Whether all that was reported is booked."""
        return self.amount_minor == self.refund.amount_minor


@dataclass
class RefundBatch:
    """The locked state that the refunds of a batch fold over, and the decisions made so far."""

    now: datetime
    payments: dict[UUID, Payment]
    """By receipt."""
    holdings: dict[UUID, Holdings]
    purchases: dict[UUID, Purchase]
    topups: Mapping[UUID, int]
    """The prices of the orders that only topped up."""
    spent_since: Mapping[UUID, Sequence[UUID]]
    """By receipt: the orders that the payer's balance paid since, the newest first."""
    outgoing: dict[UUID, Outgoing] = field(default_factory=dict)
    """By receipt: the refunds under way that operators asked for."""
    ended: list[tuple[Outgoing, End, Refund]] = field(default_factory=list)
    """Those that a refund of this batch ended."""
    transfers: list[Transfer] = field(default_factory=list)
    bookings: list[RefundBooking] = field(default_factory=list)

    def add_transfer(self, person: UUID, transfer: Transfer) -> None:
        self.transfers.append(transfer)
        self.holdings[person] = self.holdings[person].after(transfer)


def book(refunds: Sequence[Refund], batch: RefundBatch) -> None:
    """Book every refund whose payment is booked, by time of return."""
    for refund in sorted(refunds, key=lambda refund: (refund.refunded_at, refund.id)):
        batch.bookings.append(book_one(refund, batch))


def book_one(refund: Refund, batch: RefundBatch) -> RefundBooking:
    before = batch.payments[refund.receipt]
    amount_minor = returnable(refund, before)
    payment = replace(before, returned_minor=before.returned_minor + amount_minor)
    batch.payments[refund.receipt] = payment
    if amount_minor == 0:
        return RefundBooking(refund, payment, 0)
    end_outgoing(refund, payment, batch)
    went_back = payment.went_back_since(before)
    if payment.payer is None or payment.value_minor is None:
        batch.transfers.append(ledger.parked_refunded(refund.cause, refund.acquirer, *went_back))
        return RefundBooking(refund, payment, amount_minor)
    value_minor = payment.worth_minor(payment.returned_minor)
    value_minor -= payment.worth_minor(before.returned_minor)
    undone = undo_orders(refund, payment, payment.payer, value_minor, batch)
    owed_minor = take_back(refund, payment.payer, went_back, value_minor, batch)
    settle_owed(refund, payment, value_minor, payment.payer, batch)
    return RefundBooking(
        refund,
        payment,
        amount_minor,
        value_minor,
        owed_minor,
        batch.holdings[payment.payer].wallet_minor,
        undone,
        batch.holdings[payment.payer].owed_minor,
        lacking_parts(batch.holdings[payment.payer]),
    )


def lacking_parts(held: Holdings) -> int:
    """The refund may have taken the money that open orders had received."""
    return max(0, sum(minor for _, minor in held.reserved) - held.wallet_minor)


def returnable(refund: Refund, payment: Payment) -> int:
    """At most what is left of the payment. Nothing in another currency."""
    if refund.currency != payment.currency:
        return 0
    return min(refund.amount_minor, payment.amount_minor - payment.returned_minor)


def end_outgoing(refund: Refund, payment: Payment, batch: RefundBatch) -> None:
    """The hold of the refund under way returns, so that this refund takes it from the wallet."""
    under_way = batch.outgoing.get(payment.receipt)
    if under_way is None:
        return
    amounts = refund.amount_minor, payment.returned_minor, payment.amount_minor
    end = end_by(under_way, refund.reference, *amounts)
    if end is None:
        return
    del batch.outgoing[payment.receipt]
    batch.ended.append((under_way, end, refund))
    if under_way.person is not None and under_way.held_minor:
        amount = under_way.acquirer, under_way.held_minor
        holdings = batch.holdings[under_way.person]
        transfer = ledger.hold_returned(holdings, under_way.cause, *amount)
        batch.add_transfer(under_way.person, transfer)


def undo_orders(
    refund: Refund, payment: Payment, person: UUID, value_minor: int, batch: RefundBatch
) -> tuple[Undone, ...]:
    """The payment's own order first, then the newest that the balance paid since."""
    found = []
    own = batch.purchases.get(payment.order) if payment.order else None
    if own is not None:
        lacking_minor = max(0, value_minor - batch.holdings[person].wallet_minor)
        minor = own.left_minor if payment.is_returned else min(lacking_minor, own.left_minor)
        found.append(undo(own, minor, refund, person, batch))
    for order in batch.spent_since.get(payment.receipt, ()):
        held, purchase = batch.holdings[person], batch.purchases.get(order)
        if held.wallet_minor + held.earned_minor >= value_minor:
            break
        if purchase is not None and order != payment.order:
            found.append(undo(purchase, purchase.left_minor, refund, person, batch))
    return tuple(one for one in found if one is not None)


def undo(
    purchase: Purchase, minor: int, refund: Refund, person: UUID, batch: RefundBatch
) -> Undone | None:
    """Return so many kopecks of a purchase to the accounts that they came from."""
    if minor == 0:
        return None
    after = replace(purchase, undone_minor=purchase.undone_minor + minor)
    wallet_minor = purchase.from_wallet(after.undone_minor)
    wallet_minor -= purchase.from_wallet(purchase.undone_minor)
    cause = f"{refund.cause}:order:{purchase.order}"
    transfer = ledger.purchase_undone(
        batch.holdings[person], cause, wallet_minor, minor - wallet_minor
    )
    batch.add_transfer(person, transfer)
    batch.purchases[purchase.order] = after
    return Undone(transfer.id, minor, after)


def take_back(
    refund: Refund, person: UUID, went_back: Sum, value_minor: int, batch: RefundBatch
) -> int:
    """Take the value from the person; the lack is owed. Returns the lack, in kopecks."""
    holdings = batch.holdings[person]
    taken = ledger.taken_by_refund(holdings, value_minor)
    transfer = ledger.refund(holdings, refund.cause, refund.acquirer, *went_back, taken)
    batch.add_transfer(person, transfer)
    return taken.owed_minor


def settle_owed(
    refund: Refund, payment: Payment, value_minor: int, person: UUID, batch: RefundBatch
) -> None:
    """Money that an undone order left over settles an older debt.

    An open order that counted the returned money reserves that much less.
    """
    holdings = batch.holdings[person]
    reserved = dict(holdings.reserved)
    if payment.order in reserved:
        left_minor = max(0, reserved[payment.order] - value_minor)
        batch.holdings[person] = holdings = holdings.reserving(payment.order, left_minor)
    settled = ledger.owed_settled(holdings, refund.cause)
    if settled is not None:
        batch.add_transfer(person, settled)
