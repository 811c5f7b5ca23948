"""What a replica answers about itself: readiness, versions, what waits, last audit, workers."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from shared.contracts.operations import (
    DatabaseStatus,
    Finding,
    LastAudit,
    LastIteration,
    ReplicaStatus,
    WorkerStatus,
)
from shared.messaging import outbox, retries
from shared.platform.db import Database
from shared.platform.iterations import Ended, Worker
from shared.platform.settings import address_of

DATABASE_TIMEOUT_S = 2.0

# Up to 10 000, by the index of those that were not replayed.
SERVER_AND_DEAD_LETTERS = """
select
  current_setting('server_version') as version,
  (
    select count(*)
    from (select from dead_letters where replayed_at is null limit 10000) as d
  ) as dead_letters
"""


async def status(
    service: str,
    why_not_ready: Awaitable[str | None],
    handlers: Collection[str],
    database: Database,
    last_audit: LastAudit | None,
    workers: Sequence[Worker],
) -> ReplicaStatus:
    """Answered within about `DATABASE_TIMEOUT_S`, also without a database."""
    not_ready, of_database = await asyncio.gather(why_not_ready, _of_database(handlers, database))
    return ReplicaStatus(
        replica=f"{socket.gethostname()}:{os.getpid()}",
        version=_version_of(service),
        not_ready=not_ready,
        database=of_database,
        last_audit=last_audit,
        workers=workers_of(workers),
    )


async def _of_database(handlers: Collection[str], database: Database) -> DatabaseStatus | None:
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            server = await database.fetchrow(SERVER_AND_DEAD_LETTERS)
            pending = await database.fetchrow(outbox.STATE)
            waiting = await database.fetch(retries.STATE, sorted(handlers))
    except Exception:  # Readiness says why.
        return None
    assert server is not None
    assert pending is not None
    return DatabaseStatus(
        version=server["version"].split()[0],
        address=address_of(database.dsn),
        pending=pending["pending"],
        oldest_s=pending["oldest_s"],
        waiting=sum(row["messages"] for row in waiting),
        dead_letters=server["dead_letters"],
    )


def _version_of(service: str) -> str:
    """The release of its installed package, which is named like the service."""
    try:
        return version(service)
    except PackageNotFoundError:
        return "unknown"


def workers_of(workers: Sequence[Worker]) -> tuple[WorkerStatus, ...]:
    """Loops with one name are one line; the silence is that of the loop that is silent longest."""
    by_name: dict[str, list[Worker]] = {}
    for worker in workers:
        by_name.setdefault(worker.name, []).append(worker)
    now = time.monotonic()
    return tuple(_together(name, by_name[name], now) for name in sorted(by_name))


def _together(name: str, loops: Sequence[Worker], now: float) -> WorkerStatus:
    # A loop that announced a long wait is silent for a good reason: another one may not be.
    silent = min(loops, key=lambda one: (not one.is_stuck, one.turned_at))
    ended = [one.last for one in loops if one.last is not None]
    return WorkerStatus(
        loop=name,
        copies=len(loops),
        turned_s=round(now - silent.turned_at, 1),
        stuck=silent.is_stuck,
        turns=sum(one.turns for one in loops),
        iterations=sum(one.iterations for one in loops),
        failures=sum(one.failures for one in loops),
        last=_last(max(ended, key=lambda one: one.at), now) if ended else None,
    )


def _last(ended: Ended, now: float) -> LastIteration:
    return LastIteration(
        ended_s=round(now - ended.at, 1),
        took_s=round(ended.took_s, 3),
        items=ended.items,
        outcomes=dict(ended.outcomes),
        result=ended.result,
    )


def summary_of(findings: Sequence[Finding], at: datetime) -> LastAudit:
    """An audit in numbers, and the invariants that it found violated."""
    violated = {one.invariant for one in findings if one.violations}
    return LastAudit(
        at=at,
        violations=sum(one.violations for one in findings),
        invariants=tuple(sorted(violated, key=lambda invariant: int(invariant[1:]))),
    )
