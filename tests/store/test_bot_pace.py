"""How fast bot-gateway speaks: Telegram's patience for one chat, and for the whole bot."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiogram.exceptions import TelegramRetryAfter

from bot_gateway.pace import Pace
from bot_gateway.store.buckets import drop_full_buckets
from bot_gateway.telegram import TooBusyError, open_bot
from shared.db import Database
from tests.kit.bot import TOKEN, UNHURRIED, opened
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.sandbox import Sandbox, SandboxClient

HALF_A_MINUTE = timedelta(seconds=30)


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from buckets")
        yield database


async def test_one_chat_that_telegram_refuses_silences_nobody_else(database: Database) -> None:
    """W-20: a person who taps and taps costs the others nothing."""
    pace = Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await pace.refused(1, HALF_A_MINUTE)
    await pace()


async def test_a_second_chat_refused_meanwhile_makes_every_replica_rest(database: Database) -> None:
    """W-20: then it is the bot, for as long as Telegram asks, and the row outlives the clean-up."""
    pace, replica = Pace(database, 1000), Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await replica.refused(2, HALF_A_MINUTE)
    with pytest.raises(TooBusyError) as resting:
        await pace()
    assert 25 < resting.value.retry_after_s <= 30
    await database.execute("update buckets set filled_at = now() - interval '2 hours'")
    await drop_full_buckets(database)
    with pytest.raises(TooBusyError):
        await pace()
    await database.execute("update buckets set rests_until = now()")
    await pace()


async def test_a_second_chat_refused_much_later_is_only_that_chat(database: Database) -> None:
    pace = Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await database.execute("update buckets set refused_until = now()")
    await pace.refused(2, HALF_A_MINUTE)
    await pace()


async def test_what_telegram_says_reaches_the_bucket(database: Database, tmp_path: Path) -> None:
    """W-20: two people, two 429s, and the third is not even asked."""
    async with Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox, SandboxClient(sandbox.url) as people:
        bot = open_bot(TOKEN, sandbox.url, Pace(database, 1000))
        chats = [await people.new_person(name) for name in ("Ann", "Bob", "Eve")]
        for chat in chats:
            await chat.say("/start")
        await people.stumble("429", calls=2, method="sendMessage", retry_after_s=30)
        for chat in chats[:2]:
            with pytest.raises(TelegramRetryAfter):
                await bot.send_message(chat.id, "hello")
        with pytest.raises(TooBusyError):
            await bot.send_message(chats[2].id, "hello")
        await bot.session.close()
