"""Saved methods in the chat: consent, a charge by one tap, its refusal, and forgetting."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.contracts.payments import (
    ForgetMethod,
    InvoiceRefused,
    OpenInvoice,
    PayFromBalance,
    PlaceOrder,
    SavedMethod,
)
from shared.service import Service
from tests.kit.bot import running
from tests.kit.bot_payments import BASIC, CARD, SBP
from tests.kit.bot_shop import Shop, is_toasted, opened_shop, sees, to_ways
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import Chat

METHOD = SavedMethod(name="s0a1b2c", way="card", title="Bank card *4444")


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        shop.owners.payments.ways = (SBP, CARD)
        yield shop


@pytest.fixture
async def service(shop: Shop) -> AsyncIterator[Service]:
    async with running(shop.settings) as service:
        yield service


async def test_consent_is_given_on_the_invoice(shop: Shop, service: Service) -> None:
    """R-131: for this invoice, and taken back by the same button."""
    shop.owners.payments.saves = True
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Card")
    await sees(ann, "Pay 149 ₽", "☐ Remember this card", "← Back")
    await ann.press("Remember")
    await ann.receives("we will remember your card")
    await sees(ann, "Pay 149 ₽", "☑ Remember this card", "← Back")
    await ann.press("Remember")
    await sees(ann, "Pay 149 ₽", "☐ Remember this card", "← Back")
    wanted = shop.owners.received_of(OpenInvoice)
    assert [one.remember for one in wanted] == [False, True, False]
    assert len(shop.owners.received_of(PlaceOrder)) == 1


async def test_one_tap_charges_a_saved_method(shop: Shop, service: Service) -> None:
    """R-136: the screen says what is charged, and then why it was not; the order is the same."""
    payments = shop.owners.payments
    payments.saved = (METHOD,)
    ann = await shop.newcomer()
    await to_ways(ann)
    await sees(ann, "⚡ Card *4444 · 149 ₽", "SBP · 149 ₽", "Card · 149 ₽")
    await ann.press("⚡ Card")
    await ann.receives("We are charging your saved card: 149\u00a0₽.")
    await until(shop.is_quiescent)
    [invoice] = payments.invoices.values()
    changes = {"state": "expired", "refused": "no_funds"}
    payments.invoices[invoice.invoice] = invoice.model_copy(update=changes)
    [order] = payments.orders.values()
    event = InvoiceRefused.caused_by(
        invoice.invoice,
        about=order.person,
        at=datetime.now(UTC),
        order=invoice.order,
        invoice=invoice.invoice,
        reason="no_funds",
    )
    async with shop.database.transaction() as tx:
        await service.handlers["bot_shows_refused"].handle([event], tx)
    await ann.receives("There is not enough money on your card or account. Nothing was charged.")
    await ann.press("SBP")
    await sees(ann, "Pay 149 ₽")
    assert len(payments.orders) == 1


def button_of(chat: Chat, text: str) -> str:
    found = chat.button(text)
    return found.text if found else ""


async def test_another_charge_waits_for_the_first(shop: Shop, service: Service) -> None:
    """R-148: a sentence says so, and the other ways stay."""
    shop.owners.payments.saved = (METHOD,)
    shop.owners.payments.is_charging = True
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("⚡ Card")
    await is_toasted(
        ann, "An earlier charge has not ended yet. We will tell you the result in a message here."
    )
    await sees(ann, "⚡ Card *4444 · 149 ₽", "SBP · 149 ₽", "Card · 149 ₽")


@pytest.mark.parametrize(("button", "balance"), [("⚡ Card", 0), ("from the balance", 50_000)])
async def test_a_dearer_price_is_shown_first(
    shop: Shop, service: Service, button: str, balance: int
) -> None:
    """R-149: the price was raised since the screen of the button; no page would show it."""
    payments = shop.owners.payments
    payments.saved, payments.wallet_minor = (METHOD,), balance
    ann = await shop.newcomer()
    await to_ways(ann)
    dearer = BASIC.prices[0].model_copy(update={"price_minor": 49_900})
    payments.plans = (BASIC.model_copy(update={"prices": (dearer,)}),)
    await ann.press(button)
    await is_toasted(
        ann,
        "This costs more now than the button said. Nothing was charged."
        " Here is the price of today.",
    )
    asked = [*shop.owners.received_of(OpenInvoice), *shop.owners.received_of(PayFromBalance)]
    assert asked == []
    await ann.wait_for(lambda chat: "499" in button_of(chat, button))
    await ann.press(button)
    if balance:
        await is_toasted(ann, "Paid from the balance.")
    else:
        await ann.receives("We are charging your saved card: 499\u00a0₽.")
        assert [one.most_minor for one in shop.owners.received_of(OpenInvoice)] == [49_900]


async def test_a_saved_method_is_forgotten_after_a_question(shop: Shop, service: Service) -> None:
    """R-133: and an old button of it leads to the other ways."""
    shop.owners.payments.saved = (METHOD,)
    ann = await shop.newcomer()
    await to_ways(ann)
    shop.owners.payments.saved = ()
    await ann.press("⚡ Card")
    await is_toasted(ann, "We no longer remember that card or account.")
    await sees(ann, "SBP · 149 ₽", "Card · 149 ₽")
    shop.owners.payments.saved = (METHOD,)
    await ann.say("/start")
    await ann.press("Balance")
    await ann.press("Forget")
    await ann.receives("It will never be charged here again.")
    assert shop.owners.received_of(ForgetMethod) == []
    await ann.press("Yes, forget it")
    await is_toasted(ann, "Forgotten. It will not be charged again.")
    assert len(shop.owners.payments.saved) == 0
    await ann.wait_for(lambda chat: chat.button("Yes") is None)
    assert (await ann.chat()).button("Forget") is None
