"""The sandbox refuses texts, photos, buttons, edits and callbacks that Telegram refuses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import (
    BufferedInputFile,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    MessageEntity,
)

from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, png, started
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    async with Sandbox(folder, TOKEN, limits=UNLIMITED) as running:
        yield running


@pytest.fixture(scope="module")
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with bot_of(sandbox) as calling:
        yield calling


@pytest.fixture
async def alice(sandbox: Sandbox) -> AsyncIterator[PersonClient]:
    async with SandboxClient(sandbox.url) as client:
        yield await started(client)


def one_button(**action: Any) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Press", **action)]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "message text is empty"),
        ("  \n ", "message text is empty"),
        ("й" * 4097, "message is too long"),
    ],
)
async def test_a_text_of_wrong_length_is_refused(
    bot: Bot, alice: PersonClient, text: str, reason: str
) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.send_message(alice.id, text)


async def test_markup_does_not_count_as_text(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_message(alice.id, f"<b>{'й' * 4096}</b>", parse_mode="HTML")
    assert sent.text == "й" * 4096


async def test_a_caption_above_1024_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    photo = BufferedInputFile(png(2, 2), "dot.png")
    with pytest.raises(TelegramBadRequest, match="caption is too long"):
        await bot.send_photo(alice.id, photo, caption="x" * 1025)


async def test_a_file_without_a_picture_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="IMAGE_PROCESS_FAILED"):
        await bot.send_photo(alice.id, BufferedInputFile(b"no picture", "dot.png"))


async def test_an_unknown_photo_id_is_refused(bot: Bot, alice: PersonClient) -> None:
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
async def test_broken_html_is_refused(
    bot: Bot, alice: PersonClient, html: str, reason: str
) -> None:
    with pytest.raises(TelegramBadRequest) as refused:
        await bot.send_message(alice.id, html, parse_mode="HTML")
    assert f"can't parse entities: {reason}" in refused.value.message


async def test_an_unknown_parse_mode_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="unsupported parse_mode"):
        await bot.send_message(alice.id, "x", parse_mode="BBCode")


async def test_entities_outside_the_text_are_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="ENTITY_BOUNDS_INVALID"):
        await bot.send_message(
            alice.id, "x", entities=[MessageEntity(type="bold", offset=0, length=2)]
        )


@pytest.mark.parametrize("data", ["x" * 65, "ё" * 33])
async def test_callback_data_above_64_bytes_is_refused(
    bot: Bot, alice: PersonClient, data: str
) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_DATA_INVALID"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(callback_data=data))


@pytest.mark.parametrize("data", ["x" * 64, "ё" * 32])
async def test_callback_data_of_64_bytes_is_accepted(
    bot: Bot, alice: PersonClient, data: str
) -> None:
    sent = await bot.send_message(alice.id, "x", reply_markup=one_button(callback_data=data))
    assert sent.reply_markup is not None
    assert sent.reply_markup.inline_keyboard[0][0].callback_data == data


async def test_a_button_without_an_action_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="Text buttons are unallowed"):
        await bot.send_message(alice.id, "x", reply_markup=one_button())


async def test_a_button_with_two_actions_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="callback_data and url"):
        await bot.send_message(
            alice.id, "x", reply_markup=one_button(callback_data="a", url="https://example.org")
        )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("happ://add/https://example.org/s/x", "Unsupported URL protocol"),
        ("vless://id@example.org:443", "Unsupported URL protocol"),
        ("http://localhost:8080/x", "Wrong HTTP URL"),
    ],
)
async def test_a_button_with_an_unsupported_link_is_refused(
    bot: Bot, alice: PersonClient, url: str, reason: str
) -> None:
    with pytest.raises(TelegramBadRequest) as refused:
        await bot.send_message(alice.id, "x", reply_markup=one_button(url=url))
    assert f"inline keyboard button URL '{url}' is invalid: {reason}" in refused.value.message


async def test_a_copy_button_above_256_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_COPY_TEXT_INVALID"):
        await bot.send_message(
            alice.id, "x", reply_markup=one_button(copy_text={"text": "k" * 257})
        )


async def test_a_web_app_without_https_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="Only HTTPS links are allowed"):
        await bot.send_message(
            alice.id, "x", reply_markup=one_button(web_app={"url": "http://example.org"})
        )


async def test_a_pay_button_outside_an_invoice_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="BUTTON_TYPE_INVALID"):
        await bot.send_message(alice.id, "x", reply_markup=one_button(pay=True))


async def test_an_edit_without_a_change_is_refused(bot: Bot, alice: PersonClient) -> None:
    sent = await bot.send_message(
        alice.id, "<b>x</b>", parse_mode="HTML", reply_markup=one_button(callback_data="a")
    )
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


async def test_a_missing_message_cannot_be_changed(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="message to edit not found"):
        await bot.edit_message_text("x", chat_id=alice.id, message_id=999_999)
    with pytest.raises(TelegramBadRequest, match="message to delete not found"):
        await bot.delete_message(alice.id, 999_999)
    with pytest.raises(TelegramBadRequest, match="message identifier is not specified"):
        await bot.edit_message_text("x", chat_id=alice.id)


async def test_the_bot_cannot_edit_a_persons_message(bot: Bot, alice: PersonClient) -> None:
    start = (await alice.chat()).messages[0]
    with pytest.raises(TelegramBadRequest, match="message can't be edited"):
        await bot.edit_message_text("x", chat_id=alice.id, message_id=start.id)


async def test_text_and_caption_have_their_own_methods(bot: Bot, alice: PersonClient) -> None:
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
        TelegramBadRequest,
        match="query is too old and response timeout expired or query ID is invalid",
    ):
        await bot.answer_callback_query(query)
    with pytest.raises(TelegramBadRequest, match="query ID is invalid"):
        await bot.answer_callback_query("123")


async def test_an_old_callback_is_not_answered(tmp_path: Path) -> None:
    async with (
        Sandbox(tmp_path, TOKEN, limits=Limits(callback_s=0.05)) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        person = await started(client)
        query = (await person.press_data(1, "x"))["callback"]
        await asyncio.sleep(0.1)
        with pytest.raises(TelegramBadRequest, match="query is too old"):
            await bot.answer_callback_query(query)


async def test_an_answer_above_200_characters_is_refused(bot: Bot, alice: PersonClient) -> None:
    query = (await alice.press_data(1, "x"))["callback"]
    with pytest.raises(TelegramBadRequest, match="MESSAGE_TOO_LONG"):
        await bot.answer_callback_query(query, "x" * 201)
