"""W-69: the attributes by which a trace is counted are on fresh effects, and on no repeat."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bot_gateway.workers.bells import Bells
from bot_gateway.workers.money_lane import MoneyLane
from payments.domain.confirmation import Receipt
from shared.platform import telemetry
from shared.platform.db import Database
from shared.platform.telemetry import BOOKED, GRANTED, REPORTED
from tests.kit.access import confirmed, handle
from tests.kit.bot import opened, paid_update, refunded_update
from tests.kit.bot_lanes import arrive
from tests.kit.payments import paid, placed, report, stars
from tests.kit.servers import MakeDatabase
from tests.kit.spans import kept_spans, noted, traceparent


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    return kept_spans(monkeypatch)


@pytest.fixture
async def gateway(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    place = await fresh_database("bot")
    async with opened(place.dsn("bot_app")) as database:
        yield database


async def book(database: Database, *receipts: Receipt) -> list[str]:
    """Book them in one batch, each in a trace of its own. Returns the traces."""
    traces = [traceparent() for _ in receipts]
    with telemetry.batch("book", traces) as items:
        continued = [
            replace(one, trace=item.trace) for one, item in zip(receipts, items, strict=True)
        ]
        await report(database, *continued)
    return traces


async def test_only_a_fresh_charge_is_booked(
    payments_db: Database, kept: InMemorySpanExporter
) -> None:
    """W-69. An order's money, money without an order, and a repeat of both, in batches."""
    person = uuid4()
    order, other = paid(await placed(person, payments_db), person), stars(person, 1)
    fresh = await book(payments_db, order, other)
    again = await book(payments_db, order, other)
    assert [noted(kept, BOOKED, trace) for trace in fresh] == ["bought", "wallet"]
    assert [noted(kept, BOOKED, trace) for trace in again] == [None, None]


async def test_only_a_fresh_order_is_granted(vpn: Database, kept: InMemorySpanExporter) -> None:
    """W-69."""
    events = [confirmed(uuid4()), confirmed(uuid4())]
    found = []
    for _ in range(2):
        traces = [traceparent() for _ in events]
        with telemetry.batch("grant", traces) as items:
            for event, item in zip(events, items, strict=True):
                event.continuing(item.trace)
            await handle(vpn, *events)
        found.append([noted(kept, GRANTED, trace) for trace in traces])
    assert found == [["period", "period"], [None, None]]


async def test_a_refund_is_no_report_of_payment(
    gateway: Database, kept: InMemorySpanExporter
) -> None:
    """W-69. Both are spans of one name, in the trace of one order."""
    await arrive(gateway, paid_update(1, "charge-1"), refunded_update(2, "charge-1"))
    assert await MoneyLane(gateway, Bells()).report_some(1) == 1
    assert await MoneyLane(gateway, Bells()).report_some(1) == 1
    spans = [span for span in kept.get_finished_spans() if span.name == "report payment"]
    assert [(span.attributes or {})[REPORTED] for span in spans] == ["payment", "refund"]
