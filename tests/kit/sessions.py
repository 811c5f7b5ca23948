"""Sessions of the database: when one stands behind another, and when one ends in the middle."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from shared.db import Database

HANG_S = 5.0

SESSIONS_THAT_WAIT = """
select count(*)
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""
GONE = "select not exists (select from pg_stat_activity where pid = $1)"


async def waits_for_a_lock(task: "asyncio.Task[Any]", database: Database) -> None:
    """Return once the task waits for whoever holds what it needs. Fails when it ends without having waited."""
    async with asyncio.timeout(HANG_S):
        while not await database.fetchval(SESSIONS_THAT_WAIT):
            assert not task.done(), "the second did not wait for the first"
            await asyncio.sleep(0.01)


async def end_session(superuser_dsn: str, pid: int) -> None:
    """Return once the server has ended the session of this process. Fails when it goes on."""
    superuser = await asyncpg.connect(superuser_dsn)
    try:
        await superuser.execute("select pg_terminate_backend($1)", pid)
        async with asyncio.timeout(HANG_S):
            while not await superuser.fetchval(GONE, pid):
                await asyncio.sleep(0.01)
    finally:
        await superuser.close()


def end_session_unseen(superuser_dsn: str, pid: int) -> None:
    """The same while this loop stands still: the server's farewell has arrived, and nobody has read it yet."""
    with ThreadPoolExecutor() as elsewhere:
        elsewhere.submit(asyncio.run, end_session(superuser_dsn, pid)).result()
