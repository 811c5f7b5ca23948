"""The seam between the chat and the book: bot-gateway and payments as they are, and Telegram's stand-in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from payments.app import build as build_payments
from payments.settings import Settings as PaymentsSettings
from shared.db import Database
from tests.kit.bot import TOKEN, UNHURRIED, living, open_sheet, opened, running, settings, until
from tests.kit.servers import MakeDatabase
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient


@dataclass
class Till:
    people: SandboxClient
    chats: Database
    book: Database

    async def at_the_invoice(self) -> PersonClient:
        """Somebody who has only to press "pay"."""
        person = await self.people.new_person("Ann")
        await person.say("/start")
        for button in ("accept", "Buy", "Basic", "1 month", "Stars"):
            await person.press(button)
        await person.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")
        return person

    async def is_paid(self) -> bool:
        return bool(await self.book.fetchval("select exists (select from orders where state = 'paid')"))

    async def has_refused(self) -> bool:
        return bool(await self.chats.fetchval("select exists (select from refusals)"))


@pytest.fixture
async def till(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Till]:
    place = await fresh_database("bot", "payments")
    payments = PaymentsSettings(
        dsn=SecretStr(place.dsn("payments_app")), nats_url=SecretStr(nats_url), http_port=free_port()
    )
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
        opened(place.dsn("bot_app")) as chats,
        opened(place.dsn("payments_app")) as book,
        living(build_payments(payments)),
        running(settings(place.dsn("bot_app"), nats_url, sandbox.url)),
    ):
        yield Till(people, chats, book)


async def test_a_paid_order_cannot_be_paid_again_by_a_pay_sheet_that_is_still_open(till: Till) -> None:
    """R-05: the link may be anywhere; the second charge is refused before it is taken, with its reason."""
    ann = await till.at_the_invoice()
    sheet = await open_sheet(ann)
    assert (await ann.pay()).paid
    await until(till.is_paid)
    again = await ann.pay_invoice(sheet)
    assert again.charge is None
    assert again.error is not None
    assert again.error.startswith("This order is already paid or closed. Nothing was charged.")
    await until(till.has_refused)  # Telegram is answered first, within its time; the row comes behind.
    refused = await till.chats.fetch("select what, reason from refusals")
    assert [tuple(row) for row in refused] == [("charge", "order_closed")]
    assert await till.book.fetchval("select count(*) from receipts") == 1
