"""Access jobs: they are claimed for a lease, the panel is asked, and the outcome is recorded.

    claimed (one statement) ──▶ panel asked (no transaction) ──▶ settled (transaction)
                                                  agreed │ waits for a retry │ dead

A worker may be killed at any point. Its lease ends, and another worker does the same again: every
request to a panel is absolute.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID, uuid4

import structlog
from opentelemetry.trace import SpanKind

from shared.platform import iterations, telemetry
from shared.platform.db import Database
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever, set_within
from vpn_provisioner import metrics
from vpn_provisioner.domain.attempts import Attempt, judge
from vpn_provisioner.domain.panel import (
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Wanted,
)
from vpn_provisioner.domain.pauses import LONGEST_JOB_PAUSE_S, pause_s
from vpn_provisioner.store import jobs as store
from vpn_provisioner.store.jobs import Job
from vpn_provisioner.workers.announcer import announce
from vpn_provisioner.workers.live import LiveNode

log = structlog.get_logger()

# Renewed while the panel is asked. The jobs of a killed process wait for so long.
LEASE_S = 2.0
RENEWALS_PER_LEASE = 4
# A worker that could not renew its lease stops asking well before another one may begin.
KEPT_SHARE = 0.75
PANEL_TIMEOUT_S = 6.0

FRESH_AT_ONCE = 300
FAILED_AT_ONCE = 8
POLL_S = 0.5
PAUSE_AFTER_FAILURE_S = 0.5


class Worker:
    """One of a node's two lanes: jobs that never failed run in batches, the others one by one.

    So a job that makes the panel fail delays the other jobs of its batch once, and none later.
    """

    def __init__(
        self, database: Database, live: LiveNode, *, failed_before: bool, lease_s: float = LEASE_S
    ) -> None:
        self.database = database
        self.live = live
        self.failed_before = failed_before
        self.lease_s = lease_s
        self.most = FAILED_AT_ONCE if failed_before else FRESH_AT_ONCE

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`: on as long as there are jobs, then at each ring or `POLL_S`."""
        with self.live.bell.listening() as rung:
            # A job that failed waits for its time anyway, so its lane ignores the bell.
            woken = stopping if self.failed_before else rung
            taken = self.most

            async def turn() -> None:
                nonlocal taken
                if taken < self.most:
                    await set_within(woken, POLL_S)
                if stopping.is_set():
                    return
                rung.clear()
                taken = 0
                if self.live.breaker.closed:
                    taken = await self.round()

            await forever("access_jobs", turn, stopping, failed=self._failed)

    def _failed(self, error: Exception) -> float:
        """The claimed jobs come back when their lease ends."""
        log.warning("access jobs failed", node=self.live.node.name, error=repr(error))
        return PAUSE_AFTER_FAILURE_S

    async def round(self) -> int:
        """Claim the due jobs, ask the panel, settle. Returns how many jobs were claimed."""
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
        with telemetry.batch(
            "vpn.agree", [job.trace for job in jobs], node=self.live.node.name
        ) as items:
            item_of = {job.person: item for job, item in zip(jobs, items, strict=True)}
            async with self._holding(jobs, token, began):
                failures = await self._ask(jobs)
                attempts = await self._judge(failures)
            failpoint("panel_written")
            for job, failure in failures.items():
                if failure is not None:
                    item_of[job.person].failed(failure)
            async with self.database.transaction() as tx:
                await store.settle(self.live.node.id, token, attempts, tx)
                agreed = [job.person for job, failure in failures.items() if failure is None]
                await announce(agreed, tx, item_of)
                failpoint("access_recorded")
        self._report(attempts)
        iterations.handled(len(jobs))
        return len(jobs)

    @asynccontextmanager
    async def _holding(self, jobs: Sequence[Job], token: UUID, began: float) -> AsyncIterator[None]:
        """Renew the lease, claimed at the loop's time `began`, while the panel is asked.

        Raises `TimeoutError` when the lease could not be kept, and ends the request: a worker must
        not write an old state into a node after another one may have written a newer state. The
        jobs come back by themselves.
        """
        async with asyncio.timeout_at(began + self.lease_s * KEPT_SHARE) as bound:
            renewing = asyncio.create_task(self._renew(jobs, token, bound))
            try:
                yield
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, jobs: Sequence[Job], token: UUID, bound: asyncio.Timeout) -> None:
        loop, people, renewed = asyncio.get_running_loop(), [job.person for job in jobs], True
        while renewed:
            await asyncio.sleep(self.lease_s / RENEWALS_PER_LEASE)
            began = loop.time()
            renewed = await store.renew(
                self.live.node.id, token, people, lease_s=self.lease_s, database=self.database
            )
            if renewed:
                bound.reschedule(began + self.lease_s * KEPT_SHARE)

    async def _ask(self, jobs: Sequence[Job]) -> dict[Job, PanelError | None]:
        if not self.failed_before:
            return await self._call(jobs)
        answers = await asyncio.gather(*(self._call([job]) for job in jobs))
        return {job: failure for answer in answers for job, failure in answer.items()}

    async def _call(self, jobs: Sequence[Job]) -> dict[Job, PanelError | None]:
        """The panel's failure for each of these jobs; None where it agreed."""
        leaving = [job for job in jobs if not job.present]
        staying = [job for job in jobs if job.present]
        try:
            async with asyncio.timeout(PANEL_TIMEOUT_S):
                removed = await self._remove(leaving) if leaving else []
                ensured = await self._ensure(staying) if staying else []
        except TimeoutError:
            return dict.fromkeys(jobs, PanelUnavailable(f"no answer within {PANEL_TIMEOUT_S:g} s"))
        except Exception as error:  # A fault of the client is a failed try too, so tries end.
            kind = type(error).__name__  # Without its text, which may hold a key.
            log.error("panel client failed", node=self.live.node.name, error=kind)
            return dict.fromkeys(jobs, PanelRefused(f"the client failed: {kind}"))
        failures = [None if isinstance(answer, PanelUser) else answer for answer in ensured]
        return dict(zip([*leaving, *staying], [*removed, *failures], strict=True))

    async def _ensure(self, jobs: Sequence[Job]) -> Sequence[PanelUser | PanelError]:
        wanted = [
            Wanted(job.person, job.key, job.until, job.devices, job.traffic_bytes) for job in jobs
        ]
        with self._asking("ensure", len(jobs)):
            return await self.live.panel.ensure(wanted)

    async def _remove(self, jobs: Sequence[Job]) -> Sequence[PanelError | None]:
        with self._asking("remove", len(jobs)):
            return await self.live.panel.remove([job.person for job in jobs])

    @contextmanager
    def _asking(self, call: str, people: int) -> Iterator[None]:
        kind = self.live.node.kind
        with (
            telemetry.span(
                f"{kind}.{call}", kind=SpanKind.CLIENT, node=self.live.node.name, people=people
            ),
            telemetry.OUTSIDE_SECONDS.labels(kind, call).time(),
        ):
            yield

    async def _judge(self, failures: Mapping[Job, PanelError | None]) -> dict[Job, Attempt]:
        """Judge each job. Where one got no answer, first ask the node whether it lives.

        Only on a living node the job is to blame.
        """
        unsure = any(isinstance(failure, PanelUnavailable) for failure in failures.values())
        lives = not unsure or await self.live.vitals() is not None
        return {
            job: judge(failure, tries=job.tries, node_lives=lives, pause_s=_pause_s(job))
            for job, failure in failures.items()
        }

    def _report(self, attempts: Mapping[Job, Attempt]) -> None:
        verdicts = [attempt.verdict for attempt in attempts.values()]
        counts = {
            verdict: verdicts.count(verdict)
            for verdict in ("agreed", "retry", "given_back", "dead")
        }
        for verdict, count in counts.items():
            metrics.ATTEMPTS.labels(self.live.node.name, verdict).inc(count)
        log.info("access jobs settled", node=self.live.node.name, jobs=len(attempts), **counts)
        for job, attempt in attempts.items():
            if attempt.verdict == "dead":
                log.error(
                    "access job dead",
                    node=self.live.node.name,
                    person=str(job.person),
                    error=attempt.error,
                )


def _pause_s(job: Job) -> float:
    jitter = random.random()  # noqa: S311 - no secret.
    return pause_s(job.tries, jitter, longest_s=LONGEST_JOB_PAUSE_S)
