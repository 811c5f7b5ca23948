"""Start-up, supervision and drain: the same for every service, on the only path there is.

    health listens ─▶ database opens (as long as it takes) ─▶ bus opens ─▶ loops run ─▶ SIGTERM ─▶ drain ─▶ end

A loop that dies takes the process down with a reason; what restarts processes restarts this one.
"""

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
import uvicorn
from faststream.asgi import AsgiFastStream
from prometheus_client import make_asgi_app

from shared import inbox, outbox, records, tally, telemetry
from shared.audit import Kind, answer_keys, answer_lacking
from shared.bus import Bus
from shared.commands import ReplayDead, Replayed, TellAgain
from shared.contract import Command, Question, Refused, Value
from shared.db import Database, Tx, database_is_to_blame
from shared.health import Health
from shared.inbox import Handle, Handler
from shared.inspection import AskDeadLetter, AskDeadLetters, AskFacts, AskKeys, AskLacking
from shared.obey import Act, obey
from shared.owners import OWNERS
from shared.questions import AskAudit, AskTold, AskToldIds, Audit
from shared.settings import ServiceSettings, refuse
from shared.streams import LISTENING
from shared.waiting import happens

log = structlog.get_logger()

DRAIN_S = 20.0
CANCEL_S = 3.0
OPEN_RETRY_S = 0.3
GAUGES_EVERY_S = 5.0
HOUSEKEEPING_EVERY_S = 3600.0
FIRST_AUDIT_AFTER_S = 300.0  # What a restart left has settled by then.
AUDIT_EVERY_S = 3600.0
AUDITS_A_DAY = 24
HOURS_AUDITED = 25.0
LOOK_FOR_DUE_EVERY_S = 10.0

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

ROWS_PER_DROP = 10_000


class _Server(uvicorn.Server):
    """Signals are the service's to handle, and while nobody asks nothing wakes."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._over = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Uvicorn's own looks ten times a second whether to go on, and what the date is."""
        await self._over.wait()

    def end(self) -> None:
        self._over.set()


class Service:
    """One service in this process: what it hears, answers, obeys and does by time."""

    def __init__(self, owner: str, settings: ServiceSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.stopping = asyncio.Event()
        self.database = Database(settings.dsn.get_secret_value(), name=f"turnpike-{owner}")
        self.bus = Bus(settings.nats_url.get_secret_value(), name=f"turnpike-{owner}")
        self.health = Health(OWNERS[owner], self.database, self.bus, self.stopping)
        self.handlers: dict[str, Handler] = {}
        self._loops: list[tuple[str, Loop]] = []
        self._on_open: list[Callable[[], Awaitable[None]]] = []
        self._on_close: list[Callable[[], Awaitable[None]]] = []
        self.routes: list[tuple[str, Any]] = [
            ("/livez", self.health.livez),
            ("/readyz", self.health.readyz),
            ("/metrics", make_asgi_app()),
        ]
        self._serve_operators()
        self._serve_listeners()

    # What a service's app.py lists: its table of contents.

    def hears(self, name: str, handle: Handle) -> None:
        """Absorb batches of one kind of fact; `name` stands in the committed list of `shared.streams`."""
        listening = next(entry for entry in LISTENING if entry.handler == name)
        assert listening.service == self.owner, f"{name} belongs to {listening.service}"
        self.handlers[name] = Handler(listening, handle, self.database)

    def answers(self, question: type[Question[Any]], respond: Callable[[Any, Database], Awaitable[Value]]) -> None:
        async def answer(asked: Any) -> Value:
            return await respond(asked, self.database)

        self.bus.answers(question, answer)

    def audits(self, respond: Callable[[AskAudit, Database], Awaitable[Audit]], kinds: Mapping[str, Kind]) -> None:
        """Answer for the owner's invariants and for what another owner must agree with; look by itself every hour."""
        self.answers(AskAudit.of(self.owner), respond)
        self.answers(AskKeys.of(self.owner), lambda asked, database: answer_keys(asked, kinds, database))
        self.answers(AskLacking.of(self.owner), lambda asked, database: answer_lacking(asked, kinds, database))
        self.loops("audit", partial(self._audit_by_time, respond))

    def obeys(self, command: type[Command[Any]], act: Act) -> None:
        async def answer(wanted: Any) -> Value:
            return await obey(self.database, wanted, act)

        self.bus.answers(command, answer)

    def ticks(self, name: str, every_s: float, tick: Callable[[], Awaitable[object]]) -> None:
        """Do something by time. A round that fails is recorded and the next one comes."""

        async def loop(stopping: asyncio.Event) -> None:
            while not stopping.is_set():
                try:
                    await tick()
                except Exception as error:  # The clock goes on.
                    telemetry.TICK_FAILURES.labels(name).inc()
                    log.warning("tick failed", tick=name, error=repr(error))
                await happens(stopping, every_s)

        self.loops(name, loop)

    def loops(self, name: str, loop: Loop) -> None:
        """Run until `stopping`; when it ends before that, the process ends."""
        self._loops.append((name, loop))

    def opens(self, call: Callable[[], Awaitable[None]]) -> None:
        self._on_open.append(call)

    def closes(self, call: Callable[[], Awaitable[None]]) -> None:
        self._on_close.append(call)

    # Life

    async def run(self) -> int:
        """Serve until a signal or a loop's death. Answers the process's exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        server = self._http()
        http = asyncio.create_task(server.serve([self._listening()]))
        living = asyncio.create_task(self._live())
        await asyncio.wait([http, living], return_when=asyncio.FIRST_COMPLETED)
        if http.done() and not self.stopping.is_set():
            log.critical("health door closed", reason=repr(http.exception()))
            living.cancel()
        status = 1
        with suppress(asyncio.CancelledError):
            status = await living
        server.end()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(http, 3)
        return status

    def _listening(self) -> socket.socket:
        """The health door's socket; where it cannot be opened the process ends with a sentence."""
        host, port = self.settings.http_host, self.settings.http_port
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            door = socket.socket(family, kind, protocol)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
            door.listen()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                why = "taken by another program" if error.errno == errno.EADDRINUSE else "not ours to take"
                refuse(f"TURNPIKE_HTTP_PORT is not usable: port {port} of {host} is {why}.")
            refuse(f"TURNPIKE_HTTP_HOST is not usable: {host} is no address of this machine ({error.strerror}).")
        return door

    def _http(self) -> _Server:
        app = AsgiFastStream(asgi_routes=self.routes, logger=None)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            date_header=False,
            timeout_graceful_shutdown=5,
        )
        return _Server(config)

    async def _live(self) -> int:
        status = 0
        try:
            await self._until_stopping(self._open_database)
            await self._until_stopping(self._open_bus)
            if not self.stopping.is_set():
                status = await self._run_loops()
        finally:
            self.stopping.set()
            await self._close()
        return status

    async def _until_stopping(self, step: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(step())
        stop = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        elif task.exception() is not None:
            raise task.exception() or AssertionError

    async def _open_database(self) -> None:
        """Then what the service opens by itself: it may ask for tables that no migration has made yet."""
        await _until_done("database does not open", self.database.open, passes=lambda _: True)
        for call in self._on_open:
            await _until_done("service does not open", call, passes=database_is_to_blame)

    async def _open_bus(self) -> None:
        await self.bus.open()
        self._add_own_loops()

    def _add_own_loops(self) -> None:
        relay = outbox.Relay(self.database, self.bus.client, self.owner, replicas=self.settings.nats_replicas)
        self.bus.on_disconnect(relay.disconnected)
        self.bus.on_reconnect(relay.reconnected)
        self.loops("relay", relay.run)
        self.loops("beat", self.health.beat)
        self.ticks("gauges", GAUGES_EVERY_S, self._set_gauges)
        self.ticks("compare_hours", LOOK_FOR_DUE_EVERY_S, self._compare_hours)
        self.ticks("housekeeping", HOUSEKEEPING_EVERY_S, self._drop_old_rows)
        for name, handler in self.handlers.items():
            self.loops(name, partial(self.bus.listen, handler, replicas=self.settings.nats_replicas))

    async def _run_loops(self) -> int:
        tasks = {asyncio.create_task(loop(self.stopping), name=name) for name, loop in self._loops}
        stop = asyncio.create_task(self.stopping.wait(), name="stopping")
        gc.freeze()  # What was imported is never garbage: without this each full collection walks all of it.
        self.health.opened = True
        log.info("service up", owner=self.owner, loops=sorted(task.get_name() for task in tasks))
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
        log.info("service down", owner=self.owner)

    # What every service does by time, and what operators and listeners may ask of every service

    async def _set_gauges(self) -> None:
        row = await self.database.fetchrow(outbox.STATE_OF_UNTOLD)
        assert row is not None
        telemetry.FACTS_UNTOLD.labels(self.owner).set(row["untold"])
        telemetry.FACTS_UNTOLD_AGE.labels(self.owner).set(row["oldest_s"])
        for row in await self.database.fetch(tally.STATE):
            telemetry.COMPARED_AGE.labels(row["handler"]).set(row["age_s"])
            telemetry.HOURS_GIVEN_UP.labels(row["handler"]).set(row["given_up"])
            telemetry.STRANGERS.labels(row["handler"]).set(row["strangers"])

    async def _compare_hours(self) -> None:
        listenings = [handler.listening for handler in self.handlers.values()]
        await self._until_stopping(partial(tally.compare_due, listenings, self.database, self.bus))

    async def _audit_by_time(
        self, respond: Callable[[AskAudit, Database], Awaitable[Audit]], stopping: asyncio.Event
    ) -> None:
        """A while after the start and once a day all there is, each hour between what is a day old."""
        wait_s, rounds = FIRST_AUDIT_AFTER_S, 0
        while not await happens(stopping, wait_s):
            wait_s = AUDIT_EVERY_S
            try:
                hours = None if rounds % AUDITS_A_DAY == 0 else HOURS_AUDITED
                _speak_of_audit(self.owner, await respond(AskAudit.of(self.owner)(hours=hours), self.database))
                rounds += 1
            except Exception as error:  # The clock goes on; this round is tried again with the next.
                telemetry.TICK_FAILURES.labels("audit").inc()
                log.warning("tick failed", tick="audit", error=repr(error))

    async def _drop_old_rows(self) -> None:
        """In pages: a statement may take 10 s, and what is left over is met again."""
        for statement in (outbox.DROP_OLD, inbox.DROP_OLD):
            dropped = f"DELETE {ROWS_PER_DROP}"
            while dropped == f"DELETE {ROWS_PER_DROP}":
                dropped = await self.database.execute(statement, ROWS_PER_DROP)

    def _serve_listeners(self) -> None:
        self.answers(AskTold.of(self.owner), tally.answer_told)
        self.answers(AskToldIds.of(self.owner), tally.answer_told_ids)
        self.obeys(TellAgain.of(self.owner), tally.tell_again)

    def _serve_operators(self) -> None:
        self.answers(AskDeadLetters.of(self.owner), records.answer_dead_letters)
        self.answers(AskDeadLetter.of(self.owner), records.answer_dead_letter)
        self.answers(AskFacts.of(self.owner), self._facts)
        self.obeys(ReplayDead.of(self.owner), self._replay)

    async def _facts(self, question: AskFacts, database: Database) -> Value:
        return await records.answer_facts(question, self.handlers, database)

    async def _replay(self, command: ReplayDead, tx: Tx) -> Value:
        for handler in self.handlers.values():
            try:
                async with tx.connection.transaction():
                    if await handler.replay(command.letter, tx):
                        return Replayed(replayed=1)
            except Exception as error:  # A letter that still fails stays where it was, and the operator is told why.
                return Refused(reason="still_failing", detail=f"{type(error).__name__}: {error}"[:500])
        return Refused(reason="letter_unknown")


async def _until_done(
    otherwise: str, call: Callable[[], Awaitable[None]], *, passes: Callable[[Exception], bool]
) -> None:
    """As often as it takes; what does not pass by itself is raised."""
    while True:
        try:
            return await call()
        except Exception as error:
            if not passes(error):
                raise
            log.warning(otherwise, error=repr(error))
            await asyncio.sleep(OPEN_RETRY_S)


def _speak_of_audit(owner: str, audit: Audit) -> None:
    counts: dict[str, int] = {}
    for finding in audit.findings:
        counts[finding.invariant] = counts.get(finding.invariant, 0) + finding.violations
        if finding.violations:
            log.error("audit found", owner=owner, **finding.model_dump())
    for invariant, violations in counts.items():
        telemetry.AUDIT_FINDINGS.labels(owner, invariant).set(violations)
    log.info("audited", owner=owner, findings=sum(counts.values()))


def run(build: Callable[[], Service]) -> None:
    """The whole of a service's `__main__`: build it, serve, and end with its status."""

    async def main() -> int:
        service = build()
        telemetry.start(f"turnpike-{service.owner}", kept=service.settings.traces_kept)
        try:
            return await service.run()
        finally:
            telemetry.stop()

    sys.exit(asyncio.run(main()))
