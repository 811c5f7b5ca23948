"""CPU time: the cost of work, also while other programs load the machine."""

import os
import time
from pathlib import Path

from shared.platform.db import Database

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

SESSIONS = """
select pid
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend'
"""


async def cpu_spent_s(database: Database) -> float:
    """The CPU time of this process and of the sessions in this database, since each began."""
    pids = [row["pid"] for row in await database.fetch(SESSIONS)]
    return time.process_time() + sum(map(_spent_s, pids))


def _spent_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / TICKS_PER_S
