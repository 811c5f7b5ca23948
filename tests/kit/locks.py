"""When one transaction stands behind another."""

import asyncio
from typing import Any

from shared.db import Database

HANG_S = 5.0

SESSIONS_THAT_WAIT = """
select count(*)
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def waits_for_a_lock(task: "asyncio.Task[Any]", database: Database) -> None:
    """Return once the task waits for whoever holds what it needs. Fails when it ends without having waited."""
    async with asyncio.timeout(HANG_S):
        while not await database.fetchval(SESSIONS_THAT_WAIT):
            assert not task.done(), "the second did not wait for the first"
            await asyncio.sleep(0.01)
