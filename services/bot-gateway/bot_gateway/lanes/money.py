"""Reports of payments become facts, set-based, whatever a chat does meanwhile; then payments takes over."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import structlog

from bot_gateway.lanes import Bells
from bot_gateway.metrics import UPDATES
from bot_gateway.store import intake, people, yeses
from bot_gateway.telegram import said
from bot_gateway.updates import Report, order_of, place_of, report_from
from shared import crash, telemetry
from shared.contract import derived_id
from shared.db import Database, database_is_to_blame
from shared.facts import PaymentReported
from shared.outbox import tell

log = structlog.get_logger()

MOST_PER_BATCH = 500
PAUSE_AFTER_FAILURE_S = 0.5
TOGETHER_S = 0.075
"""Whoever pays so soon after another waits for this long at most, and travels with all who come meanwhile: at each of
the eight steps that follow five payments cost little more than one."""
SPAN = "report payment"


class MoneyLane:
    """No outside call, no lease: a batch is locked, told and marked in one transaction."""

    def __init__(self, database: Database, bells: Bells) -> None:
        self.database = database
        self.bells = bells
        self._oldest = 0
        """The first of those that were taken last, by its sequence number."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Report until `stopping`. A batch that fails is tried one by one; one that fails alone is passed, not lost."""
        most, loop = MOST_PER_BATCH, asyncio.get_running_loop()
        while not stopping.is_set():
            began = loop.time()
            try:
                taken = await self.report_some(most)
            except Exception as error:  # The loop lives on: the rows are kept.
                log.error("payments could not be reported", error=said(error), most=most)
                UPDATES.labels("money", "put_off").inc()
                most = await self._give_way(error, most)
                continue
            if taken < most:  # There were no more; whoever takes one in meanwhile rings.
                if taken:
                    await asyncio.sleep(began + TOGETHER_S - loop.time())
                await self.bells.wait("money")
            most = min(most * 2, MOST_PER_BATCH)

    async def report_some(self, most: int) -> int:
        """One transaction over the oldest reports; answers how many there were. Of one charge the first is told."""
        async with self.database.transaction() as tx:
            rows = await intake.take_reports(most, tx)
            if not rows:
                return 0
            self._oldest = rows[0]["seq"]
            reports, unreadable = _read({row["seq"]: row["body"] for row in rows})
            with telemetry.batch(
                SPAN, [telemetry.trace_at(place_of(report.payload)) for report in reports.values()]
            ) as events:
                traces = {seq: event.trace for seq, event in zip(reports, events, strict=True)}
                payers = await people.persons_by_telegram([report.payer for report in reports.values()], tx)
                told = {
                    seq: _fact(report, payers.get(report.payer), rows[0]["now"], traces[seq])
                    for seq, report in reports.items()
                }
                # Two replicas may hold reports of the same charges: each tells them in one order, not in a ring.
                await tell(tx, sorted(told.values(), key=lambda fact: fact.id))
                await yeses.note_charges([report.payload for report in reports.values()], tx)
                crash.passing("report_told")
                await intake.end_reports(told, unreadable, tx)
                orders = {seq: order_of(report.payload) for seq, report in reports.items()}
                if await intake.hand_to_chats(orders, tx):
                    tx.after_commit(lambda: self.bells.ring(["chat"]))
        UPDATES.labels("money", "done").inc(len(reports))
        UPDATES.labels("money", "failed").inc(len(unreadable))
        log.info("payments reported", reports=len(reports), unreadable=len(unreadable))
        return len(rows)

    async def _give_way(self, error: Exception, most: int) -> int:
        """How many to try next."""
        await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        if database_is_to_blame(error):
            return most
        if most == 1:
            try:
                await intake.put_off_report(self._oldest, said(error), self.database)
            except Exception as another:  # Then it simply comes first again.
                log.warning("a report could not be put off", error=said(another))
        return 1


def _read(bodies: Mapping[int, str]) -> tuple[dict[int, Report], dict[int, str]]:
    """The reports, and why the others are none; both by sequence number."""
    reports, unreadable = {}, {}
    for seq, body in bodies.items():
        try:
            reports[seq] = report_from(json.loads(body))
        except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
            unreadable[seq] = f"{type(error).__name__}: {error}"
            log.error("a payment's report cannot be read", seq=seq, error=unreadable[seq])
    return reports, unreadable


def _fact(report: Report, payer: UUID | None, now: datetime, trace: str | None) -> PaymentReported:
    """Caused by the charge, so that every repeat is the same fact."""
    return PaymentReported.because(
        report.cause,
        about=payer or derived_id("payer", "telegram", report.payer),
        at=now,
        trace=trace,
        acquirer=report.acquirer,
        charge=report.charge,
        payer=payer,
        payload=report.payload,
        currency=report.currency,
        amount_minor=report.amount_minor,
        paid_at=report.paid_at,
        recurring=report.recurring,
    )
