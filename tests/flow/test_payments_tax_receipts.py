"""The service registers receipts for the tax office at the stand-in of YooKassa."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from payments.app import build
from payments.settings import Settings
from payments.workers import lease, opening, reading, registering
from payments.workers import refunding as returning
from shared.contracts.message import Refused
from shared.contracts.payments import OpenedInvoice, PaidFromBalance, PayFromBalance, PlacedOrder
from shared.contracts.payments_refunds import OutgoingRefund
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from tests.kit import yookassa
from tests.kit.living import living
from tests.kit.outgoing import refunding
from tests.kit.payments import asking, by, command, topup_command
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.ports import free_port
from turnpike_local.standin.clock import SystemClock
from turnpike_local.yookassa import Shop

SHOP = Shop(fiscalization="yoo_receipt")
STATES = "select kind, state from fiscal_receipts order by made_at, kind"
RECEIPT = "select id from receipts where charge = $1"
REFERENCE = "select reference from invoices where id = $1 and state = 'open'"
DUE = "update fiscal_receipts set due_at = now() where state = 'registering'"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lease, opening, reading, returning, registering):
        monkeypatch.setattr(module, "POLL_S", 0.05)


@dataclass
class Running:
    till: yookassa.Till
    database: Database
    bus: Bus

    async def paid(self, person: UUID, topup_minor: int) -> str:
        """A top-up by SBP, opened and paid. Its payment."""
        placed = await self.bus.execute(topup_command(person, topup_minor))
        assert isinstance(placed, PlacedOrder)
        opened = await self.bus.execute(asking(person, placed.order, "sbp"))
        assert isinstance(opened, OpenedInvoice)
        references: list[str] = []

        async def is_open() -> bool:
            reference = await self.database.fetchval(REFERENCE, opened.invoice)
            references.append(str(reference))
            return reference is not None

        await until(is_open)
        await self.till.control.pay(references[-1])
        return references[-1]

    async def buys(self, person: UUID) -> PaidFromBalance | Refused:
        placed = await self.bus.execute(command(person))
        assert isinstance(placed, PlacedOrder)
        return await self.bus.execute(PayFromBalance(**by(person), order=placed.order))

    async def states(self) -> list[tuple[str, str]]:
        await self.database.execute(DUE)
        return [(row["kind"], row["state"]) for row in await self.database.fetch(STATES)]


@asynccontextmanager
async def running(
    fresh_database: MakeDatabase, nats_url: str, folder: Path
) -> AsyncIterator[Running]:
    place = await fresh_database("payments")
    database = Database(place.dsn("payments_app"), name="test")
    async with yookassa.till(folder, shop=SHOP, clock=SystemClock()) as till:
        configured = Settings(
            dsn=SecretStr(place.dsn("payments_app")),
            nats_url=SecretStr(nats_url),
            http_port=free_port(),
            yookassa_shop_id=SHOP.shop_id,
            yookassa_secret_key=SecretStr(SHOP.secret_key),
            yookassa_api_url=f"{till.url}/v3",
            receipts=True,
            receipt_email="books@example.org",
        )
        webhook = f"http://127.0.0.1:{configured.http_port}/webhooks/yookassa"
        await till.control.set_notice_url(webhook)
        bus = Bus(nats_url, "test")
        async with living(build(configured)):
            await database.open()
            await bus.open()
            try:
                yield Running(till, database, bus)
            finally:
                await bus.close()
                await database.close()


async def test_a_partial_refund_has_its_receipt(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> None:
    """R-113: YooKassa refuses a part of a payment that had a receipt, unless the part has one."""
    person = uuid4()
    async with running(fresh_database, nats_url, tmp_path) as shop:
        payment = await shop.paid(person, 500_00)

        async def booked() -> bool:
            return await shop.database.fetchval(RECEIPT, payment) is not None

        await until(booked)
        receipt = await shop.database.fetchval(RECEIPT, payment)
        asked = await shop.bus.execute(refunding(receipt, amount_minor=100_00))
        assert isinstance(asked, OutgoingRefund)

        async def registered() -> bool:
            return ("refund", "registered") in await shop.states()

        await until(registered)
        state = "select state from outgoing_refunds where id = $1"
        assert await shop.database.fetchval(state, asked.refund) == "settled"


async def test_a_topup_and_its_offset_are_registered(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> None:
    """R-110, R-111, R-112: the advance with its payment, the offset after the purchase."""
    person = uuid4()
    async with running(fresh_database, nats_url, tmp_path) as shop:
        payment = await shop.paid(person, 500_00)

        async def bought() -> bool:
            return isinstance(await shop.buys(person), PaidFromBalance)

        await until(bought)

        async def registered() -> bool:
            expected = [("payment", "registered"), ("offset", "registered")]
            return await shop.states() == expected

        await until(registered)
        [receipt] = await shop.till.control.receipts()
    assert (receipt["payment_id"], receipt["amount_minor"]) == (payment, 149_00)
    assert (receipt["settlement"], receipt["email"]) == ("prepayment", "books@example.org")
