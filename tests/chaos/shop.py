"""The shop that the rows break: its processes, their restarts, and when it is quiescent."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import asyncpg

from shared.contracts.owners import OWNERS
from shared.messaging.jetstream import BrokerError, consumer_lag
from shared.messaging.rpc import Bus, UnansweredError
from shared.platform.db import database_is_to_blame
from tests.chaos.crowd import Crowd
from tests.chaos.providers import Providers
from turnpike_cli.audit import Found, audit
from turnpike_local.ports import free_port
from turnpike_local.processes import Child, StartError
from turnpike_local.services import Program
from turnpike_local.stack import Stack

RESTART_AFTER_S = 0.05
LOOK_EVERY_S = 0.1
ANSWERS_WITHIN_S = 60.0
AUDIT_EVERY_S = 0.5
RECONCILED_WITHIN_S = 90.0  # A node is reconciled every 60 s.
NODE_DRIFT = "each node held exactly its people at the last comparison"

# No pacing: the pace of both senders has tests of its own.
UNPACED = {"TURNPIKE_BOT_MESSAGES_PER_S": "1000", "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "10000"}

IN_FLIGHT = """
select
  (select count(*) from bot.updates where state = 'waiting') as updates,
  (select count(*) from bot.outbox)
    + (select count(*) from payments.outbox)
    + (select count(*) from referrals.outbox)
    + (select count(*) from vpn.outbox)
    + (select count(*) from notifier.outbox) as outbox,
  (select count(*) from payments.failed_attempts)
    + (select count(*) from referrals.failed_attempts)
    + (select count(*) from vpn.failed_attempts)
    + (select count(*) from notifier.failed_attempts) as messages_to_retry,
  (select count(*) from referrals.waiting) as payments_before_their_payer,
  (select count(*) from payments.invoices where state = 'asking') as invoices_to_open,
  (select count(*) from payments.notices where state in ('waiting', 'asking')) as notices,
  (select count(*) from vpn.access_jobs where state = 'waiting') as jobs,
  (select count(*) from notifier.deliveries where state in ('waiting', 'claimed')) as messages
"""

# All work that moves from one place to another ends a transaction that writes: between two equal
# readings of this nothing has moved.
COMMITTED = "select pg_current_snapshot()::text"
MOVING = "work that moves"

# Grows with the work of one service alone, so growth shows that it has resumed.
PROGRESS = {
    "bot": """
select
  (select count(*) from bot.events)
    + (select count(*) from bot.updates where state <> 'waiting')
""",
    "payments": "select count(*) from payments.inbox",
    "referrals": "select count(*) from referrals.inbox",
    "vpn": "select count(*) from vpn.inbox",
    "notifier": "select count(*) from notifier.inbox",
}


class Death(NamedTuple):
    """A process of a service that ended, with its status; or the reason why none could start."""

    name: str
    pid: int | None
    ended: int | str


class Shop(Stack):
    """The stack of `make up` with the crowded sandbox, without traces, observed as a whole."""

    telegram = "tests.chaos.telegram"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, settings=UNPACED)
        self.deaths: list[Death] = []
        self._observing = asyncio.Lock()
        self._observer: Any = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self.sandbox is not None
        self.crowd = Crowd(self.sandbox.url)
        self.bus = Bus(self.broker.url, "chaos")
        await self.bus.open()
        self.tills = Providers(self)
        await self.tills.welcome_notices()
        return self

    async def __aexit__(self, *of: object) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self.bus.close(), 5)
        await self.tills.close()
        if self._observer is not None:
            self._observer.terminate()
        await self.crowd.close()
        await super().__aexit__(*of)

    def environment(self, service: str) -> dict[str, str]:
        """Without traces: other tests prove them, and here they would be half of the load."""
        return {
            name: value
            for name, value in super().environment(service).items()
            if not name.startswith("OTEL_")
        }

    # The database, as its superuser

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """The rows, as soon as the database answers.

        Over one connection: a new one costs as much as a payment. Raises TimeoutError without
        an answer for a minute.
        """
        async with self._observing:
            give_up_at = time.monotonic() + ANSWERS_WITHIN_S
            while True:
                try:
                    if self._observer is None or self._observer.is_closed():
                        self._observer = await asyncpg.connect(self.postgres.dsn(), timeout=5)
                    rows = await self._observer.fetch(sql, *arguments, timeout=ANSWERS_WITHIN_S)
                    return list(rows)
                except Exception as error:
                    if not database_is_to_blame(error):
                        raise
                    if time.monotonic() > give_up_at:
                        raise TimeoutError(f"the database does not answer: {error!r}") from error
                    await asyncio.sleep(LOOK_EVERY_S)

    async def fetch_value(self, sql: str, *arguments: object) -> Any:
        return (await self.fetch(sql, *arguments))[0][0]

    # Processes

    async def start(self, name: str, **settings: str) -> None:
        """Start a service, or its replica (`vpn+1`), until it is ready.

        It replaces a process that runs under that name.
        """
        await self._replace(name, settings)
        await self.services[name].start()

    async def spawn(self, name: str, **settings: str) -> Child:
        """The same without waiting: the process may die before it is ready."""
        await self._replace(name, settings)
        return await self.services[name].spawn()

    async def _replace(self, name: str, settings: Mapping[str, str]) -> None:
        if name in self.services:
            await self.services[name].stop()
        service = name.split("+")[0]
        port = self.ports.setdefault(name, free_port())
        environment = self.environment(service) | {"TURNPIKE_HTTP_PORT": str(port)} | dict(settings)
        self.services[name] = Program(
            OWNERS[service],
            environment=environment,
            port=port,
            ready_path="/readyz",
            log=self.state_dir / "logs" / f"{OWNERS[service]}{name[len(service) :]}.log",
        )

    async def stop(self, *names: str) -> None:
        """Send SIGTERM to these services and wait until they have ended."""
        await asyncio.gather(*(self.services[name].stop() for name in names))

    def kill(self, name: str) -> int:
        """SIGKILL; returns the pid of the process."""
        pid = self.services[name].child.pid
        self.services[name].kill()
        return pid

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Start each service that ends again, as a kubelet would, and record its death."""
        self.deaths.clear()
        supervisors = [asyncio.create_task(self._supervise(name)) for name in self.services]
        try:
            yield
        finally:
            for supervisor in supervisors:
                supervisor.cancel()
            results = await asyncio.gather(*supervisors, return_exceptions=True)
            await self.start_missing()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _supervise(self, name: str) -> None:
        while True:
            child = self.services[name].child
            self.deaths.append(Death(name, child.pid, await child.wait()))
            started = False
            while not started:
                await asyncio.sleep(RESTART_AFTER_S)
                try:
                    await self.services[name].start()
                    started = True
                except StartError as error:
                    self.deaths.append(Death(name, None, str(error).splitlines()[0]))

    async def start_missing(self) -> None:
        """Start each service that is not ready. One killed just now may still be a process."""

        async def revive(program: Program) -> None:
            with suppress(OSError):
                if await program.ready():
                    return
            await program.start()

        await asyncio.gather(*(revive(program) for program in self.services.values()))

    async def progress(self, service: str) -> int:
        return int(await self.fetch_value(PROGRESS[service]))

    async def resumed_s(
        self, service: str, begin: Callable[[], Coroutine[Any, Any, object]], within_s: float
    ) -> float:
        """Seconds from the start of `begin` (which starts a process) until that service works."""
        began = time.monotonic()
        beginning = asyncio.ensure_future(begin())
        before = await self.progress(service)
        while await self.progress(service) == before and time.monotonic() - began < within_s:
            await asyncio.sleep(0.02)
        took_s = time.monotonic() - began
        await beginning
        return took_s

    async def resumed_all_s(
        self,
        began: float,
        begin: Callable[[], Coroutine[Any, Any, object]],
        work: Callable[[], Coroutine[Any, Any, object]],
        within_s: float,
    ) -> float:
        """Seconds from `began` (of `time.monotonic`) until each service works after `begin`.

        Progress is read after `begin`: by then all earlier work is done or lost. `work` comes after
        that, for the case that all other work was done before.
        """
        await begin()
        waiting = {service: await self.progress(service) for service in PROGRESS}
        await work()
        while waiting and time.monotonic() - began < within_s:
            await asyncio.sleep(0.02)
            waiting = {
                service: done
                for service, done in waiting.items()
                if await self.progress(service) == done
            }
        return within_s + 1 if waiting else time.monotonic() - began

    # Quiescence

    async def in_flight(self) -> dict[str, int]:
        """The work that is not done, by kind; only kinds that have any.

        One place is asked after the other, so work that moves meanwhile may be seen by neither:
        then it is of the kind `MOVING`.
        """
        before = await self.fetch_value(COMMITTED)
        counts = {"telegram's updates": await self.crowd.unconfirmed_updates()}
        (row,) = await self.fetch(IN_FLIGHT)
        counts |= dict(row)
        try:
            counts |= await consumer_lag(self.bus.client)
        except Exception as error:  # Without the broker nothing is quiescent.
            counts[f"the bus: {type(error).__name__}"] = 1
        counts[MOVING] = int(await self.fetch_value(COMMITTED) != before)
        return {name: count for name, count in counts.items() if count}

    async def until_quiescent(self, within_s: float) -> dict[str, int]:
        """Wait until nothing is in flight; returns the work that is left after `within_s`."""
        give_up_at = time.monotonic() + within_s
        while left := await self.in_flight():
            if time.monotonic() > give_up_at:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return left

    async def violations(self, expected: Mapping[tuple[str, str], int]) -> list[str]:
        """The invariants whose count of violations is not the `expected` one by (owner, truth).

        One audit is enough in a quiescent shop. Only drift of the node may be out of date: then
        the audit is repeated until the shop has reconciled the node again.
        """
        give_up_at = time.monotonic() + RECONCILED_WITHIN_S
        while True:
            try:
                found = await audit(self.bus)
            except (UnansweredError, BrokerError) as error:
                return [f"no owner answers {error}"]
            wrong = [
                one
                for one in found
                if one.finding.violations != expected.get((one.owner, one.finding.truth), 0)
            ]
            only_drift = {one.finding.truth for one in wrong} == {NODE_DRIFT}
            if not only_drift or time.monotonic() > give_up_at:
                return [_line(one) for one in wrong]
            await asyncio.sleep(AUDIT_EVERY_S)


def _line(found: Found) -> str:
    finding = found.finding
    examples = "; ".join(finding.examples)
    what = f"{finding.invariant} of {found.owner}: {finding.truth}"
    return f"{what}: {finding.violations} ({examples})"


def send_signal(child: Child, number: signal.Signals) -> str:
    """Send a signal to one process; returns a description of it."""
    os.kill(child.pid, number)
    return f"{child.name} {number.name} (pid {child.pid})"
