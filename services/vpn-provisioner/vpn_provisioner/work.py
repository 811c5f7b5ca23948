"""Making a node agree: jobs are taken for a lease, the panel is asked, and what came of it is written down.

    taken (one statement) ──▶ panel asked (no transaction) ──▶ settled (transaction): agreed │ again, later │ dead

Killed at any point, the lease ends and somebody does the same again: all that is asked of a panel is absolute.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID, uuid4

import structlog
from opentelemetry.trace import SpanKind

from shared import crash, telemetry
from shared.db import Database
from shared.waiting import happens
from vpn_provisioner import metrics
from vpn_provisioner.attempts import Attempt, judge
from vpn_provisioner.conclude import conclude
from vpn_provisioner.live import LiveNode
from vpn_provisioner.panels.protocol import PanelError, PanelRefused, PanelUnavailable, PanelUser, Wanted
from vpn_provisioner.store import jobs as store
from vpn_provisioner.store.jobs import Job

log = structlog.get_logger()

LEASE_S = 2.0  # Kept while the panel is asked; this long do the jobs of a killed process wait.
RENEWALS_PER_LEASE = 4
KEPT_SHARE = 0.75  # Who could not renew stops asking well before somebody else may begin.
PANEL_TIMEOUT_S = 6.0

FRESH_AT_ONCE = 300
FAILED_AT_ONCE = 8
POLL_S = 0.5
PAUSE_AFTER_FAILURE_S = 0.5


class Worker:
    """One of a node's two lanes: jobs that never failed go in batches, those that did go one by one.

    So a job that a panel chokes on takes its neighbours with it once, and after that nobody.
    """

    def __init__(self, database: Database, live: LiveNode, *, failed_before: bool, lease_s: float = LEASE_S) -> None:
        self.database = database
        self.live = live
        self.failed_before = failed_before
        self.lease_s = lease_s
        self.most = FAILED_AT_ONCE if failed_before else FRESH_AT_ONCE

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`: on as long as there are jobs, then when woken, at the latest every `POLL_S`."""
        bell = stopping if self.failed_before else self.live.woken  # A job that failed waits for its time anyway.
        while not stopping.is_set():
            if bell is not stopping:
                bell.clear()
            taken = 0
            try:
                if self.live.breaker.closed:
                    taken = await self.round()
            except Exception as error:  # The loop lives on: what was taken comes back when its lease ends.
                telemetry.TICK_FAILURES.labels("access_jobs").inc()
                log.warning("access jobs failed", node=self.live.node.name, error=repr(error))
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            if taken < self.most:
                await happens(bell, POLL_S)

    async def round(self) -> int:
        """Take what is due, ask the panel, settle. Answers how many jobs were taken."""
        token, began = uuid4(), asyncio.get_running_loop().time()
        jobs = await store.claim(
            self.live.node.id,
            failed_before=self.failed_before,
            most=self.most,
            token=token,
            lease_s=self.lease_s,
            database=self.database,
        )
        if not jobs:
            return 0
        with telemetry.batch("vpn.agree", [job.trace for job in jobs], node=self.live.node.name) as events:
            event_of = {job.person: event for job, event in zip(jobs, events, strict=True)}
            async with self._holding(jobs, token, began):
                failures = await self._ask(jobs)
                attempts = await self._judge(failures)
            crash.passing("panel_written")
            for job, failure in failures.items():
                if failure is not None:
                    event_of[job.person].failed(failure)
            async with self.database.transaction() as tx:
                await store.settle(self.live.node.id, token, attempts, tx)
                await conclude([job.person for job, failure in failures.items() if failure is None], tx, event_of)
                crash.passing("access_recorded")
        self._speak(attempts)
        return len(jobs)

    @asynccontextmanager
    async def _holding(self, jobs: Sequence[Job], token: UUID, began: float) -> AsyncIterator[None]:
        """Keep the lease that was taken at the loop's time `began` for as long as is asked, or end the asking.

        So nobody writes an old wish into a node while somebody else may already have written a newer one. Raises
        `TimeoutError` when the lease could not be kept; the jobs come back by themselves.
        """
        async with asyncio.timeout_at(began + self.lease_s * KEPT_SHARE) as bound:
            keeping = asyncio.create_task(self._keep(jobs, token, bound))
            try:
                yield
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, jobs: Sequence[Job], token: UUID, bound: asyncio.Timeout) -> None:
        loop, people, renewed = asyncio.get_running_loop(), [job.person for job in jobs], True
        while renewed:
            await asyncio.sleep(self.lease_s / RENEWALS_PER_LEASE)
            began = loop.time()
            renewed = await store.renew(self.live.node.id, token, people, lease_s=self.lease_s, database=self.database)
            if renewed:
                bound.reschedule(began + self.lease_s * KEPT_SHARE)

    async def _ask(self, jobs: Sequence[Job]) -> dict[Job, PanelError | None]:
        if not self.failed_before:
            return await self._call(jobs)
        answers = await asyncio.gather(*(self._call([job]) for job in jobs))
        return {job: failure for answer in answers for job, failure in answer.items()}

    async def _call(self, jobs: Sequence[Job]) -> dict[Job, PanelError | None]:
        """The panel's answer about each of these jobs; None where it agreed."""
        leaving = [job for job in jobs if not job.present]
        staying = [job for job in jobs if job.present]
        try:
            async with asyncio.timeout(PANEL_TIMEOUT_S):
                removed = await self._remove(leaving) if leaving else []
                ensured = await self._ensure(staying) if staying else []
        except TimeoutError:
            return dict.fromkeys(jobs, PanelUnavailable(f"no answer within {PANEL_TIMEOUT_S:g} s"))
        except Exception as error:  # A fault of the window's is a failed try like any other, else it would never end.
            log.error("the window failed", node=self.live.node.name, error=type(error).__name__)
            return dict.fromkeys(jobs, PanelRefused(f"the window failed: {type(error).__name__}"))
        failures = [None if isinstance(answer, PanelUser) else answer for answer in ensured]
        return dict(zip([*leaving, *staying], [*removed, *failures], strict=True))

    async def _ensure(self, jobs: Sequence[Job]) -> Sequence[PanelUser | PanelError]:
        wanted = [Wanted(job.person, job.key, job.until, job.devices, job.traffic_bytes) for job in jobs]
        with self._asking("ensure", len(jobs)):
            return await self.live.panel.ensure(wanted)

    async def _remove(self, jobs: Sequence[Job]) -> Sequence[PanelError | None]:
        with self._asking("remove", len(jobs)):
            return await self.live.panel.remove([job.person for job in jobs])

    @contextmanager
    def _asking(self, call: str, people: int) -> Iterator[None]:
        kind = self.live.node.kind
        with (
            telemetry.span(f"{kind}.{call}", kind=SpanKind.CLIENT, node=self.live.node.name, people=people),
            telemetry.OUTSIDE_SECONDS.labels(kind, call).time(),
        ):
            yield

    async def _judge(self, failures: Mapping[Job, PanelError | None]) -> dict[Job, Attempt]:
        """Where a job got no answer the node is asked whether it lives: only then the job is to blame."""
        unsure = any(isinstance(failure, PanelUnavailable) for failure in failures.values())
        lives = not unsure or await self.live.vitals() is not None
        return {
            job: judge(failure, tries=job.tries, node_lives=lives, jitter=random.random())  # noqa: S311 - no secret.
            for job, failure in failures.items()
        }

    def _speak(self, attempts: Mapping[Job, Attempt]) -> None:
        verdicts = [attempt.verdict for attempt in attempts.values()]
        counts = {verdict: verdicts.count(verdict) for verdict in ("agreed", "again", "given_back", "dead")}
        for verdict, count in counts.items():
            metrics.ATTEMPTS.labels(self.live.node.name, verdict).inc(count)
        log.info("access jobs settled", node=self.live.node.name, jobs=len(attempts), **counts)
        for job, attempt in attempts.items():
            if attempt.verdict == "dead":
                log.error("access job dead", node=self.live.node.name, person=str(job.person), error=attempt.error)
