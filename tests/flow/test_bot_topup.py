"""Topping up the balance: amounts from buttons and typed ones, and the pages of its history."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.payments import OpenInvoice, PlansQuery
from tests.kit.bot import running
from tests.kit.bot_payments import RUBLES, STARS
from tests.kit.bot_shop import Shop, opened_shop, sees
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import PersonClient


@pytest.fixture
async def ground(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """Everything but bot-gateway itself."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        shop.owners.payments.ways = (STARS, *RUBLES)
        yield shop


@pytest.fixture
async def shop(ground: Shop) -> AsyncIterator[Shop]:
    async with running(ground.settings):
        yield ground


async def at_the_question(shop: Shop) -> PersonClient:
    """A person whom the bot asks for an amount."""
    ann = await shop.newcomer()
    for name in ("Balance", "Top up", "Another amount"):
        await ann.press(name)
    await ann.receives("Type the amount")
    return ann


async def test_a_topup_is_an_order_of_its_own(shop: Shop) -> None:
    """R-81: the Stars on the button, by the rate of the day, are those of the invoice."""
    ann = await shop.newcomer()
    for name in ("Balance", "Top up"):
        await ann.press(name)
    await sees(ann, "250 ₽", "500 ₽", "1\u202f000 ₽", "✍️ Another amount", "← Back")
    await ann.press("500")
    await ann.receives("Top up the balance: 500")
    await sees(ann, "Telegram Stars · 334 ⭐", "SBP · 500 ₽")
    await ann.press("Stars", times=5)
    await sees(ann, "Pay 334 ⭐")
    await until(shop.is_quiescent)
    assert len(shop.owners.received_of(OpenInvoice)) == 5
    [order] = shop.owners.orders.values()
    assert (order.plan, order.topup_minor) == (None, 50_000)
    assert len(shop.owners.payments.invoices) == 1
    assert (await ann.pay()).paid
    await ann.receives("What would you like to do?")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("100", "100 ₽"),
        ("100000", "100\u202f000 ₽"),
        ("1 000", "1\u202f000 ₽"),
        ("1000 ₽", "1\u202f000 ₽"),
        ("  750руб. ", "750 ₽"),
    ],
)
async def test_a_typed_amount_is_offered(shop: Shop, typed: str, shown: str) -> None:
    """R-82: the ways appear below the answer, and the question is gone."""
    ann = await at_the_question(shop)
    await ann.say(typed)
    screen = await ann.receives("How would you like to pay?")
    assert f"Top up the balance: {shown}" in screen.text.replace("\u00a0", " ")
    await until(shop.is_quiescent)
    assert len((await ann.chat()).from_bot) == 1


@pytest.mark.parametrize(
    "typed", ["0", "99", "100001", "5oo", "123456789012", "🦊", "-500", "50.5"]
)
async def test_anything_else_is_asked_for_again(shop: Shop, typed: str) -> None:
    """R-82: with the limits, and the next message is read as an amount again."""
    ann = await at_the_question(shop)
    await ann.say(typed)
    shown = await ann.receives("I cannot add that amount")
    assert "from 100 ₽ to 100\u202f000 ₽" in shown.text.replace("\u00a0", " ")
    await ann.say("500")
    await ann.receives("Top up the balance: 500")
    assert not shop.owners.orders


async def test_the_question_survives_a_restart(ground: Shop) -> None:
    """R-82, W-09: it is a row of the chat."""
    async with running(ground.settings):
        ann = await at_the_question(ground)
    await ann.say("700")
    async with running(ground.settings):
        await ann.receives("Top up the balance: 700")


@pytest.mark.parametrize("left_by", ["Back", "/start", "/help"])
async def test_another_step_ends_the_question(shop: Shop, left_by: str) -> None:
    """R-82: a number that is typed later is no amount."""
    ann = await at_the_question(shop)
    await (ann.say(left_by) if left_by.startswith("/") else ann.press(left_by))
    await until(shop.is_quiescent)
    await ann.say("500")
    await ann.receives("I only understand buttons")


async def test_a_typed_amount_survives_an_outage(shop: Shop) -> None:
    """R-82, P-01: the button "try again" holds it."""
    ann = await at_the_question(shop)
    shop.owners.silent.add(PlansQuery.topic)
    await ann.say("700")
    await ann.receives("The fault is ours")
    shop.owners.silent.clear()
    await ann.press("Try again")
    await ann.receives("Top up the balance: 700")


@pytest.mark.parametrize("data", ["topup:99", "topup:100001", "add:5:stars:x", "add:500:cash:x"])
async def test_a_forged_amount_orders_nothing(shop: Shop, data: str) -> None:
    """S-08."""
    ann = await shop.newcomer()
    menu = await ann.receives("What would you like to do?")
    await ann.press_data(menu.id, data)
    await until(lambda: shop.has_refused("button", "stale_or_forged"))
    assert not shop.owners.orders
