"""Waits in the database, bounded: a clock that steps back must not hold work for as long."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import structlog

from shared.platform import iterations
from shared.platform.db import Database

log = structlog.get_logger()

ROWS_AT_ONCE = 10_000
SKEW = timedelta(seconds=5)
"""A time of the past, of which other sessions may be this far ahead."""
STEP_S = 1.0
"""Clocks of machines drift apart by less than this in half an hour."""
ROUNDS = 6
"""A minute. A transaction lasts 10 s, and may write the time from before the step at its end."""

# The tests of chaos put a function of this name before PostgreSQL's, so nothing else may use it.
DATABASE_TIME = "select statement_timestamp()"


@dataclass(frozen=True)
class Wait:
    """Columns that hold work back until a time, at most `longest` from now.

    The code never writes a later time, so a later one comes from a clock that has stepped back
    since, or from the clock of another server before a failover. `pull_back` moves at most $2 rows
    from beyond shop_now() + $1 to shop_now(). It may read the whole table.
    """

    columns: tuple[str, ...]
    longest: timedelta
    pull_back: str


async def pull_back(waits: Sequence[Wait], database: Database) -> bool:
    """Make due whatever waits for longer than it may. False if the next round may find more."""
    all_done = True
    for wait in waits:
        tag = await database.execute(wait.pull_back, wait.longest, ROWS_AT_ONCE)
        if rows := int(tag.split()[-1]):
            iterations.found(rows, "made_due")
            log.warning("the clock stepped back: waits end", columns=wait.columns, rows=rows)
        all_done = all_done and rows < ROWS_AT_ONCE
    return all_done


class DatabaseClock:
    """The database's clock beside the monotonic clock of this process, which never steps."""

    def __init__(self) -> None:
        self._ahead_s = float("-inf")

    def stepped_back(self, now: datetime, asked_s: float, answered_s: float) -> bool:
        """Whether the database has lost over a second since the last step, at once or by and by.

        It said `now` between the monotonic times `asked_s` and `answered_s`.
        """
        at_least_s, at_most_s = now.timestamp() - answered_s, now.timestamp() - asked_s
        stepped = at_most_s < self._ahead_s - STEP_S
        self._ahead_s = at_least_s if stepped else max(self._ahead_s, at_least_s)
        return stepped


class PullBack:
    """Ends waits at the start of a process, and after the database's clock has stepped back.

    At any other time a turn costs one statement without a table.
    """

    def __init__(self, waits: Sequence[Wait], database: Database) -> None:
        self._waits = waits
        self._database = database
        self._clock = DatabaseClock()
        self._rounds = ROUNDS

    async def turn(self) -> None:
        asked_s = monotonic()
        now = await self._database.fetchval(DATABASE_TIME)
        if self._clock.stepped_back(now, asked_s, monotonic()):
            self._rounds = ROUNDS
        if self._rounds and await pull_back(self._waits, self._database):
            self._rounds -= 1
