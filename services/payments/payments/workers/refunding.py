"""Refunds that operators asked for are asked of their acquirer: the money leaves once.

    claimed (one statement) ──▶ asked with our key, or read back (no transaction)
        ──▶ booked and settled (transaction) │ released │ asked again │ left to an operator

A worker may be killed at any point. Its lease ends, and the next one asks with the same key.
Without keys nobody asks again, and an operator looks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from payments import metrics
from payments.domain.outgoing import (
    Accepted,
    Answer,
    AskAgain,
    NotAsked,
    Outcome,
    Released,
    Review,
    Settled,
    outcome_of,
)
from payments.domain.pauses import pause_of_job_s, pause_of_provider_s
from payments.domain.provider import FiscalReceipt, Refund, RefundState, Unknown
from payments.providers.protocol import Provider
from payments.returning import release, settle
from payments.store import fiscal, outgoing, pace
from payments.store.outgoing import Claimed
from payments.workers.lease import LEASE_S, held
from shared.contracts.bot import RefundStars, StarRefund, StarRefundQuery
from shared.contracts.message import Refused
from shared.messaging.rpc import Bus, UnansweredError
from shared.platform import iterations, telemetry
from shared.platform.db import Database
from shared.platform.failpoints import failpoint
from shared.platform.loops import Bell, at_each_ring

log = structlog.get_logger()

ASKED_AT_ONCE = 5
POLL_S = 5.0
"""The act rings a bell in its own process."""
MAX_REASON_CHARACTERS = 1_000
EXECUTED_WITHIN = timedelta(minutes=10)
"""From the time of our database; that of bot-gateway decides."""
PAYER_UNKNOWN = "payer_unknown: the Telegram id of the payer is not known; return it by hand"


class WayOut(Protocol):
    """Where money goes back to. No call raises for what an acquirer answers."""

    @property
    def name(self) -> str: ...

    @property
    def keyed(self) -> bool:
        """Whether the same call again is the same refund."""

    async def refund(self, job: Claimed) -> Answer: ...

    async def read(self, job: Claimed, reference: str) -> Answer: ...


RefundReceipts = Callable[[Claimed], Awaitable[FiscalReceipt | None]]


class AtProvider:
    """The way out of an outside provider. `receipts` makes the receipt for the tax office."""

    def __init__(
        self, provider: Provider, *, keyed: bool, receipts: RefundReceipts | None = None
    ) -> None:
        self.provider = provider
        self.name = provider.name
        self.keyed = keyed
        self.receipts = receipts

    async def refund(self, job: Claimed) -> Answer:
        receipt = await self.receipts(job) if self.receipts else None
        sent = job.charge, job.amount_minor, job.currency, job.id
        return await self.provider.refund(*sent, receipt)

    async def read(self, job: Claimed, reference: str) -> Answer:
        return await self.provider.read_refund(reference)


async def receipt_for(
    job: Claimed, database: Database, *, acquirer: str, email: str
) -> FiscalReceipt | None:
    """The same for every try of this refund. None where the payment had no receipt."""
    async with database.transaction() as tx:
        return await fiscal.for_refund(job.id, acquirer, job.charge, job.amount_minor, email, tx)


class AtTelegram:
    """The way out of Stars: bot-gateway asks Telegram, by a command with our key."""

    name = "telegram_stars"
    keyed = True

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def refund(self, job: Claimed) -> Answer:
        command = RefundStars(
            id=job.id,
            actor=job.actor,
            deadline_at=job.claimed_at + EXECUTED_WITHIN,
            charge=job.charge,
            payer=job.person,
        )
        try:
            answer = await self.bus.execute(command)
        except UnansweredError:
            return Unknown("bot-gateway does not answer")
        return of_stars(answer, job)

    async def read(self, job: Claimed, reference: str) -> Answer:
        try:
            answer = await self.bus.query(StarRefundQuery(refund=job.id))
        except UnansweredError:
            return Unknown("bot-gateway does not answer")
        return of_stars(answer, job)


def of_stars(answer: StarRefund | Refused, job: Claimed) -> Answer:
    """A charge of Stars is returned once, so that it is the reference of its refund.

    A refusal is final, also after a lost answer: Telegram says when a charge was returned already.
    """
    if isinstance(answer, Refused):
        match answer.reason:
            case "refund_unknown":
                return None
            case "payer_unknown":
                return stars_of(job, "canceled", PAYER_UNKNOWN)
            case reason:
                return Unknown(f"bot-gateway refuses: {reason}")
    match answer.state:
        case "done":
            return stars_of(job, "succeeded")
        case "waiting":
            return stars_of(job, "pending")
        case "refused":
            return stars_of(job, "canceled", answer.reason)


def stars_of(job: Claimed, state: RefundState, reason: str | None = None) -> Refund:
    amount = job.currency, job.amount_minor
    return Refund(job.charge, job.charge, state, *amount, job.claimed_at, reason)


class Refunder:
    """Returns the money of one acquirer."""

    def __init__(self, way_out: WayOut, database: Database, bell: Bell) -> None:
        self.way_out = way_out
        self.database = database
        self.bell = bell

    async def run(self, stopping: asyncio.Event) -> None:
        name = f"refund_{self.way_out.name}"
        await at_each_ring(name, self.bell, self.round, self.due_in_s, stopping, every_s=POLL_S)

    async def due_in_s(self) -> float | None:
        return await outgoing.due_in_s(self.way_out.name, self.database)

    async def round(self) -> int:
        """Claim the due refunds, ask, record. Returns how many were claimed."""
        token, began = uuid4(), asyncio.get_running_loop().time()
        jobs = await outgoing.claim(self.way_out.name, ASKED_AT_ONCE, token, LEASE_S, self.database)
        if jobs:
            iterations.found(len(jobs))
            ids = [job.id for job in jobs]

            async def renew() -> bool:
                return await outgoing.renew(ids, token, LEASE_S, self.database)

            async with held(renew, began), asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(self._work(job, token))
        return len(jobs)

    async def _work(self, job: Claimed, token: UUID) -> None:
        with telemetry.span("payments.refund", following=job.trace):
            outcome = await self._ask(job)
            failpoint("refund_asked", self.way_out.name)
            metrics.REFUND_CALLS.labels(self.way_out.name, OUTCOMES[type(outcome)]).inc()
            iterations.outcome(OUTCOMES[type(outcome)])
            await self._record(job, token, outcome)

    async def _ask(self, job: Claimed) -> Outcome:
        """Without keys, or when they are too old, a lost answer is for an operator."""
        if job.reference is None and job.lost:
            lost = self._outcome_of(Unknown("the answer to an earlier call is lost"), job)
            if isinstance(lost, Review):
                return lost
        try:
            if job.reference is not None:
                answer = await self.way_out.read(job, job.reference)
            else:
                answer = await self.way_out.refund(job)
        except Exception as error:  # A fault of the client delays no other refund.
            log.error("client of a way out failed", error=type(error).__name__)
            answer = Unknown("the client failed")
        return self._outcome_of(answer, job)

    def _outcome_of(self, answer: Answer, job: Claimed) -> Outcome:
        return outcome_of(
            answer,
            lost=job.lost,
            keyed=self.way_out.keyed or job.reference is not None,
            asked_for_s=0.0 if job.reference is not None else job.asked_for_s,
        )

    async def _record(self, job: Claimed, token: UUID, outcome: Outcome) -> None:
        match outcome:
            case Settled(reference):
                async with self.database.transaction() as tx:
                    await settle(job.id, reference, tx)
            case Released(reason):
                log.error("refund was refused", refund=str(job.id), reason=reason)
                async with self.database.transaction() as tx:
                    await release(job.id, reason[:MAX_REASON_CHARACTERS], tx)
            case Accepted(reference):
                pause_s = pause_of_job_s(job.tries)
                await outgoing.ask_later(job.id, token, pause_s, reference, None, self.database)
            case AskAgain(reason, retry_after_s):
                log.warning("outcome of a refund is unknown", reason=reason, tries=job.tries + 1)
                pause_s = pause_of_job_s(job.tries, retry_after_s)
                await outgoing.ask_later(job.id, token, pause_s, None, reason, self.database)
            case Review(reason):
                log.error("refund waits for an operator", refund=str(job.id), reason=reason)
                reason = reason[:MAX_REASON_CHARACTERS]
                await outgoing.review(job.id, token, reason, self.database)
            case NotAsked(reason, retry_after_s):
                await outgoing.give_back(job, token, reason, self.database)
                pause_s = pause_of_provider_s(job.failures, retry_after_s)
                return await self._set_pace(job.failures + 1, pause_s)
        if job.failures:
            await self._set_pace(job.failures // 2, 0.0)
        return None

    async def _set_pace(self, failures: int, pause_s: float) -> None:
        await pace.set_pace(self.way_out.name, "refund", failures, pause_s, self.database)


OUTCOMES = {
    Settled: "settled",
    Released: "refused",
    Accepted: "pending",
    AskAgain: "unknown",
    Review: "pending_review",
    NotAsked: "unavailable",
}
