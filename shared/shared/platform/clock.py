"""The clock of the database, which only a sandbox may move ahead of the machine's."""

from shared.platform.db import Database

# Also an interval of no length is a setting that production has not.
AHEAD = "select nullif(current_setting('turnpike.ahead', true), '')"


class ClockAheadError(Exception):
    """The shop's time is not the real one, and this service may serve real people."""

    def __init__(self, ahead: str) -> None:
        super().__init__(
            f"The database's clock is set ahead by {ahead!r} (turnpike.ahead), as only a sandbox "
            "may do: this service does not start. Restore the real database, or run: "
            "alter database … reset turnpike.ahead."
        )


async def ahead_of(database: Database) -> str | None:
    """How far the shop's clock is ahead, as PostgreSQL's setting says it."""
    ahead: str | None = await database.fetchval(AHEAD)
    return ahead
