"""The testbed of a measurement: real PostgreSQL and NATS with durable writes, and the programs."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import asyncpg

from shared.messaging.jetstream import create_streams
from shared.platform.migrate import migrate
from shared.platform.roles import SCHEMAS, role
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, fetch, free_port
from turnpike_local.postgres import SUPERUSER, Postgres
from turnpike_local.processes import surroundings
from turnpike_local.services import SERVICES, Program
from turnpike_local.stack import Stoppable

# PostgreSQL itself records when a row was committed, to the microsecond, and how long flushes
# took, so that measuring costs nothing on the way.
DURABLE = {"track_commit_timestamp": "on", "track_wal_io_timing": "on"}

SETTINGS = """
select
  current_setting('fsync') as fsync,
  current_setting('synchronous_commit') as synchronous_commit
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


class Testbed:
    """PostgreSQL with all schemas, NATS with all streams, and programs; all stop on leaving."""

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
            await create_streams(self.broker.url)
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
        """Start a service (or its twin); both read `TURNPIKE_*` and answer HTTP when ready."""
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
        self.programs[name] = program  # In the order of the calls, not of becoming ready.
        await program.start()
        self._exits.push_async_callback(program.stop)
        return program

    def also_stop(self, part: Stoppable) -> None:
        """Stop this part with the rest."""
        self._exits.push_async_callback(part.stop)

    async def fetch(self, sql: str, *arguments: object, user: str = SUPERUSER) -> list[Any]:
        """Query as the superuser, with access to every schema, or as another user."""
        connection = await asyncpg.connect(self.postgres.dsn(user))
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def conditions(self) -> str:
        """The durability settings, as a service's connection and the broker report them."""
        (settings,) = await self.fetch(SETTINGS, user=role("payments", "app"))
        report = json.loads(await fetch(f"{self.broker.monitor_url}/jsz") or b"{}")["config"]
        interval = "always" if report.get("sync_always") else f"{report['sync_interval'] / 1e9:g} s"
        return (
            f"PostgreSQL: fsync {settings['fsync']}, "
            f"synchronous_commit {settings['synchronous_commit']}. "
            f"NATS: sync_interval {interval}."
        )

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        names = [row["name"] for row in await self.fetch(TABLES, list(SCHEMAS))]
        counts = " union all ".join(
            f"select '{name}' as name, count(*) from {name}" for name in names
        )
        return {row["name"]: row["count"] for row in await self.fetch(counts)}

    async def flushes(self) -> tuple[int, float]:
        """How often PostgreSQL has flushed its log since it started, and the milliseconds taken."""
        (row,) = await self.fetch(FLUSHES)
        return row["count"], row["took_ms"]

    async def analyze(self) -> None:
        """Collect statistics, as PostgreSQL would by itself within a minute."""
        await self.fetch("analyze")

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of each part since it started, also on shared processors."""
        used = {name: _cpu_s(program.child.pid) for name, program in self.programs.items()}
        return used | {
            "postgres": _cpu_of_family_s(self.postgres.child.pid),
            "nats": _cpu_s(self.broker.child.pid),
        }


def pause(programs: Sequence[Program]) -> None:
    """Stop them where they are (SIGSTOP); their messages pile up."""
    for program in programs:
        os.kill(program.child.pid, signal.SIGSTOP)


def resume(programs: Sequence[Program]) -> None:
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
    """A process with its children, also ended ones: PostgreSQL has a process per connection."""
    total = _cpu_s(pid, children=True)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if int(_stat(int(entry.name))[1]) == pid:
                    total += _cpu_s(int(entry.name), children=True)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total
