"""The pool and its transactions: full pools, lost sessions, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.commands.place_order import place_order
from payments.subscribers import payments_confirms_reported
from shared.contracts.bot import PaymentReported
from shared.contracts.message import Refused
from shared.contracts.payments import OpenedInvoice, OpenInvoice, PlacedOrder, PlaceOrder
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.idempotency import execute
from shared.messaging.inbox import Handler
from shared.platform import db
from shared.platform.db import Database, PoolBusyError, Tx
from shared.service import Service
from tests.kit.living import living, readiness, settings
from tests.kit.messaging import message_of
from tests.kit.reports import reported
from tests.kit.servers import FreshDatabase
from tests.kit.sessions import end_session, end_session_unseen
from tests.kit.waiting import HANG_S

HANDLER = "payments_confirms_reported"
REPORTED = next(entry for entry in SUBSCRIPTIONS if entry.handler == HANDLER)


async def test_a_full_pool_fails_in_time(
    place: FreshDatabase, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-01: no statement waits for ever, and readiness fails too."""
    async with living(
        subject := Service("payments", settings(place.dsn("payments_app"), wiped_url))
    ) as life:
        await readiness(subject, 200, "ok")
        async with AsyncExitStack() as taken:
            for _ in range(subject.database.size):
                await taken.enter_async_context(subject.database.transaction())
            await readiness(
                subject, 503, f"no connection is free: all {subject.database.size} are taken"
            )
            monkeypatch.setattr(db, "ACQUIRE_TIMEOUT_S", 0.3)
            async with asyncio.timeout(HANG_S):
                with pytest.raises(PoolBusyError):
                    await subject.database.fetchval("select 1")
        await readiness(subject, 200, "ok")
        assert not life.done()


async def test_a_closed_pool_is_busy(place: FreshDatabase) -> None:
    with pytest.raises(PoolBusyError, match="not open"):
        await Database(place.dsn("payments_app"), name="test").fetchval("select 1")


@pytest.fixture
async def few(place: FreshDatabase) -> AsyncIterator[Database]:
    """A pool of four. A transaction that waits for a fifth connection waits for ever."""
    database = Database(place.dsn("payments_app"), name="few", size=4)
    await database.open()
    yield database
    await database.close()


async def test_purchases_need_one_connection_each(
    few: Database,
) -> None:
    """M-01, W-03: as many purchases as connections complete at once.

    Each order and payment finds all other connections taken.
    """
    together, stopping = asyncio.Barrier(few.size), asyncio.Event()
    stopping.set()  # A busy pool is then reported at once, and not waited for.

    async def order(command: PlaceOrder, tx: Tx) -> PlacedOrder | Refused:
        await together.wait()
        return await place_order(command, tx)

    async def book(events: Sequence[PaymentReported], tx: Tx) -> None:
        await together.wait()
        await payments_confirms_reported(events, tx)

    async def purchase() -> None:
        person = uuid4()
        deadline = datetime.now(UTC) + timedelta(minutes=1)
        whose: dict[str, Any] = {"id": uuid4(), "actor": f"person:{person}", "person": person}
        whose["deadline_at"] = deadline
        placed = await execute(few, PlaceOrder(**whose, plan="basic", months=1), order)
        assert isinstance(placed, PlacedOrder)
        wanted = OpenInvoice(**whose, order=placed.order, way="stars")
        invoice = await execute(few, wanted, open_invoice)
        assert isinstance(invoice, OpenedInvoice)
        event = reported(payer=person, payload=invoice.payload, amount_minor=invoice.asked_minor)
        outcome = await Handler(REPORTED, book, few).handle_batch([message_of(event)], stopping)
        assert (outcome.done, outcome.again) == (1, set())

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(purchase() for _ in range(few.size)))
    assert few.free == few.size
    assert await few.fetchval("select count(*) from orders where state = 'paid'") == few.size


async def test_a_cancel_survives_a_lost_connection(place: FreshDatabase, store: Database) -> None:
    """R-15, W-24: a failing rollback must not hide the cancellation."""
    begun = asyncio.Event()
    sessions: list[int] = []

    async def hangs(_: Sequence[PaymentReported], tx: Tx) -> None:
        sessions.append(tx.connection.get_server_pid())
        begun.set()
        await asyncio.Event().wait()

    absorbing = asyncio.create_task(
        Handler(REPORTED, hangs, store).handle_batch([message_of(reported())])
    )
    await asyncio.wait_for(begun.wait(), HANG_S)
    await end_session(place.postgres.dsn("postgres"), sessions[0])
    absorbing.cancel()
    done, _ = await asyncio.wait([absorbing], timeout=HANG_S)
    assert done, "it went on with another connection"
    assert absorbing.cancelled()


async def test_an_ended_session_is_the_databases_fault(
    place: FreshDatabase, store: Database
) -> None:
    """M-17: either half may have arrived, the error or the end of the connection."""

    async def ask(turns_of_the_loop: int) -> None:
        async with store.transaction() as tx:
            end_session_unseen(place.postgres.dsn("postgres"), tx.connection.get_server_pid())
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            await tx.fetchval("select 1")

    for turns in range(5):
        [ended] = await asyncio.gather(ask(turns), return_exceptions=True)
        assert isinstance(ended, Exception)
        assert db.database_is_to_blame(ended), f"after {turns} turns: {ended!r}"
