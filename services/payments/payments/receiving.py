"""Payments that were read back at their provider are booked, or end their invoice.

Webhooks, the watcher and the listing all come through here, and from here to `confirm_receipts`.
"""

from collections.abc import Sequence

from payments.domain.provider import Payment
from payments.domain.read_back import Outcome, outcome_of, payload_of, receipt_from
from payments.store import orders
from payments.subscribers import confirm_receipts
from shared.platform.db import Tx


async def take_in(payments: Sequence[Payment], acquirer: str, tx: Tx) -> dict[str, Outcome]:
    """Take payments as the provider told them just now; the outcome of each, by its reference.

    The payer is the person of the order that the payload names. That never changes, so it is looked
    up before anything is locked. A repeat changes nothing.
    """
    outcomes = {payment.reference: outcome_of(payment) for payment in payments}
    paid = [one for one in payments if outcomes[one.reference] == "booked"]
    if paid:
        named = [payload.order for one in paid if (payload := payload_of(one))]
        people = await orders.people_of(named, tx)
        receipts = []
        for one in paid:
            payload = payload_of(one)
            assert payload is not None, "a foreign payment is not booked"
            receipts.append(receipt_from(one, acquirer, *people.get(payload.order, (None, None))))
        await confirm_receipts(receipts, tx)
    ended = [
        (one.reference, one.cancel_reason or "canceled")
        for one in payments
        if outcomes[one.reference] == "canceled"
    ]
    if ended:
        await orders.end_at_provider(acquirer, ended, tx)
    return outcomes
