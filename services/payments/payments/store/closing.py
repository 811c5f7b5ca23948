"""The SQL of the closing: settled transfers are summed, and each ended day is kept for ever.

    a page of settled transfers of the open day ──▶ closed_sums, the position moves
    none is left, and the day ended ten minutes ago ──▶ account_days, the next day is open

One step is one transaction under the lock of the position, so a death between two steps loses
nothing, and a day is closed once. No step reads a transfer twice.
"""

from datetime import date
from typing import Any

from shared.platform.db import Database, Row, Tx

LOCK_CLOSING = """
select closed_at, closed_id, open_day from ledger_closing for update skip locked
"""

# A transaction of a service lasts seconds: after ten minutes no earlier transfer appears any more.
# A page ends with its day.
CLOSING_PAGE = """
select at, id
from (
  select at, id
  from transfers
  where (at, id) > ($1, $2)
    and at < shop_now() - interval '10 minutes'
    and at < ($3::date + 1)::timestamp at time zone 'UTC'
  order by at, id
  limit $4
) as page
order by at desc, id desc
limit 1
"""

CLOSE = """
with closed as (
  update ledger_closing set closed_at = $3, closed_id = $4
)
insert into closed_sums as s (kind, currency, amount_minor, debit_minor, credit_minor)
select a.kind, e.currency, sum(e.amount_minor), sum(greatest(-e.amount_minor, 0)),
  sum(greatest(e.amount_minor, 0))
from transfers t
cross join lateral (select * from entries where transfer = t.id offset 0) e
join accounts a on a.id = e.account
where (t.at, t.id) > ($1, $2) and (t.at, t.id) <= ($3, $4)
group by a.kind, e.currency
order by a.kind, e.currency
on conflict (kind, currency) do update
set amount_minor = s.amount_minor + excluded.amount_minor,
  debit_minor = s.debit_minor + excluded.debit_minor,
  credit_minor = s.credit_minor + excluded.credit_minor
"""

# The position moves to the end of the day, so that nothing can be dated into it any more.
CLOSE_DAY = """
with ended as (
  insert into closed_days (day)
  select open_day
  from ledger_closing
  where shop_now() - interval '10 minutes' >= (open_day + 1)::timestamp at time zone 'UTC'
  returning day
), moved as (
  update ledger_closing
  set open_day = ended.day + 1,
    closed_at = (ended.day + 1)::timestamp at time zone 'UTC' - interval '1 microsecond',
    closed_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
  from ended
), begun as (
  update closed_sums set debit_minor = 0, credit_minor = 0 where exists (select from ended)
), kept as (
  insert into account_days (day, account, currency, debit_minor, credit_minor, balance_minor)
  select ended.day, s.kind, s.currency, s.debit_minor, s.credit_minor, s.amount_minor
  from ended
  cross join closed_sums s
)
select day from ended
"""


async def close_page(most: int, tx: Tx) -> bool:
    """Sum the next settled transfers of the open day, or close the day.

    False when neither is due, and while another replica closes.
    """
    closing = await tx.fetchrow(LOCK_CLOSING)
    if closing is None:
        return False
    end = await tx.fetchrow(CLOSING_PAGE, *closing, most)
    if end is None:
        return await tx.fetchval(CLOSE_DAY) is not None
    await tx.execute(CLOSE, closing["closed_at"], closing["closed_id"], *end)
    return True


# Closed days, as the accountant reads them

LAST_DAY = "select max(day) from closed_days"
IS_CLOSED = "select exists (select from closed_days where day = $1)"

DAY = """
select account, currency, debit_minor, credit_minor, balance_minor
from account_days
where day = $1
order by account, currency
"""


async def last_day(database: Database) -> date | None:
    day: date | None = await database.fetchval(LAST_DAY)
    return day


async def day_of(day: date, database: Database) -> list[Row] | None:
    """The accounts at the end of a day. None where it is not closed."""
    if not await database.fetchval(IS_CLOSED, day):
        return None
    return await database.fetch(DAY, day)


# The audit sums a day again, from its entries, a page at a time.

DAY_PAGE = """
select at, id
from (
  select at, id
  from transfers
  where (at, id) > ($1, $2)
    and at < ($3::date + 1)::timestamp at time zone 'UTC'
    and (at, id) <= ($4, $5)
  order by at, id
  limit $6
) as page
order by at desc, id desc
limit 1
"""

SUMS_OF_PAGE = """
select a.kind as account, e.currency, sum(greatest(-e.amount_minor, 0)) as debit_minor,
  sum(greatest(e.amount_minor, 0)) as credit_minor
from transfers t
cross join lateral (select * from entries where transfer = t.id offset 0) e
join accounts a on a.id = e.account
where (t.at, t.id) > ($1, $2) and (t.at, t.id) <= ($3, $4)
group by a.kind, e.currency
"""

BEFORE_DAY = """
select $1::date::timestamp at time zone 'UTC' - interval '1 microsecond' as at,
  'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as id
"""

CLOSING = "select closed_at, closed_id, open_day from ledger_closing"

OPEN_DAY = """
select kind as account, currency, debit_minor, credit_minor
from closed_sums
order by kind, currency
"""

TRANSFERS_SUMMED_AT_ONCE = 5_000

Sums = dict[tuple[str, str], tuple[Any, Any]]
"""By account and currency: debits and credits."""


async def unequal_day(day: date, tx: Tx) -> list[str]:
    """The accounts whose row of a closed day is not what their entries of the day sum to."""
    return _unequal(str(day), _sums(await tx.fetch(DAY, day)), await _moved(day, tx))


async def unequal_open_day(tx: Tx) -> list[str]:
    """The same, of the part of the open day that is summed already."""
    closing = await tx.fetchrow(CLOSING)
    assert closing is not None, "there is one position"
    summed = _sums(await tx.fetch(OPEN_DAY))
    return _unequal("open day", summed, await _moved(closing["open_day"], tx))


async def _moved(day: date, tx: Tx) -> Sums:
    """The debits and credits of a day's transfers, at most until the position of the closing."""
    closing = await tx.fetchrow(CLOSING)
    assert closing is not None, "there is one position"
    sums: Sums = {}
    after = await tx.fetchrow(BEFORE_DAY, day)
    bounds = (day, closing["closed_at"], closing["closed_id"], TRANSFERS_SUMMED_AT_ONCE)
    while after is not None and (end := await tx.fetchrow(DAY_PAGE, *after, *bounds)):
        for row in await tx.fetch(SUMS_OF_PAGE, *after, *end):
            debit, credit = sums.get((row["account"], row["currency"]), (0, 0))
            moved = debit + row["debit_minor"], credit + row["credit_minor"]
            sums[row["account"], row["currency"]] = moved
        after = end
    return sums


def _sums(rows: list[Row]) -> Sums:
    return {
        (row["account"], row["currency"]): (row["debit_minor"], row["credit_minor"]) for row in rows
    }


def _unequal(named: str, kept: Sums, moved: Sums) -> list[str]:
    return [
        f"{named}: {account} {currency}"
        for account, currency in sorted({*kept, *moved})
        if kept.get((account, currency), (0, 0)) != moved.get((account, currency), (0, 0))
    ]
