"""What referrals does when it hears of a start or a payment."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog
from prometheus_client import Counter

from referrals import binding, rewards, store
from referrals.binding import Refusal, Start, Welcome
from referrals.rewards import Payment, Reward, Tally
from shared import telemetry
from shared.db import Row, Tx
from shared.facts import InvitationRegistered, PaymentConfirmed, PersonStarted, RewardEarned
from shared.outbox import tell

log = structlog.get_logger()

REFUSED = Counter("turnpike_invitations_refused", "People who were not bound to whom they named", ["reason"])
WAITED = Counter("turnpike_payments_waited", "Payments that came before the start of their payer")
DECIDED = Counter("turnpike_rewards_decided", "Receipts by what was decided about their reward", ["outcome"])


async def referrals_registers_started(events: Sequence[PersonStarted], tx: Tx) -> None:
    """Write everybody into the roll, bind those who were invited, and reward the payments that waited for them."""
    starts = [start_of(event) for event in events]
    await store.lock_roll(tx)
    welcomes = binding.bind(starts, await store.roll_of(starts, tx))
    await store.enter(welcomes, tx)
    await refuse([(one.start, one.refusal) for one in welcomes if one.refusal], tx)
    await tell(tx, list(registered(welcomes, await tx.now())))
    partners = {one.line.person: one.line.partner for one in welcomes if one.line}
    waited = [turned_over(row) for row in await store.turn_over(partners, tx)]
    await reward([payment_of(event, partners[event.about]) for event in waited], tx)


def start_of(event: PersonStarted) -> Start:
    return Start(event.id, event.about, event.invited_by, event.code, event.at, event.trace)


def registered(welcomes: Iterable[Welcome], now: datetime) -> Iterator[InvitationRegistered]:
    for one in welcomes:
        if one.line and one.line.partner:
            invitee = one.line.person
            yield InvitationRegistered.because(
                invitee, about=one.line.partner, at=now, trace=one.start.trace, invitee=invitee
            )


async def refuse(refused: Sequence[tuple[Start, Refusal]], tx: Tx) -> None:
    if not refused:
        return
    new = await store.refuse(refused, tx)
    tx.after_commit(partial(speak_of_refusals, [entry for entry in refused if entry[0].fact in new]))


def speak_of_refusals(refused: Sequence[tuple[Start, Refusal]]) -> None:
    for start, reason in refused:
        REFUSED.labels(reason).inc()
        log.info("invitation refused", reason=reason, person=str(start.person), invited_by=str(start.invited_by))


def turned_over(row: Row) -> PaymentConfirmed:
    """A payment that waited goes on in its own story."""
    event = PaymentConfirmed.model_validate_json(row["body"])
    with telemetry.span("referrals_turns_over_waiting", following=row["trace"]) as span:
        return event.continuing(telemetry.trace_of(span))


async def referrals_rewards_confirmed(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """Decide the rewards of what came from outside; what comes before its payer's start waits for that."""
    received = [event for event in events if event.received is not None]
    payers = {event.about for event in received}
    partners = await store.partners_of(payers, tx)
    if payers - partners.keys():
        await store.share_roll(tx)
        partners = await store.partners_of(payers, tx)
        await wait([event for event in received if event.about not in partners], tx)
    await reward([payment_of(event, partners[event.about]) for event in received if event.about in partners], tx)


async def wait(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    await store.wait(events, tx)
    tx.after_commit(partial(WAITED.inc, len(events)))


def payment_of(event: PaymentConfirmed, partner: UUID | None) -> Payment:
    received = event.received
    assert received is not None, "only what came from outside is rewarded"
    return Payment(event.id, received.receipt, event.about, partner, received.value_minor, event.booked_at, event.trace)


async def reward(payments: Sequence[Payment], tx: Tx) -> None:
    """One fold, whoever the partners are: the number of statements does not grow with the batch."""
    if not payments:
        return
    tally = await store.tally_for(payments, tx)
    rewards.decide(payments, tally)
    facts = list(earned(tally.rewards, await tx.now()))
    await store.write(tally, {fact.receipt: fact.id for fact in facts}, tx)
    await tell(tx, facts)
    tx.after_commit(partial(speak_of_rewards, tally, met=len(payments)))


def earned(decided: Iterable[Reward], now: datetime) -> Iterator[RewardEarned]:
    for one in decided:
        payment, terms = one.payment, one.terms
        if one.outcome == "rewarded" and payment.partner and terms:
            yield RewardEarned.because(
                payment.receipt,
                about=payment.partner,
                at=now,
                trace=payment.trace,
                receipt=payment.receipt,
                invitee=payment.payer,
                percent=terms.percent,
                value_minor=payment.value_minor,
                reward_minor=one.reward_minor,
                paying=one.paying,
                next_level_at=terms.next_level.paying_from if terms.next_level else None,
                next_percent=terms.next_level.percent if terms.next_level else None,
            )


def speak_of_rewards(tally: Tally, *, met: int) -> None:
    telemetry.DUPLICATES_REFUSED.labels("rewards").inc(met - len(tally.rewards) - len(tally.contradicted))
    for one in tally.rewards:
        DECIDED.labels(one.outcome).inc()
