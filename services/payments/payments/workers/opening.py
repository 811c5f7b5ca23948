"""Invoices are opened at an outside provider: one for each, though an answer is lost.

    claimed (one statement) ──▶ looked up, where an answer may be lost ──▶ opened (no transaction)
        ──▶ recorded and published (transaction) │ refused │ asked again

A worker may be killed at any point. Its lease ends, and the next one looks the lost answer up.
"""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import structlog

from payments import metrics
from payments.domain.pauses import (
    DAY_S,
    WHILE_PAYABLE_S,
    pause_of_job_s,
    pause_of_provider_s,
)
from payments.domain.provider import (
    Asked,
    Failure,
    FiscalReceipt,
    Opened,
    Refusal,
    SlowDown,
    Unavailable,
    Unknown,
)
from payments.domain.saved_methods import METHOD_FORGOTTEN, is_gone, reason_of_charge
from payments.providers.protocol import Provider
from payments.store import fiscal, invoice_jobs, pace, saved_methods
from payments.store.invoice_jobs import Opening
from payments.workers.lease import LEASE_S, POLL_S, held
from shared.contracts.payload import write_payload
from shared.contracts.payments import InvoiceOpened, InvoiceRefused, InvoiceRefusedReason
from shared.messaging import outbox
from shared.platform import iterations, telemetry
from shared.platform.db import Database, Tx
from shared.platform.failpoints import failpoint
from shared.platform.loops import Bell, at_each_ring

log = structlog.get_logger()

OPENED_AT_ONCE = 10

Answer = Opened | Failure | None
"""None: nobody waits for the invoice, and the provider surely has none."""


class Opener:
    """Opens the invoices of one provider."""

    def __init__(
        self, provider: Provider, database: Database, bell: Bell, *, return_url: str
    ) -> None:
        self.provider = provider
        self.database = database
        self.bell = bell
        self.return_url = return_url

    async def run(self, stopping: asyncio.Event) -> None:
        name = f"open_{self.provider.name}"
        await at_each_ring(name, self.bell, self.round, self.due_in_s, stopping, every_s=POLL_S)

    async def due_in_s(self) -> float | None:
        return await invoice_jobs.due_in_s(self.provider.name, "open", self.database)

    async def round(self) -> int:
        """Claim the due jobs, ask the provider, record. Returns how many were claimed."""
        token, began = uuid4(), asyncio.get_running_loop().time()
        jobs = await invoice_jobs.claim_opening(
            self.provider.name, OPENED_AT_ONCE, token, LEASE_S, self.database
        )
        if jobs:
            iterations.found(len(jobs))
            invoices = [job.invoice for job in jobs]
            receipts = await fiscal.of_invoices(invoices, self.database)

            async def renew() -> bool:
                return await invoice_jobs.renew(invoices, token, LEASE_S, self.database)

            async with held(renew, began), asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(self._work(job, token, receipts.get(job.invoice)))
        return len(jobs)

    async def _work(self, job: Opening, token: UUID, receipt: FiscalReceipt | None) -> None:
        with telemetry.span("payments.open_invoice", following=job.trace):
            if job.state == "asking" and not job.wanted and not (job.charges and job.asked_before):
                async with self.database.transaction() as tx:
                    await self._refuse(job, token, "provider_down", tx)
            try:
                answer = await self._ask(job, receipt)
            except Exception as error:  # A fault of the client delays no other invoice.
                log.error("provider client failed", error=type(error).__name__)
                answer = Unknown("the client failed", "find")
            failpoint("invoice_asked")
            await self._settle(job, token, answer)

    async def _ask(self, job: Opening, receipt: FiscalReceipt | None) -> Answer:
        """Nothing is opened while an answer may be lost, or when nobody waits any more."""
        asked, is_forgotten = self._asked(job, receipt), job.charges and job.method is None
        if job.lost or (job.asked_before and (is_forgotten or not job.wanted)):
            found = await self.provider.find(asked)
            if isinstance(found, Refusal):
                return Unknown(found.code, "find")
            if found is not None:
                return found
        if is_forgotten:
            return Refusal(METHOD_FORGOTTEN, "The person has forgotten the method.")
        return await self.provider.open(asked) if job.wanted else None

    def _asked(self, job: Opening, receipt: FiscalReceipt | None) -> Asked:
        """Equal in every try: the provider's idempotency key stands for the same request."""
        return Asked(
            invoice=job.invoice,
            way=job.way,
            amount_minor=job.amount_minor,
            currency=job.currency,
            description=f"VPN #{job.order.hex[:8]}",
            payload=write_payload(job.order, job.invoice, job.trace),
            return_url=self.return_url,
            expires_in_s=job.lives_s,
            since=job.since,
            receipt=receipt,
            saves_method=job.saves_method,
            charges=job.charges,
            saved_method=job.method,
        )

    async def _settle(self, job: Opening, token: UUID, answer: Answer) -> None:
        outcome = "dropped" if answer is None else OUTCOMES[type(answer)]
        metrics.OPENINGS.labels(self.provider.name, outcome).inc()
        iterations.outcome(outcome)
        if isinstance(answer, SlowDown | Unavailable):
            await invoice_jobs.give_back(job, token, self.database)
            await self._pause(job, answer)
        elif isinstance(answer, Unknown):
            await self._unknown(job, token, answer)
        else:
            state = None
            async with self.database.transaction() as tx:
                if isinstance(answer, Opened):
                    state = await self._record(job, token, answer, tx)
                else:
                    await self._close(job, token, answer, tx)
            if job.failures:
                await self._recovered(job)
            if isinstance(answer, Opened) and answer.pay_url and state in ("superseded", "expired"):
                await self._cancel(answer)

    async def _record(self, job: Opening, token: UUID, opened: Opened, tx: Tx) -> str | None:
        """The state of the invoice, which may have been superseded or paid meanwhile.

        One without a page charged a saved method, was paid or has ended: it is read at once.
        """
        after_s = WHILE_PAYABLE_S[0] if opened.pay_url else 0.0
        state = await invoice_jobs.record_opened(job.invoice, token, opened, after_s, tx)
        if state == "open" and not job.charges:
            await outbox.publish(tx, [InvoiceOpened.caused_by(**await told_of(job, tx))])
        elif state == "expired" and job.wanted:
            await self._publish_refused(job, "not_payable", tx)
        return state

    async def _close(self, job: Opening, token: UUID, refusal: Refusal | None, tx: Tx) -> None:
        if refusal is not None and job.charges:
            log.info("charge of a saved method was refused", code=refusal.code)
            await self._refuse(job, token, refusal.code, tx)
            if is_gone(refusal.code) and job.saved_method is not None:
                await saved_methods.forget([job.saved_method], tx)
        elif refusal is not None:
            log.error("provider refused an invoice", code=refusal.code, text=refusal.sentence)
            await self._refuse(job, token, "refused", tx)
        elif job.charges:  # It was not charged, as was found only now.
            await self._refuse(job, token, "provider_down", tx)
        await invoice_jobs.drop([job.invoice], token, tx)

    async def _refuse(self, job: Opening, token: UUID, code: str, tx: Tx) -> None:
        if await invoice_jobs.end_asking(job.invoice, token, code, tx):
            await self._publish_refused(job, reason_of_charge(code), tx)

    async def _publish_refused(self, job: Opening, reason: InvoiceRefusedReason, tx: Tx) -> None:
        told = await told_of(job, tx)
        await outbox.publish(tx, [InvoiceRefused.caused_by(**told, reason=reason)])

    async def _unknown(self, job: Opening, token: UUID, answer: Unknown) -> None:
        """Asked again by itself, until a day after its end: nobody was ever shown its page."""
        log.warning("outcome of an opening is unknown", reason=answer.reason, tries=job.tries + 1)
        if job.past_end_s > DAY_S:
            async with self.database.transaction() as tx:
                await invoice_jobs.end_asking(job.invoice, token, "provider_down", tx)
                await invoice_jobs.drop([job.invoice], token, tx)
            return
        pause_s = pause_of_job_s(job.tries, answer.retry_after_s or 0.0)
        lost = answer.then == "find"
        await invoice_jobs.fail(job.invoice, token, pause_s, self.database, lost=lost)

    async def _pause(self, job: Opening, answer: SlowDown | Unavailable) -> None:
        asked_s = answer.retry_after_s if isinstance(answer, SlowDown) else 0.0
        await pace.set_pace(
            self.provider.name,
            "open",
            job.failures + 1,
            pause_of_provider_s(job.failures, asked_s),
            self.database,
        )

    async def _recovered(self, job: Opening) -> None:
        await pace.set_pace(self.provider.name, "open", job.failures // 2, 0.0, self.database)

    async def _cancel(self, opened: Opened) -> None:
        """Nobody was shown its page. Where the provider cannot do it, late money is honoured."""
        answer = await self.provider.cancel(opened.reference)
        log.info("invoice came too late", answer=type(answer).__name__)


OUTCOMES = {
    Opened: "opened",
    Refusal: "refused",
    Unknown: "unknown",
    SlowDown: "slow_down",
    Unavailable: "unavailable",
}


async def told_of(job: Opening, tx: Tx) -> dict[str, Any]:
    """The fields that both events of an invoice have. Neither holds the link."""
    return {
        "cause": job.invoice,
        "about": job.person,
        "at": await tx.now(),
        "trace": job.trace,
        "order": job.order,
        "invoice": job.invoice,
    }
