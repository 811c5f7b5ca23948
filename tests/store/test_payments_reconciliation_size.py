"""A long listing: it is walked in a bounded time, and in the memory of a page.

`LISTED=100000` is the length that the README of payments tells the figures of.
"""

import os
import resource
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from payments.domain.provider import Page, Payment
from shared.contracts.message import derived_id
from shared.platform.db import Database
from tests.kit.cpu import cpu_spent_s
from tests.kit.listing import AN_HOUR_AGO, FakeListing, reconciled, time_passes
from tests.kit.payments import placed
from tests.kit.servers import FreshDatabase

LISTED = int(os.environ.get("LISTED", "8000"))
PAGE = 1_000
MISSING_EVERY = 500
MOST_CPU_S = 60.0 * max(1.0, LISTED / 100_000)
"""A machine of CI takes a tenth of it for the short form, whatever else it does meanwhile."""
EVERY = timedelta(milliseconds=50)

BOOKED = """
insert into receipts
  (id, acquirer, charge, payer, currency, amount_minor, payload, digest, paid_at)
select gen_random_uuid(), $1, 'n' || n, null, 'RUB', 14900, '', n,
  $2::timestamptz - n * $4::interval
from generate_series(0, $3::int - 1) n
where n % $5 <> 0
"""


@dataclass
class LongListing(FakeListing):
    """So many payments, made when their page is asked for: the test holds none of them."""

    count: int = 0
    payload: str = ""

    async def list_payments(self, since: datetime, until: datetime, after: str | None) -> Page:
        first = int(after or 0)
        end = min(first + PAGE, self.count) if until > AN_HOUR_AGO else 0
        payments = tuple(self.payment(number) for number in range(first, end))
        return Page(payments, (), str(end) if end < self.count and payments else None)

    def payment(self, number: int) -> Payment:
        at = AN_HOUR_AGO - number * EVERY
        return Payment(
            f"n{number}", "succeeded", "RUB", 14_900, self.payload, created_at=at, paid_at=at
        )


async def long_listing(count: int, schema: FreshDatabase, database: Database) -> LongListing:
    """All but one of five hundred are booked."""
    order = await placed(derived_id("buyer", count), database)
    listing = LongListing(count=count, payload=order.payload)
    owner = await asyncpg.connect(schema.dsn("payments_owner"))
    await owner.execute(BOOKED, listing.name, AN_HOUR_AGO, count, EVERY, MISSING_EVERY)
    await owner.close()
    return listing


async def test_a_long_listing_is_walked_in_time(
    payments_db: Database,
    payments_schema: FreshDatabase,
    record_property: Callable[[str, object], None],
) -> None:
    """R-99: every payment is compared, and what is missing is booked."""
    listing = await long_listing(LISTED, payments_schema, payments_db)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before_s, began = await cpu_spent_s(payments_db), time.monotonic()
    run = await reconciled(listing, payments_db)
    took_s, cpu_s = time.monotonic() - began, await cpu_spent_s(payments_db) - before_s
    grew_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    record_property("note", f"{LISTED} listed payments: {took_s:.1f} s, {grew_mb:.0f} MB more")
    assert (run.counts.listed, run.counts.missing_there) == (LISTED, 0)
    assert run.counts.missing_here == -(-LISTED // MISSING_EVERY)
    assert cpu_s < MOST_CPU_S
    assert grew_mb < 200


async def test_memory_is_that_of_a_page(
    payments_db: Database, payments_schema: FreshDatabase
) -> None:
    """R-99: four times as many payments need no more of it."""
    peaks = []
    for count in (2 * PAGE, 8 * PAGE):
        listing = await long_listing(count, payments_schema, payments_db)
        await reconciled(listing, payments_db)
        await time_passes(listing, payments_db)
        tracemalloc.start()
        await reconciled(listing, payments_db)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
