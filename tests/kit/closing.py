"""Closed days in tests: time passes for the ledger, and the clock steps back."""

from datetime import date

import asyncpg

from payments.ticks import close_ledger
from shared.platform.db import Database
from tests.kit.servers import FreshDatabase

# At noon: no test depends on the hour in which it runs.
PASS = """
update transfers t
set at = (c.open_day - $1::int + time '12:00') at time zone 'UTC'
from ledger_closing c
where (t.at, t.id) > (c.closed_at, c.closed_id)
"""
REOPEN = """
update ledger_closing
set open_day = open_day - $1::int, closed_at = least(closed_at, open_day - $1::int - 1)
returning open_day
"""

STEP_BACK = """
alter table account_days drop constraint account_days_day_fkey;
update account_days set day = day + 1000;
update closed_days set day = day + 1000, closed_at = closed_at + interval '1000 days';
update transfers set at = at + interval '1000 days';
update ledger_closing
set open_day = open_day + 1000, closed_at = closed_at + interval '1000 days'
"""


async def days_pass(days: int, place: FreshDatabase) -> date:
    """So many days ago was when everything was booked that is not closed yet; that day."""
    owner = await asyncpg.connect(place.dsn("payments_owner"))
    async with owner.transaction():
        await owner.execute(PASS, days)
        day: date = await owner.fetchval(REOPEN, days)
    await owner.close()
    return day


async def clock_steps_back(place: FreshDatabase) -> None:
    """All that was booked and closed is in the future now."""
    owner = await asyncpg.connect(place.dsn("payments_owner"))
    await owner.execute(STEP_BACK)
    await owner.close()


async def closed(day: date, database: Database) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Close what is due; the debit, credit and balance of each account of this day."""
    await close_ledger(database)
    rows = await database.fetch("select * from account_days where day = $1", day)
    return {
        (row["account"], row["currency"]): (
            int(row["debit_minor"]),
            int(row["credit_minor"]),
            int(row["balance_minor"]),
        )
        for row in rows
    }
