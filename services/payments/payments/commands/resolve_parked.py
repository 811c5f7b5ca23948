"""A parked receipt goes to a person or to an order, and from there it is money as any."""

from dataclasses import replace
from uuid import UUID

from payments.domain import ledger
from payments.domain.confirmation import (
    Batch,
    Invoice,
    Rate,
    Receipt,
    Spent,
    settle_owed,
    spend_on_order,
    value_of,
)
from payments.store import bookings, catalogue, orders, resolutions
from payments.store.resolutions import Resolution
from shared.contracts.message import Refused
from shared.contracts.payload import read_payload
from shared.contracts.payments import PaymentConfirmed, Received
from shared.contracts.payments_acts import Resolved, ResolveParked
from shared.messaging import outbox
from shared.messaging.idempotency import Changed
from shared.platform.db import Row, Tx

MAX_VALUE_MINOR = 10**13
"""Kopecks. An operator's rate may be a slip of the hand, and a balance has 64 bits."""


async def resolve_parked(command: ResolveParked, tx: Tx) -> Changed | Refused:
    """Suspense, the wallet, the order and the event in one transaction, once per receipt."""
    row = await resolutions.parked_receipt(command.receipt, tx)
    if row is None:
        return Refused(reason="receipt_unknown")
    if await resolutions.lock_receipt(command.receipt, tx):
        return Refused(reason="resolved_already")
    if await resolutions.is_returned(command.receipt, tx):
        return Refused(reason="returned")
    if row["payer"] not in (None, command.person):
        return Refused(reason="not_yours")
    batch = await open_batch(command, tx)
    order = batch.orders.get(command.order) if command.order else None
    if command.order and (order is None or order.person != command.person):
        return Refused(reason="not_yours")
    receipt = receipt_from(row, command.person)
    value_minor = await worth(receipt, command, batch, tx)
    if value_minor is None:
        return Refused(reason="no_rate")
    if value_minor > MAX_VALUE_MINOR:
        return Refused(reason="worth_too_much")
    before_minor = batch.held_by(command.person).wallet_minor
    spent = spend(receipt, value_minor, command.order, batch)
    event = event_of(receipt, value_minor, spent, batch)
    await write(command, event, value_minor, spent, batch, tx)
    answer = answer_of(command, event, value_minor, spent)
    state = {"outcome": answer.outcome, "wallet_minor": answer.wallet_minor}
    return Changed(answer, {"outcome": "suspense", "wallet_minor": before_minor}, state)


async def open_batch(command: ResolveParked, tx: Tx) -> Batch:
    """The state that a receipt of this person for this order meets, locked."""
    if command.order:
        return await bookings.open_order(command.order, command.person, tx)
    return await bookings.open_wallet(command.person, tx)


def receipt_from(row: Row, person: UUID) -> Receipt:
    """The receipt, paid by this person as we know now."""
    return Receipt(
        acquirer=row["acquirer"],
        charge=row["charge"],
        payer=person,
        currency=row["currency"],
        amount_minor=row["amount_minor"],
        payload=row["payload"],
        paid_at=row["paid_at"],
    )


async def worth(receipt: Receipt, command: ResolveParked, batch: Batch, tx: Tx) -> int | None:
    """In kopecks: by the operator's rate, by the invoice that it paid, or by the rate of the day.

    None without any of them.
    """
    rates = await catalogue.rates_in_force(tx)
    if command.kopecks:
        rates = {receipt.currency: Rate(command.kopecks, command.per_minor)}
        return value_of(receipt, None, None, rates)
    order = batch.orders.get(command.order) if command.order else None
    invoice = await invoice_of(receipt, command.order, tx)
    return value_of(receipt, order, invoice, rates)


async def invoice_of(receipt: Receipt, order: UUID | None, tx: Tx) -> Invoice | None:
    """The invoice of the order that the payload names. Its parts do not count this money."""
    payload = read_payload(receipt.payload)
    if payload is None or payload.order != order:
        return None
    invoice = (await orders.invoices([payload.invoice], tx)).get(payload.invoice)
    return replace(invoice, received_minor=0) if invoice and invoice.order == order else None


def spend(receipt: Receipt, value_minor: int, order: UUID | None, batch: Batch) -> Spent:
    """The same steps as for any receipt, with suspense in the place of clearing."""
    assert receipt.payer is not None, "a resolved receipt has a payer"
    holdings = batch.held_by(receipt.payer)
    money = receipt.currency, receipt.amount_minor, value_minor
    batch.add_transfer(holdings, ledger.resolved(holdings, receipt.cause, *money))
    wanted = batch.orders[order] if order else None
    spent = spend_on_order(receipt.payer, value_minor, wanted, batch)
    settle_owed(receipt.payer, receipt.cause, batch)
    return spent


def event_of(receipt: Receipt, value_minor: int, spent: Spent, batch: Batch) -> PaymentConfirmed:
    """Caused by the charge, as if the money had come like this."""
    assert receipt.payer is not None, "a resolved receipt has a payer"
    order = batch.orders[spent.order] if spent.order else None
    wallet_minor = batch.held_by(receipt.payer).wallet_minor
    received = Received(
        receipt=receipt.id,
        acquirer=receipt.acquirer,
        charge=receipt.charge,
        value_minor=value_minor,
        amount_minor=receipt.amount_minor,
        currency=receipt.currency,
    )
    return PaymentConfirmed.caused_by(
        receipt.cause,
        about=receipt.payer,
        at=batch.now,
        trace=order.trace if order else None,
        received=received,
        bought=spent.bought,
        booked_at=batch.now,
        wallet_minor=wallet_minor,
        missing_minor=spent.missing_minor,
        reason=None if spent.bought else spent.because,
        lacking=spent.order if spent.missing_minor else None,
        over_minor=min(spent.over_minor, wallet_minor),
    )


async def write(
    command: ResolveParked,
    event: PaymentConfirmed,
    value_minor: int,
    spent: Spent,
    batch: Batch,
    tx: Tx,
) -> None:
    await bookings.write_batch(batch, [], tx)
    resolution = Resolution(
        receipt=command.receipt,
        person=command.person,
        order=spent.order,
        outcome="bought" if spent.bought else "wallet",
        because=spent.because,
        value_minor=value_minor,
        published_as=event.id,
        act=command.id,
    )
    await resolutions.insert(resolution, tx)
    if spent.bought:
        await orders.set_published_as(spent.bought.order, event.id, tx)
    await outbox.publish(tx, [event])


def answer_of(
    command: ResolveParked, event: PaymentConfirmed, value_minor: int, spent: Spent
) -> Resolved:
    return Resolved(
        receipt=command.receipt,
        person=command.person,
        value_minor=value_minor,
        outcome="bought" if spent.bought else "wallet",
        because=spent.because,
        order=spent.order,
        missing_minor=spent.missing_minor,
        wallet_minor=event.wallet_minor,
    )
