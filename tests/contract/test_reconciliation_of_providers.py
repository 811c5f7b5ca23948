"""The listings of the stand-ins of YooKassa and Crypto Pay, compared with the ledger."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from payments.domain.provider import RefundDone
from payments.store import reconciliation_leases as leases
from payments.store import reconciliations
from payments.workers.reconciling import Reconciler
from shared.contracts.payments import ReconciliationCounts, ReconciliationRecord
from shared.platform.db import Database
from tests.kit.payments import check_invariants, placed
from tests.kit.providers import STAGES, Stage, opened_on, yookassa_stage
from tests.kit.servers import MakeDatabase

DUE = "update reconciliation_leases set due_at = now() where acquirer = $1"
PAID = "select id from orders where id = any($1::uuid[]) and state = 'paid'"
REFUNDS = """
select charge, their_minor, our_minor, done
from reconciliation_differences
where kind = 'refund'
"""


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with STAGES[request.param](tmp_path) as running:
        yield running


@pytest.fixture
async def payments_db(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    """One for each test: a stand-in that starts anew counts its invoices from 1."""
    place = await fresh_database("payments")
    database = Database(place.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await check_invariants(database)
    await database.close()


async def reconciled(stage: Stage, database: Database) -> ReconciliationRecord:
    """The last hour at the provider, in a run of its own, as it stands then."""
    until = stage.now() + timedelta(seconds=1)
    name, since = stage.provider.name, until - timedelta(hours=1)
    async with database.transaction() as tx:
        asked = await reconciliations.ask(uuid4(), name, since, until, tx)
    return await walked(stage, asked, database)


async def walked(
    stage: Stage, asked: ReconciliationRecord, database: Database
) -> ReconciliationRecord:
    worker = Reconciler(database, stage.provider)
    await leases.enlist(stage.provider.name, database)
    while await worker.walk(asyncio.Event()):
        pass
    run = await reconciliations.run(asked.run, database)
    assert run is not None
    return run


async def test_payments_without_a_notice_are_booked(stage: Stage, payments_db: Database) -> None:
    """R-16: over pages, once, and only what was paid."""
    orders = [await placed(uuid4(), payments_db) for _ in range(14)]
    for order in orders:
        _, opened = await opened_on(stage, payload=order.payload)
        stage.later(seconds=10)
        if order is not orders[-1]:
            await stage.pay(opened.reference)
    counts = (await reconciled(stage, payments_db)).counts
    assert (counts.listed, counts.missing_here, counts.missing_there) == (13, 13, 0)
    ids = [order.order for order in orders]
    assert {row["id"] for row in await payments_db.fetch(PAID, ids)} == set(ids[:-1])
    counts = (await reconciled(stage, payments_db)).counts
    assert counts == ReconciliationCounts(listed=13)


async def test_a_payment_of_another_shop_is_foreign(stage: Stage, payments_db: Database) -> None:
    """R-97: the merchant account is shared."""
    _, opened = await opened_on(stage, payload="order 7 of another shop")
    await stage.pay(opened.reference)
    counts = (await reconciled(stage, payments_db)).counts
    assert (counts.listed, counts.foreign, counts.missing_here) == (1, 1, 0)


async def test_a_failing_listing_is_walked_later(stage: Stage, payments_db: Database) -> None:
    """R-99: a 429 leaves the run where it stands."""
    order = await placed(uuid4(), payments_db)
    _, opened = await opened_on(stage, payload=order.payload)
    await stage.pay(opened.reference)
    call = "getInvoices" if stage.provider.name == "cryptobot" else "GET /v3/payments"
    await stage.break_next("read" if call == "getInvoices" else call, "429")
    run = await reconciled(stage, payments_db)
    assert (run.state, run.reason) == ("running", "too many calls")
    await payments_db.execute(DUE, stage.provider.name)
    run = await walked(stage, run, payments_db)
    assert (run.state, run.reason, run.counts.missing_here) == ("done", None, 1)


async def test_a_refund_in_the_cabinet_is_booked(tmp_path: Path, payments_db: Database) -> None:
    """R-16: YooKassa lists it; the payment stays paid there."""
    async with yookassa_stage(tmp_path) as stage:
        order = await placed(uuid4(), payments_db)
        _, opened = await opened_on(stage, payload=order.payload)
        await stage.pay(opened.reference)
        done = await stage.provider.refund(opened.reference, 5_000, "RUB", uuid4())
        assert isinstance(done, RefundDone), done
        counts = (await reconciled(stage, payments_db)).counts
    assert (counts.missing_here, counts.refund) == (1, 1)
    rows = [tuple(row) for row in await payments_db.fetch(REFUNDS)]
    assert rows == [(opened.reference, 5_000, 14_900, "booked")]
