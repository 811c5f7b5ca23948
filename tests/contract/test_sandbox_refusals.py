"""The sandbox refuses the calls that Telegram refuses, with Telegram's sentences."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiogram import Bot
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
    LabeledPrice,
)

from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, started
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


async def test_a_wrong_token_is_refused(sandbox: Sandbox) -> None:
    async with bot_of(sandbox, "4242:another-token") as bot:
        with pytest.raises(TelegramUnauthorizedError):
            await bot.get_me()


async def test_an_unknown_method_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramNotFound):
        await bot(SendDice(chat_id=alice.id))


async def test_an_unknown_parameter_is_refused_by_name(
    sandbox: Sandbox, alice: PersonClient
) -> None:
    """Telegram would ignore it silently. The sandbox makes the typing error visible."""
    async with aiohttp.ClientSession() as http:
        call = {"chat_id": alice.id, "text": "hello", "reply_markupp": {}}
        async with http.post(f"{sandbox.url}/bot{TOKEN}/sendMessage", json=call) as answer:
            assert answer.status == 400
            assert '"reply_markupp"' in (await answer.json())["description"]


async def test_unknown_fields_of_a_keyboard_are_ignored(
    sandbox: Sandbox, alice: PersonClient
) -> None:
    button = {"text": "Press", "callback_data": "x", "sparkle": True}
    call = {
        "chat_id": alice.id,
        "text": "hello",
        "reply_markup": {"inline_keyboard": [[button]], "glow": 1},
    }
    address = f"{sandbox.url}/bot{TOKEN}/sendMessage"
    async with aiohttp.ClientSession() as http, http.post(address, json=call) as answer:
        kept = (await answer.json())["result"]["reply_markup"]
    assert kept == {"inline_keyboard": [[{"text": "Press", "callback_data": "x"}]]}


async def test_a_call_may_be_a_query_or_form(sandbox: Sandbox, alice: PersonClient) -> None:
    async with aiohttp.ClientSession() as http:
        address = f"{sandbox.url}/bot{TOKEN}/SENDMESSAGE"
        async with http.get(address, params={"chat_id": alice.id, "text": "by query"}) as answer:
            assert (await answer.json())["result"]["text"] == "by query"
        async with http.post(address, data={"chat_id": str(alice.id), "text": "by form"}) as answer:
            assert (await answer.json())["result"]["text"] == "by form"


@pytest.mark.parametrize("chat_id", ["no-number", "@a_channel", 1, -100, 10**30])
async def test_an_unknown_chat_is_refused(bot: Bot, chat_id: str | int) -> None:
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(chat_id, "hello")


async def test_a_missing_chat_id_is_refused(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match="chat_id is empty"):
        await bot.send_message("", "hello")


def invoice(**changes: object) -> dict[str, Any]:
    prices = [LabeledPrice(label="Basic", amount=100)]
    return {
        "title": "Basic",
        "description": "A month",
        "payload": "p",
        "currency": "XTR",
        "prices": prices,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload": "x" * 129}, "INVOICE_PAYLOAD_INVALID"),
        ({"payload": "ё" * 65}, "INVOICE_PAYLOAD_INVALID"),
        ({"payload": ""}, 'parameter "payload" is required'),
        ({"title": "x" * 33}, "TITLE_INVALID"),
        ({"description": "x" * 256}, "DESCRIPTION_INVALID"),
        ({"provider_token": "1:TEST:2"}, "STARS_INVOICE_INVALID"),
        (
            {"prices": [LabeledPrice(label="a", amount=1), LabeledPrice(label="b", amount=1)]},
            "STARS_INVOICE_INVALID",
        ),
        ({"need_email": True}, "STARS_INVOICE_INVALID"),
        ({"prices": [LabeledPrice(label="a", amount=0)]}, "CURRENCY_TOTAL_AMOUNT_INVALID"),
        ({"prices": [LabeledPrice(label="a", amount=-5)]}, "CURRENCY_TOTAL_AMOUNT_INVALID"),
        ({"prices": []}, "there must be at least one price"),
        ({"currency": "TXR"}, "CURRENCY_INVALID"),
        ({"currency": "RUB"}, "PAYMENT_PROVIDER_INVALID"),
    ],
)
async def test_an_invalid_invoice_is_refused(
    bot: Bot, alice: PersonClient, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.create_invoice_link(**invoice(**changes))
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.send_invoice(alice.id, **invoice(**changes))


async def test_a_declined_checkout_needs_a_reason(bot: Bot) -> None:
    with pytest.raises(TelegramBadRequest, match='parameter "error_message" is required'):
        await bot.answer_pre_checkout_query("1", ok=False)


async def test_a_refund_of_an_unknown_charge_is_refused(bot: Bot, alice: PersonClient) -> None:
    with pytest.raises(TelegramBadRequest, match="CHARGE_ID_INVALID"):
        await bot.refund_star_payment(alice.id, "stx-unknown")


@pytest.mark.parametrize(
    ("name", "reason"), [("Start", "BOT_COMMAND_INVALID"), ("a-b", "BOT_COMMAND_INVALID")]
)
async def test_a_malformed_command_is_refused(bot: Bot, name: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.set_my_commands([BotCommand(command=name, description="x")])


@pytest.mark.parametrize(
    ("url", "secret", "reason"),
    [
        ("http://example.org/hook", "abc", "An HTTPS URL must be provided"),
        ("https://example.org/hook", "with space", "secret token contains unallowed characters"),
    ],
)
async def test_an_unusable_webhook_is_refused(bot: Bot, url: str, secret: str, reason: str) -> None:
    with pytest.raises(TelegramBadRequest, match=reason):
        await bot.set_webhook(url, secret_token=secret)


async def test_a_message_before_start_is_refused(bot: Bot, sandbox: Sandbox) -> None:
    async with SandboxClient(sandbox.url) as client:
        quiet = await client.new_person("Quiet")
        with pytest.raises(TelegramBadRequest, match="chat not found"):
            await bot.send_message(quiet.id, "hello")
        await quiet.say("/start")
        await bot.send_message(quiet.id, "hello")


async def test_a_message_after_a_block_is_refused(bot: Bot, alice: PersonClient) -> None:
    await alice.block()
    with pytest.raises(TelegramForbiddenError, match="bot was blocked by the user"):
        await bot.send_message(alice.id, "hello")
    await alice.unblock()
    await bot.send_message(alice.id, "hello")


async def test_a_burst_to_one_chat_is_limited(tmp_path: Path) -> None:
    async with (
        Sandbox(tmp_path, TOKEN) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        person = await started(client)
        for number in range(Limits().chat_messages_burst):
            await bot.send_message(person.id, f"{number}")
        with pytest.raises(TelegramRetryAfter) as slowed:
            await bot.send_message(person.id, "one too many")
        assert slowed.value.retry_after == 1
        assert len((await person.chat()).from_bot) == Limits().chat_messages_burst


async def test_messages_to_all_chats_are_limited(tmp_path: Path) -> None:
    limits = Limits(messages_per_s=0.5, messages_burst=3)
    async with (
        Sandbox(tmp_path, TOKEN, limits=limits) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        people = [await started(client, name) for name in ("Ann", "Bob", "Cleo", "Dan")]
        for person in people[:3]:
            await bot.send_message(person.id, "hello")
        with pytest.raises(TelegramRetryAfter) as slowed:
            await bot.send_message(people[3].id, "hello")
        assert slowed.value.retry_after == 2


async def test_a_message_cannot_be_deleted_after_two_days(tmp_path: Path) -> None:
    days = 0.0

    def now() -> float:
        return 1_700_000_000 + days * 86_400

    async with (
        Sandbox(tmp_path, TOKEN, now=now) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        person = await started(client)
        old = await bot.send_message(person.id, "old")
        days = 2.1
        with pytest.raises(TelegramAPIError, match="message can't be deleted for everyone"):
            await bot.delete_message(person.id, old.message_id)
