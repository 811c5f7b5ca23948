"""Updates reach a real aiogram bot as Telegram brings them: by polling with its offset, by webhook with its retries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from aiogram import Bot, Dispatcher, F, html
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramConflictError, TelegramNetworkError, TelegramRetryAfter, TelegramServerError
from aiogram.filters import CommandObject, CommandStart
from aiogram.types import (
    BotCommand,
    BotCommandScopeChat,
    BufferedInputFile,
    CallbackQuery,
    ChatMemberUpdated,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    Message,
)
from aiogram.webhook.aiohttp_server import SimpleRequestHandler
from aiohttp import web

from turnpike_local.sandbox import Limits, Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient

TOKEN = "4242:AAtest-token"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc000000301010018dd8db00000000049454e44ae426082"
)
FAST = Limits(
    messages_per_s=1000,
    messages_burst=1000,
    chat_messages_per_s=1000,
    chat_messages_burst=1000,
    webhook_retry_first_s=0.1,
)

HANG_S = 20.0


@asynccontextmanager
async def bot_of(sandbox: Sandbox) -> AsyncIterator[Bot]:
    bot = Bot(TOKEN, session=AiohttpSession(api=TelegramAPIServer.from_base(sandbox.url), timeout=20))
    try:
        yield bot
    finally:
        await bot.session.close()


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=FAST) as started:
        yield started


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with bot_of(sandbox) as talking:
        yield talking


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as asking:
        yield asking


async def started(client: SandboxClient, name: str = "Alice") -> PersonClient:
    person = await client.new_person(name)
    await person.say("/start")
    return person


def echo() -> Dispatcher:
    """A small shop: greets with a button, answers the button with a toast and an edit."""
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
        """Heard, so that aiogram asks for this kind of update."""

    @dispatcher.message()
    async def repeat(message: Message) -> None:
        await message.answer(message.text or "")

    return dispatcher


@asynccontextmanager
async def polling(bot: Bot) -> AsyncIterator[None]:
    dispatcher = echo()
    task = asyncio.create_task(dispatcher.start_polling(bot, handle_signals=False, polling_timeout=5))
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        await dispatcher.stop_polling()
        await task


@asynccontextmanager
async def listening(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An HTTP server on a free port of the loopback that gives every POST to `handler`."""
    app = web.Application()
    app.router.add_post("/hook", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def test_a_polling_bot_talks_answers_buttons_and_edits(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice & <Co>")
    async with polling(bot):
        await alice.say("/start r_abc")
        await alice.hears("code r_abc")
        await alice.press("count")
        chat = await alice.wait_for(lambda chat: chat.last is not None and chat.last.text == "One")
    assert [toast["text"] for toast in chat.toasts] == ["Counted"]
    assert len(chat.from_bot) == 1
    assert chat.button("count") is None


async def test_a_bot_behind_a_webhook_is_called_with_the_secret(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    handler = SimpleRequestHandler(echo(), bot, secret_token="s3cret_token", handle_in_background=False)
    async with listening(handler.handle) as address:
        await bot.set_webhook(address, secret_token="s3cret_token")
        await alice.say("/start r_abc")
        await alice.hears("code r_abc")
        await all_taken(bot)


async def test_a_webhook_without_the_right_secret_keeps_the_update_waiting(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    handler = SimpleRequestHandler(echo(), bot, secret_token="s3cret_token", handle_in_background=False)
    async with listening(handler.handle) as address:
        await bot.set_webhook(address, secret_token="another")
        await alice.say("/start")
        await asyncio.sleep(0.2)
        info = await bot.get_webhook_info()
    assert info.pending_update_count == 1
    assert info.last_error_message == "Wrong response from the webhook: 401 Unauthorized"
    assert not (await alice.chat()).from_bot


async def test_a_webhook_is_tried_again_until_any_2xx_and_in_order(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    answers = [500, 302, 404, 201]
    heard: list[str] = []

    async def hook(request: web.Request) -> web.Response:
        status = answers.pop(0) if answers else 200
        if 200 <= status < 300:
            heard.append((await request.json())["message"]["text"])
        return web.Response(status=status)

    async with listening(hook) as address:
        await bot.set_webhook(address)
        for text in ("/start", "second", "third"):
            await alice.say(text)
        await until(lambda: len(heard) == 3)
    assert heard == ["/start", "second", "third"]
    await all_taken(bot)


async def test_the_pause_between_tries_doubles(tmp_path: Path) -> None:
    at: list[float] = []

    async def hook(_: web.Request) -> web.Response:
        at.append(asyncio.get_running_loop().time())
        return web.Response(status=503)

    limits = Limits(webhook_retry_first_s=0.1, webhook_retry_most_s=0.3)
    async with Sandbox(tmp_path, TOKEN, limits=limits) as sandbox, bot_of(sandbox) as bot, listening(hook) as address:
        await bot.set_webhook(address)
        async with SandboxClient(sandbox.url) as client:
            await started(client)
        await until(lambda: len(at) >= 5)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.3, 0.3), strict=False):
        assert least <= pause < least + 0.45  # Without the cap the last would be 0.8.


async def test_one_chat_that_fails_does_not_hold_up_another(bot: Bot, client: SandboxClient) -> None:
    alice, bob = await client.new_person("Alice"), await client.new_person("Bob")
    heard: list[int] = []

    async def hook(request: web.Request) -> web.Response:
        sender = (await request.json())["message"]["from"]["id"]
        if sender == alice.id:
            return web.Response(status=500)
        heard.append(sender)
        return web.Response()

    async with listening(hook) as address:
        await bot.set_webhook(address)
        await alice.say("/start")
        await bob.say("/start")
        await until(lambda: heard == [bob.id])


async def test_a_confirmed_update_does_not_come_again_and_an_unconfirmed_one_does(
    bot: Bot, client: SandboxClient
) -> None:
    alice = await started(client)
    await alice.say("second")
    first = await bot.get_updates()
    assert [update.message.text for update in first if update.message] == ["/start", "second"]
    assert await bot.get_updates(offset=first[0].update_id) == first
    assert await bot.get_updates(offset=first[1].update_id, limit=1) == first[1:]
    assert await bot.get_updates(offset=first[1].update_id + 1) == []
    assert await bot.get_updates() == []


async def test_a_negative_offset_forgets_all_but_the_newest(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await alice.say("second")
    await alice.say("third")
    kept = await bot.get_updates(offset=-1)
    assert [update.message.text for update in kept if update.message] == ["third"]
    assert await bot.get_updates() == kept


async def test_a_long_poll_ends_with_the_first_update(bot: Bot, client: SandboxClient) -> None:
    alice = await client.new_person("Alice")
    began = asyncio.get_running_loop().time()
    poll = asyncio.create_task(bot.get_updates(timeout=10))
    await asyncio.sleep(0.1)
    await alice.say("/start")
    assert len(await poll) == 1
    assert asyncio.get_running_loop().time() - began < 2


async def test_kinds_that_were_not_asked_for_do_not_come(bot: Bot, client: SandboxClient) -> None:
    await bot.get_updates(allowed_updates=["callback_query"])
    alice = await started(client)
    await alice.press_data(1, "x")
    updates = await bot.get_updates()
    assert [update.event_type for update in updates] == ["callback_query"]


async def test_a_second_poll_ends_the_first_with_a_conflict(bot: Bot) -> None:
    first = asyncio.create_task(bot.get_updates(timeout=10))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(bot.get_updates(timeout=1))
    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
        await first
    assert await second == []


async def test_polling_and_a_webhook_exclude_each_other(bot: Bot) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=10))
    await asyncio.sleep(0.1)
    await bot.set_webhook("https://example.org/hook")
    with pytest.raises(TelegramConflictError, match="terminated by setWebhook request"):
        await poll
    with pytest.raises(TelegramConflictError, match="can't use getUpdates method while webhook is active"):
        await bot.get_updates()
    await bot.delete_webhook()
    assert await bot.get_updates() == []


async def test_updates_of_more_than_a_day_are_gone(tmp_path: Path) -> None:
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


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with Sandbox(tmp_path, TOKEN, limits=FAST) as sandbox, bot_of(sandbox) as bot:
        async with SandboxClient(sandbox.url) as client:
            alice = await started(client)
        await bot.send_photo(alice.id, BufferedInputFile(PIXEL, "dot.png"), caption="A dot")
        await bot.set_my_commands([BotCommand(command="start", description="Begin")])
        pending = await bot.get_updates()
    async with Sandbox(tmp_path, TOKEN, limits=FAST) as sandbox, bot_of(sandbox) as bot:
        async with SandboxClient(sandbox.url) as client:
            (again,) = await client.people()
            chat = await again.chat()
            assert chat.last is not None
            assert chat.last.photo is not None
            assert await client.file(chat.last.photo) == PIXEL
            assert (await client.get(f"/sandbox/people/{again.id}/chat"))["commands"][0]["command"] == "start"
            assert await bot.get_updates() == pending
            await again.say("after")
        newest = (await bot.get_updates())[-1]
        assert newest.update_id == pending[-1].update_id + 1
        assert newest.message is not None
        assert newest.message.message_id > chat.last.id


async def test_a_photo_is_kept_shown_replaced_and_read_back(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    sent = await bot.send_photo(alice.id, BufferedInputFile(PIXEL, "dot.png"), caption="<i>dot</i>", parse_mode="HTML")
    assert sent.photo is not None
    assert (sent.photo[0].width, sent.photo[0].height) == (1, 1)
    downloaded = await bot.download(sent.photo[0])
    assert downloaded is not None
    assert downloaded.read() == PIXEL
    other = InputMediaPhoto(media=BufferedInputFile(PIXEL, "other.png"), caption="other")
    edited = await bot.edit_message_media(other, chat_id=alice.id, message_id=sent.message_id)
    assert isinstance(edited, Message)
    assert edited.caption == "other"
    text = await bot.send_message(alice.id, "text")
    known = InputMediaPhoto(media=sent.photo[0].file_id, caption="from text")
    turned = await bot.edit_message_media(known, chat_id=alice.id, message_id=text.message_id)
    assert isinstance(turned, Message)
    assert turned.photo == sent.photo


async def test_planned_refusals_hit_the_next_calls_only(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await client.stumble("429", retry_after_s=7)
    await client.stumble("500", method="sendMessage")
    with pytest.raises(TelegramRetryAfter) as slowed:
        await bot.get_me()
    assert slowed.value.retry_after == 7
    await bot.get_me()
    with pytest.raises(TelegramServerError):
        await bot.send_message(alice.id, "one")
    await bot.send_message(alice.id, "two")
    assert [message.text for message in (await alice.chat()).from_bot] == ["two"]


async def test_a_lost_answer_leaves_the_message_behind(bot: Bot, client: SandboxClient) -> None:
    """sendMessage has no idempotency key: its caller cannot know."""
    alice = await started(client)
    await client.stumble("lost", method="sendMessage")
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(alice.id, "said")
    assert [message.text for message in (await alice.chat()).from_bot] == ["said"]


async def test_telegram_away_answers_nothing_and_keeps_updates(bot: Bot, client: SandboxClient) -> None:
    await client.go_down(60)
    alice = await started(client)
    with pytest.raises(TelegramNetworkError):
        await bot.get_updates()
    await client.recover()
    assert len(await bot.get_updates()) == 1
    assert await client.drop_updates() == 1
    await client.lose_updates(1)
    await alice.say("lost")
    await alice.say("found")
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.text == "found"


async def test_the_menu_of_commands_is_the_persons(bot: Bot, client: SandboxClient) -> None:
    alice, boris = await started(client), await client.new_person("Boris", language="ru")
    await bot.set_my_commands([BotCommand(command="start", description="Begin")])
    await bot.set_my_commands([BotCommand(command="start", description="Начать")], language_code="ru")
    await bot.set_my_commands(
        [BotCommand(command="admin", description="Operate")], scope=BotCommandScopeChat(chat_id=alice.id)
    )
    menus = [await client.get(f"/sandbox/people/{person.id}/chat") for person in (alice, boris)]
    assert [menu["commands"][0]["description"] for menu in menus] == ["Operate", "Начать"]
    (kept,) = await bot.get_my_commands(language_code="ru")
    assert kept.description == "Начать"


async def test_blocking_is_told_to_the_bot(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await alice.block()
    await alice.unblock()
    updates = await bot.get_updates()
    statuses = [update.my_chat_member.new_chat_member.status for update in updates if update.my_chat_member]
    assert statuses == ["kicked", "member"]


async def all_taken(bot: Bot) -> None:
    """Wait until no update waits: an answer is seen before the call that it was given in has ended."""
    async with asyncio.timeout(HANG_S):
        while (await bot.get_webhook_info()).pending_update_count:
            await asyncio.sleep(0.01)


async def until(true: Callable[[], bool], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.01)
