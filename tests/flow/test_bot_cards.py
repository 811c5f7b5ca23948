"""A card in Telegram through the real bot-gateway and payments, with YooKassa behind Telegram."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from payments.app import build as build_payments
from payments.settings import Settings as PaymentsSettings
from shared.contracts.payments_refunds import RefundPayment
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from tests.kit.bot import TOKEN, living, opened, running, settings
from tests.kit.operators import by_operator
from tests.kit.servers import MakeDatabase
from tests.kit.sides import Town, a_town
from tests.kit.waiting import until
from turnpike_cli.querying import opened_bus
from turnpike_local.ports import free_port
from turnpike_local.providers import PROVIDER_TOKEN
from turnpike_local.sandbox.client import PersonClient
from turnpike_local.yookassa import Shop as Merchant

PAID = "select count(*) from orders where state = 'paid'"
RECEIPT = "select id, acquirer, charge, amount_minor from receipts"
OUTGOING = "select state from outgoing_refunds"


@dataclass
class Shop:
    town: Town
    chats: Database
    ledger: Database
    bus: Bus

    async def at_the_invoice(self) -> PersonClient:
        """A person whose next step is to press "pay"."""
        person = await self.town.people.new_person("Ann", stars=0)
        await person.say("/start")
        for button in ("accept", "Buy", "Basic", "1 month", "Card in Telegram"):
            await person.press(button)
        await person.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
        return person

    async def listed(self) -> list[dict[str, Any]]:
        """What YooKassa lists."""
        items: list[dict[str, Any]] = (await self.town.merchant.get("payments"))[1]["items"]
        return items

    async def is_paid(self) -> bool:
        return bool(await self.ledger.fetchval(PAID))

    async def is_returned(self) -> bool:
        return bool(await self.ledger.fetchval(OUTGOING) == "settled")


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    place, merchant = await fresh_database("bot", "payments"), Merchant()
    token = SecretStr(PROVIDER_TOKEN)
    async with a_town(tmp_path, merchant, TOKEN) as town:
        payments = PaymentsSettings(
            dsn=SecretStr(place.dsn("payments_app")),
            nats_url=SecretStr(nats_url),
            http_port=free_port(),
            yookassa_shop_id=merchant.shop_id,
            yookassa_secret_key=SecretStr(merchant.secret_key),
            yookassa_api_url=f"{town.yookassa.url}/v3",
            provider_token=token,
        )
        chats = place.dsn("bot_app"), nats_url, town.sandbox.url
        async with (
            opened(place.dsn("bot_app")) as bot,
            opened(place.dsn("payments_app")) as ledger,
            living(build_payments(payments)),
            running(settings(*chats, provider_token=token)),
            opened_bus(nats_url) as bus,
        ):
            yield Shop(town, bot, ledger, bus)


async def test_a_card_in_telegram_buys_and_returns(shop: Shop) -> None:
    """R-138, R-140: one payment at YooKassa, which is the receipt, and which is returned once."""
    ann = await shop.at_the_invoice()
    assert (await ann.pay()).paid
    await until(shop.is_paid)
    [payment] = await shop.listed()
    receipt = await shop.ledger.fetchrow(RECEIPT)
    assert receipt is not None
    assert tuple(receipt)[1:] == ("yookassa", payment["id"], 14_900)
    wanted = RefundPayment(**by_operator("admin"), receipt=receipt["id"], currency="RUB")
    await shop.bus.execute(wanted)
    await until(shop.is_returned)
    [payment] = await shop.listed()
    assert payment["refunded_amount"]["value"] == "149.00"
    assert not await shop.is_paid()


async def test_a_late_report_books_the_listed_card(shop: Shop) -> None:
    """R-138: Telegram lost its update. A new one about the charge books it, and no other does."""
    ann = await shop.at_the_invoice()
    await shop.town.people.lose_reports(1)
    charge = (await ann.pay()).charge
    assert charge is not None
    assert len(await shop.listed()) == 1
    assert not await shop.is_paid()
    for _ in range(2):
        await shop.town.people.repeat(charge, same_update=False)
    await until(shop.is_paid)
    assert await shop.ledger.fetchval("select count(*) from receipts") == 1
    assert await shop.chats.fetchval("select count(*) from conflicts") == 0
