"""Handlers of events: starts bind people, payments are rewarded, and refunds take rewards back."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from referrals import metrics
from referrals.domain import invitations, reversals, rewards
from referrals.domain.invitations import Refusal, Start, StartOutcome
from referrals.domain.reversals import RefundConflict, RefundedValue, Reversal
from referrals.domain.rewards import Decisions, ReceiptConflict, Reward, RewardableReceipt
from referrals.store import invitations as invitations_store
from referrals.store import reversals as reversals_store
from referrals.store import rewards as rewards_store
from referrals.store import waiting
from shared.contracts.bot import PersonStarted
from shared.contracts.payments import PaymentConfirmed, PaymentRefunded
from shared.contracts.referrals import InvitationRegistered, RewardEarned, RewardReversed
from shared.messaging import conflicts
from shared.messaging.conflicts import Conflict
from shared.messaging.outbox import publish
from shared.platform import telemetry
from shared.platform.db import Row, Tx

log = structlog.get_logger()


# Starts


async def referrals_registers_started(events: Sequence[PersonStarted], tx: Tx) -> None:
    """Insert new people, bind the invited ones, and reward the payments that waited for them."""
    starts = [start_of(event) for event in events]
    await invitations_store.lock_starts(tx)
    outcomes = invitations.bind(starts, await invitations_store.tree_of(starts, tx))
    await invitations_store.add(outcomes, tx)
    await refuse([(one.start, one.refusal) for one in outcomes if one.refusal], tx)
    await publish(tx, list(registered(outcomes, await tx.now())))
    partners = {one.binding.person: one.binding.partner for one in outcomes if one.binding}
    waited = [waited_payment(row) for row in await waiting.take(partners, tx)]
    await reward([receipt_of(event, partners[event.about]) for event in waited], tx)


def start_of(event: PersonStarted) -> Start:
    return Start(event.id, event.about, event.invited_by, event.code, event.at, event.trace)


def registered(outcomes: Iterable[StartOutcome], now: datetime) -> Iterator[InvitationRegistered]:
    for one in outcomes:
        if one.binding and one.binding.partner:
            invitee = one.binding.person
            yield InvitationRegistered.caused_by(
                invitee, about=one.binding.partner, at=now, trace=one.start.trace, invitee=invitee
            )


async def refuse(refused: Sequence[tuple[Start, Refusal]], tx: Tx) -> None:
    if not refused:
        return
    new = await invitations_store.refuse(refused, tx)
    tx.after_commit(partial(log_refusals, [entry for entry in refused if entry[0].event in new]))


def log_refusals(refused: Sequence[tuple[Start, Refusal]]) -> None:
    for start, reason in refused:
        metrics.REFUSED.labels(reason).inc()
        log.info(
            "invitation refused",
            reason=reason,
            person=str(start.person),
            invited_by=str(start.invited_by),
        )


def waited_payment(row: Row) -> PaymentConfirmed:
    """A payment that waited. It continues its own trace."""
    event = PaymentConfirmed.model_validate_json(row["body"])
    with telemetry.span("referrals_resumes_payment", following=row["trace"]) as span:
        return event.continuing(telemetry.trace_of(span))


# Payments


async def referrals_rewards_confirmed(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """Decide the rewards for money received from outside.

    A payment that arrives before its payer's /start is stored and waits.
    """
    received = [event for event in events if event.received is not None]
    payers = {event.about for event in received}
    partners = await invitations_store.partners_of(payers, tx)
    if payers - partners.keys():
        await invitations_store.share_starts(tx)
        partners = await invitations_store.partners_of(payers, tx)
        await store_waiting([event for event in received if event.about not in partners], tx)
    await reward(
        [receipt_of(event, partners[event.about]) for event in received if event.about in partners],
        tx,
    )


async def store_waiting(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    await waiting.wait(events, tx)
    tx.after_commit(partial(metrics.WAITED.inc, len(events)))


def receipt_of(event: PaymentConfirmed, partner: UUID | None) -> RewardableReceipt:
    received = event.received
    assert received is not None, "only money from outside is rewarded"
    return RewardableReceipt(
        event.id,
        received.receipt,
        event.about,
        partner,
        received.value_minor,
        event.booked_at,
        event.trace,
    )


async def reward(receipts: Sequence[RewardableReceipt], tx: Tx) -> None:
    """Decide a batch in one fold: the number of statements does not grow with the batch."""
    if not receipts:
        return
    state = await rewards_store.lock_state(receipts, tx)
    decisions = rewards.decide(receipts, state)
    events = list(earned(decisions.rewards, await tx.now()))
    published_as = {event.receipt: event.id for event in events}
    written = await rewards_store.write(decisions, published_as, tx)
    decisions = decisions.without_lost_races(written.known)
    await conflicts.record("rewards", map(conflict_of, decisions.conflicts), tx)
    await publish(tx, events)
    if written.refunded:
        await reverse_waiting(written.refunded, tx)
    tx.after_commit(partial(count_rewards, decisions, receipts=len(receipts)))


def earned(decided: Iterable[Reward], now: datetime) -> Iterator[RewardEarned]:
    for one in decided:
        receipt, terms = one.receipt, one.terms
        if one.outcome == "rewarded" and receipt.partner and terms:
            yield RewardEarned.caused_by(
                receipt.id,
                about=receipt.partner,
                at=now,
                trace=receipt.trace,
                receipt=receipt.id,
                invitee=receipt.payer,
                percent=terms.percent,
                value_minor=receipt.value_minor,
                reward_minor=one.reward_minor,
                paying=one.paying,
                next_level_at=terms.next_level.paying_from if terms.next_level else None,
                next_percent=terms.next_level.percent if terms.next_level else None,
            )


def conflict_of(found: ReceiptConflict) -> Conflict:
    return Conflict(found.receipt.event, found.known.digest, found.receipt.fields.digest)


def count_rewards(decisions: Decisions, *, receipts: int) -> None:
    repeated = receipts - len(decisions.rewards) - len(decisions.conflicts)
    telemetry.DUPLICATES_REFUSED.labels("rewards").inc(repeated)
    for one in decisions.rewards:
        metrics.DECIDED.labels(one.outcome).inc()


# Refunds


async def referrals_reverses_refunded(events: Sequence[PaymentRefunded], tx: Tx) -> None:
    """Take back what a reward is more than its percentage of what remains paid.

    A refund that arrives before the decision about its payment is stored and waits.
    """
    await reverse(events, tx)


async def reverse_waiting(receipts: Collection[UUID], tx: Tx) -> None:
    """Decide the refunds that waited for these receipts, which are decided now."""
    rows = await reversals_store.take(receipts, tx)
    await reverse([waited_refund(row) for row in rows], tx)


def waited_refund(row: Row) -> PaymentRefunded:
    """A refund that waited. It continues its own trace."""
    event = PaymentRefunded.model_validate_json(row["body"])
    with telemetry.span("referrals_resumes_refund", following=row["trace"]) as span:
        return event.continuing(telemetry.trace_of(span))


async def reverse(events: Sequence[PaymentRefunded], tx: Tx) -> None:
    """Decide a batch in one fold: the number of statements does not grow with the batch."""
    if not events:
        return
    refunds = [refunded_value(event) for event in events]
    state = await reversals_store.lock_state(refunds, tx)
    early = [event for event in events if event.returned.receipt not in state.rewarded]
    await reversals_store.wait(early, tx)
    known = [refund for refund in refunds if refund.receipt in state.rewarded]
    decisions = reversals.decide(known, state.rewarded, state.known)
    published = list(taken_back(decisions.decided, await tx.now()))
    published_as = {event.refund: event.id for event in published}
    await reversals_store.write(decisions.decided, published_as, tx)
    payers = {one.refund.payer for one in decisions.decided}
    lapsed = await reversals_store.nothing_left(payers, tx)
    await reversals_store.lapse(reversals.lapses_of(decisions.decided, lapsed, state.partners), tx)
    await conflicts.record("reversals", map(refund_conflict_of, decisions.conflicts), tx)
    await publish(tx, published)


def refunded_value(event: PaymentRefunded) -> RefundedValue:
    returned = event.returned
    return RefundedValue(
        returned.refund,
        event.id,
        returned.receipt,
        event.about,
        returned.value_minor,
        event.booked_at,
        event.trace,
    )


def taken_back(decided: Iterable[Reversal], now: datetime) -> Iterator[RewardReversed]:
    for one in decided:
        if one.partner and one.reversed_minor:
            yield RewardReversed.caused_by(
                one.refund.id,
                about=one.partner,
                at=now,
                trace=one.refund.trace,
                refund=one.refund.id,
                receipt=one.refund.receipt,
                reversed_minor=one.reversed_minor,
            )


def refund_conflict_of(found: RefundConflict) -> Conflict:
    return Conflict(found.refund.event, *found.digests)
