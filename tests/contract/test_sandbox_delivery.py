"""A real aiogram bot gets updates by polling with an offset, or by webhook with retries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from aiogram import Bot, Dispatcher, F, html
from aiogram.exceptions import (
    TelegramConflictError,
)
from aiogram.filters import CommandObject, CommandStart
from aiogram.types import (
    CallbackQuery,
    ChatMemberUpdated,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
)
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from aiohttp import web

from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, png, started
from tests.kit.waiting import HANG_S, until
from turnpike_local.sandbox import Limits, Sandbox, SandboxClient

PIXEL = png(1, 1)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=UNLIMITED) as running:
        yield running


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with bot_of(sandbox) as calling:
        yield calling


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as acting:
        yield acting


def echo() -> Dispatcher:
    """A small bot: it greets with a button, and answers the button with a toast and an edit."""
    dispatcher = Dispatcher()

    @dispatcher.message(CommandStart())
    async def start(message: Message, command: CommandObject) -> None:
        assert message.from_user is not None
        button = InlineKeyboardButton(text="Count to one", callback_data="one")
        await message.answer(
            f"Hello <b>{html.quote(message.from_user.first_name)}</b>, code {command.args}",
            parse_mode="HTML",
            reply_markup=InlineKeyboardMarkup(inline_keyboard=[[button]]),
        )

    @dispatcher.callback_query(F.data == "one")
    async def one(query: CallbackQuery) -> None:
        await query.answer("Counted")
        assert isinstance(query.message, Message)
        await query.message.edit_text("One")

    @dispatcher.my_chat_member()
    async def membership(_: ChatMemberUpdated) -> None:
        """Registered so that aiogram asks for this kind of update."""

    @dispatcher.message()
    async def repeat(message: Message) -> None:
        await message.answer(message.text or "")

    return dispatcher


@asynccontextmanager
async def polling(bot: Bot) -> AsyncIterator[None]:
    dispatcher = echo()
    task = asyncio.create_task(
        dispatcher.start_polling(bot, handle_signals=False, polling_timeout=5)
    )
    try:
        yield
    finally:
        await dispatcher.stop_polling()
        await task


@asynccontextmanager
async def webhook_server(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """An HTTP server on a free loopback port that passes every POST to `handler`."""
    app = web.Application()
    app.router.add_post("/hook", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def test_a_polling_bot_answers_and_edits(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice & <Co>")
    async with polling(bot):
        await alice.say("/start r_abc")
        await alice.receives("code r_abc")
        await alice.press("count")
        chat = await alice.wait_for(lambda chat: chat.last is not None and chat.last.text == "One")
    assert [toast["text"] for toast in chat.toasts] == ["Counted"]
    assert len(chat.from_bot) == 1
    assert chat.button("count") is None


async def test_a_webhook_is_called_with_the_secret(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    handler = SimpleRequestHandler(
        echo(), bot, secret_token="s3cret_token", handle_in_background=False
    )
    async with webhook_server(handler.handle) as address:
        await bot.set_webhook(address, secret_token="s3cret_token")
        await alice.say("/start r_abc")
        await alice.receives("code r_abc")
        await all_delivered(bot)


async def test_a_wrong_webhook_secret_keeps_the_update_pending(
    bot: Bot, client: SandboxClient
) -> None:
    alice = await client.new_person("Alice")
    handler = SimpleRequestHandler(
        echo(), bot, secret_token="s3cret_token", handle_in_background=False
    )
    async with webhook_server(handler.handle) as address:
        await bot.set_webhook(address, secret_token="another")
        await alice.say("/start")

        async def was_refused() -> bool:
            return (await bot.get_webhook_info()).last_error_message is not None

        await until(was_refused)
        info = await bot.get_webhook_info()
    assert info.pending_update_count == 1
    assert info.last_error_message == "Wrong response from the webhook: 401 Unauthorized"
    assert not (await alice.chat()).from_bot


async def test_a_webhook_is_retried_in_order_until_2xx(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    answers = [500, 302, 404, 201]
    received: list[str] = []

    async def hook(request: web.Request) -> web.Response:
        status = answers.pop(0) if answers else 200
        if 200 <= status < 300:
            received.append((await request.json())["message"]["text"])
        return web.Response(status=status)

    async with webhook_server(hook) as address:
        await bot.set_webhook(address)
        for text in ("/start", "second", "third"):
            await alice.say(text)
        await until(lambda: len(received) == 3)
    assert received == ["/start", "second", "third"]
    await all_delivered(bot)


async def test_the_pause_between_retries_doubles(tmp_path: Path) -> None:
    """Up to a longest one: without it, the last of these posts would come after half an hour."""
    at: list[float] = []

    async def hook(_: web.Request) -> web.Response:
        at.append(asyncio.get_running_loop().time())
        return web.Response(status=503)

    limits = Limits(webhook_retry_first_s=0.05, webhook_retry_most_s=0.2)
    async with (
        Sandbox(tmp_path, TOKEN, limits=limits) as sandbox,
        bot_of(sandbox) as bot,
        webhook_server(hook) as address,
    ):
        await bot.set_webhook(address)
        async with SandboxClient(sandbox.url) as client:
            await started(client)
        await until(lambda: len(at) >= 17)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2), strict=False):
        assert pause >= least


async def test_a_failing_chat_does_not_delay_another(bot: Bot, client: SandboxClient) -> None:
    alice, bob = await client.new_person("Alice"), await client.new_person("Bob")
    received: list[int] = []

    async def hook(request: web.Request) -> web.Response:
        sender = (await request.json())["message"]["from"]["id"]
        if sender == alice.id:
            return web.Response(status=500)
        received.append(sender)
        return web.Response()

    async with webhook_server(hook) as address:
        await bot.set_webhook(address)
        await alice.say("/start")
        await bob.say("/start")
        await until(lambda: received == [bob.id])


async def test_only_a_confirmed_update_is_not_repeated(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await alice.say("second")
    first = await bot.get_updates()
    assert [update.message.text for update in first if update.message] == ["/start", "second"]
    assert await bot.get_updates(offset=first[0].update_id) == first
    assert await bot.get_updates(offset=first[1].update_id, limit=1) == first[1:]
    assert await bot.get_updates(offset=first[1].update_id + 1) == []
    assert await bot.get_updates() == []


async def test_a_negative_offset_confirms_all_but_the_newest(
    bot: Bot, client: SandboxClient
) -> None:
    alice = await started(client)
    await alice.say("second")
    await alice.say("third")
    kept = await bot.get_updates(offset=-1)
    assert [update.message.text for update in kept if update.message] == ["third"]
    assert await bot.get_updates() == kept


async def test_a_long_poll_ends_with_the_first_update(
    sandbox: Sandbox, bot: Bot, client: SandboxClient
) -> None:
    """The request would fail before the poll had its time."""
    alice = await client.new_person("Alice")
    poll = asyncio.create_task(bot.get_updates(timeout=50, request_timeout=int(HANG_S)))
    await until(lambda: sandbox.is_polled)
    await alice.say("/start")
    assert len(await poll) == 1


async def test_unwanted_kinds_of_updates_are_not_delivered(bot: Bot, client: SandboxClient) -> None:
    await bot.get_updates(allowed_updates=["callback_query"])
    alice = await started(client)
    await alice.press_data(1, "x")
    updates = await bot.get_updates()
    assert [update.event_type for update in updates] == ["callback_query"]


async def test_a_second_poll_ends_the_first(sandbox: Sandbox, bot: Bot) -> None:
    first = asyncio.create_task(bot.get_updates(timeout=50))
    await until(lambda: sandbox.is_polled)
    second = asyncio.create_task(bot.get_updates(timeout=1))
    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
        await first
    assert await second == []


async def test_polling_and_a_webhook_exclude_each_other(sandbox: Sandbox, bot: Bot) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=50))
    await until(lambda: sandbox.is_polled)
    await bot.set_webhook("https://example.org/hook")
    with pytest.raises(TelegramConflictError, match="terminated by setWebhook request"):
        await poll
    with pytest.raises(
        TelegramConflictError, match="can't use getUpdates method while webhook is active"
    ):
        await bot.get_updates()
    await bot.delete_webhook()
    assert await bot.get_updates() == []


async def test_updates_expire_after_a_day(tmp_path: Path) -> None:
    hours = 0.0

    def now() -> float:
        return 1_700_000_000 + hours * 3600

    async with Sandbox(tmp_path, TOKEN, now=now) as sandbox, bot_of(sandbox) as bot:
        async with SandboxClient(sandbox.url) as client:
            await started(client)
        hours = 23.9
        assert len(await bot.get_updates()) == 1
        hours = 24.1
        assert await bot.get_updates() == []


async def all_delivered(bot: Bot) -> None:
    """Wait until no update is pending: a handler may answer before its webhook call has ended."""

    async def none_is_pending() -> bool:
        return (await bot.get_webhook_info()).pending_update_count == 0

    await until(none_is_pending)
