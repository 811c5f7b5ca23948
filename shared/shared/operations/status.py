"""What every replica answers about itself: readiness, versions, what waits, and its last audit."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from shared.contracts.operations import DatabaseStatus, Finding, LastAudit, ReplicaStatus
from shared.messaging import outbox, retries
from shared.platform.db import Database
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
) -> ReplicaStatus:
    """Answered within about `DATABASE_TIMEOUT_S`, also without a database."""
    not_ready, of_database = await asyncio.gather(why_not_ready, _of_database(handlers, database))
    return ReplicaStatus(
        replica=f"{socket.gethostname()}:{os.getpid()}",
        version=_version_of(service),
        not_ready=not_ready,
        database=of_database,
        last_audit=last_audit,
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


def summary_of(findings: Sequence[Finding], at: datetime) -> LastAudit:
    """An audit in numbers, and the invariants that it found violated."""
    violated = {one.invariant for one in findings if one.violations}
    return LastAudit(
        at=at,
        violations=sum(one.violations for one in findings),
        invariants=tuple(sorted(violated, key=lambda invariant: int(invariant[1:]))),
    )
