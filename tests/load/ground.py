"""The ground that a measurement stands on: real PostgreSQL and NATS with every write on disk, and processes on top."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import asyncpg

from shared.migrate import migrate
from shared.outbox import make_streams
from shared.roles import SCHEMAS, role
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, fetch, free_port
from turnpike_local.postgres import SUPERUSER, Postgres
from turnpike_local.processes import surroundings
from turnpike_local.services import SERVICES, Program
from turnpike_local.stack import Stoppable

# When a row was committed, to the microsecond, and how long flushes took is asked of PostgreSQL itself: no measuring
# stands in the way.
DURABLE = {"track_commit_timestamp": "on", "track_wal_io_timing": "on"}

SETTINGS = """
select current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit
"""

FLUSHES = """
select coalesce(sum(fsyncs), 0)::bigint as count, coalesce(sum(fsync_time), 0)::float8 as took_ms
from pg_stat_io
where object = 'wal' and context = 'normal'
"""

TABLES = """
select schemaname || '.' || tablename as name
from pg_tables
where schemaname = any($1::text[])
order by 1
"""

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
        self.programs[name] = program  # In the order of asking, whoever is ready first.
        await program.start()
        self._exits.push_async_callback(program.stop)
        return program

    def also_stop(self, part: Stoppable) -> None:
        """What else has been started stops with the rest."""
        self._exits.push_async_callback(part.stop)

    async def fetch(self, sql: str, *arguments: object, user: str = SUPERUSER) -> list[Any]:
        """Ask as the superuser, who may look into every schema, or as another."""
        connection = await asyncpg.connect(self.postgres.dsn(user))
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def conditions(self) -> str:
        """What the database says of itself to a service, and the broker: is what it acknowledged on disk?"""
        (said,) = await self.fetch(SETTINGS, user=role("payments", "app"))
        report = json.loads(await fetch(f"{self.broker.monitor_url}/jsz") or b"{}")["config"]
        interval = "always" if report.get("sync_always") else f"{report['sync_interval'] / 1e9:g} s"
        return (
            f"PostgreSQL: fsync {said['fsync']}, synchronous_commit {said['synchronous_commit']}. "
            f"NATS: sync_interval {interval}."
        )

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        names = [row["name"] for row in await self.fetch(TABLES, list(SCHEMAS))]
        counts = " union all ".join(f"select '{name}' as name, count(*) from {name}" for name in names)
        return {row["name"]: row["count"] for row in await self.fetch(counts)}

    async def flushes(self) -> tuple[int, float]:
        """How often PostgreSQL has flushed its log in its life, and the milliseconds that took."""
        (row,) = await self.fetch(FLUSHES)
        return row["count"], row["took_ms"]

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
