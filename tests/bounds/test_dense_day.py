"""A day with a million entries is closed in pages, and costs no more at its end."""

import json

from payments.store import closing
from tests.bounds.table import BOUNDS
from tests.bounds.test_bounds import buffers_of, plan_of, rolled_back
from tests.kit.servers import FreshDatabase

TRANSFERS = 250_000
PAGE = 5_000
MAX_BUFFERS_OF_CLOSING = 200_000
"""Of 5 000 transfers with four entries each: a search by key for each of both."""
CLOSING = "payments.store.closing"

# Before all other transfers of the large shop.
BEGIN = """
update ledger_closing set open_day = date '2001-02-02', closed_at = '2001-02-02 00:00+00'
"""
FILL_TRANSFERS = """
insert into transfers (id, cause, reason, at)
select md5('dense' || n)::uuid, 'dense:' || n, 'receipt',
  timestamptz '2001-02-02 00:00:01+00' + n * interval '300 milliseconds'
from generate_series(1, 250000) n
"""
FILL_ENTRIES = """
insert into entries (transfer, account, amount_minor, currency)
select md5('dense' || n)::uuid, e.account, e.amount_minor, e.currency
from generate_series(1, 250000) n
cross join (
  values
    (md5('shop' || 1)::uuid, -1, 'XTR'),
    (md5('shop' || 2)::uuid, 1, 'XTR'),
    (md5('shop' || 3)::uuid, -150, 'RUB'),
    (md5('shop' || 4)::uuid, 150, 'RUB')
) e (account, amount_minor, currency)
"""
POSITION = "select closed_at, closed_id, open_day from ledger_closing"
DENSE = "select account, debit_minor, credit_minor from account_days where day = '2001-02-02'"


async def test_a_million_entries_are_closed_in_pages(filled: FreshDatabase) -> None:
    """R-117: no statement sees more than a page, and the last one sees no entry at all."""
    async with rolled_back(filled, CLOSING, "owner") as connection:
        await connection.execute("set local statement_timeout = '300s'")
        await connection.execute(BEGIN)
        await connection.execute(FILL_TRANSFERS)
        await connection.execute(FILL_ENTRIES)
        pages = 0
        while True:
            position = await connection.fetchrow(POSITION)
            end = await connection.fetchrow(closing.CLOSING_PAGE, *position, PAGE)
            if end is None:
                break
            arguments = (position["closed_at"], position["closed_id"], *end)
            plan = await plan_of(connection, closing.CLOSE, arguments)
            assert buffers_of(plan) <= MAX_BUFFERS_OF_CLOSING, json.dumps(plan, indent=1)
            pages += 1
        assert pages == TRANSFERS / PAGE
        plan = await plan_of(connection, closing.CLOSE_DAY)
        assert buffers_of(plan) <= BOUNDS[f"{CLOSING}.CLOSE_DAY"].buffers
        moved = {row["account"]: row for row in await connection.fetch(DENSE)}
        assert (moved["revenue"]["debit_minor"], moved["revenue"]["credit_minor"]) == (
            0,
            TRANSFERS * 150,
        )
