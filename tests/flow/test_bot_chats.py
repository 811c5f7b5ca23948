"""The screens of a chat: one per chat, edited in place; access, key, balance and support."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer

from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells
from shared.contracts.message import Refused
from shared.contracts.payments import PlansQuery, ReceiptsQuery
from shared.contracts.vpn import Access, Key
from tests.kit.bot import BOT, LINK, TOKEN, message_update, running
from tests.kit.bot_shop import Shop, opened_shop
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.sandbox.client import PersonClient


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop, running(shop.settings):
        yield shop


async def test_the_key_is_a_text_and_a_picture(shop: Shop) -> None:
    """The picture is a message of its own, and its button deletes it."""
    ann = await shop.newcomer()
    ends_at = datetime.now(UTC) + timedelta(days=29, hours=12)
    shop.owners.access = Access(state="up", plan="basic", devices=5, ends_at=ends_at)
    shop.owners.key = Key(link=LINK, ends_at=ends_at)
    await ann.press("My access")
    await ann.receives("30 days left")
    await ann.press("Key")
    assert (await ann.receives("Tap it to copy it")).code == [LINK]
    await ann.press("QR")
    chat = await ann.wait_for(
        lambda chat: chat.last is not None and chat.last.photo is not None, what="a picture"
    )
    assert chat.last is not None
    assert chat.last.photo is not None
    assert (await shop.people.file(chat.last.photo)).startswith(b"\x89PNG")
    await ann.press("Delete this picture")
    await ann.wait_for(lambda chat: all(message.photo is None for message in chat.messages))


async def test_the_screen_goes_below_a_picture(shop: Shop) -> None:
    """W-65: the one screen is the newest message, so the next screens appear in sight."""
    ann = await shop.newcomer()
    ends_at = datetime.now(UTC) + timedelta(days=29, hours=12)
    shop.owners.access = Access(state="up", plan="basic", devices=5, ends_at=ends_at)
    shop.owners.key = Key(link=LINK, ends_at=ends_at)
    await ann.press("My access")
    await ann.press("Key")
    for pictures in (1, 2):
        await ann.press("QR")
        await until(shop.is_quiescent)
        *above, screen = (await ann.chat()).from_bot
        assert [message.photo is not None for message in above] == [True] * pictures
        assert screen.code == [LINK]
    await ann.press("Back")
    assert (await ann.receives("30 days left")).id == screen.id


async def test_the_button_of_a_receipt_keeps_the_receipt(shop: Shop) -> None:
    """N-08, N-19: the one screen of the chat appears below it, however often it is pressed."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    receipt = await message_of_notifier(shop, ann, "Your key")
    for _ in range(3):
        await ann.press_data(receipt, "go:access")
        below = await ann.receives("You have no access yet")
        await until(shop.is_quiescent)
        assert [message.id for message in (await ann.chat()).from_bot] == [receipt, below.id]
    await ann.press("Back")
    assert (await ann.receives("What would you like to do?")).id == below.id


@pytest.mark.parametrize(
    ("data", "screen"),
    [
        ("below:buy", "Choose a plan"),
        ("below:balance", "Balance:"),
        ("below:friends", "Invite friends"),
        ("below:support", "Support"),
        ("below:no_screen", "What would you like to do?"),
        ("go:qr", "You have no access yet"),
    ],
)
async def test_every_button_of_a_notice_keeps_it(shop: Shop, data: str, screen: str) -> None:
    """R-53: the screen appears below it, and goes on there."""
    ann = await shop.newcomer()
    shop.owners.key = Refused(reason="no_access")
    await ann.receives("What would you like to do?")
    notice = await message_of_notifier(shop, ann, "Your key")
    for _ in range(2):
        await ann.press_data(notice, data)
        await until(shop.is_quiescent)
        below = await ann.receives(screen)
        assert [message.id for message in (await ann.chat()).from_bot] == [notice, below.id]
    assert below.text != "Your key"


async def test_an_unanswered_notice_keeps_its_message(shop: Shop) -> None:
    """R-53: the trouble is shown below it, and its button tries again there."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    notice = await message_of_notifier(shop, ann, "Your key")
    shop.owners.silent.add(PlansQuery.topic)
    await ann.press_data(notice, "below:buy")
    trouble = await ann.receives("The fault is ours")
    shop.owners.silent.clear()
    await ann.press("Try again")
    assert (await ann.receives("Choose a plan")).id == trouble.id
    assert [message.id for message in (await ann.chat()).from_bot] == [notice, trouble.id]


async def message_of_notifier(shop: Shop, person: PersonClient, text: str) -> int:
    """A message that another service sends with the same token; returns its id."""
    api = TelegramAPIServer.from_base(shop.settings.telegram_api_url)
    async with Bot(TOKEN, session=AiohttpSession(api=api)) as notifier:
        return (await notifier.send_message(person.id, text)).message_id


async def test_a_chat_has_one_screen(shop: Shop) -> None:
    """N-19: the screen appears below the message of the person, and the old one is deleted."""
    ann = await shop.newcomer()
    for typed in ("/start", "hello", "/terms", "/start"):
        await ann.say(typed)
        await until(shop.is_quiescent)
        assert len((await ann.chat()).from_bot) == 1
    await ann.receives("What would you like to do?")


PHOTO = {"file_id": "1", "file_unique_id": "1", "width": 1, "height": 1}
STICKER = {
    "file_id": "1",
    "file_unique_id": "1",
    "type": "regular",
    "width": 1,
    "height": 1,
    "is_animated": False,
    "is_video": False,
}


@pytest.mark.parametrize(
    "written",
    [
        {"text": "how do I pay?"},
        {"text": "/help"},
        {"photo": [PHOTO]},
        {"sticker": STICKER},
        {"newer": {}},
    ],
    ids=("text", "command", "photo", "sticker", "unknown to us"),
)
async def test_anything_written_gets_an_answer(shop: Shop, written: dict[str, Any]) -> None:
    """R-49: a sentence, the menu and the way to support."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await send(shop, ann, written)
    await ann.receives("I only understand buttons")
    await ann.button("Support")


async def send(shop: Shop, person: PersonClient, content: dict[str, Any]) -> None:
    """A message of this person with a content that the sandbox does not know."""
    update = message_update(person.id, **content)
    async with shop.database.transaction() as tx:
        await take_in(BOT, [update], Bells(), tx)


async def test_a_service_message_gets_no_answer(shop: Shop) -> None:
    """R-49: nobody wrote it, and an answer would come out of nothing."""
    ann = await shop.newcomer()
    await ann.receives("What would you like to do?")
    await send(shop, ann, {"delete_chat_photo": True})
    await until(shop.is_quiescent)
    await ann.receives("What would you like to do?")


async def test_a_failed_deletion_shows_the_next_screen(shop: Shop) -> None:
    """The old screen then stays above it."""
    ann = await shop.newcomer()
    await shop.people.plan_fault("500", method="deleteMessage")
    await ann.say("/start")
    await until(shop.is_quiescent)
    assert len((await ann.chat()).from_bot) == 2


async def test_without_a_key_the_access_is_shown(shop: Shop) -> None:
    ann = await shop.newcomer()
    shop.owners.access = Access(state="issuing")
    shop.owners.key = Refused(reason="issuing")
    menu = await ann.receives("What would you like to do?")
    await ann.press_data(menu.id, "go:key")
    await ann.receives("being set up")


async def test_the_balance_shows_amounts_debts_and_reasons(shop: Shop) -> None:
    ann = await shop.newcomer()
    payments = shop.owners.payments
    payments.wallet_minor, payments.earned_minor, payments.owed_minor = 5_000, 1_490, 700
    await ann.press("Balance")
    text = (await ann.receives("Balance:")).text.replace("\u00a0", " ")
    assert "Balance: 64.90 ₽" in text
    assert "You owe: 7 ₽" in text
    assert "+14.90 ₽  share of a friend’s payment" in text


@pytest.mark.parametrize("typed", ["/support", "/paysupport"])
async def test_support_answers_always(shop: Shop, typed: str) -> None:
    """R-30: before the offer is accepted, and while payments is down.

    Telegram requires /paysupport of a bot that takes Stars.
    """
    ann = await shop.people.new_person("Ann")
    await ann.say("/start")
    await ann.receives("Welcome to Turnpike")
    await ann.say(typed)
    assert (await ann.receives("Your last payments")).code == ["stxpaid"]
    shop.owners.silent.add(ReceiptsQuery.topic)
    await ann.say(typed)
    await ann.receives("Your payments cannot be shown right now")
    await ann.press("Back")
    await ann.receives("Welcome to Turnpike")
