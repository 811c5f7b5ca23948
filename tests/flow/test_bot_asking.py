"""The screens that wait for an outside provider: its events edit them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bot_gateway.chats.visit import Shop as Resources
from bot_gateway.workers.invoice_screens import MAX_NOTED, InvoiceScreens
from shared.contracts.payments import InvoiceOpened, InvoiceQuery, InvoiceRefused, OpenedInvoice
from shared.service import Service
from tests.kit.bot import running
from tests.kit.bot_payments import RUBLES
from tests.kit.bot_shop import Shop, opened_shop, sees, to_ways
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import PersonClient


@dataclass
class Waiting:
    """A person whose screen waits for an invoice."""

    shop: Shop
    service: Service
    ann: PersonClient
    invoice: OpenedInvoice

    def ends(self, **changes: Any) -> None:
        """The invoice is no longer asked for."""
        changed = self.invoice.model_copy(update=changes)
        self.shop.owners.payments.invoices[self.invoice.invoice] = changed

    async def handle(self, handler: str, kind: Any, **fields: Any) -> None:
        [order] = self.shop.owners.orders.values()
        event = kind.caused_by(
            self.invoice.invoice,
            about=order.person,
            at=datetime.now(UTC),
            order=self.invoice.order,
            invoice=self.invoice.invoice,
            **fields,
        )
        async with self.shop.database.transaction() as tx:
            await self.service.handlers[handler].handle([event], tx)


@pytest.fixture
async def waiting(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Waiting]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        payments = shop.owners.payments
        payments.ways, payments.providers_answer = RUBLES, False
        async with running(shop.settings) as service:
            ann = await shop.newcomer()
            await to_ways(ann)
            await ann.press("SBP")
            await ann.receives("Your invoice is being prepared")
            await until(shop.is_quiescent)  # The screen has looked once by itself.
            [invoice] = payments.invoices.values()
            yield Waiting(shop, service, ann, invoice)


async def test_an_opened_invoice_appears_by_itself(waiting: Waiting) -> None:
    """R-85: on the same screen, with the page to pay on."""
    waiting.ends(state="open", pay_url="https://pay.example.org/1")
    await waiting.handle("bot_shows_opened", InvoiceOpened)
    await sees(waiting.ann, "Pay 149 ₽")
    assert (await waiting.ann.button("Pay")).url == "https://pay.example.org/1"
    assert len((await waiting.ann.chat()).from_bot) == 1


async def test_an_invoice_opened_before_its_screen_appears(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> None:
    """R-85: its event found no screen to edit, so the screen looks once by itself."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        payments = shop.owners.payments
        payments.ways, payments.providers_answer = RUBLES, False
        payments.opened_after_the_answer = True
        async with running(shop.settings):
            ann = await shop.newcomer()
            await to_ways(ann)
            await ann.press("SBP")
            await sees(ann, "Pay 149 ₽")


async def test_a_refused_invoice_leads_to_other_ways(waiting: Waiting) -> None:
    """R-85: for the same order, the way itself among them."""
    waiting.ends(state="expired")
    await waiting.handle("bot_shows_refused", InvoiceRefused, reason="refused")
    await waiting.ann.receives("That way to pay does not work right now. Nothing was charged.")
    await sees(waiting.ann, "SBP · 149 ₽", "Card · 149 ₽", "Crypto · 149 ₽", "← Back")
    waiting.shop.owners.payments.providers_answer = True
    await waiting.ann.press("Card")
    await sees(waiting.ann, "Pay 149 ₽")
    assert len(waiting.shop.owners.orders) == 1


async def test_a_canceled_payment_leads_to_other_ways(waiting: Waiting) -> None:
    """R-125: the page to pay on is dead. The screen that led to it says so, and nothing is lost."""
    waiting.ends(state="open", pay_url="https://pay.example.org/1")
    await waiting.handle("bot_shows_opened", InvoiceOpened)
    await sees(waiting.ann, "Pay 149 ₽")
    waiting.ends(state="expired", pay_url="https://pay.example.org/1")
    await waiting.handle("bot_shows_refused", InvoiceRefused, reason="canceled")
    await waiting.ann.receives("The payment did not go through. Nothing was charged.")
    await sees(waiting.ann, "SBP · 149 ₽", "Card · 149 ₽", "Crypto · 149 ₽", "← Back")
    assert len((await waiting.ann.chat()).from_bot) == 1


async def test_another_screen_is_left_alone(waiting: Waiting) -> None:
    """R-85, N-19: the person went back before the provider answered."""
    await waiting.ann.press("Back")
    await waiting.ann.receives("Choose a plan")
    await until(waiting.shop.is_quiescent)
    looked = waiting.shop.owners.received_of(InvoiceQuery)
    waiting.ends(state="open", pay_url="https://pay.example.org/1")
    await waiting.handle("bot_shows_opened", InvoiceOpened)
    await waiting.ann.press("Basic")
    await waiting.ann.receives("For how long?")
    assert (await waiting.ann.chat()).button("Pay 149") is None
    assert waiting.shop.owners.received_of(InvoiceQuery) == looked


async def test_a_lost_edit_is_mended_by_a_tap(waiting: Waiting) -> None:
    """R-85: Telegram refuses the edit; the button looks again."""
    await waiting.shop.people.plan_fault("500", method="editMessageText")
    waiting.ends(state="open", pay_url="https://pay.example.org/1")
    await waiting.handle("bot_shows_opened", InvoiceOpened)
    await waiting.ann.press("Check again")
    await sees(waiting.ann, "Pay 149 ₽")


async def test_too_many_edits_are_dropped(waiting: Waiting) -> None:
    """R-85: the queue has a bound, and a full one ends no handler."""
    database = waiting.shop.database
    resources = Resources(None, database, None, None)  # type: ignore[arg-type]  # No loop runs.
    idle = InvoiceScreens(resources)
    event = InvoiceOpened.caused_by(
        "x", about=uuid4(), at=datetime.now(UTC), order=uuid4(), invoice=uuid4()
    )
    idle.note([event] * (MAX_NOTED + 1))
    assert idle.noted.qsize() == MAX_NOTED
