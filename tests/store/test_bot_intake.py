"""An update is a row before Telegram is told, once, whoever polls and whoever dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiogram import Bot
from structlog.testing import capture_logs

from bot_gateway import polling
from bot_gateway.lanes import Bells
from bot_gateway.pace import Pace
from bot_gateway.polling import Poller
from bot_gateway.receiving import take_in
from bot_gateway.store import intake
from bot_gateway.telegram import fetch_updates, open_bot, point_webhook
from shared.db import Database
from tests.kit.bot import BOT, TOKEN, UNHURRIED, message_update, opened, paid_update, until
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.sandbox import Sandbox, SandboxClient


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from updates")
        yield database


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as started:
        yield started


@pytest.fixture
async def bot(sandbox: Sandbox, database: Database) -> AsyncIterator[Bot]:
    bot = open_bot(TOKEN, sandbox.url, Pace(database, 1000))
    yield bot
    await bot.session.close()


async def kept(database: Database) -> int:
    count: int = await database.fetchval("select count(*) from updates")
    return count


async def test_an_update_delivered_ten_times_at_once_is_one_row(database: Database) -> None:
    """R-03: what Telegram repeats is the same update."""
    update = message_update(1, text="/start")

    async def deliver() -> None:
        async with database.transaction() as tx:
            await take_in(BOT, [update], Bells(), tx)

    await asyncio.gather(*(deliver() for _ in range(10)))
    assert await kept(database) == 1


async def test_a_batch_keeps_the_order_of_arrival_although_ids_begin_anew(database: Database) -> None:
    batch = [message_update(1, update_id=900), message_update(1, update_id=5), message_update(1, update_id=6)]
    async with database.transaction() as tx:
        await take_in(BOT, batch, Bells(), tx)
    rows = await database.fetch("select update_id from updates order by seq")
    assert [row["update_id"] for row in rows] == [900, 5, 6]


async def test_bytes_that_nobody_expects_do_not_hold_back_the_others(database: Database) -> None:
    strange: list[dict[str, Any]] = [
        {"no": "update"},
        {"update_id": "7"},
        {"update_id": 11, "kind_of_next_year": {"\x00": "\ud800"}},
        {"update_id": 12, "message": {"chat": {"id": 2**70}, "text": "\x00"}},
        paid_update(3, "charge", update_id=13),
    ]
    async with database.transaction() as tx:
        await take_in(BOT, strange, Bells(), tx)
    rows = await database.fetch("select update_id, lane, chat from updates order by seq")
    assert [tuple(row) for row in rows] == [(11, "chat", 0), (12, "chat", 0), (13, "money", 3)]


async def test_a_crash_between_commit_and_offset_takes_nothing_in_twice(
    database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """R-15: the offset was never said, so Telegram hands the same updates out again."""
    async with SandboxClient(sandbox.url) as people:
        person = await people.new_person("Ann")
        await person.say("/start")
        async with database.transaction() as tx:
            await take_in(bot.id, await fetch_updates(bot, None), Bells(), tx)
        # Here the process dies; another one begins.
        await person.say("hello")
        async with polls(database, bot):
            await until(lambda: _kept_are(database, 2))
            await until(lambda: _confirmed(people))


async def test_pending_updates_survive_the_change_from_webhook_to_polling(
    database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """R-14, W-18: what waited at Telegram while nobody answered its webhook is a payment, perhaps."""
    await point_webhook(bot, "http://127.0.0.1:9/telegram", "secret-of-some-length")
    async with SandboxClient(sandbox.url) as people:
        await (await people.new_person("Ann")).say("/start")
        async with polls(database, bot):
            await until(lambda: _kept_are(database, 1))


async def test_one_of_two_polls_and_the_other_takes_over_when_it_dies(
    place: FreshDatabase, database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """W-07, W-18: two replicas, no conflict at Telegram; the lock ends with the connection that holds it."""
    async with SandboxClient(sandbox.url) as people, opened(place.dsn("bot_app")) as another:
        person = await people.new_person("Ann")
        stopping = asyncio.Event()
        first = asyncio.create_task(Poller(database, bot, Bells()).run(stopping))
        await person.say("/start")
        await until(lambda: _kept_are(database, 1))
        with capture_logs() as logs:
            second = asyncio.create_task(Poller(another, bot, Bells()).run(stopping))
            await asyncio.sleep(1.5)
        assert logs == [], "both poll, and end each other's polls"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await person.say("still there?")
        await until(lambda: _kept_are(database, 2))
        stopping.set()
        await second


async def test_polling_outlives_the_loss_of_its_connection_and_of_telegram(
    place: FreshDatabase, database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """W-06: what was confirmed to Telegram is in the database, whatever was cut."""
    async with SandboxClient(sandbox.url) as people, polls(database, bot):
        person = await people.new_person("Ann")
        await person.say("/start")
        await until(lambda: _kept_are(database, 1))
        async with opened(place.dsn("postgres")) as admin:
            await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'bot_app'")
        await people.stumble("500", calls=2, method="getUpdates")
        await person.say("hello")
        await until(lambda: _kept_are(database, 2))


async def test_what_comes_soon_after_an_answer_is_taken_in_together(
    database: Database, sandbox: Sandbox, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "TOGETHER_S", 2.0)
    async with SandboxClient(sandbox.url) as people, polls(database, bot):
        person = await people.new_person("Ann")
        for _ in range(8):
            await person.say("/start")
            await asyncio.sleep(0.1)
        await until(lambda: _kept_are(database, 8))
    assert await database.fetchval("select count(distinct received_at) from updates") < 8


async def test_after_a_full_answer_telegram_is_asked_at_once(
    database: Database, sandbox: Sandbox, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more, perhaps a whole night's."""
    monkeypatch.setattr(polling, "TOGETHER_S", 3600.0)
    monkeypatch.setattr(polling, "FULL_ANSWER", 1)
    async with SandboxClient(sandbox.url) as people, polls(database, bot):
        person = await people.new_person("Ann")
        await person.say("/start")
        await until(lambda: _kept_are(database, 1))
        await person.say("/start")
        await until(lambda: _kept_are(database, 2))


async def test_what_ended_long_ago_is_dropped_and_what_failed_is_kept(place: FreshDatabase, database: Database) -> None:
    async with database.transaction() as tx:
        await take_in(BOT, [message_update(chat) for chat in (1, 2, 3, 4)], Bells(), tx)
    age = "update updates set state = $2, ended_at = now() - $3::interval where chat = $1"
    await database.execute(age, 1, "done", timedelta(days=4))
    await database.execute(age, 2, "failed", timedelta(days=40))
    await database.execute(age, 3, "done", timedelta(days=2))
    await intake.drop_ended_updates(1, database)
    rows = await database.fetch("select chat from updates order by seq")
    assert [row["chat"] for row in rows] == [2, 3, 4]


@asynccontextmanager
async def polls(database: Database, bot: Bot) -> AsyncIterator[None]:
    """A poller runs while the block does."""
    stopping = asyncio.Event()
    task = asyncio.create_task(Poller(database, bot, Bells()).run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, 5)


async def _kept_are(database: Database, wanted: int) -> bool:
    try:
        return await kept(database) == wanted
    except asyncpg.PostgresError:  # Its connection was cut.
        return False


async def _confirmed(people: SandboxClient) -> bool:
    pending: int = (await people.health())["pending_updates"]
    return pending == 0
