"""Receipts for the tax office are made at their provider, and their registration is read back.

    claimed (one statement) ──▶ an offset is made, once per order (no transaction) ──▶ registering
    registering ──▶ read ──▶ registered │ failed, for an operator │ read again

A receipt of a payment or a refund goes with it, so here it is only read. A worker may be killed at
any point: its lease ends, and the key of an offset makes no second one within a day.
"""

import asyncio
from uuid import UUID, uuid4

import structlog

from payments.domain.fiscal import KEY_LIVES_S, MOST_READS, pause_of_registration_s
from payments.domain.pauses import pause_of_job_s, pause_of_provider_s
from payments.domain.provider import (
    Failure,
    Refusal,
    Registering,
    Registration,
    SlowDown,
    Unavailable,
    Unknown,
    Unsupported,
)
from payments.providers.protocol import Provider
from payments.store import fiscal
from payments.store.fiscal import Job
from payments.workers.lease import LEASE_S, POLL_S, held
from shared.platform import iterations, telemetry
from shared.platform.db import Database
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever, unless

log = structlog.get_logger()

AT_ONCE = 10
Answer = Registering | Registration | Failure | Unsupported | None


class Registrar:
    """One call at a time: the tax office gives days, and payments of people come first."""

    def __init__(self, provider: Provider, database: Database, email: str) -> None:
        self.provider = provider
        self.database = database
        self.email = email
        self.failures = 0
        """Of the provider, in a row."""

    async def run(self, stopping: asyncio.Event) -> None:
        async def turn() -> None:
            claimed = await self.round()
            pause_s = pause_of_provider_s(self.failures - 1) if self.failures else POLL_S
            if self.failures or not claimed:
                iterations.rests(pause_s)
                await unless(stopping, asyncio.sleep(pause_s))

        name = f"register_{self.provider.name}"
        await forever(name, turn, stopping, limit_s=iterations.LIMIT_S)

    async def round(self) -> int:
        """Claim the due receipts, and ask about each. Returns how many were claimed."""
        token, began = uuid4(), asyncio.get_running_loop().time()
        jobs = await fiscal.claim(
            self.provider.name, AT_ONCE, token, LEASE_S, self.email, self.database
        )
        if jobs:
            iterations.found(len(jobs))
            ids = [job.id for job in jobs]

            async def renew() -> bool:
                return await fiscal.renew(ids, token, LEASE_S, self.database)

            async with held(renew, began):
                for at, job in enumerate(jobs):
                    iterations.turned()
                    if at and self.failures:  # It would fail as the one before did.
                        await self._later(job, token, 0.0, unclear=job.asked_before, tried=False)
                    else:
                        await self._work(job, token)
        return len(jobs)

    async def _work(self, job: Job, token: UUID) -> None:
        with telemetry.span("payments.register_receipt", receipt=job.kind):
            if job.reference is None and job.asked_before and job.asked_for_s > KEY_LIVES_S:
                return await self._fail(job, token, "unclear")
            answer = await self._ask(job)
            failpoint("receipt_asked")
            return await self._settle(job, token, answer)

    async def _ask(self, job: Job) -> Answer:
        try:
            if job.reference is None:
                return await self.provider.register(job.payment, job.receipt, job.id)
            return await self.provider.read_registration(job.kind, job.reference)
        except Exception as error:  # A fault of the client is a failed try, so tries end.
            log.error("provider client failed", error=type(error).__name__)
            return Unknown("the client failed")

    async def _settle(self, job: Job, token: UUID, answer: Answer) -> None:
        if isinstance(answer, SlowDown | Unavailable):
            self.failures += 1
            pause_s = pause_of_provider_s(self.failures, getattr(answer, "retry_after_s", 0.0))
            return await self._later(job, token, pause_s, unclear=job.asked_before, tried=False)
        self.failures = 0
        if isinstance(answer, Unknown):
            log.warning("outcome of a receipt is unknown", reason=answer.reason, kind=job.kind)
            pause_s = pause_of_job_s(job.tries, answer.retry_after_s or 0.0)
            return await self._later(job, token, pause_s, unclear=True)
        if isinstance(answer, Registering):
            iterations.outcome("made")
            pause_s = pause_of_registration_s(0)
            await fiscal.made(job.id, token, answer.reference, pause_s, self.database)
            return None
        return await self._read(job, token, answer)

    async def _read(
        self, job: Job, token: UUID, answer: Registration | Refusal | Unsupported | None
    ) -> None:
        if answer == "succeeded":
            iterations.outcome("registered")
            return await fiscal.end(job.id, token, None, self.database)
        if answer == "pending" and job.tries < MOST_READS:
            pause_s = pause_of_registration_s(job.tries)
            return await self._later(job, token, pause_s, unclear=True)
        return await self._fail(job, token, reason_of(answer))

    async def _later(
        self, job: Job, token: UUID, pause_s: float, *, unclear: bool, tried: bool = True
    ) -> None:
        iterations.outcome("put_off")
        await fiscal.later(job.id, token, pause_s, self.database, unclear=unclear, tried=tried)

    async def _fail(self, job: Job, token: UUID, reason: str) -> None:
        """An operator makes the receipt by hand, or asks the provider."""
        iterations.outcome("failed")
        log.error("receipt was not registered", kind=job.kind, payment=job.payment, reason=reason)
        await fiscal.end(job.id, token, reason, self.database)


def reason_of(answer: Registration | Refusal | Unsupported | None) -> str:
    """Why a receipt is not registered."""
    match answer:
        case Refusal():
            return answer.code
        case Unsupported():
            return "unsupported"
        case "pending":
            return "never_registered"
        case None:
            return "not_sent"
        case _:
            return "canceled"
