"""Payments that were read back at their provider are booked, or end their invoice.

Webhooks, the watcher and the listing all come through here, and from here to `confirm_receipts`.
"""

from collections.abc import Sequence

from payments.domain.arrivals import late_arrivals
from payments.domain.provider import Payment
from payments.domain.read_back import Outcome, outcome_of, payload_of, receipt_from
from payments.domain.reconciliation import Difference, named
from payments.domain.saved_methods import is_gone, reason_of_charge
from payments.store import accounts, arrivals, fiscal, orders, saved_methods
from payments.store.orders import Ended
from payments.subscribers import confirm_receipts
from shared.contracts.payments import InvoiceRefused
from shared.messaging import outbox
from shared.platform.db import Tx


async def book_late_arrivals(
    payments: Sequence[Payment], acquirer: str, tx: Tx
) -> list[Difference]:
    """Book fees that these payments tell of charges booked before.

    Returns the booked fees, and the differences that are only reported. One transfer per receipt,
    with the cause of the receipt. Comes before any account is locked.
    """
    paid = [one for one in payments if one.state == "succeeded" and one.arrived is not None]
    if not paid:
        return []
    charges = [named(one.reference) for one in paid]
    late, found = late_arrivals(paid, acquirer, await arrivals.known(acquirer, charges, tx))
    if late:
        await arrivals.lock(late, tx)  # A return or fee booked meanwhile is seen behind it.
        late, found = late_arrivals(paid, acquirer, await arrivals.known(acquirer, charges, tx))
        late = await arrivals.claim(late, tx)
        transfers = [one.transfer for one in late]
        await accounts.write_transfers([one for one in transfers if one is not None], tx)
    return found + [one.difference for one in late]


async def take_in(payments: Sequence[Payment], acquirer: str, tx: Tx) -> dict[str, Outcome]:
    """Take payments as the provider told them just now; the outcome of each, by its reference.

    The payer is the person of the order that the payload names. That never changes, so it is looked
    up before anything is locked. A repeat changes nothing.
    """
    await book_late_arrivals(payments, acquirer, tx)
    outcomes = {payment.reference: outcome_of(payment) for payment in payments}
    paid = [one for one in payments if outcomes[one.reference] == "booked"]
    if paid:
        named = [payload.order for one in paid if (payload := payload_of(one))]
        people = await orders.people_of(named, tx)
        receipts, invoices, saved = [], [], []
        for one in paid:
            payload = payload_of(one)
            assert payload is not None, "a foreign payment is not booked"
            invoices.append((payload.invoice, one))
            saved.append((payload.invoice, payload.order, one))
            receipts.append(receipt_from(one, acquirer, *people.get(payload.order, (None, None))))
        await fiscal.paid(acquirer, invoices, tx)  # Before: its order may use up the advance.
        await confirm_receipts(receipts, tx)
        await saved_methods.keep(acquirer, saved, tx)
    ended = [
        (one.reference, one.cancel_reason or "canceled")
        for one in payments
        if outcomes[one.reference] == "canceled"
    ]
    if ended:
        closed = await orders.end_at_provider(acquirer, ended, tx)
        gone = [one.saved_method for one in closed if one.saved_method and is_gone(one.reason)]
        if gone:
            await saved_methods.forget(gone, tx)
        await publish_canceled([one for one in closed if one.was_open], tx)
    return outcomes


async def publish_canceled(invoices: Sequence[Ended], tx: Tx) -> None:
    """Their screens must not lead to a dead page, or wait for a charge that was refused."""
    people, now = await orders.people_of([one.order for one in invoices], tx), await tx.now()
    events = []
    for one in invoices:
        person, trace = people[one.order]
        events.append(
            InvoiceRefused.caused_by(
                one.invoice,
                about=person,
                at=now,
                trace=trace,
                order=one.order,
                invoice=one.invoice,
                reason=reason_of_charge(one.reason) if one.saved_method else "canceled",
            )
        )
    await outbox.publish(tx, events)
