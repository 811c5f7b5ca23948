"""The pace of outgoing messages: Telegram's limits of one chat, and of the whole bot."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError, TelegramRetryAfter

from bot_gateway import pace as pacing
from bot_gateway.pace import Pace, is_flooding
from bot_gateway.store.token_buckets import DROP_FULL_BUCKETS
from bot_gateway.telegram import TooBusyError, open_bot
from shared.platform.db import Database
from tests.kit.bot import TOKEN, UNHURRIED, opened
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.sandbox import Sandbox, SandboxClient

HALF_A_MINUTE = timedelta(seconds=30)
PAUSED_S = "select extract(epoch from paused_until - now())::float8 from buckets"
STEPPED_BACK = """
update buckets
set tokens = -3000, filled_at = now() + interval '1 day', paused_until = now() + interval '1 day',
  refused_chat = 1, refused_until = now() + interval '1 day'
"""


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from buckets")
        yield database


async def test_a_refused_chat_delays_no_other_chat(database: Database) -> None:
    """W-20: a person who taps all the time costs the others nothing."""
    pace = Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await pace.refused(1, HALF_A_MINUTE)
    await pace()


async def test_a_second_refused_chat_pauses_every_replica(database: Database) -> None:
    """W-20: the limit is the bot's, for as long as Telegram asks. Housekeeping keeps the row."""
    pace, replica = Pace(database, 1000), Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await replica.refused(2, HALF_A_MINUTE)
    with pytest.raises(TooBusyError) as paused:
        await pace()
    assert await database.fetchval(PAUSED_S) <= paused.value.retry_after_s <= 30
    await database.execute("update buckets set filled_at = now() - interval '2 hours'")
    await database.execute(DROP_FULL_BUCKETS, 10)
    with pytest.raises(TooBusyError):
        await pace()
    await database.execute("update buckets set paused_until = now()")
    await pace()


async def test_a_much_later_refusal_pauses_nothing(database: Database) -> None:
    pace = Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await database.execute("update buckets set refused_until = now()")
    await pace.refused(2, HALF_A_MINUTE)
    await pace()


async def test_two_429s_stop_the_third_message(database: Database, tmp_path: Path) -> None:
    """W-20: two people, two 429s; Telegram is not called for the third person."""
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
    ):
        bot = open_bot(TOKEN, sandbox.url, Pace(database, 1000))
        chats = [await people.new_person(name) for name in ("Ann", "Bob", "Eve")]
        for chat in chats:
            await chat.say("/start")
        await people.plan_fault("429", calls=2, method="sendMessage", retry_after_s=30)
        for chat in chats[:2]:
            with pytest.raises(TelegramRetryAfter):
                await bot.send_message(chat.id, "hello")
        with pytest.raises(TooBusyError):
            await bot.send_message(chats[2].id, "hello")
        await bot.session.close()


async def test_a_refused_chat_spends_no_token(database: Database, tmp_path: Path) -> None:
    """W-40: neither a chat that does not exist nor a block costs the others a message."""
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
    ):
        # There is one token, and another one after a thousand seconds.
        bot = open_bot(TOKEN, sandbox.url, Pace(database, 0.001))
        unknown, blocked, ann = [await people.new_person(name) for name in ("Eve", "Bob", "Ann")]
        for chat in (blocked, ann):
            await chat.say("/start")
        await blocked.block()
        for _ in range(5):
            with pytest.raises(TelegramBadRequest, match="chat not found"):
                await bot.send_message(unknown.id, "hello")
            with pytest.raises(TelegramForbiddenError):
                await bot.send_message(blocked.id, "hello")
        await bot.send_message(ann.id, "hello")
        with pytest.raises(TooBusyError):
            await bot.send_message(ann.id, "hello again")
        await bot.session.close()


async def test_a_returned_token_lets_the_next_go(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-40: a message that waits for its turn does not wait longer than it must."""
    monkeypatch.setattr(pacing, "LONGEST_WAIT_S", 10_000.0)
    pace = Pace(database, 0.001)
    await pace()
    waiting = asyncio.create_task(pace())  # For a thousand seconds.
    while not pace.waiting:
        await asyncio.sleep(0.001)
    left = "select tokens < 0 from buckets where name = 'messages'"
    assert await database.fetchval(left)
    await pace.give_back()
    assert pace.waiting == 0
    assert not await database.fetchval(left)
    await waiting


async def test_a_pause_does_not_outlive_a_clock_step(database: Database) -> None:
    """W-20: no pause is longer than Telegram may ask for."""
    pace = Pace(database, 1000)
    await pace()
    await database.execute(STEPPED_BACK)
    await pace()
    await pace.refused(2, HALF_A_MINUTE)
    await pace()
    await pace.refused(3, HALF_A_MINUTE)
    with pytest.raises(TooBusyError) as paused:
        await pace()
    assert paused.value.retry_after_s <= 30


async def test_a_pause_holds_back_no_pre_checkout(database: Database, tmp_path: Path) -> None:
    """W-20: its answer is no message, and Telegram does not wait for it."""
    pace = Pace(database, 1000)
    await pace.refused(1, HALF_A_MINUTE)
    await pace.refused(2, HALF_A_MINUTE)
    async with Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox:
        bot = open_bot(TOKEN, sandbox.url, pace)
        with pytest.raises(TelegramBadRequest, match="query is too old"):
            await bot.answer_pre_checkout_query("1", ok=True)
        await bot.session.close()


async def test_twenty_updates_at_once_are_no_flood(database: Database) -> None:
    """S-09: after them, each second lets one through, and on a slow machine seconds pass."""
    began_at_s, served = time.monotonic(), 0
    while not await is_flooding(7, database):
        served += 1
    assert 20 <= served <= 20 + time.monotonic() - began_at_s
