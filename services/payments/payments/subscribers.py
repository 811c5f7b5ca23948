"""Doors for facts: what the book does when it hears of money and of rewards."""

from collections.abc import Sequence

from payments import ledger
from payments.confirmation import Book, Booking, Receipt, confirm
from payments.store import book as store
from shared import outbox, telemetry
from shared.contract import Fact
from shared.db import Tx
from shared.facts import PaymentConfirmed, PaymentReported, ReceiptParked, Received, RewardEarned


async def payments_confirms_reported(events: Sequence[PaymentReported], tx: Tx) -> None:
    """Telegram says that money was taken."""
    await confirm_receipts([receipt_from(event) for event in events], tx)


def receipt_from(event: PaymentReported) -> Receipt:
    return Receipt(
        acquirer=event.acquirer,
        charge=event.charge,
        payer=event.payer,
        currency=event.currency,
        amount_minor=event.amount_minor,
        payload=event.payload,
        paid_at=event.paid_at,
        trace=event.trace,
    )


async def confirm_receipts(receipts: Sequence[Receipt], tx: Tx) -> None:
    """The one path for money: book each charge once, let its order spend it, and tell, in this transaction."""
    claim = await store.claim_receipts(receipts, tx)
    tx.after_commit(lambda: telemetry.DUPLICATES_REFUSED.labels("receipts").inc(claim.repeats))
    if not claim.fresh:
        return
    book = await store.open_book(claim.fresh, tx)
    confirm(claim.fresh, book)
    facts = [fact_of(booking, place, book) for place, booking in enumerate(book.bookings)]
    await store.write_book(book, facts, tx)
    await outbox.tell(tx, facts)


def fact_of(booking: Booking, place: int, book: Book) -> Fact:
    receipt = booking.receipt
    order = book.orders.get(booking.order) if booking.order else None
    trace = receipt.trace or (order.trace if order else None)
    if booking.outcome == "suspense" or receipt.payer is None:
        assert booking.because in ("payer_unknown", "no_rate")
        return ReceiptParked.because(
            receipt.cause,
            about=receipt.payer or receipt.id,
            at=book.now,
            trace=trace,
            acquirer=receipt.acquirer,
            charge=receipt.charge,
            currency=receipt.currency,
            amount_minor=receipt.amount_minor,
            reason=booking.because,
        )
    received = Received(
        receipt=receipt.id, acquirer=receipt.acquirer, charge=receipt.charge, value_minor=booking.value_minor or 0
    )
    return PaymentConfirmed.because(
        receipt.cause,
        about=receipt.payer,
        at=book.now,
        trace=trace,
        received=received,
        bought=booking.bought,
        booked_at=book.now,
        wallet_minor=booking.wallet_minor,
        missing_minor=booking.missing_minor,
        place=place,
        reason=None if booking.bought else booking.because,
        over_minor=booking.over_minor,
    )


async def payments_books_rewards(events: Sequence[RewardEarned], tx: Tx) -> None:
    """A partner's share goes into `earned`, once per receipt, and pays what he owes."""
    claimed = await store.claim_rewards([event for event in events if event.reward_minor], tx)
    if not claimed:
        return
    holdings = await store.lock_holdings(sorted({event.about for event in claimed.values()}), tx)
    transfers = []
    for event in claimed.values():
        reward = ledger.reward(holdings[event.about], event.receipt, event.reward_minor)
        transfers.append(reward)
        holdings[event.about] = holdings[event.about].after(reward)
        settled = ledger.owed_settled(holdings[event.about], reward.cause)
        if settled is not None:
            transfers.append(settled)
            holdings[event.about] = holdings[event.about].after(settled)
    await store.write_transfers(transfers, tx, claimed=claimed)
