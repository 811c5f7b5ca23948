"""The shop that the rows break: every process by its name, who starts it again, and when it has come to rest."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import asyncpg

from shared.bus import Bus, UnansweredError
from shared.db import database_is_to_blame
from shared.owners import OWNERS
from tests.chaos.crowd import Crowd
from turnpike_cli.audit import Found, audit
from turnpike_local.ports import free_port
from turnpike_local.processes import Child, StartError
from turnpike_local.services import Program
from turnpike_local.stack import Stack

RESTART_AFTER_S = 0.05
LOOK_EVERY_S = 0.1
ANSWERS_WITHIN_S = 60.0
AUDIT_EVERY_S = 0.5
LOOKED_AGAIN_WITHIN_S = 90.0  # A node is looked at every 60 s.
SEEN_BY_LOOKING = "each node held exactly whom it should when it was last looked at"

# Nobody is slowed down: the pace of the two voices has tests of its own.
UNHURRIED = {"TURNPIKE_BOT_MESSAGES_PER_S": "1000", "TURNPIKE_NOTIFIER_MESSAGES_PER_S": "10000"}

ON_ITS_WAY = """
select
  (select count(*) from bot.updates where state = 'waiting') as updates,
  (select count(*) from bot.untold) + (select count(*) from payments.untold)
    + (select count(*) from referrals.untold) + (select count(*) from vpn.untold)
    + (select count(*) from notifier.untold) as untold,
  (select count(*) from referrals.waiting) as payments_before_their_payer,
  (select count(*) from vpn.access_jobs where state = 'waiting') as jobs,
  (select count(*) from notifier.deliveries where state in ('waiting', 'claimed')) as messages
"""

# Whatever goes on changes one of these: two equal looks with nothing on its way are rest.
SO_FAR = """
select
  (select coalesce(max(seq), 0) from bot.facts) + (select coalesce(max(seq), 0) from payments.facts)
    + (select coalesce(max(seq), 0) from referrals.facts) + (select coalesce(max(seq), 0) from vpn.facts)
    + (select coalesce(max(seq), 0) from notifier.facts) as facts,
  (select count(*) from payments.transfers) as transfers
"""

# What each service does grows here whatever else happens; a service that has just begun again is known by it.
PROGRESS = {
    "bot": "select (select count(*) from bot.facts) + (select count(*) from bot.updates where state <> 'waiting')",
    "payments": "select count(*) from payments.inbox",
    "referrals": "select count(*) from referrals.inbox",
    "vpn": "select count(*) from vpn.inbox",
    "notifier": "select count(*) from notifier.inbox",
}


class Death(NamedTuple):
    """Which process of a service ended and with what status; or why it could not start again, and no process is."""

    name: str
    pid: int | None
    ended: int | str


class Shop(Stack):
    """The stack of `make up`, with the crowded Telegram, without traces, and with an eye on all of it."""

    telegram = "tests.chaos.telegram"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, settings=UNHURRIED)
        self.deaths: list[Death] = []
        self._asking = asyncio.Lock()
        self._eye: Any = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self.sandbox is not None
        self.crowd = Crowd(self.sandbox.url)
        self.bus = Bus(self.broker.url, "chaos")
        await self.bus.open()
        return self

    async def __aexit__(self, *of: object) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self.bus.close(), 5)
        if self._eye is not None:
            self._eye.terminate()
        await self.crowd.close()
        await super().__aexit__(*of)

    def environment(self, service: str) -> dict[str, str]:
        """Without traces: they are proved elsewhere, and here they would be half of the load."""
        return {name: value for name, value in super().environment(service).items() if not name.startswith("OTEL_")}

    # The database, as its superuser

    async def asked(self, sql: str, *given: object) -> list[Any]:
        """The rows, as soon as the database answers; over one connection, for a new one costs as much as a payment.

        Raises TimeoutError when it does not answer for a minute.
        """
        async with self._asking:
            give_up_at = time.monotonic() + ANSWERS_WITHIN_S
            while True:
                try:
                    if self._eye is None or self._eye.is_closed():
                        self._eye = await asyncpg.connect(self.postgres.dsn(), timeout=5)
                    return list(await self._eye.fetch(sql, *given, timeout=ANSWERS_WITHIN_S))
                except Exception as error:
                    if not database_is_to_blame(error):
                        raise
                    if time.monotonic() > give_up_at:
                        raise TimeoutError(f"the database does not answer: {error!r}") from error
                    await asyncio.sleep(LOOK_EVERY_S)

    async def asked_one(self, sql: str, *given: object) -> Any:
        return (await self.asked(sql, *given))[0][0]

    # Processes

    async def start(self, name: str, **settings: str) -> None:
        """Start a service, or its replica (`vpn+1`), in the place of what ran under that name, until it is ready."""
        await self._make(name, settings)
        await self.services[name].start()

    async def spawn(self, name: str, **settings: str) -> Child:
        """The same without waiting: it may die before it is ready."""
        await self._make(name, settings)
        return await self.services[name].spawn()

    async def _make(self, name: str, settings: Mapping[str, str]) -> None:
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
        """SIGTERM to these services, until they are gone."""
        await asyncio.gather(*(self.services[name].stop() for name in names))

    def kill(self, name: str) -> int:
        """SIGKILL; answers which process it was."""
        pid = self.services[name].child.pid
        self.services[name].kill()
        return pid

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Whatever service ends is started again, as a kubelet would; its death is noted."""
        self.deaths.clear()
        keepers = [asyncio.create_task(self._keep(name)) for name in self.services]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            ends = await asyncio.gather(*keepers, return_exceptions=True)
            await self.all_live()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _keep(self, name: str) -> None:
        while True:
            child = self.services[name].child
            self.deaths.append(Death(name, child.pid, await child.wait()))
            begun = False
            while not begun:
                await asyncio.sleep(RESTART_AFTER_S)
                try:
                    await self.services[name].start()
                    begun = True
                except StartError as error:
                    self.deaths.append(Death(name, None, str(error).splitlines()[0]))

    async def all_live(self) -> None:
        """Start again whoever is not at work. Who was killed in this moment may still be there as a process."""

        async def revive(one: Program) -> None:
            with suppress(OSError):
                if await one.ready():
                    return
            await one.start()

        await asyncio.gather(*(revive(one) for one in self.services.values()))

    async def progress(self, service: str) -> int:
        return int(await self.asked_one(PROGRESS[service]))

    async def resumed_s(self, service: str, begin: Callable[[], Coroutine[Any, Any, object]], within_s: float) -> float:
        """Seconds from the start of `begin` (which starts a process) until that service does something again."""
        began = time.monotonic()
        begun = asyncio.ensure_future(begin())
        before = await self.progress(service)
        while await self.progress(service) == before and time.monotonic() - began < within_s:
            await asyncio.sleep(0.02)
        took_s = time.monotonic() - began
        await begun
        return took_s

    async def resumed_all_s(
        self, began: float, begin: Callable[[], Coroutine[Any, Any, object]], within_s: float
    ) -> float:
        """Seconds from `began` (of `time.monotonic`) until each service does something again after `begin`.

        What they do is looked at once it has begun: all that they had in hand before is done by then, or lost.
        """
        await begin()
        waiting = {service: await self.progress(service) for service in PROGRESS}
        while waiting and time.monotonic() - began < within_s:
            await asyncio.sleep(0.02)
            waiting = {service: done for service, done in waiting.items() if await self.progress(service) == done}
        return within_s + 1 if waiting else time.monotonic() - began

    # Rest

    async def on_its_way(self) -> dict[str, int]:
        """What is not at rest, by its kind; only what there is."""
        (row,) = await self.asked(ON_ITS_WAY)
        counts = dict(row) | {"telegram's updates": await self.crowd.waiting()}
        try:
            counts |= await self.bus.unsettled()
        except Exception as error:  # The broker is away: then nothing is at rest.
            counts[f"the bus: {type(error).__name__}"] = 1
        return {name: count for name, count in counts.items() if count}

    async def rests(self, within_s: float) -> dict[str, int]:
        """Wait until nothing is on its way; answers what still is after `within_s`."""
        give_up_at, before = time.monotonic() + within_s, None
        while True:
            moving, so_far = await self.on_its_way(), tuple((await self.asked(SO_FAR))[0])
            if not moving and so_far == before:
                return {}
            if time.monotonic() > give_up_at:
                return moving or {"facts are still being told": 1}
            before = so_far
            await asyncio.sleep(LOOK_EVERY_S)

    async def broken(self, expected: Mapping[tuple[str, str], int]) -> list[str]:
        """The invariants that are broken but as often as `expected` by (owner, truth).

        Asked once, for all is at rest. Only what the shop saw when it looked at its node may be of before: then it is
        asked until the shop has looked again.
        """
        give_up_at = time.monotonic() + LOOKED_AGAIN_WITHIN_S
        while True:
            try:
                found = await audit(self.bus)
            except UnansweredError as error:
                return [f"nobody answers {error}"]
            wrong = [one for one in found if one.finding.violations != expected.get((one.owner, one.finding.truth), 0)]
            if {one.finding.truth for one in wrong} != {SEEN_BY_LOOKING} or time.monotonic() > give_up_at:
                return [_line(one) for one in wrong]
            await asyncio.sleep(AUDIT_EVERY_S)


def _line(found: Found) -> str:
    finding = found.finding
    return (
        f"{finding.invariant} of {found.owner}: {finding.truth}: {finding.violations} ({'; '.join(finding.examples)})"
    )


def signal_to(child: Child, number: signal.Signals) -> str:
    """Send it to one process; answers what was done, in words."""
    os.kill(child.pid, number)
    return f"{child.name} {number.name} (pid {child.pid})"
