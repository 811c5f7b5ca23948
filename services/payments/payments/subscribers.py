"""Handlers of events: payments, refunds, rewards and their reversals are booked."""

from collections.abc import Sequence
from uuid import UUID

from payments.domain import ledger
from payments.domain.checkout import CARD_ACQUIRER, TELEGRAM_CARD
from payments.domain.confirmation import Batch, Booking, Receipt, confirm
from payments.domain.refunds import Refund, RefundBatch, RefundBooking, book
from payments.domain.refunds import Undone as UndoneShare
from payments.store import accounts, bookings, receipts, refunds, rewards
from shared.contracts.bot import PaymentReported, RefundReported
from shared.contracts.message import Event, digest_of
from shared.contracts.payments import (
    PaymentConfirmed,
    PaymentRefunded,
    ReceiptParked,
    Received,
    Returned,
    Undone,
)
from shared.contracts.referrals import RewardEarned, RewardReversed
from shared.messaging import conflicts, outbox
from shared.messaging.conflicts import Conflict
from shared.platform import telemetry
from shared.platform.db import Tx


async def payments_confirms_reported(events: Sequence[PaymentReported], tx: Tx) -> None:
    """Telegram reports that money was taken."""
    await confirm_receipts([receipt_from(event) for event in events], tx)


def receipt_from(event: PaymentReported) -> Receipt:
    """A card that Telegram charged is a charge of the acquirer behind it, which lists it too."""
    is_card = event.acquirer == TELEGRAM_CARD and event.provider_charge is not None
    return Receipt(
        acquirer=CARD_ACQUIRER if is_card else event.acquirer,
        charge=event.provider_charge if is_card and event.provider_charge else event.charge,
        payer=event.payer,
        currency=event.currency,
        amount_minor=event.amount_minor,
        payload=event.payload,
        paid_at=event.paid_at,
        trace=event.trace,
        telegram_charge=event.charge if is_card else None,
    )


async def confirm_receipts(reported: Sequence[Receipt], tx: Tx) -> None:
    """The one path of money into the ledger.

    Book each charge once, let its order spend the money, and publish, all in this transaction.
    """
    claim = await receipts.claim_receipts(reported, tx)
    tx.after_commit(lambda: telemetry.DUPLICATES_REFUSED.labels("receipts").inc(claim.repeats))
    if not claim.fresh:
        return
    batch = await bookings.open_batch(claim.fresh, tx)
    confirm(claim.fresh, batch)
    for booking in batch.bookings:
        telemetry.note(booking.receipt.trace, telemetry.BOOKED, booking.outcome)
    events = [event_of(booking, at, batch) for at, booking in enumerate(batch.bookings)]
    await bookings.write_batch(batch, events, tx)
    await outbox.publish(tx, events)
    if claim.refunded:
        waiting = await refunds.waiting_of(claim.refunded, tx)
        await book_refunds(waiting, tx, position=len(events))


def event_of(booking: Booking, position: int, batch: Batch) -> Event:
    """The event of a booking. `position` counts the bookings of one moment, from 0."""
    receipt = booking.receipt
    order = batch.orders.get(booking.order) if booking.order else None
    trace = receipt.trace or (order.trace if order else None)
    if booking.outcome == "suspense" or receipt.payer is None:
        assert booking.because in ("payer_unknown", "no_rate")
        return ReceiptParked.caused_by(
            receipt.cause,
            about=receipt.payer or receipt.id,
            at=batch.now,
            trace=trace,
            acquirer=receipt.acquirer,
            charge=receipt.charge,
            currency=receipt.currency,
            amount_minor=receipt.amount_minor,
            reason=booking.because,
        )
    received = Received(
        receipt=receipt.id,
        acquirer=receipt.acquirer,
        charge=receipt.charge,
        value_minor=booking.value_minor or 0,
        amount_minor=receipt.amount_minor,
        currency=receipt.currency,
    )
    return PaymentConfirmed.caused_by(
        receipt.cause,
        about=receipt.payer,
        at=batch.now,
        trace=trace,
        received=received,
        bought=booking.bought,
        booked_at=batch.now,
        wallet_minor=booking.wallet_minor,
        missing_minor=booking.missing_minor,
        position=position,
        reason=None if booking.bought else booking.because,
        lacking=booking.order if booking.missing_minor else None,
        over_minor=booking.over_minor,
    )


async def payments_records_refunds(events: Sequence[RefundReported], tx: Tx) -> None:
    """Telegram reports that money was returned. A refund whose payment is unknown waits for it."""
    await record_refunds([refund_from(event) for event in events], tx)


def refund_from(event: RefundReported) -> Refund:
    """Telegram returns a charge once: the charge is also the reference of its refund."""
    return Refund(
        acquirer=event.acquirer,
        charge=event.charge,
        reference=event.charge,
        payer=event.payer,
        currency=event.currency,
        amount_minor=event.amount_minor,
        refunded_at=event.refunded_at,
        trace=event.trace,
    )


async def record_refunds(reported: Sequence[Refund], tx: Tx) -> list[UUID]:
    """Claim each refund once, and book those whose payment is booked; returns the new ones."""
    fresh = await refunds.claim_refunds(reported, tx)
    await book_refunds(fresh, tx)
    return fresh


async def book_refunds(ids: Sequence[UUID], tx: Tx, *, position: int = 0) -> None:
    """Take the money back, undo what it paid for, and publish, all in this transaction.

    `position` is that of the first among the bookings of this moment.
    """
    if not ids:
        return
    waiting, batch = await refunds.open_batch(ids, tx)
    if not waiting:
        return
    book(waiting, batch)
    events = [
        refunded_event(booking, position + at, batch) for at, booking in enumerate(batch.bookings)
    ]
    await refunds.write_batch(batch, events, tx)
    await conflicts.record("refunds", beyond_payments(batch), tx)
    await outbox.publish(tx, [event for event in events if event is not None])


def beyond_payments(batch: RefundBatch) -> list[Conflict]:
    """Refunds of more than was left of their payment, or in another currency."""
    return [
        Conflict(
            one.refund.id,
            digest_of(one.payment.currency, one.amount_minor),
            digest_of(one.refund.currency, one.refund.amount_minor),
        )
        for one in batch.bookings
        if not one.is_whole
    ]


def refunded_event(
    booking: RefundBooking, position: int, batch: RefundBatch
) -> PaymentRefunded | None:
    """The event of a refund. Money that nobody had, or that did not come back, has none."""
    refund, payment = booking.refund, booking.payment
    if payment.payer is None or payment.value_minor is None or booking.amount_minor == 0:
        return None
    returned = Returned(
        refund=refund.id,
        receipt=payment.receipt,
        acquirer=refund.acquirer,
        charge=refund.charge,
        value_minor=booking.value_minor,
        amount_minor=booking.amount_minor,
        currency=payment.currency,
    )
    return PaymentRefunded.caused_by(
        refund.cause,
        about=payment.payer,
        at=batch.now,
        trace=refund.trace,
        returned=returned,
        undone=tuple(undone_of(one) for one in booking.undone),
        owed_minor=booking.owed_minor,
        restored_for_minor=booking.restored_for_minor,
        wallet_minor=booking.wallet_minor,
        booked_at=batch.now,
        position=position,
    )


def undone_of(share: UndoneShare) -> Undone:
    purchase = share.purchase
    return Undone(
        order=purchase.order,
        undone_minor=share.minor,
        price_minor=purchase.price_minor,
        whole=purchase.left_minor == 0,
        plan=purchase.plan,
        months=purchase.months,
    )


async def payments_books_rewards(events: Sequence[RewardEarned], tx: Tx) -> None:
    """Credit the partner's share to `earned`, once per receipt, and settle the partner's debt."""
    claimed = await rewards.claim_rewards([event for event in events if event.reward_minor], tx)
    if not claimed:
        return
    partners = sorted({event.about for event in claimed.values()})
    holdings = await accounts.lock_holdings(partners, tx)
    transfers = []
    for event in claimed.values():
        reward = ledger.reward(holdings[event.about], event.receipt, event.reward_minor)
        transfers.append(reward)
        holdings[event.about] = holdings[event.about].after(reward)
        settled = ledger.owed_settled(holdings[event.about], reward.cause)
        if settled is not None:
            transfers.append(settled)
            holdings[event.about] = holdings[event.about].after(settled)
    await accounts.write_transfers(transfers, tx, claimed=claimed)


async def payments_books_reversals(events: Sequence[RewardReversed], tx: Tx) -> None:
    """Take a reward back from its partner, once per refund; what is not there is owed."""
    claimed = await rewards.claim_reversals([one for one in events if one.reversed_minor], tx)
    if not claimed:
        return
    partners = sorted({event.about for event in claimed.values()})
    holdings = await accounts.lock_holdings(partners, tx)
    transfers = []
    for event in claimed.values():
        held = holdings[event.about]
        taken = ledger.taken_by_reversal(held, event.reversed_minor)
        transfers.append(ledger.reward_reversed(held, event.refund, taken))
        holdings[event.about] = held.after(transfers[-1])
    await accounts.write_transfers(transfers, tx, claimed=claimed)
