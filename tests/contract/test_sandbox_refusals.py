"""The stand-in for Telegram says no where Telegram says no, in its words, to a real aiogram bot."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramAPIError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.methods import SendDice
from aiogram.types import (
    BotCommand,
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    LabeledPrice,
    MessageEntity,
)

from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient

TOKEN = "4242:AAtest-token"


def bot_of(sandbox: Sandbox, token: str = TOKEN) -> Bot:
    return Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base(sandbox.url), timeout=20))


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\x00" + b"\xff\x00\x00" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    limits = Limits(messages_per_s=1000, messages_burst=1000, chat_messages_per_s=1000, chat_messages_burst=1000)
    async with Sandbox(tmp_path_factory.mktemp("sandbox"), TOKEN, limits=limits) as started:
        yield started


@pytest.fixture(scope="module")
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    talking = bot_of(sandbox)
    yield talking
    await talking.session.close()


@pytest.fixture
async def alice(sandbox: Sandbox) -> AsyncIterator[PersonClient]:
    async with SandboxClient(sandbox.url) as client:
        person = await client.new_person("Alice")
        await person.say("/start")
        yield person


def one_button(**action: Any) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Press", **action)]])


async def test_a_wrong_token_is_refused(sandbox: Sandbox) -> None:
    stranger = bot_of(sandbox, "4242:another-token")
    with pytest.raises(TelegramUnauthorizedError):
        await stranger.get_me()
    await stranger.session.close()


async def test_a_method_that_does_not_exist_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramNotFound):
        await bot(SendDice(chat_id=alice.id))


async def test_a_misspelt_parameter_is_refused_by_its_name(sandbox: Sandbox, alice: PersonClient) -> None:
    """Telegram would ignore it in silence; the stand-in makes the typing error visible."""
    async with aiohttp.ClientSession() as http:
        call = {"chat_id": alice.id, "text": "hello", "reply_markupp": {}}
        async with http.post(f"{sandbox.url}/bot{TOKEN}/sendMessage", json=call) as answer:
            assert answer.status == 400
            assert '"reply_markupp"' in (await answer.json())["description"]


async def test_unknown_fields_of_a_keyboard_are_tolerated(sandbox: Sandbox, alice: PersonClient) -> None:
    button = {"text": "Press", "callback_data": "x", "sparkle": True}
    call = {"chat_id": alice.id, "text": "hello", "reply_markup": {"inline_keyboard": [[button]], "glow": 1}}
    address = f"{sandbox.url}/bot{TOKEN}/sendMessage"
    async with aiohttp.ClientSession() as http, http.post(address, json=call) as answer:
        kept = (await answer.json())["result"]["reply_markup"]
    assert kept == {"inline_keyboard": [[{"text": "Press", "callback_data": "x"}]]}


async def test_a_query_and_a_form_are_read_like_json(sandbox: Sandbox, alice: PersonClient) -> None:
    async with aiohttp.ClientSession() as http:
        address = f"{sandbox.url}/bot{TOKEN}/SENDMESSAGE"
        async with http.get(address, params={"chat_id": alice.id, "text": "by query"}) as answer:
            assert (await answer.json())["result"]["text"] == "by query"
        async with http.post(address, data={"chat_id": str(alice.id), "text": "by form"}) as answer:
            assert (await answer.json())["result"]["text"] == "by form"


@pytest.mark.parametrize("chat_id", ["no-number", "@a_channel", 1, -100, 10**30])
async def test_a_chat_that_does_not_exist_is_refused(bot: Bot, chat_id: str | int) -> None:
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(chat_id, "hello")


async def test_a_missing_chat_id_is_refused(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match="chat_id is empty"):
        await bot.send_message("", "hello")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "message text is empty"), ("  \n ", "message text is empty"), ("й" * 4097, "message is too long")],
)
async def test_a_text_of_a_wrong_length_is_refused(bot: Bot, alice: PersonClient, text: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.send_message(alice.id, text)


async def test_the_longest_text_passes_and_markup_does_not_count(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_message(alice.id, f"<b>{'й' * 4096}</b>", parse_mode="HTML")
    assert sent.text == "й" * 4096


async def test_a_caption_above_1024_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    photo = BufferedInputFile(png(2, 2), "dot.png")
    with pytest.raises(TelegramBadRequest, match="caption is too long"):
        await bot.send_photo(alice.id, photo, caption="x" * 1025)


async def test_a_photo_that_is_no_picture_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="IMAGE_PROCESS_FAILED"):
        await bot.send_photo(alice.id, BufferedInputFile(b"no picture", "dot.png"))


async def test_a_photo_by_an_unknown_id_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="wrong file identifier"):
        await bot.send_photo(alice.id, "AgACAgIAAxkBnobody")


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("<b>bold", "Can't find end tag corresponding to start tag b"),
        ("a < b", 'Unsupported start tag "" at byte offset 2'),
        ("ё<blink>x</blink>", 'Unsupported start tag "blink" at byte offset 2'),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b", "Unclosed start tag at byte offset 0"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<br>", 'Unsupported start tag "br"'),
        ("<p>x</p>", 'Unsupported start tag "p"'),
        ("<span class='other'>x</span>", 'Tag "span" must have class "tg-spoiler"'),
        ("<a href='x>y</a>", "Unclosed start tag"),
    ],
)
async def test_broken_html_is_refused(bot: Bot, alice: PersonClient, html: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest) as refused:
        await bot.send_message(alice.id, html, parse_mode="HTML")
    assert f"can't parse entities: {reason}" in refused.value.message


async def test_an_unknown_parse_mode_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="unsupported parse_mode"):
        await bot.send_message(alice.id, "x", parse_mode="BBCode")


async def test_entities_outside_the_text_are_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="ENTITY_BOUNDS_INVALID"):
        await bot.send_message(alice.id, "x", entities=[MessageEntity(type="bold", offset=0, length=2)])


@pytest.mark.parametrize("data", ["x" * 65, "ё" * 33])
async def test_callback_data_above_64_bytes_is_refused(bot: Bot, alice: PersonClient, data: str) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_DATA_INVALID"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(callback_data=data))


@pytest.mark.parametrize("data", ["x" * 64, "ё" * 32])
async def test_callback_data_of_64_bytes_passes(bot: Bot, alice: PersonClient, data: str) -> None:
    sent = await bot.send_message(alice.id, "x", reply_markup=one_button(callback_data=data))
    assert sent.reply_markup is not None
    assert sent.reply_markup.inline_keyboard[0][0].callback_data == data


async def test_a_button_without_an_action_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="Text buttons are unallowed"):
        await bot.send_message(alice.id, "x", reply_markup=one_button())


async def test_a_button_with_two_actions_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="callback_data and url"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(callback_data="a", url="https://example.org"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("happ://add/https://example.org/s/x", "Unsupported URL protocol"),
        ("vless://id@example.org:443", "Unsupported URL protocol"),
        ("http://localhost:8080/x", "Wrong HTTP URL"),
    ],
)
async def test_a_button_with_a_foreign_address_is_refused(bot: Bot, alice: PersonClient, url: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest) as refused:
        await bot.send_message(alice.id, "x", reply_markup=one_button(url=url))
    assert f"inline keyboard button URL '{url}' is invalid: {reason}" in refused.value.message


async def test_a_copy_button_above_256_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_COPY_TEXT_INVALID"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(copy_text={"text": "k" * 257}))


async def test_a_web_app_without_https_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="Only HTTPS links are allowed"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(web_app={"url": "http://example.org"}))


async def test_a_pay_button_outside_an_invoice_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_TYPE_INVALID"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(pay=True))


async def test_an_edit_that_changes_nothing_is_refused(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_message(alice.id, "<b>x</b>", parse_mode="HTML", reply_markup=one_button(callback_data="a"))
    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await bot.edit_message_text(
            "<strong>x</strong>",
            chat_id=alice.id,
            message_id=sent.message_id,
            parse_mode="HTML",
            reply_markup=one_button(callback_data="a"),
        )
    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await bot.edit_message_reply_markup(
            chat_id=alice.id, message_id=sent.message_id, reply_markup=one_button(callback_data="a")
        )


async def test_editing_or_deleting_what_is_not_there_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="message to edit not found"):
        await bot.edit_message_text("x", chat_id=alice.id, message_id=999_999)
    with pytest.raises(TelegramBadRequest, match="message to delete not found"):
        await bot.delete_message(alice.id, 999_999)
    with pytest.raises(TelegramBadRequest, match="message identifier is not specified"):
        await bot.edit_message_text("x", chat_id=alice.id)


async def test_a_persons_own_message_cannot_be_edited(bot: Bot, alice: PersonClient) -> None:
    start = (await alice.chat()).messages[0]
    with pytest.raises(TelegramBadRequest, match="message can't be edited"):
        await bot.edit_message_text("x", chat_id=alice.id, message_id=start.id)


async def test_text_and_caption_are_edited_by_their_own_methods(bot: Bot, alice: PersonClient) -> None:
    text = await bot.send_message(alice.id, "x")
    photo = await bot.send_photo(alice.id, BufferedInputFile(png(2, 3), "dot.png"), caption="y")
    with pytest.raises(TelegramBadRequest, match="there is no caption in the message to edit"):
        await bot.edit_message_caption(chat_id=alice.id, message_id=text.message_id, caption="z")
    with pytest.raises(TelegramBadRequest, match="there is no text in the message to edit"):
        await bot.edit_message_text("z", chat_id=alice.id, message_id=photo.message_id)
    media = InputMediaPhoto(media="nothing-of-this-name")
    with pytest.raises(TelegramBadRequest, match="wrong file identifier"):
        await bot.edit_message_media(media, chat_id=alice.id, message_id=photo.message_id)


async def test_a_callback_is_answered_once(bot: Bot, alice: PersonClient) -> None:
    query = (await alice.press_data(1, "x"))["callback"]
    await bot.answer_callback_query(query, "Done")
    with pytest.raises(
        TelegramBadRequest, match="query is too old and response timeout expired or query ID is invalid"
    ):
        await bot.answer_callback_query(query)
    with pytest.raises(TelegramBadRequest, match="query ID is invalid"):
        await bot.answer_callback_query("123")


async def test_a_callback_that_is_too_old_is_not_answered(tmp_path: Path) -> None:
    async with (
        Sandbox(tmp_path, TOKEN, limits=Limits(callback_s=0.05)) as sandbox,
        SandboxClient(sandbox.url) as client,
    ):
        person = await client.new_person("Alice")
        await person.say("/start")
        query = (await person.press_data(1, "x"))["callback"]
        await asyncio.sleep(0.1)
        bot = bot_of(sandbox)
        with pytest.raises(TelegramBadRequest, match="query is too old"):
            await bot.answer_callback_query(query)
        await bot.session.close()


async def test_an_answer_of_more_than_200_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    query = (await alice.press_data(1, "x"))["callback"]
    with pytest.raises(TelegramBadRequest, match="MESSAGE_TOO_LONG"):
        await bot.answer_callback_query(query, "x" * 201)


def invoice(**changes: object) -> dict[str, Any]:
    prices = [LabeledPrice(label="Basic", amount=100)]
    return {"title": "Basic", "description": "A month", "payload": "p", "currency": "XTR", "prices": prices, **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload": "x" * 129}, "INVOICE_PAYLOAD_INVALID"),
        ({"payload": "ё" * 65}, "INVOICE_PAYLOAD_INVALID"),
        ({"payload": ""}, 'parameter "payload" is required'),
        ({"title": "x" * 33}, "TITLE_INVALID"),
        ({"description": "x" * 256}, "DESCRIPTION_INVALID"),
        ({"provider_token": "1:TEST:2"}, "STARS_INVOICE_INVALID"),
        ({"prices": [LabeledPrice(label="a", amount=1), LabeledPrice(label="b", amount=1)]}, "STARS_INVOICE_INVALID"),
        ({"need_email": True}, "STARS_INVOICE_INVALID"),
        ({"prices": [LabeledPrice(label="a", amount=0)]}, "CURRENCY_TOTAL_AMOUNT_INVALID"),
        ({"prices": [LabeledPrice(label="a", amount=-5)]}, "CURRENCY_TOTAL_AMOUNT_INVALID"),
        ({"prices": []}, "there must be at least one price"),
        ({"currency": "TXR"}, "CURRENCY_INVALID"),
        ({"currency": "RUB"}, "PAYMENT_PROVIDER_INVALID"),
    ],
)
async def test_an_invoice_that_cannot_be_paid_is_refused(
    bot: Bot, alice: PersonClient, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.create_invoice_link(**invoice(**changes))
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.send_invoice(alice.id, **invoice(**changes))


async def test_a_refusal_to_sell_without_a_reason_is_refused(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match='parameter "error_message" is required'):
        await bot.answer_pre_checkout_query("1", ok=False)


async def test_a_refund_of_an_unknown_charge_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="CHARGE_ID_INVALID"):
        await bot.refund_star_payment(alice.id, "stx-unknown")


async def test_a_page_of_more_than_100_transactions_is_refused(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match="LIMIT_INVALID"):
        await bot.get_star_transactions(limit=101)


@pytest.mark.parametrize(("name", "reason"), [("Start", "BOT_COMMAND_INVALID"), ("a-b", "BOT_COMMAND_INVALID")])
async def test_a_command_of_a_wrong_form_is_refused(bot: Bot, name: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.set_my_commands([BotCommand(command=name, description="x")])


@pytest.mark.parametrize(
    ("url", "secret", "reason"),
    [
        ("http://example.org/hook", "abc", "An HTTPS URL must be provided"),
        ("https://example.org/hook", "with space", "secret token contains unallowed characters"),
    ],
)
async def test_a_webhook_that_telegram_cannot_use_is_refused(bot: Bot, url: str, secret: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.set_webhook(url, secret_token=secret)


async def test_nobody_is_written_to_before_start(bot: Bot, sandbox: Sandbox) -> None:
    async with SandboxClient(sandbox.url) as client:
        quiet = await client.new_person("Quiet")
        with pytest.raises(TelegramBadRequest, match="chat not found"):
            await bot.send_message(quiet.id, "hello")
        await quiet.say("/start")
        await bot.send_message(quiet.id, "hello")


async def test_who_blocked_the_bot_is_not_written_to(bot: Bot, alice: PersonClient) -> None:
    await alice.block()
    with pytest.raises(TelegramForbiddenError, match="bot was blocked by the user"):
        await bot.send_message(alice.id, "hello")
    await alice.unblock()
    await bot.send_message(alice.id, "hello")


async def test_more_than_a_small_burst_to_one_chat_is_slowed(tmp_path: Path) -> None:
    async with Sandbox(tmp_path, TOKEN) as sandbox, SandboxClient(sandbox.url) as client:
        person = await client.new_person("Alice")
        await person.say("/start")
        bot = bot_of(sandbox)
        for number in range(Limits().chat_messages_burst):
            await bot.send_message(person.id, f"{number}")
        with pytest.raises(TelegramRetryAfter) as slowed:
            await bot.send_message(person.id, "one too many")
        assert slowed.value.retry_after == 1
        assert len((await person.chat()).from_bot) == Limits().chat_messages_burst
        await bot.session.close()


async def test_more_than_the_bot_may_say_in_all_is_slowed(tmp_path: Path) -> None:
    limits = Limits(messages_per_s=0.5, messages_burst=3)
    async with Sandbox(tmp_path, TOKEN, limits=limits) as sandbox, SandboxClient(sandbox.url) as client:
        people = [await client.new_person(name) for name in ("Ann", "Bob", "Cleo", "Dan")]
        bot = bot_of(sandbox)
        for person in people:
            await person.say("/start")
        for person in people[:3]:
            await bot.send_message(person.id, "hello")
        with pytest.raises(TelegramRetryAfter) as slowed:
            await bot.send_message(people[3].id, "hello")
        assert slowed.value.retry_after == 2
        await bot.session.close()


async def test_a_message_of_more_than_two_days_cannot_be_deleted(tmp_path: Path) -> None:
    days = 0.0

    def now() -> float:
        return 1_700_000_000 + days * 86_400

    async with Sandbox(tmp_path, TOKEN, now=now) as sandbox, SandboxClient(sandbox.url) as client:
        person = await client.new_person("Alice")
        await person.say("/start")
        bot = bot_of(sandbox)
        old = await bot.send_message(person.id, "old")
        days = 2.1
        with pytest.raises(TelegramAPIError, match="message can't be deleted for everyone"):
            await bot.delete_message(person.id, old.message_id)
        await bot.session.close()
