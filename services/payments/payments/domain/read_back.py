"""The outcome for the shop of a payment that was read back at its provider."""

from typing import Literal
from uuid import UUID

from payments.domain.confirmation import Receipt
from payments.domain.provider import Payment, Sum
from shared.contracts.payload import Payload, read_payload

Outcome = Literal["booked", "pending", "held", "canceled", "foreign"]


def outcome_of(payment: Payment) -> Outcome:
    """`foreign`: its payload is not of our form. A merchant's account may be shared.

    Money with a payload of our form is always booked, even where the order is unknown.
    """
    if payload_of(payment) is None:
        return "foreign"
    return "booked" if payment.state == "succeeded" else payment.state


def payload_of(payment: Payment) -> Payload | None:
    return read_payload(payment.payload) if payment.payload else None


def arrival_of(payment: Payment) -> tuple[Sum | None, int]:
    """The sum that arrived of a payment, and the fee. None and 0 until the provider tells them.

    In one currency the fee is what did not arrive, so that the clearing account holds what did.
    """
    arrived, fee_minor = payment.arrived, payment.fee.amount_minor if payment.fee else 0
    if arrived is not None and arrived.currency == payment.currency:
        fee_minor = max(0, payment.amount_minor - arrived.amount_minor)
    return arrived, fee_minor if arrived else 0


def receipt_from(payment: Payment, acquirer: str, payer: UUID | None, trace: str | None) -> Receipt:
    """The receipt of a payment that succeeded. `payer` is the person of its order."""
    assert payment.payload is not None, "a foreign payment is not booked"
    arrived, fee_minor = arrival_of(payment)
    return Receipt(
        acquirer=acquirer,
        charge=payment.reference,
        payer=payer,
        currency=payment.currency,
        amount_minor=payment.amount_minor,
        payload=payment.payload,
        paid_at=payment.paid_at or payment.created_at,
        trace=trace,
        arrived=arrived,
        fee_minor=fee_minor,
    )


Read = Literal[Outcome, "unknown", "unreadable", "failed"]
"""What became of one reference: `unknown` to the provider, `unreadable` amounts, or no answer."""

NoticeEnd = Literal["done", "refused", "parked"]
MOST_TRIES = 14
"""With the pauses of a job that is 45 minutes."""


def end_of_notice(read: Read, tries: int) -> NoticeEnd | None:
    """None: read it again. Parked: real money may be in it, so an operator looks.

    A notice of a refund has its payment read back; the listing of refunds books the refund.
    """
    if read in ("unknown", "foreign"):
        return "refused"
    if read in ("failed", "held"):
        return "parked" if tries + 1 >= MOST_TRIES else None
    return "parked" if read == "unreadable" else "done"
