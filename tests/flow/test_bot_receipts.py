"""The e-mail for receipts: asked once before an invoice, skipped, changed and removed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.payments import OpenInvoice, SavedMethod, SetReceiptEmail
from tests.kit.bot import running
from tests.kit.bot_payments import RUBLES, STARS
from tests.kit.bot_shop import Shop, opened_shop, sees, to_ways
from tests.kit.servers import MakeDatabase

EMAIL = "anna@example.com"


@pytest.fixture
async def ground(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """A shop that asks. Everything but bot-gateway itself."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        shop.owners.payments.ways = (STARS, *RUBLES)
        shop.owners.payments.asks_email = True
        yield shop


@pytest.fixture
async def shop(ground: Shop) -> AsyncIterator[Shop]:
    async with running(ground.settings):
        yield ground


async def test_an_email_is_asked_once(shop: Shop) -> None:
    """R-147: the answer opens the invoice that was tapped; the next one opens at once."""
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("SBP")
    await ann.receives("Where should we send the receipt?")
    await ann.say(EMAIL)
    await sees(ann, "Pay 149 ₽")
    assert [one.way for one in shop.owners.received_of(OpenInvoice)] == ["sbp", "sbp"]
    assert list(shop.owners.payments.emails.values()) == [EMAIL]
    await ann.say("/start")
    await to_ways(ann)
    await ann.press("Card")
    await sees(ann, "Pay 149 ₽")
    assert len(shop.owners.received_of(SetReceiptEmail)) == 1


async def test_the_question_can_be_skipped(shop: Shop) -> None:
    """R-147: nobody has to give an e-mail to pay, and nobody is asked again."""
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Card")
    await ann.receives("Where should we send the receipt?")
    await ann.press("Pay without")
    await sees(ann, "Pay 149 ₽")
    assert list(shop.owners.payments.emails.values()) == [None]


@pytest.mark.parametrize("typed", ["anna", f"{'a' * 250}@example.com", "🦊"])
async def test_another_text_is_asked_for_again(shop: Shop, typed: str) -> None:
    """R-147: with the way to skip it, and the next message is read as an e-mail again."""
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("SBP")
    await ann.receives("Where should we send the receipt?")
    await ann.say(typed)
    await ann.receives("This is not an e-mail address")
    await ann.say(EMAIL)
    await sees(ann, "Pay 149 ₽")


async def test_stars_ask_for_no_email(shop: Shop) -> None:
    """R-147: no receipt goes with them."""
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("Stars")
    await sees(ann, "Pay 99 ⭐")
    assert not shop.owners.received_of(SetReceiptEmail)


async def test_a_saved_method_waits_for_the_email(shop: Shop) -> None:
    """R-147, R-149: it is charged by a tap that sees the amount, with a receipt."""
    card = SavedMethod(name="s0a1b2c", way="card", title="Bank card *4444")
    shop.owners.payments.saved = (card,)
    ann = await shop.newcomer()
    await to_ways(ann)
    await ann.press("⚡ Card")
    await ann.receives("Where should we send the receipt?")
    await ann.say(EMAIL)
    await sees(ann, "⚡ Card *4444 · 149 ₽", "Telegram Stars · 99 ⭐", "SBP · 149 ₽")
    await ann.press("⚡ Card")
    await ann.receives("We are charging your saved card")
    assert [one.way for one in shop.owners.received_of(OpenInvoice)] == [card.name, card.name]


async def test_a_question_before_paying_survives(ground: Shop) -> None:
    """R-147: the order and the way stand in the row of the chat."""
    async with running(ground.settings):
        ann = await ground.newcomer()
        await to_ways(ann)
        await ann.press("SBP")
        await ann.receives("Where should we send the receipt?")
    await ann.say(EMAIL)
    async with running(ground.settings):
        await sees(ann, "Pay 149 ₽")


async def test_the_email_can_be_changed_and_removed(shop: Shop) -> None:
    """R-147: on the balance."""
    ann = await shop.newcomer()
    await ann.press("Balance")
    await ann.press("Receipts")
    await ann.receives("No e-mail for receipts")
    await ann.say(EMAIL)
    await ann.receives(f"Receipts go to {EMAIL}")
    await ann.say("other@example.com")
    await ann.receives("Receipts go to other@example.com")
    await ann.press("Remove")
    await ann.receives("No e-mail for receipts")
    assert list(shop.owners.payments.emails.values()) == [None]


async def test_a_shop_may_ask_nobody(shop: Shop) -> None:
    """R-147: the setting is off by default."""
    shop.owners.payments.asks_email = False
    ann = await shop.newcomer()
    await ann.press("Balance")
    shown = await ann.receives("Wallet")
    assert not [button for button in shown.buttons if "Receipts" in button.text]
