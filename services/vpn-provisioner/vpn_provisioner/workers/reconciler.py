"""Checks that a node is up, restores its users after a restart, and corrects any drift."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from uuid import UUID

import structlog

from shared.platform import iterations
from shared.platform.db import Database
from shared.platform.loops import forever, set_within
from vpn_provisioner import metrics
from vpn_provisioner.domain.drift import ListedJob, find_drift
from vpn_provisioner.domain.pauses import LONGEST_PROBE_PAUSE_S, pause_s
from vpn_provisioner.store import jobs, nodes
from vpn_provisioner.workers.live import LiveNode

log = structlog.get_logger()

RECONCILE_EVERY_S = 1.0
COMPARE_EVERY_S = 60.0
COMPARE_AGAIN_AFTER_S = 5.0
# Comparing takes at most 1/20 of the time, however many people there are.
COMPARE_TIME_DIVISOR = 20
COMPARE_TIMEOUT_S = 30.0
PAGE_SIZE = 1_000


class Reconciler:
    """One node's reconciler in this process. Replicas may share a node: repeats are harmless."""

    def __init__(
        self, database: Database, live: LiveNode, *, compare_every_s: float = COMPARE_EVERY_S
    ) -> None:
        self.database = database
        self.live = live
        self.compare_every_s = compare_every_s
        self._users = 0
        self._doubt = False
        self._compared_at = float("-inf")
        self._took_s = 0.0
        self._suspects: frozenset[UUID] = frozenset()

    async def run(self, stopping: asyncio.Event) -> None:
        async def turn() -> None:
            await self.reconcile()
            wait_s = self._pause_s()
            iterations.rests(wait_s)
            await set_within(stopping, wait_s)

        await forever(
            "reconcile_node", turn, stopping, failed=self._failed, limit_s=iterations.LIMIT_S
        )

    def _failed(self, error: Exception) -> float:
        log.warning("reconciling failed", node=self.live.node.name, error=repr(error))
        return self._pause_s()

    def _pause_s(self) -> float:
        breaker = self.live.breaker
        if breaker.closed:
            return RECONCILE_EVERY_S
        jitter = random.random()  # noqa: S311 - no secret.
        return pause_s(breaker.failures - 1, jitter, longest_s=LONGEST_PROBE_PAUSE_S)

    async def reconcile(self) -> None:
        """Take the vitals, restore the users after a restart, and compare them when due.

        If users disappeared, or the last comparison found some missing, compare sooner.
        """
        vitals = await self.live.vitals()
        if vitals is None:
            return
        self._doubt |= vitals.users < self._users
        self._users = vitals.users
        await self._restore_users(vitals.incarnation)
        if self._compare_due():
            await self.compare()

    async def _restore_users(self, incarnation: str) -> None:
        """A new incarnation means that the node may have lost its users.

        Requeue the job of every live subscriber in its group, page by page; dead jobs stay dead.
        """
        node = self.live.node
        known, unfinished = await nodes.incarnation_of(node.id, self.database)
        if known != incarnation:
            async with self.database.transaction() as tx:
                unfinished = await nodes.record_incarnation(node.id, incarnation, tx)
            metrics.PUT_BACK.labels(node.name).inc()
            log.warning(
                "node has a new incarnation, restoring its users",
                node=node.name,
                first=known is None,
            )
        while unfinished:
            async with self.database.transaction() as tx:
                unfinished = await nodes.put_back(node, PAGE_SIZE, tx)
            iterations.found(1, "page_restored")
            self.live.bell.ring()

    def _compare_due(self) -> bool:
        since_s = time.monotonic() - self._compared_at
        due = since_s >= self.compare_every_s or (self._doubt and since_s >= COMPARE_AGAIN_AFTER_S)
        return due and since_s >= self._took_s * COMPARE_TIME_DIVISOR

    async def compare(self) -> None:
        """Compare all users on the node with all people wanted there, in both directions.

        Missing people are added at once: adding twice is harmless. Unwanted people (their job says
        absent) and unknown people (no job) are removed only when a second comparison finds them
        again, and only if no job wants them by then.
        """
        self._compared_at = time.monotonic()
        listed_at = await nodes.now(self.database)
        async with asyncio.timeout(COMPARE_TIMEOUT_S):
            users = [user async for user in self.live.panel.users()]
        held = {
            user.person_id: user.key for user in users if user.person_id is not None and user.active
        }
        missing, unwanted, unknown = 0, set[UUID](), set(held)
        async for page in self._jobs(listed_at):
            iterations.turned()
            drift = find_drift(held, page)
            missing += len(drift.missing)
            unwanted |= drift.unwanted
            unknown -= {job.person for job in page}
            if drift.missing:
                await self._rerun(sorted(drift.missing))
        await self._remove(unwanted, {person: held[person] for person in unknown})
        async with self.database.transaction() as tx:
            extra = len(unwanted) + len(unknown)
            await nodes.record_comparison(self.live.node.id, missing, extra, tx)
        self._took_s, self._doubt = time.monotonic() - self._compared_at, missing > 0
        self._report(missing, len(unwanted), len(unknown))

    async def _jobs(self, listed_at: datetime) -> AsyncIterator[list[ListedJob]]:
        after: UUID | None = nodes.BEFORE_ALL
        while after is not None:
            page = await jobs.page(self.live.node.id, after, PAGE_SIZE, listed_at, self.database)
            yield page
            after = page[-1].person if len(page) == PAGE_SIZE else None

    async def _rerun(self, people: list[UUID]) -> None:
        async with self.database.transaction() as tx:
            await jobs.rerun(self.live.node.id, people, tx)
        self.live.bell.ring()

    async def _remove(self, unwanted: set[UUID], unknown: Mapping[UUID, UUID]) -> None:
        """Remove the people who were suspects at the last comparison too.

        `unknown` people, mapped to their keys, have no job on this node: one is made.
        """
        suspects_before = self._suspects
        self._suspects = frozenset(unwanted | unknown.keys())
        if confirmed := sorted(unwanted & suspects_before):
            await self._rerun(confirmed)
        if keys := {person: key for person, key in unknown.items() if person in suspects_before}:
            async with self.database.transaction() as tx:
                await jobs.remove_unknown(self.live.node.id, keys, tx)
            self.live.bell.ring()

    def _report(self, missing: int, unwanted: int, unknown: int) -> None:
        counts = {"missing": missing, "unwanted": unwanted, "unknown": unknown}
        for kind, count in counts.items():
            metrics.DRIFT.labels(self.live.node.name, kind).inc(count)
            iterations.found(count, kind)
        if any(counts.values()):
            log.warning("node drifted", node=self.live.node.name, **counts)
