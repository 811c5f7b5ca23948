"""Opening an invoice at a distant YooKassa: from the tap to its event at a subscriber.

cmd.payments.open_invoice ─▶ payments: a job ─▶ 200 ms ─▶ YooKassa ─▶ recorded ─▶ JetStream
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from shared.contracts.payments import (
    InvoiceOpened,
    OpenedInvoice,
    OpenInvoice,
    PlacedOrder,
    PlaceOrder,
)
from shared.messaging.rpc import Bus
from tests.load.pipeline import percentile
from tests.load.table import Line
from tests.load.testbed import Testbed
from tests.load.yookassa import DistantProxy, settings, stand_in
from turnpike_local.ports import LOOPBACK

ANSWERS_AFTER_S = 0.2
WARM_UP = 5
ONE_BY_ONE = 30
RATE = 5
SECONDS = 40
OPEN_TIMEOUT_S = 60.0
TARGET_MS = 1_000


class Shop:
    """The driver's side: people who tap a way to pay, and a subscriber."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._opened: dict[UUID, asyncio.Future[float]] = {}

    async def subscribe(self) -> None:
        """As a service does: it gets what JetStream has stored."""

        async def arrived(message: Any) -> None:
            at = time.time()
            self._arrival(InvoiceOpened.model_validate_json(message.data).invoice).set_result(at)

        stream = self._bus.client.jetstream()
        await stream.subscribe(InvoiceOpened.subject(), cb=arrived, ordered_consumer=True)

    async def placed(self) -> OpenInvoice:
        """A person has placed an order; the tap that comes next."""
        person = uuid4()
        placed = await self._bus.execute(PlaceOrder(**_by(person), plan="basic", months=1))
        assert isinstance(placed, PlacedOrder), placed
        return OpenInvoice(**_by(person), order=placed.order, way="sbp")

    async def tap(self, command: OpenInvoice, due_at: float) -> float:
        """Returns the milliseconds until the event."""
        asked = await self._bus.execute(command)
        assert isinstance(asked, OpenedInvoice), asked
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            return (await self._arrival(asked.invoice) - due_at) * 1000

    def _arrival(self, invoice: UUID) -> asyncio.Future[float]:
        """The event may come before the answer to its command."""
        return self._opened.setdefault(invoice, asyncio.get_running_loop().create_future())


def _by(person: UUID) -> dict[str, Any]:
    deadline = datetime.now(UTC) + timedelta(minutes=5)
    return {"id": uuid4(), "actor": f"person:{person}", "deadline_at": deadline, "person": person}


async def measure(testbed: Testbed) -> list[Line]:
    async with stand_in(testbed.folder) as url:
        port = urlsplit(url).port
        assert port is not None, url
        async with DistantProxy(port, ANSWERS_AFTER_S) as link:
            distant = f"http://{LOOPBACK}:{link.port}"
            await testbed.run("payments", "payments", settings=settings(distant))
            async with _shop(testbed) as shop:
                await _one_by_one(shop, WARM_UP)
                await testbed.analyze()
                alone = await _one_by_one(shop, ONE_BY_ONE)
                steady = await _at_rate(shop)
    return [*_lines("alone", "one at a time", alone), *_lines("steady", f"at {RATE}/s", steady)]


def _lines(id_: str, how: str, took_ms: Sequence[float]) -> list[Line]:
    what = f"an invoice of a provider that answers in {ANSWERS_AFTER_S * 1000:g} ms, {how}"
    p50, p99 = (percentile(took_ms, percent) for percent in (50, 99))
    return [
        Line(f"openings.{id_}_p99", f"{what}: p99", p99, "ms", target=TARGET_MS, at_least=False),
        Line(f"openings.{id_}_p50", "p50", p50, "ms"),
    ]


@asynccontextmanager
async def _shop(testbed: Testbed) -> AsyncIterator[Shop]:
    bus = Bus(testbed.broker.url, "bench")
    await bus.open()
    try:
        shop = Shop(bus)
        await shop.subscribe()
        yield shop
    finally:
        await bus.close()


async def _one_by_one(shop: Shop, count: int) -> list[float]:
    taps = [await shop.placed() for _ in range(count)]
    return [await shop.tap(tap, time.time()) for tap in taps]


async def _at_rate(shop: Shop) -> list[float]:
    """Each tap when it is due, whether or not those before have their invoice."""
    taps = [await shop.placed() for _ in range(RATE * SECONDS)]
    began = time.time()
    async with asyncio.TaskGroup() as group:
        tapping = []
        for place, tap in enumerate(taps):
            due_at = began + place / RATE
            await asyncio.sleep(max(0.0, due_at - time.time()))
            tapping.append(group.create_task(shop.tap(tap, due_at)))
    return [one.result() for one in tapping]
