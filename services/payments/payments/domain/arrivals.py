"""Decides what a provider's word about the arrival of booked money changes: fees are told late.

                        ┌─ as it was booked, or nothing ─▶ nothing
the arrival is told ────┼─ nothing was told before ─▶ one transfer of reason `fee`
                        └─ another sum was booked ─▶ a difference, reported
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from payments.domain import ledger
from payments.domain.ledger import Transfer
from payments.domain.provider import Payment, Sum
from payments.domain.read_back import arrival_of
from payments.domain.reconciliation import Difference, named


@dataclass(frozen=True, slots=True)
class Arrival:
    """The ledger's record of a receipt. `arrived` is None until its provider told it."""

    receipt: UUID
    paid: Sum
    arrived: Sum | None
    fee_minor: int
    is_plain: bool
    """It is in no suspense, and nothing of it was returned: its money may change its asset."""


@dataclass(frozen=True, slots=True)
class LateArrival:
    """The arrival of a receipt that its provider told after the booking."""

    acquirer: str
    charge: str
    receipt: UUID
    paid: Sum
    arrived: Sum
    fee_minor: int

    @property
    def cause(self) -> str:
        """That of the receipt: a charge has one fee."""
        return f"{self.acquirer}:{self.charge}"

    @property
    def transfer(self) -> Transfer | None:
        """None where nothing moves: all of it arrived, in the currency that was paid."""
        if self.arrived.currency != self.paid.currency:
            return ledger.arrived_otherwise(
                self.cause, self.acquirer, self.paid, self.arrived, self.fee_minor
            )
        if self.fee_minor == 0:
            return None
        return ledger.fee(self.cause, self.acquirer, self.paid.currency, self.fee_minor)

    @property
    def difference(self) -> Difference:
        """As the report of a run tells it."""
        theirs = Sum(self.arrived.currency, self.fee_minor)
        return Difference("fee", self.charge, self.charge, theirs, None, done="booked")


def late_arrivals(
    payments: Sequence[Payment], acquirer: str, booked: Mapping[str, Arrival]
) -> tuple[list[LateArrival], list[Difference]]:
    """The arrivals to be booked of these payments, and the differences from the ledger."""
    late: dict[str, LateArrival] = {}
    found = []
    for payment in payments:
        charge, (arrived, fee_minor) = named(payment.reference), arrival_of(payment)
        known = booked.get(charge)
        if (
            known is None
            or arrived is None
            or (known.arrived, known.fee_minor)
            == (
                arrived,
                fee_minor,
            )
        ):
            continue
        if known.arrived is None and is_bookable(known, payment, arrived):
            late[charge] = LateArrival(
                acquirer, charge, known.receipt, known.paid, arrived, fee_minor
            )
        else:
            found.append(another_fee(charge, arrived, fee_minor, known))
    return list(late.values()), found


def is_bookable(known: Arrival, payment: Payment, arrived: Sum) -> bool:
    """Money that was returned meanwhile, or waits in suspense, keeps its currency."""
    if known.paid != (payment.currency, payment.amount_minor) or arrived.amount_minor <= 0:
        return False
    return known.is_plain or arrived.currency == known.paid.currency


def another_fee(charge: str, arrived: Sum, fee_minor: int, known: Arrival) -> Difference:
    theirs = Sum(arrived.currency, fee_minor)
    ours = Sum(known.arrived.currency, known.fee_minor) if known.arrived else None
    sentence = f"Of it {arrived.amount_minor} {arrived.currency} arrived, in the smallest unit."
    return Difference("fee", charge, charge, theirs, ours, sentence)
