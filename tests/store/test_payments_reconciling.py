"""Runs of a reconciliation: they resume, wait, fail and begin anew; one replica walks at a time."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from payments.domain.provider import Payment, Refusal, SlowDown, Unavailable, Unknown
from payments.receiving import take_in
from payments.store import reconciliation_leases as leases
from payments.store.reconciliation_leases import LostLeaseError
from payments.ticks import measure_reconciliations
from payments.workers.reconciling import MAX_MISSING_THERE, MAX_PAGES, Reconciler
from shared.contracts.payments import StartedReconciliations
from shared.platform.db import Database, Tx
from tests.kit.listing import (
    AN_HOUR_AGO,
    FakeListing,
    ask,
    differences,
    newest,
    paid_there,
    reconciled,
    report,
    time_passes,
)
from tests.kit.payments import placed

pytestmark = pytest.mark.usefixtures("invariants_hold")

BOOKINGS = "select count(*) from receipts where acquirer = $1"
DUE = "update reconciliation_leases set due_at = now() where acquirer = $1"
DUE_AT = "select due_at, now() from reconciliation_leases where acquirer = $1"
WINDOWS = """
select kind, since, until, started_at
from reconciliations
where acquirer = $1
order by started_at, kind desc
"""
WALKED = "update reconciliations set pages = $2 where acquirer = $1"
FINISHED = """
select body ->> 'failed'
from events
where topic = 'payments.reconciliation.finished' and body ->> 'acquirer' = $1
order by seq
"""
LEASE_ENDS = "update reconciliation_leases set held_until = now() where acquirer = $1"


async def listing_of(database: Database, count: int, page: int = 1) -> FakeListing:
    """So many payments that are missing here, a page for each."""
    payments = [
        paid_there(await placed(uuid4(), database), paid_at=AN_HOUR_AGO - timedelta(seconds=number))
        for number in range(count)
    ]
    return FakeListing(payments=payments, page=page)


async def walk(worker: Reconciler) -> bool:
    await leases.enlist(worker.provider.name, worker.database)
    return await worker.walk(asyncio.Event())


async def test_a_death_between_pages_resumes_there(payments_db: Database) -> None:
    """R-99: another worker goes on at the cursor, once the lease of the dead one has ended."""
    listing = await listing_of(payments_db, 4)
    reached = listing.hangs_at("2")
    dying = asyncio.create_task(walk(Reconciler(payments_db, listing)))
    await reached.wait()
    heir = Reconciler(payments_db, listing)
    assert not await walk(heir)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await payments_db.execute(LEASE_ENDS, listing.name)
    assert await walk(heir)
    assert listing.asked == [None, "1", "2", "2", "3"]
    run = await newest(listing, payments_db)
    assert (run.state, run.counts.listed, run.counts.missing_here) == ("done", 4, 4)
    assert await payments_db.fetchval(BOOKINGS, listing.name) == 4


async def test_a_death_within_a_page_leaves_nothing(payments_db: Database) -> None:
    """R-99: its bookings and its cursor are one transaction."""
    listing = await listing_of(payments_db, 3)
    deaths = [ConnectionError("the session is gone")]

    async def dying(payments: Sequence[Payment], acquirer: str, tx: Tx) -> None:
        await take_in(payments, acquirer, tx)
        if len(listing.asked) == 2 and deaths:
            raise deaths.pop()

    worker = Reconciler(payments_db, listing, take_in=dying)
    with pytest.raises(ConnectionError):
        await walk(worker)
    assert await payments_db.fetchval(BOOKINGS, listing.name) == 1
    assert (await newest(listing, payments_db)).counts.missing_here == 1
    assert await walk(worker)
    assert listing.asked == [None, "1", "1", "2"]
    assert (await newest(listing, payments_db)).counts.missing_here == 3


async def test_one_replica_walks_at_a_time(payments_db: Database) -> None:
    """R-99: a worker that lost its lease while the provider answered writes nothing more."""
    listing = await listing_of(payments_db, 3)
    answers = asyncio.Event()
    reached = asyncio.Event()

    async def slow(after: str | None) -> None:
        if after == "1" and not reached.is_set():
            reached.set()
            await answers.wait()

    listing.before_page = slow
    late = asyncio.create_task(walk(Reconciler(payments_db, listing)))
    await reached.wait()
    await payments_db.execute(LEASE_ENDS, listing.name)
    assert await walk(Reconciler(payments_db, listing))
    answers.set()
    with pytest.raises(LostLeaseError):
        await late
    run = await newest(listing, payments_db)
    assert (run.state, run.counts.listed, run.counts.missing_here) == ("done", 3, 3)
    assert await payments_db.fetchval(BOOKINGS, listing.name) == 3


async def test_a_walked_run_leaves_its_lease(payments_db: Database) -> None:
    """R-99: another replica takes the next run at once, also that of one which stops."""
    listing = await listing_of(payments_db, 2)
    first, second = Reconciler(payments_db, listing), Reconciler(payments_db, listing)
    stopping = asyncio.Event()

    async def stop(_: str | None) -> None:
        stopping.set()

    listing.before_page = stop
    await leases.enlist(listing.name, payments_db)
    assert await first.walk(stopping)
    assert (await newest(listing, payments_db)).state == "running"
    assert await walk(second)
    assert (await newest(listing, payments_db)).state == "done"
    assert await walk(first)


@pytest.mark.parametrize(
    "failure", [Unavailable("no connection"), Unknown("cut off"), SlowDown(120.0)]
)
async def test_a_failure_leaves_the_cursor(
    payments_db: Database, failure: Unavailable | Unknown | SlowDown
) -> None:
    """R-99: the run waits, longer each time, and says why; then it goes on where it stood."""
    listing = await listing_of(payments_db, 3)

    async def fail(after: str | None) -> None:
        if after == "1" and len(listing.asked) < 4:
            listing.failures.append(failure)

    listing.before_page = fail
    for pause_s in (120, 120) if isinstance(failure, SlowDown) else (5, 10):
        began = await payments_db.fetchval("select now()")
        run = await reconciled(listing, payments_db)
        assert run.state == "running"
        assert run.reason in ("no connection", "cut off", "too many calls")
        [(due_at, ended)] = await payments_db.fetch(DUE_AT, listing.name)
        assert began <= due_at - timedelta(seconds=pause_s) <= ended
        await payments_db.execute(DUE, listing.name)
    run = await reconciled(listing, payments_db)
    assert listing.asked[:5] == [None, "1", "1", "1", "2"]
    assert (run.state, run.reason, run.counts.missing_here) == ("done", None, 3)


async def test_a_refused_run_fails_and_the_next_begins(payments_db: Database) -> None:
    """R-99: bookings stay, and the window of the next one begins where the last ended."""
    listing = await listing_of(payments_db, 2)
    listing.page = 10
    await reconciled(listing, payments_db)
    ended = (await newest(listing, payments_db)).until
    await time_passes(listing, payments_db, timedelta(hours=9))
    listing.failures = [Refusal("401", "The keys are wrong.")]
    run = await reconciled(listing, payments_db)
    assert (run.state, run.reason) == ("failed", "refused, 401: The keys are wrong.")
    failed = [row[0] for row in await payments_db.fetch(FINISHED, listing.name)]
    assert "refused, 401: The keys are wrong." in failed
    await time_passes(listing, payments_db)
    run = await reconciled(listing, payments_db)
    assert run.state == "done"
    assert run.since < ended - timedelta(hours=9)


async def test_a_gap_is_closed_by_the_next_window(payments_db: Database) -> None:
    """R-16: payments was down for nine hours, or its database is that of nine hours ago."""
    listing = FakeListing()
    await reconciled(listing, payments_db)
    await time_passes(listing, payments_db, timedelta(hours=9))
    long_ago = AN_HOUR_AGO - timedelta(hours=7)
    listing.payments = [paid_there(await placed(uuid4(), payments_db), paid_at=long_ago)]
    run = await reconciled(listing, payments_db)
    assert run.counts.missing_here == 1
    await time_passes(listing, payments_db, timedelta(days=90))
    run = await reconciled(listing, payments_db)
    assert timedelta(days=30) < run.until - run.since <= timedelta(days=31)


async def test_an_hourly_window_slides_and_overlaps(payments_db: Database) -> None:
    """R-16: three hours each hour; the day before, once."""
    listing = FakeListing()
    while await walk(Reconciler(payments_db, listing)):
        pass
    await time_passes(listing, payments_db)
    await reconciled(listing, payments_db)
    rows = await payments_db.fetch(WINDOWS, listing.name)
    first, second = [row for row in rows if row["kind"] == "hourly"]
    for row in (first, second):
        assert row["until"] - row["since"] >= timedelta(hours=2, minutes=58)
    assert second["since"] < first["until"]
    daily = next(row for row in rows if row["kind"] == "daily")
    assert daily["until"] - daily["since"] == timedelta(days=1)
    assert daily["until"].astimezone(UTC).time() == datetime.min.time()


async def test_a_payment_at_an_edge_is_booked_once(payments_db: Database) -> None:
    """R-16: of two windows that touch, one holds it; windows that overlap both see it."""
    at = AN_HOUR_AGO.replace(microsecond=0)
    listing = FakeListing(payments=[paid_there(await placed(uuid4(), payments_db), paid_at=at)])
    a_while = timedelta(minutes=10)
    windows = [(at - a_while, at), (at, at + a_while), (at - a_while, at + a_while)]
    asked = []
    for since, end in windows:
        started = await ask(listing, payments_db, since=since, until=end)
        assert isinstance(started, StartedReconciliations)
        asked.append(started.runs[0].run)
    await reconciled(listing, payments_db)
    counts = [(await report(run, payments_db)).run.counts for run in asked]
    assert [one.listed for one in counts] == [0, 1, 1]
    assert sum(one.missing_here for one in counts) <= 1
    assert await payments_db.fetchval(BOOKINGS, listing.name) == 1


async def test_a_listing_without_an_end_is_given_up(payments_db: Database) -> None:
    """R-99: a bound on pages; the listed charges are forgotten."""
    listing = await listing_of(payments_db, 3)
    reached = listing.hangs_at("1")
    dying = asyncio.create_task(walk(Reconciler(payments_db, listing, lease_s=0.0)))
    await reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await payments_db.execute(WALKED, listing.name, MAX_PAGES)
    run = await reconciled(listing, payments_db)
    assert (run.state, run.reason) == ("failed", f"the listing has more than {MAX_PAGES} pages")


async def test_a_listing_that_lacks_everything_is_given_up(payments_db: Database) -> None:
    """R-96: a thousand receipts that it does not know say more of it than of the ledger."""
    person = uuid4()
    order = await placed(person, payments_db)
    listing = FakeListing(reads_at_once=1_000)
    async with payments_db.transaction() as tx:
        await take_in([paid_there(order) for _ in range(MAX_MISSING_THERE + 60)], listing.name, tx)
    run = await reconciled(listing, payments_db)
    assert run.state == "failed"
    assert run.reason == f"the listing lacks {MAX_MISSING_THERE} booked payments, or more"
    assert run.counts.missing_there == MAX_MISSING_THERE
    assert len(await differences(listing, payments_db)) >= MAX_MISSING_THERE


async def test_gauges_say_how_old_a_reconciliation_is(payments_db: Database) -> None:
    """R-99: also of a provider that was never reconciled."""
    listing = FakeListing()
    await leases.enlist(listing.name, payments_db)
    await measure_reconciliations([listing.name], payments_db)
    await reconciled(listing, payments_db)
    assert 0 <= (await leases.ages([listing.name], payments_db))[listing.name] < 60
