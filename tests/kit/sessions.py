"""Database sessions: one that waits for the lock of another, and one that ends early."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from shared.platform.db import Database
from tests.kit.waiting import until

SESSIONS_THAT_WAIT = """
select count(*)
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""
GONE = "select not exists (select from pg_stat_activity where pid = $1)"


async def waits_for_a_lock(task: "asyncio.Task[Any]", database: Database) -> None:
    """Return once the task waits for a lock. Fails when it ends without a wait."""

    async def waits() -> bool:
        if await database.fetchval(SESSIONS_THAT_WAIT):
            return True
        assert not task.done(), "the second did not wait for the first"
        return False

    await until(waits)


async def end_session(superuser_dsn: str, pid: int) -> None:
    """Return once the server has ended the session of this process. Fails when it continues."""
    superuser = await asyncpg.connect(superuser_dsn)
    try:
        await superuser.execute("select pg_terminate_backend($1)", pid)
        await until(lambda: superuser.fetchval(GONE, pid))
    finally:
        await superuser.close()


def end_session_unseen(superuser_dsn: str, pid: int) -> None:
    """The same while this loop is blocked: the server's message has arrived but is not read yet."""
    with ThreadPoolExecutor() as executor:
        executor.submit(asyncio.run, end_session(superuser_dsn, pid)).result()
