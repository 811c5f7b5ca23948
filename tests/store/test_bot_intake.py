"""Intake and polling: an update is stored once, before Telegram gets the confirmation."""

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

from bot_gateway.pace import Pace
from bot_gateway.receiving import take_in
from bot_gateway.store import intake
from bot_gateway.telegram import fetch_updates, open_bot, set_webhook
from bot_gateway.workers import polling
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.polling import Poller
from shared.platform.db import Database
from tests.kit.bot import BOT, TOKEN, UNHURRIED, message_update, opened, paid_update
from tests.kit.bot_lanes import HeldWindow
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import HANG_S, until
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


async def stored(database: Database) -> int:
    count: int = await database.fetchval("select count(*) from updates")
    return count


async def test_ten_concurrent_deliveries_are_one_row(database: Database) -> None:
    """R-03: a repeat of Telegram is the same update."""
    update = message_update(1, text="/start")

    async def deliver() -> None:
        async with database.transaction() as tx:
            await take_in(BOT, [update], Bells(), tx)

    await asyncio.gather(*(deliver() for _ in range(10)))
    assert await stored(database) == 1


async def test_a_batch_keeps_the_order_of_arrival(database: Database) -> None:
    """Also when Telegram restarts the ids."""
    batch = [
        message_update(1, update_id=900),
        message_update(1, update_id=5),
        message_update(1, update_id=6),
    ]
    async with database.transaction() as tx:
        await take_in(BOT, batch, Bells(), tx)
    rows = await database.fetch("select update_id from updates order by seq")
    assert [row["update_id"] for row in rows] == [900, 5, 6]


async def test_malformed_updates_do_not_block_the_others(database: Database) -> None:
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


async def test_a_crash_before_the_confirmation_stores_nothing_twice(
    database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """R-15: the updates were committed and not confirmed, so Telegram sends them again."""
    async with SandboxClient(sandbox.url) as people:
        person = await people.new_person("Ann")
        await person.say("/start")
        async with database.transaction() as tx:
            await take_in(bot.id, await fetch_updates(bot, None), Bells(), tx)
        # Here the process dies, and another one starts.
        await person.say("hello")
        async with polling_runs(database, bot):
            await until(lambda: _has_stored(database, 2))
            await until(lambda: _confirmed(people))


async def test_polling_receives_updates_of_a_dead_webhook(
    database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """R-14, W-18: an update that waits at Telegram may be a payment."""
    await set_webhook(bot, "http://127.0.0.1:9/telegram", "secret-of-some-length")
    async with SandboxClient(sandbox.url) as people:
        await (await people.new_person("Ann")).say("/start")
        async with polling_runs(database, bot):
            await until(lambda: _has_stored(database, 1))


async def test_a_second_poller_takes_over(
    place: FreshDatabase, database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """W-07, W-18: two replicas never poll at once; the lock ends with its connection."""
    async with SandboxClient(sandbox.url) as people, opened(place.dsn("bot_app")) as another:
        person = await people.new_person("Ann")
        stopping = asyncio.Event()
        first = asyncio.create_task(Poller(database, bot, Bells()).run(stopping))
        await person.say("/start")
        await until(lambda: _has_stored(database, 1))
        with capture_logs() as logs:
            second = asyncio.create_task(Poller(another, bot, Bells()).run(stopping))
            await asyncio.sleep(1.5)
        assert logs == [], "both poll, and end each other's polls"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await person.say("still there?")
        await until(lambda: _has_stored(database, 2))
        stopping.set()
        await second


async def test_polling_survives_lost_connections(
    place: FreshDatabase, database: Database, sandbox: Sandbox, bot: Bot
) -> None:
    """W-06: to the database and to Telegram. Every confirmed update is stored."""
    async with SandboxClient(sandbox.url) as people, polling_runs(database, bot):
        person = await people.new_person("Ann")
        await person.say("/start")
        await until(lambda: _has_stored(database, 1))
        async with opened(place.dsn("postgres")) as admin:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'bot_app'"
            )
        await people.plan_fault("500", calls=2, method="getUpdates")
        await person.say("hello")
        await until(lambda: _has_stored(database, 2))


async def test_updates_within_the_batching_window_are_stored_together(
    database: Database, sandbox: Sandbox, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = HeldWindow(monkeypatch, polling)
    async with SandboxClient(sandbox.url) as people, polling_runs(database, bot):
        person = await people.new_person("Ann")
        await person.say("/start")
        await window.begins()
        for _ in range(7):
            await person.say("/start")
        window.end()
        await until(lambda: _has_stored(database, 8))
    assert await database.fetchval("select count(distinct received_at) from updates") == 2


async def test_a_full_answer_skips_the_batching_window(
    database: Database, sandbox: Sandbox, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more updates, perhaps those of a whole night."""
    monkeypatch.setattr(polling, "BATCHING_WINDOW_S", 3600.0)
    monkeypatch.setattr(polling, "FULL_ANSWER", 1)
    async with SandboxClient(sandbox.url) as people, polling_runs(database, bot):
        person = await people.new_person("Ann")
        await person.say("/start")
        await until(lambda: _has_stored(database, 1))
        await person.say("/start")
        await until(lambda: _has_stored(database, 2))


async def test_housekeeping_keeps_failed_and_recent_updates(
    place: FreshDatabase, database: Database
) -> None:
    async with database.transaction() as tx:
        await take_in(BOT, [message_update(chat) for chat in (1, 2, 3, 4)], Bells(), tx)
    age = "update updates set state = $2, ended_at = now() - $3::interval where chat = $1"
    await database.execute(age, 1, "done", timedelta(days=4))
    await database.execute(age, 2, "failed", timedelta(days=40))
    await database.execute(age, 3, "done", timedelta(days=2))
    assert await database.execute(intake.DROP_ENDED_UPDATES, 10)
    rows = await database.fetch("select chat from updates order by seq")
    assert [row["chat"] for row in rows] == [2, 3, 4]


@asynccontextmanager
async def polling_runs(database: Database, bot: Bot) -> AsyncIterator[None]:
    """A poller runs while the block does."""
    stopping = asyncio.Event()
    task = asyncio.create_task(Poller(database, bot, Bells()).run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, HANG_S)


async def _has_stored(database: Database, wanted: int) -> bool:
    try:
        return await stored(database) == wanted
    except asyncpg.PostgresError:  # Its connection was cut.
        return False


async def _confirmed(people: SandboxClient) -> bool:
    pending: int = (await people.health())["pending_updates"]
    return pending == 0
