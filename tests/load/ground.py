"""The ground that a measurement stands on: real PostgreSQL and NATS with every write on disk, and processes on top."""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import asyncpg

from shared.migrate import migrate
from shared.outbox import make_streams
from shared.roles import role
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, free_port
from turnpike_local.postgres import Postgres
from turnpike_local.processes import surroundings
from turnpike_local.services import SERVICES, Program
from turnpike_local.stack import Stoppable

# When a row was committed, to the microsecond, is asked of PostgreSQL itself: no measuring stands in the way.
DURABLE = {"track_commit_timestamp": "on"}

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Ground:
    """PostgreSQL with all schemas, NATS with all streams, and the programs that were asked for; all end on leaving."""

    postgres: Postgres
    broker: Broker

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: dict[str, Program] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            self.postgres = await Postgres.start(self.folder, settings=DURABLE)
            exits.push_async_callback(self.postgres.stop)
            for service in SERVICES:
                await migrate(self.postgres.dsn(role(service.name, "owner")), service.package)
            self.broker = await Broker.start(self.folder)
            exits.push_async_callback(self.broker.stop)
            await make_streams(self.broker.url)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def run(
        self,
        name: str,
        module: str,
        *arguments: str,
        port: int | None = None,
        ready_path: str = "/readyz",
        settings: Mapping[str, str] | None = None,
    ) -> Program:
        """Start a service (or a twin) that reads `TURNPIKE_*` and answers HTTP when it is ready."""
        port = port or free_port()
        environment = surroundings() | {
            f"TURNPIKE_{name.upper()}_DSN": self.postgres.dsn(role(name, "app")),
            "TURNPIKE_NATS_URL": self.broker.url,
            "TURNPIKE_HTTP_HOST": LOOPBACK,
            "TURNPIKE_HTTP_PORT": str(port),
            **(settings or {}),
        }
        program = Program(
            module,
            arguments,
            environment=environment,
            port=port,
            ready_path=ready_path,
            log=self.folder / "logs" / f"{name}.log",
        )
        await program.start()
        self.programs[name] = program
        self._exits.push_async_callback(program.stop)
        return program

    def also_stop(self, part: Stoppable) -> None:
        """What else has been started stops with the rest."""
        self._exits.push_async_callback(part.stop)

    async def fetch(self, sql: str) -> list[Any]:
        """Ask as the superuser, who may look into every schema."""
        connection = await asyncpg.connect(self.postgres.dsn())
        try:
            rows: list[Any] = await connection.fetch(sql)
            return rows
        finally:
            await connection.close()

    async def analyze(self) -> None:
        """Let PostgreSQL know what a shop with some history looks like, as it does by itself within a minute."""
        await self.fetch("analyze")

    def cpu_s(self) -> dict[str, float]:
        """Seconds of a processor that each part has used in its life; of one that is shared with others, too."""
        used = {name: _cpu_s(program.child.pid) for name, program in self.programs.items()}
        return used | {"postgres": _cpu_of_family_s(self.postgres.child.pid), "nats": _cpu_s(self.broker.child.pid)}


def hold(programs: Sequence[Program]) -> None:
    """Stop them where they are (SIGSTOP); what arrives for them piles up."""
    for program in programs:
        os.kill(program.child.pid, signal.SIGSTOP)


def let_go(programs: Sequence[Program]) -> None:
    for program in programs:
        os.kill(program.child.pid, signal.SIGCONT)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int, *, children: bool = False) -> float:
    fields = _stat(pid)[11:15]  # utime, stime, and those of children that have ended.
    return sum(int(field) for field in fields[: 4 if children else 2]) / _TICKS_PER_S


def _cpu_of_family_s(pid: int) -> float:
    """A process with its children, living and ended: a connection to PostgreSQL is a process of its own."""
    total = _cpu_s(pid, children=True)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if int(_stat(int(entry.name))[1]) == pid:
                    total += _cpu_s(int(entry.name), children=True)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total
