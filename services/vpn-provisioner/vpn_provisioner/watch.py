"""Watching a node: whether it lives, whether it still is the one that was given its people, and who is really there."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from uuid import UUID

import structlog

from shared import telemetry
from shared.db import Database
from shared.waiting import happens
from vpn_provisioner import metrics
from vpn_provisioner.drift import Listed, compare
from vpn_provisioner.live import LiveNode
from vpn_provisioner.store import jobs, nodes

log = structlog.get_logger()

WATCH_EVERY_S = 1.0
LOOK_EVERY_S = 60.0
LOOK_AGAIN_AFTER_S = 5.0
LOOKING_SHARE = 20  # At most a twentieth of the time is spent looking, however many people there are.
LOOK_TIMEOUT_S = 30.0
PEOPLE_AT_ONCE = 1_000


class Watch:
    """One node's watch in this process. Any number may watch the same node: what they do is the same done twice."""

    def __init__(self, database: Database, live: LiveNode, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self.database = database
        self.live = live
        self.look_every_s = look_every_s
        self._users = 0
        self._doubt = False
        self._looked = float("-inf")
        self._took_s = 0.0
        self._suspects: frozenset[UUID] = frozenset()

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.round()
            except Exception as error:  # The watch goes on.
                telemetry.TICK_FAILURES.labels("watch_node").inc()
                log.warning("watch failed", node=self.live.node.name, error=repr(error))
            breaker = self.live.breaker
            pause_s = WATCH_EVERY_S if breaker.closed else breaker.probe_after_s(random.random())  # noqa: S311 - no secret.
            await happens(stopping, pause_s)

    async def round(self) -> None:
        """Take the vitals: fewer people than before are a reason to look closer, and so is whoever was missing then."""
        vitals = await self.live.vitals()
        if vitals is None:
            return
        self._doubt |= vitals.users < self._users
        self._users = vitals.users
        await self._put_back(vitals.incarnation)
        if self._time_to_look():
            await self.look()

    async def _put_back(self, incarnation: str) -> None:
        """A node that is another one than it was has lost its people: all their jobs run again, page by page."""
        node = self.live.node
        known, unfinished = await nodes.incarnation_of(node.id, self.database)
        if known != incarnation:
            async with self.database.transaction() as tx:
                unfinished = await nodes.reborn(node.id, incarnation, tx)
            metrics.PUT_BACK.labels(node.name).inc()
            log.warning("node is another one, its people are put back", node=node.name, first=known is None)
        while unfinished:
            async with self.database.transaction() as tx:
                unfinished = await nodes.put_back(node, PEOPLE_AT_ONCE, tx)
            self.live.woken.set()

    def _time_to_look(self) -> bool:
        since_s = time.monotonic() - self._looked
        due = since_s >= self.look_every_s or (self._doubt and since_s >= LOOK_AGAIN_AFTER_S)
        return due and since_s >= self._took_s * LOOKING_SHARE

    async def look(self) -> None:
        """Compare everybody on the node with everybody wanted there, both ways.

        Who is missing is put back at once: asking twice is harmless. Who is there unwanted leaves at the second look,
        and only if no job wants them by then.
        """
        self._looked = time.monotonic()
        looked_at = await nodes.now(self.database)
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            users = [user async for user in self.live.panel.users()]
        held = {user.person_id: user.key for user in users if user.person_id is not None and user.active}
        missing, unwanted, strangers = 0, set[UUID](), set(held)
        async for page in self._jobs(looked_at):
            drift = compare(held, page)
            missing += len(drift.missing)
            unwanted |= drift.unwanted
            strangers -= {job.person for job in page}
            if drift.missing:
                await self._again(sorted(drift.missing))
        await self._send_away(unwanted, {person: held[person] for person in strangers})
        async with self.database.transaction() as tx:
            await nodes.looked_at(self.live.node.id, missing, len(unwanted) + len(strangers), tx)
        self._took_s, self._doubt = time.monotonic() - self._looked, missing > 0
        self._speak(missing, len(unwanted), len(strangers))

    async def _jobs(self, looked_at: datetime) -> AsyncIterator[list[Listed]]:
        after: UUID | None = nodes.NOBODY
        while after is not None:
            page = await jobs.jobs_page(self.live.node.id, after, PEOPLE_AT_ONCE, looked_at, self.database)
            yield page
            after = page[-1].person if len(page) == PEOPLE_AT_ONCE else None

    async def _again(self, people: list[UUID]) -> None:
        async with self.database.transaction() as tx:
            await jobs.again(self.live.node.id, people, tx)
        self.live.woken.set()

    async def _send_away(self, unwanted: set[UUID], strangers: Mapping[UUID, UUID]) -> None:
        """Those who were suspects at the last look too; for a stranger a job is made that nobody had asked for."""
        seen_before = self._suspects
        self._suspects = frozenset(unwanted | strangers.keys())
        if confirmed := sorted(unwanted & seen_before):
            await self._again(confirmed)
        if leaving := {person: key for person, key in strangers.items() if person in seen_before}:
            async with self.database.transaction() as tx:
                await jobs.shut_out(self.live.node.id, leaving, tx)
            self.live.woken.set()

    def _speak(self, missing: int, unwanted: int, strangers: int) -> None:
        counts = {"missing": missing, "unwanted": unwanted, "strangers": strangers}
        for kind, count in counts.items():
            metrics.DRIFT.labels(self.live.node.name, kind).inc(count)
        if any(counts.values()):
            log.warning("node drifted", node=self.live.node.name, **counts)
