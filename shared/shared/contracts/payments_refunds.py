"""The acts of operators that return money, and the query that lists them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.message import MAX_REASON_CHARACTERS, Charge, Query, Value, Word
from shared.contracts.operators import Act

MAX_REFUND_MINOR = 2**62

OutgoingState = Literal["held", "calling", "pending", "pending_review", "settled", "released"]
"""Of a refund that an operator asked for.

`held`: nobody was asked yet. `calling`: an answer may be on its way, or lost. `pending`: the
acquirer has accepted it. `pending_review`: nobody can know its outcome, and an operator looks.
"""


class OutgoingRefund(Value):
    """Money that an operator returns. The amount is in the currency of its payment."""

    refund: UUID
    """Its id, which is also the key under which the acquirer is asked."""
    receipt: UUID
    acquirer: Word
    charge: Charge
    person: UUID | None
    """None for parked money of an unknown payer."""
    currency: Word
    amount_minor: int
    held_minor: int
    """Kopecks of the wallet that nobody could spend meanwhile."""
    state: OutgoingState
    reference: Charge | None
    """The acquirer's own id of the refund, once it is known."""
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)] | None
    """Why it was released, or what the last failed try answered."""
    tries: int
    requested_at: datetime
    ended_at: datetime | None


class RefundPayment(Act[OutgoingRefund]):
    """Return the money of a receipt by the way that it came, in full or in part.

    The money is held first; a worker asks the acquirer then. Access and orders change when the
    money has left.
    Refused: `receipt_unknown`, `not_yours` (`person` is not its payer), `wrong_currency` (`detail`
    is the right one), `returned_already`, `more_than_left` (`detail` is what is left, in its
    smallest units), `under_way` (another refund of it has not ended), `only_whole` (its acquirer,
    or parked money, knows no parts), `unsupported` and `no_account` (`detail` says what to do).
    """

    topic = "payments.refund"
    answer = OutgoingRefund

    receipt: UUID
    person: UUID | None = None
    """The payer as the operator saw it."""
    currency: Word
    amount_minor: int | None = Field(default=None, ge=1, le=MAX_REFUND_MINOR)
    """In the smallest units of `currency`. None is all that is left."""


class OutgoingRefunds(Value):
    refunds: tuple[OutgoingRefund, ...]
    more: bool


class RefundsQuery(Query[OutgoingRefunds]):
    """Refunds that operators asked for, the newest first, a page at a time."""

    topic = "payments.refunds"
    answer = OutgoingRefunds

    state: OutgoingState | None = None
    before: UUID | None = None
    """The last refund of the page before."""


class ResolveRefund(Act[OutgoingRefund]):
    """End a refund whose outcome nobody knows: the operator looked at the acquirer.

    `settled`: the money left, under this reference of the acquirer. `released`: it did not.
    Refused: `refund_unknown`, `not_in_review` (`detail` is its state), `reference_missing`.
    """

    topic = "payments.resolve_refund"
    answer = OutgoingRefund

    refund: UUID
    outcome: Literal["settled", "released"]
    reference: Charge | None = None
    """The acquirer's own id of the refund. Its listing names the same, so it is booked once."""
