"""Turns Telegram's reports of money into events, in batches, independently of the chat lane."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import structlog

from bot_gateway.domain.updates import Report, order_in, read_json, report_from
from bot_gateway.metrics import UPDATES
from bot_gateway.reporting import batch_of, publish_reports
from bot_gateway.store import intake
from bot_gateway.telegram import redacted
from bot_gateway.workers.bells import Bells
from shared.platform import iterations
from shared.platform.db import Database, Tx, database_is_to_blame
from shared.platform.failpoints import failpoint

log = structlog.get_logger()

MAX_PER_BATCH = 500
PAUSE_AFTER_FAILURE_S = 0.5
REFUSALS_BEFORE_SPLITTING = 3
BATCHING_WINDOW_S = 0.075
"""A round that was not full delays the next one until this long after its own start.

Payments that arrive meanwhile form one batch: at each of the eight later steps five payments cost
little more than one. A lone payment waits for nothing.
"""


class MoneyLane:
    """No outside call and no lease: a batch is locked, published and marked in one transaction."""

    def __init__(self, database: Database, bells: Bells) -> None:
        self.database = database
        self.bells = bells
        self._oldest = 0
        """The sequence number of the first report of the last batch."""
        self._refusals = 0
        """How often the database refused a batch since the last full one."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Report until `stopping`.

        When a batch fails, the batch size drops to 1 and doubles after each success; where the
        database is to blame, only after three refusals. A report that fails alone is postponed,
        never lost. `loops.forever` does not fit: its failure callback cannot await the statement
        that postpones a report.
        """
        most, loop = MAX_PER_BATCH, asyncio.get_running_loop()
        with self.bells.listening("money") as wait, iterations.working("bot_money") as worker:
            while not stopping.is_set():
                worker.begins()
                began = loop.time()
                try:
                    taken = await self.report_some(most)
                    iterations.handled(taken)
                except Exception as error:  # The loop must go on: the reports stay stored.
                    log.error("payments could not be reported", error=redacted(error), most=most)
                    UPDATES.labels("money", "put_off").inc()
                    worker.failures += 1
                    most = await self._after_failure(error, most)
                    continue
                if taken < most:
                    # Nothing more is stored; a new report wakes this loop, or the poll finds it.
                    if taken:
                        await asyncio.sleep(began + BATCHING_WINDOW_S - loop.time())
                    await wait()
                self._refusals = 0 if most == MAX_PER_BATCH else self._refusals
                most = min(most * 2, MAX_PER_BATCH)

    async def report_some(self, most: int) -> int:
        """Publish the oldest reports in one transaction; returns how many there were.

        Of several reports of one charge the first is published.
        """
        async with self.database.transaction() as tx:
            rows = await intake.take_reports(most, tx)
            if not rows:
                return 0
            self._oldest = rows[0]["seq"]
            reports, unreadable = _read({row["seq"]: row["body"] for row in rows})
            await self._publish(reports, unreadable, rows[0]["now"], tx)
        UPDATES.labels("money", "done").inc(len(reports))
        UPDATES.labels("money", "failed").inc(len(unreadable))
        log.info("payments reported", reports=len(reports), unreadable=len(unreadable))
        return len(rows)

    async def _publish(
        self, reports: dict[int, Report], unreadable: dict[int, str], now: datetime, tx: Tx
    ) -> None:
        with batch_of(reports.values()) as items:
            events = await publish_reports(list(reports.values()), items, now, tx)
            failpoint("report_published")
            await intake.end_reports(dict(zip(reports, events, strict=True)), unreadable, tx)
            orders = {
                seq: order_in(report.payload)
                for seq, report in reports.items()
                if not report.refunded
            }
            if await intake.hand_to_chats(orders, tx):
                tx.after_commit(lambda: self.bells.ring(["chat"]))

    async def _after_failure(self, error: Exception, most: int) -> int:
        """Pause, postpone a report that failed alone, and return the next batch size."""
        await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        if database_is_to_blame(error):
            self._refusals += 1
            if self._refusals < REFUSALS_BEFORE_SPLITTING:
                return most
        if most == 1:
            try:
                await intake.put_off_report(self._oldest, redacted(error), self.database)
            except Exception as another:  # The report stays first in line and is tried again.
                log.warning("report could not be postponed", error=redacted(another))
        return 1


def _read(bodies: Mapping[int, str]) -> tuple[dict[int, Report], dict[int, str]]:
    """The readable reports, and the reasons of the unreadable ones, by sequence number."""
    reports, unreadable = {}, {}
    for seq, body in bodies.items():
        try:
            reports[seq] = report_from(read_json(body))
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OverflowError,
            OSError,
        ) as error:
            unreadable[seq] = f"{type(error).__name__}: {error}"
            log.error("payment report is unreadable", seq=seq, error=unreadable[seq])
    return reports, unreadable
