"""Start-up, supervision and drain of a service: the same for all five.

    health endpoints ─▶ database (as long as it takes) ─▶ bus ─▶ loops ─▶ SIGTERM ─▶ drain ─▶ end

A loop that dies ends the process with a reason. The supervisor of processes restarts it.
"""

import asyncio
import errno
import gc
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
import uvicorn
from faststream.asgi import AsgiFastStream
from prometheus_client import make_asgi_app

from shared.contracts.acts import ActsQuery
from shared.contracts.message import Command, Query, Refused, Value
from shared.contracts.operations import (
    Audit,
    AuditQuery,
    DeadLetterQuery,
    DeadLettersQuery,
    EventsQuery,
    Finding,
    HourlyChecksumsQuery,
    KeysQuery,
    LastAudit,
    MissingKeysQuery,
    PublishedIdsQuery,
    ReplayDeadLetter,
    Republish,
    StatusQuery,
)
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.contracts.streams import SUBSCRIPTIONS
from shared.contracts.vpn import Replayed
from shared.health import Health
from shared.messaging import conflicts, idempotency, inbox, outbox, retries
from shared.messaging.consumer import consume
from shared.messaging.idempotency import Action, execute
from shared.messaging.inbox import Handle, Handler
from shared.messaging.relay import Relay
from shared.messaging.rpc import Bus
from shared.operations import acts, anti_entropy, inspection
from shared.operations.audit import Kind, answer_keys, answer_missing_keys, merged
from shared.operations.status import status, summary_of
from shared.platform import iterations, telemetry
from shared.platform.clock import ClockAheadError, ahead_of
from shared.platform.db import NOW, Database, Tx, database_is_to_blame
from shared.platform.loops import forever, set_within, unless
from shared.platform.settings import REFUSED_STATUS, ServiceSettings, complain, refuse
from shared.platform.waits import PullBack, Wait

log = structlog.get_logger()

DRAIN_S = 20.0
CANCEL_S = 3.0
OPEN_RETRY_S = 0.3
GAUGES_EVERY_S = 5.0
PULL_BACK_EVERY_S = 10.0
HOUSEKEEPING_EVERY_S = 3600.0
FOLLOW_CLOCK_EVERY_S = 2.0
FIRST_AUDIT_AFTER_S = 300.0  # Work that a restart left open has settled by then.
AUDIT_EVERY_S = 3600.0
AUDITS_A_DAY = 24
HOURS_AUDITED = 25.0
# A transaction that began before an audit may have committed after it.
AUDITS_OVERLAP_H = 1.0
LOOK_FOR_DUE_EVERY_S = 10.0

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

ROWS_PER_DROP = 5_000
MAX_DROPS = 1_000


class _Server(uvicorn.Server):
    """Without uvicorn's signal handlers, and without a wake-up while no request comes."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._over = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Wait for the end.

        uvicorn's own loop wakes ten times a second, to check for the end and to format the date.
        """
        await self._over.wait()

    def end(self) -> None:
        self._over.set()


class Service:
    """One service in this process: its subscriptions, answers, commands and loops."""

    def __init__(self, owner: str, settings: ServiceSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.stopping = asyncio.Event()
        self.name = SERVICE_NAMES[owner]
        self.database = Database(settings.dsn.get_secret_value(), name=self.name)
        self.bus = Bus(settings.nats_url.get_secret_value(), name=self.name)
        self.health = Health(OWNERS[owner], self.database, self.bus, self.stopping)
        self.handlers: dict[str, Handler] = {}
        self.last_audit: LastAudit | None = None
        self.workers: list[iterations.Worker] = []
        self._ahead: str | None = None
        self._waits: list[Wait] = [*anti_entropy.WAITS, *retries.WAITS]
        self._loops: list[tuple[str, Loop]] = []
        self._prunes = [
            outbox.DROP_OLD,
            inbox.DROP_OLD,
            inbox.DROP_REPLAYED,
            idempotency.DROP_OLD,
            conflicts.DROP_OLD,
            anti_entropy.DROP_DIFFERENCES,
            anti_entropy.DROP_UNKNOWN_EVENTS,
        ]
        self._on_open: list[Callable[[], Awaitable[None]]] = []
        self._on_close: list[Callable[[], Awaitable[None]]] = []
        self.routes: list[tuple[str, Any]] = [
            ("/livez", self.health.livez),
            ("/readyz", self.health.readyz),
            ("/metrics", make_asgi_app()),
        ]
        self._serve_operators()
        self._serve_subscribers()

    # What the app.py of a service lists: its table of contents.

    def subscribes(self, name: str, handle: Handle) -> None:
        """Handle batches of one type of event; `name` is in the committed list of streams.py."""
        subscription = next(entry for entry in SUBSCRIPTIONS if entry.handler == name)
        assert subscription.service == self.owner, f"{name} belongs to {subscription.service}"
        self.handlers[name] = Handler(subscription, handle, self.database)

    def answers(
        self, query: type[Query[Any]], respond: Callable[[Any, Database], Awaitable[Value]]
    ) -> None:
        async def answer(received: Any) -> Value:
            return await respond(received, self.database)

        self.bus.answers(query, answer)

    def executes(self, command: type[Command[Any]], action: Action) -> None:
        async def answer(received: Any) -> Value:
            return await execute(self.database, received, action)

        self.bus.answers(command, answer)

    def audits(
        self,
        respond: Callable[[AuditQuery, Database], Awaitable[Audit]],
        kinds: Mapping[str, Kind],
    ) -> None:
        """Answer audits, and queries for the keys that another owner must also have.

        The service also audits itself every hour.
        """

        async def keys(query: KeysQuery, database: Database) -> Value:
            return await answer_keys(query, kinds, database)

        async def missing_keys(query: MissingKeysQuery, database: Database) -> Value:
            return await answer_missing_keys(query, kinds, database)

        self.answers(AuditQuery.of(self.owner), respond)
        self.answers(KeysQuery.of(self.owner), keys)
        self.answers(MissingKeysQuery.of(self.owner), missing_keys)
        self.loops("audit", partial(self._audit_by_time, respond))

    def prunes(self, *statements: str) -> None:
        """Run these each hour. Each deletes at most $1 old rows, in a bounded time."""
        self._prunes += statements

    def ticks(self, name: str, every_s: float, tick: Callable[[], Awaitable[object]]) -> None:
        """Call `tick` periodically.

        A failed call is counted and logged; the next one runs as scheduled. So does one that gives
        no sign of life within the limit.
        """

        def failed(error: Exception) -> float:
            log.warning("tick failed", tick=name, error=repr(error))
            return every_s

        async def loop(stopping: asyncio.Event) -> None:
            async def turn() -> None:
                await tick()
                iterations.rests(every_s)
                await set_within(stopping, every_s)

            await forever(name, turn, stopping, failed=failed, limit_s=iterations.LIMIT_S)

        self.loops(name, loop)

    def bounds(self, waits: Sequence[Wait]) -> None:
        """End these waits when they are longer than the code writes them: a clock stepped back."""
        self._waits += waits

    def loops(self, name: str, loop: Loop) -> None:
        """Run until `stopping`. A loop that ends before that ends the process."""
        self._loops.append((name, loop))

    def opens(self, call: Callable[[], Awaitable[None]]) -> None:
        self._on_open.append(call)

    def closes(self, call: Callable[[], Awaitable[None]]) -> None:
        self._on_close.append(call)

    # Life cycle

    async def run(self) -> int:
        """Serve until a signal or the death of a loop. Returns the exit status of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        server = self._http()
        http = asyncio.create_task(server.serve([self._listening_socket()]))
        living = asyncio.create_task(self._serve())
        await asyncio.wait([http, living], return_when=asyncio.FIRST_COMPLETED)
        if http.done() and not self.stopping.is_set():
            log.critical("health endpoints closed", reason=repr(http.exception()))
            living.cancel()
        status = 1
        with suppress(asyncio.CancelledError):
            status = await living
        server.end()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(http, 3)
        return status

    def _listening_socket(self) -> socket.socket:
        """The socket of the health endpoints. Where it cannot open, the process ends at once."""
        host, port = self.settings.http_host, self.settings.http_port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            family, kind, protocol, _, address = found
            listening = socket.socket(family, kind, protocol)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError as error:
            refuse(_why_not_listening(error, host, port))
        return listening

    def _http(self) -> _Server:
        app = AsgiFastStream(asgi_routes=self.routes, logger=None)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            date_header=False,
            proxy_headers=False,  # Else it believes X-Forwarded-For of any process on this machine.
            timeout_graceful_shutdown=5,
        )
        return _Server(config)

    async def _serve(self) -> int:
        status = 0
        try:
            await unless(self.stopping, self._open_database())
            await unless(self.stopping, self._open_bus())
            if not self.stopping.is_set():
                status = await self._run_loops()
        except ClockAheadError as error:
            complain(str(error))
            status = REFUSED_STATUS
        finally:
            self.stopping.set()
            await self._close()
        return status

    async def _open_database(self) -> None:
        """Open the database, then run the service's own openers.

        These may need tables that are not migrated yet.
        """
        await _until_done(
            "cannot open the database, retrying", self.database.open, is_transient=lambda _: True
        )
        for call in (self._read_clock, *self._on_open):
            await _until_done(
                "cannot open the service, retrying", call, is_transient=database_is_to_blame
            )

    async def _read_clock(self) -> None:
        """Raises ClockAheadError where the clock was moved and this is no sandbox."""
        self._ahead = await ahead_of(self.database)
        if self._ahead is not None and not self.settings.sandbox_clock:
            raise ClockAheadError(self._ahead)

    async def _follow_clock(self) -> None:
        """Drop at once what a move of the clock has made old: the hour goes by the real time."""
        ahead = await ahead_of(self.database)
        if ahead != self._ahead:
            await self._drop_old_rows()
            self._ahead = ahead

    async def _open_bus(self) -> None:
        await self.bus.open()
        self._add_own_loops()

    def _add_own_loops(self) -> None:
        replicas = self.settings.nats_replicas
        relay = Relay(self.database, self.bus.client, self.owner, replicas=replicas)
        self.bus.on_disconnect(relay.disconnected)
        self.bus.on_reconnect(relay.reconnected)
        self.loops("relay", relay.run)
        self.loops("beat", self.health.beat)
        self.loops("bus", self.bus.watch)
        self.ticks("gauges", GAUGES_EVERY_S, self._set_gauges)
        self.ticks("compare_hours", LOOK_FOR_DUE_EVERY_S, self._compare_hours)
        self.ticks("waits", PULL_BACK_EVERY_S, PullBack(self._waits, self.database).turn)
        self.ticks("housekeeping", HOUSEKEEPING_EVERY_S, self._drop_old_rows)
        if self.settings.sandbox_clock:
            self.ticks("sandbox_clock", FOLLOW_CLOCK_EVERY_S, self._follow_clock)
        due = {name: asyncio.Event() for name in self.handlers}
        self.loops("retries", partial(retries.look_for_due, due, self.database))
        for name, handler in self.handlers.items():
            self.loops(name, partial(consume, self.bus, handler, replicas=replicas))
            self.loops(f"retry_{name}", partial(retries.retry, handler, due[name]))

    async def _run_loops(self) -> int:
        iterations.enlist_in(self.workers)
        tasks = {asyncio.create_task(loop(self.stopping), name=name) for name, loop in self._loops}
        stop = asyncio.create_task(self.stopping.wait(), name="stopping")
        # Imported objects are never garbage: without this each full collection walks all of them.
        gc.freeze()
        self.health.opened = True
        names = sorted(task.get_name() for task in tasks)
        log.info("service up", loops=names)
        done, _ = await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        status = 0
        for task in done - {stop}:
            if not self.stopping.is_set():
                reason = repr(task.exception()) if task.exception() else "it ended"
                log.critical("loop died", loop=task.get_name(), reason=reason)
                status = 1
        self.stopping.set()
        _, late = await asyncio.wait([*tasks, stop], timeout=DRAIN_S)
        for task in late:
            log.warning("loop did not drain in time", loop=task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_S)
        return status

    async def _close(self) -> None:
        for call in self._on_close:
            await call()
        with suppress(Exception, asyncio.TimeoutError):
            await asyncio.wait_for(self.bus.close(), 5)
        await self.database.close()
        log.info("service down")

    # Loops, answers and commands of every service

    async def _set_gauges(self) -> None:
        row = await self.database.fetchrow(outbox.STATE)
        assert row is not None
        telemetry.OUTBOX_PENDING.labels(self.owner).set(row["pending"])
        telemetry.OUTBOX_AGE.labels(self.owner).set(row["oldest_s"])
        rows = await self.database.fetch(retries.STATE, list(self.handlers))
        for row in rows:
            telemetry.MESSAGES_WAITING.labels(row["handler"]).set(row["messages"])
        for row in await self.database.fetch(anti_entropy.STATE):
            telemetry.COMPARED_AGE.labels(row["handler"]).set(row["age_s"])
            telemetry.HOURS_GIVEN_UP.labels(row["handler"]).set(row["given_up"])
            telemetry.UNKNOWN_EVENTS.labels(row["handler"]).set(row["unknown_events"])

    async def _compare_hours(self) -> None:
        subscriptions = [handler.subscription for handler in self.handlers.values()]
        comparing = anti_entropy.compare_due(subscriptions, self.database, self.bus)
        await unless(self.stopping, comparing)

    async def _audit_by_time(
        self,
        respond: Callable[[AuditQuery, Database], Awaitable[Audit]],
        stopping: asyncio.Event,
    ) -> None:
        """Everything five minutes after the start and then daily.

        In between, hourly, what came since the last audit without a finding: at most 25 hours.
        """
        wait_s, rounds, clean_at = FIRST_AUDIT_AFTER_S, 0, float("-inf")

        async def turn() -> None:
            nonlocal wait_s, rounds, clean_at
            iterations.rests(wait_s)
            if await set_within(stopping, wait_s):
                return
            iterations.turned()
            wait_s, began_at = AUDIT_EVERY_S, time.monotonic()
            since_h = (began_at - clean_at) / 3600 + AUDITS_OVERLAP_H
            hours = None if rounds % AUDITS_A_DAY == 0 else min(since_h, HOURS_AUDITED)
            findings = await self._audit(respond, hours, stopping)
            if not stopping.is_set():
                self.last_audit = summary_of(findings, await self.database.fetchval(NOW))
                iterations.outcome("violated", sum(1 for one in findings if one.violations))
                clean_at = clean_at if _report_audit(self.owner, findings) else began_at
                rounds += 1

        def failed(error: Exception) -> float:
            log.warning("tick failed", tick="audit", error=repr(error))
            return 0.0

        await forever("audit", turn, stopping, failed=failed, limit_s=iterations.LIMIT_S)

    async def _audit(
        self,
        respond: Callable[[AuditQuery, Database], Awaitable[Audit]],
        hours: float | None,
        stopping: asyncio.Event,
    ) -> tuple[Finding, ...]:
        """All parts of an audit, until `stopping`."""
        findings: tuple[Finding, ...] = ()
        after: str | None = ""
        while after is not None and not stopping.is_set():
            query = AuditQuery.of(self.owner)(hours=hours, after=after)
            part = await respond(query, self.database)
            iterations.turned()
            iterations.found(len(part.findings))
            findings, after = merged((*findings, *part.findings)), part.after
        return findings

    async def _drop_old_rows(self) -> None:
        """In pages, because a statement times out after 10 s. The next round drops the rest."""
        await self.database.execute(anti_entropy.ENLIST, sorted(self.handlers))
        failed: Exception | None = None
        for statement in self._prunes:
            try:
                await self._prune(statement)
            except Exception as error:  # The rows of other tables are dropped all the same.
                failed = error
        if failed is not None:
            raise failed

    async def _prune(self, statement: str) -> None:
        for _ in range(MAX_DROPS):
            dropped = await self.database.execute(statement, ROWS_PER_DROP)
            iterations.turned()
            iterations.found(int(dropped.split()[-1]), "dropped")
            if dropped != f"DELETE {ROWS_PER_DROP}" or self.stopping.is_set():
                return

    def _serve_subscribers(self) -> None:
        owner = self.owner
        self.answers(HourlyChecksumsQuery.of(owner), anti_entropy.answer_hourly_checksums)
        self.answers(PublishedIdsQuery.of(owner), anti_entropy.answer_published_ids)
        self.executes(Republish.of(owner), anti_entropy.republish)

    def _serve_operators(self) -> None:
        self.answers(DeadLettersQuery.of(self.owner), inspection.answer_dead_letters)
        self.answers(DeadLetterQuery.of(self.owner), inspection.answer_dead_letter)
        self.answers(EventsQuery.of(self.owner), self._answer_events)
        self.answers(ActsQuery.of(self.owner), acts.answer_acts)
        self.executes(ReplayDeadLetter.of(self.owner), self._replay)
        self.bus.answers(StatusQuery.of(self.owner), self._answer_status, by_every_replica=True)

    async def _answer_status(self, _: StatusQuery) -> Value:
        return await status(
            self.name,
            self.health.why_not_ready(),
            self.handlers,
            self.database,
            self.last_audit,
            self.workers,
        )

    async def _answer_events(self, query: EventsQuery, database: Database) -> Value:
        return await inspection.answer_events(query, self.handlers, database)

    async def _replay(self, command: ReplayDeadLetter, tx: Tx) -> Value:
        for handler in self.handlers.values():
            try:
                async with tx.connection.transaction():
                    if await handler.replay(command.dead_letter, tx):
                        return Replayed(replayed=1)
            except Exception as error:  # The dead letter stays, and the operator sees the reason.
                detail = f"{type(error).__name__}: {error}"[:500]
                return Refused(reason="still_failing", detail=detail)
        return Refused(reason="dead_letter_unknown")


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        why = "taken by another program"
    elif error.errno == errno.EACCES:
        why = "not permitted"
    else:
        return (
            f"TURNPIKE_HTTP_HOST is not usable: {host} is no address of this machine "
            f"({error.strerror})."
        )
    return f"TURNPIKE_HTTP_PORT is not usable: port {port} of {host} is {why}."


async def _until_done(
    message: str,
    call: Callable[[], Awaitable[None]],
    *,
    is_transient: Callable[[Exception], bool],
) -> None:
    """Repeat until it succeeds. An error that is not transient is raised."""
    while True:
        try:
            return await call()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning(message, error=repr(error))
            await asyncio.sleep(OPEN_RETRY_S)


def _report_audit(owner: str, findings: Sequence[Finding]) -> int:
    """Set the gauges; returns the number of violations."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.invariant] = counts.get(finding.invariant, 0) + finding.violations
        if finding.violations:
            log.error("audit finding", **finding.model_dump())
    for invariant, count in counts.items():
        telemetry.AUDIT_FINDINGS.labels(owner, invariant).set(count)
    violations = sum(counts.values())
    log.info("audited", findings=violations)
    return violations


def run(build: Callable[[], Service]) -> None:
    """The `__main__` of a service: build it, serve, and end with its status."""

    async def main() -> int:
        service = build()
        telemetry.start(service.name, kept=service.settings.traces_kept)
        try:
            return await service.run()
        finally:
            telemetry.stop()

    sys.exit(asyncio.run(main()))
