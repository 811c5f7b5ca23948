"""A real aiogram bot in the sandbox: photos, menus, blocks, and planned faults."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramNetworkError, TelegramRetryAfter, TelegramServerError
from aiogram.types import (
    BotCommand,
    BotCommandScopeChat,
    BufferedInputFile,
    InputMediaPhoto,
    Message,
)

from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, png, started
from turnpike_local.sandbox import Sandbox, SandboxClient

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


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with Sandbox(tmp_path, TOKEN, limits=UNLIMITED) as sandbox, bot_of(sandbox) as bot:
        async with SandboxClient(sandbox.url) as client:
            alice = await started(client)
        await bot.send_photo(alice.id, BufferedInputFile(PIXEL, "dot.png"), caption="A dot")
        await bot.set_my_commands([BotCommand(command="start", description="Begin")])
        pending = await bot.get_updates()
    async with Sandbox(tmp_path, TOKEN, limits=UNLIMITED) as sandbox, bot_of(sandbox) as bot:
        async with SandboxClient(sandbox.url) as client:
            (again,) = await client.people()
            chat = await again.chat()
            assert chat.last is not None
            assert chat.last.photo is not None
            assert await client.file(chat.last.photo) == PIXEL
            assert (await client.get(f"/sandbox/people/{again.id}/chat"))["commands"][0][
                "command"
            ] == "start"
            assert await bot.get_updates() == pending
            await again.say("after")
        newest = (await bot.get_updates())[-1]
        assert newest.update_id == pending[-1].update_id + 1
        assert newest.message is not None
        assert newest.message.message_id > chat.last.id


async def test_a_photo_is_stored_and_replaced(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    sent = await bot.send_photo(
        alice.id, BufferedInputFile(PIXEL, "dot.png"), caption="<i>dot</i>", parse_mode="HTML"
    )
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


async def test_planned_refusals_affect_the_next_calls_only(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await client.plan_fault("429", retry_after_s=7)
    await client.plan_fault("500", method="sendMessage")
    with pytest.raises(TelegramRetryAfter) as slowed:
        await bot.get_me()
    assert slowed.value.retry_after == 7
    await bot.get_me()
    with pytest.raises(TelegramServerError):
        await bot.send_message(alice.id, "one")
    await bot.send_message(alice.id, "two")
    assert [message.text for message in (await alice.chat()).from_bot] == ["two"]


async def test_a_lost_answer_leaves_the_message(bot: Bot, client: SandboxClient) -> None:
    """sendMessage has no idempotency key: its caller cannot know whether it was executed."""
    alice = await started(client)
    await client.plan_fault("lost", method="sendMessage")
    with pytest.raises(TelegramNetworkError):
        await bot.send_message(alice.id, "sent")
    assert [message.text for message in (await alice.chat()).from_bot] == ["sent"]


async def test_an_absent_telegram_keeps_updates(bot: Bot, client: SandboxClient) -> None:
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


async def test_the_menu_depends_on_person_and_language(bot: Bot, client: SandboxClient) -> None:
    alice, boris = await started(client), await client.new_person("Boris", language="ru")
    await bot.set_my_commands([BotCommand(command="start", description="Begin")])
    await bot.set_my_commands(
        [BotCommand(command="start", description="Начать")], language_code="ru"
    )
    await bot.set_my_commands(
        [BotCommand(command="admin", description="Operate")],
        scope=BotCommandScopeChat(chat_id=alice.id),
    )
    menus = [await client.get(f"/sandbox/people/{person.id}/chat") for person in (alice, boris)]
    assert [menu["commands"][0]["description"] for menu in menus] == ["Operate", "Начать"]
    (kept,) = await bot.get_my_commands(language_code="ru")
    assert kept.description == "Начать"


async def test_the_bot_learns_of_a_block(bot: Bot, client: SandboxClient) -> None:
    alice = await started(client)
    await alice.block()
    await alice.unblock()
    updates = await bot.get_updates()
    statuses = [
        update.my_chat_member.new_chat_member.status for update in updates if update.my_chat_member
    ]
    assert statuses == ["kicked", "member"]
