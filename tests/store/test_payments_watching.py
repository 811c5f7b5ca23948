"""Open invoices are asked for, so that money is found without any notice."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from payments.domain.pauses import DAY_S, watch_after_s
from payments.domain.provider import Refusal, Unavailable, Unknown, Unreadable
from payments.store import orders
from shared.platform.db import Database
from tests.kit.fake_provider import Fault
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till, pause_long

PASS = """
update invoices
set opened_at = opened_at - $1::interval, expires_at = expires_at - $1::interval
"""
AGE_ORDERS = """
update orders
set placed_at = placed_at - interval '31 days', honoured_until = honoured_until - interval '31 days'
"""
REFUSED = "select body from events where topic = 'payments.invoice.refused'"
NOT_AWAITED = "update invoice_jobs set awaited = false"
DUE_S = "select extract(epoch from due_at - now())::float8 from invoice_jobs"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def test_money_is_found_without_a_notice(till: Till) -> None:
    """R-16: the shop has no public address, or the webhook is lost."""
    asked, reference = await till.opened(uuid4())
    await till.turn(till.watcher)
    assert await till.bookings() == []
    till.provider.pay(reference)
    await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")]
    assert (await till.row(asked.invoice))["state"] == "paid"
    assert await till.jobs() == []


async def test_every_open_invoice_is_asked_for(till: Till) -> None:
    """R-27: those that waited longest come first, however many there are."""
    opened = [await till.opened(uuid4()) for _ in range(10)]
    for _, reference in opened:
        till.provider.pay(reference)
    for _ in range(4):
        await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")] * 10
    assert [len(asked) for asked in till.provider.asked_for] == [3, 3, 3, 1]


async def test_invoice_paid_in_its_last_second(till: Till) -> None:
    """R-02: its end only closes the page. It is asked for afterwards."""
    asked, reference = await till.opened(uuid4())
    await till.database.execute(PASS, timedelta(hours=2))
    await till.turn(till.watcher)
    assert 3500 < await till.database.fetchval(DUE_S) <= 3600
    till.provider.pay(reference)
    await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")]
    assert (await till.row(asked.invoice))["state"] == "paid"


async def test_canceled_invoice_is_watched_no_longer(till: Till) -> None:
    asked, reference = await till.opened(uuid4())
    till.provider.becomes(reference, state="canceled", cancel_reason="expired")
    await till.turn(till.watcher)
    assert (await till.row(asked.invoice))["state"] == "expired"
    assert await till.jobs() == []


async def test_a_canceled_invoice_is_published_once(till: Till) -> None:
    """R-125: the chat that leads to its page shows the other ways. A replaced one is not shown."""
    person = uuid4()
    replaced, old = await till.opened(person, way="card")
    asked = await till.ask(person, replaced.order)
    await till.turn(till.opener)
    reference = (await till.row(asked.invoice))["reference"]
    for canceled in (old, reference, reference):
        payment = till.provider.becomes(canceled, state="canceled", cancel_reason="expired")
        await till.take_in(payment)
    told = [json.loads(row["body"]) for row in await till.database.fetch(REFUSED)]
    assert [(one["invoice"], one["reason"]) for one in told] == [(str(asked.invoice), "canceled")]


async def test_watching_ends_after_a_month(till: Till) -> None:
    """Its order is over by then, and its money would be found by reconciliation."""
    await till.opened(uuid4())
    await till.database.execute(PASS, timedelta(days=31))
    await till.database.execute(AGE_ORDERS)
    await orders.expire(100, till.database)
    await till.turn(till.watcher)
    assert await till.jobs() == []


def test_questions_become_rarer() -> None:
    assert [watch_after_s(reads, -1.0) for reads in range(6)] == [5, 10, 30, 60, 300, 300]
    assert watch_after_s(9, 1.0) == 3600
    assert watch_after_s(9, DAY_S) == DAY_S
    assert watch_after_s(9, 30 * DAY_S) is None


async def test_replicas_share_the_pace_of_questions(till: Till) -> None:
    """R-71: all replicas together, however many are due."""
    second = Database(till.dsn, name="second")
    await second.open()
    for _ in range(9):
        await till.opened(uuid4())
    await till.turn(till.opener)
    await till.database.execute("update provider_pace set every = interval '1 hour'")
    await till.database.execute(NOT_AWAITED)  # A second call would wait for the hour.
    watchers = [till.watcher for _ in range(6)]
    for watcher in watchers[3:]:
        watcher.database = second
    await asyncio.gather(*(watcher.round() for watcher in watchers))
    assert till.provider.calls.count("read") <= 1
    await till.database.execute(NOT_AWAITED)
    await till.turn(till.watcher)
    calls = till.provider.calls.count("read")
    await asyncio.gather(*(watcher.round() for watcher in watchers))
    await second.close()
    assert till.provider.calls.count("read") == calls


async def test_outage_loses_no_open_invoice(till: Till) -> None:
    """R-77: after its return the provider is asked in full lots, and everything is settled."""
    till.provider.reads_at_once = 20
    opened = [await till.opened(uuid4()) for _ in range(60)]
    till.provider.fails("read", *[Fault(Unavailable("ClientConnectorError"))] * 12)
    for _ in range(12):
        await till.turn(till.watcher)
    assert {job["tries"] for job in await till.jobs()} == {0}
    for _, reference in opened:
        till.provider.pay(reference)
    till.provider.asked_for.clear()
    rounds = 0
    while await till.jobs():
        await till.turn(till.watcher)
        rounds += 1
    assert rounds <= 60 / 20 + 4, till.provider.asked_for
    assert await till.bookings() == [("bought", "paid")] * 60


async def test_failing_reference_is_isolated(till: Till) -> None:
    """R-76: a lot that fails is made smaller until the reference that fails is alone."""
    till.provider.reads_at_once = 8
    opened = [await till.opened(uuid4()) for _ in range(8)]
    bad, *good = [reference for _, reference in opened]
    till.provider.always[bad] = Refusal("invalid_request", "no such thing")
    for reference in good:
        till.provider.pay(reference)
    for _ in range(25):
        await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")] * 7
    [job] = await till.jobs()
    assert (job["reference"], job["tries"] > 0) == (bad, True)


@pytest.mark.parametrize("answer", [Unknown("500"), Refusal("forbidden", "no")])
async def test_down_provider_pauses_the_watcher(
    till: Till, answer: Unknown | Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-71: the others of the shop are not asked less."""
    pause_long(monkeypatch)
    await till.opened(uuid4())
    await till.opened(uuid4())
    till.provider.fails("read", Fault(answer))
    await till.turn(till.watcher)
    assert await till.watcher.round() == 0
    assert {job["tries"] for job in await till.jobs()} == {0}


async def test_unreadable_money_is_asked_again(till: Till) -> None:
    """R-72: an alarm for an operator; the invoice is not forgotten."""
    _, reference = await till.opened(uuid4())
    known = till.provider.payments[reference]
    till.provider.payments[reference] = Unreadable(reference, "more_digits", "0.0000000001 TON")
    await till.turn(till.watcher)
    assert [job["tries"] for job in await till.jobs()] == [1]
    till.provider.payments[reference] = known
    till.provider.pay(reference)
    await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")]


async def test_notice_and_watcher_book_once(till: Till) -> None:
    """R-11: with the listing as a third, at the same moment."""
    _, reference = await till.opened(uuid4())
    paid = till.provider.pay(reference)
    await till.notice(reference)
    await till.database.execute("update invoice_jobs set due_at = now()")
    await asyncio.gather(
        till.reader.round(), till.watcher.round(), *(till.take_in(paid) for _ in range(5))
    )
    assert await till.bookings() == [("bought", "paid")]
