"""The chat lane: chats in order and one update at a time, pauses, and updates set aside."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiogram.exceptions import TelegramRetryAfter
from aiogram.methods import GetMe

from bot_gateway.chats import build_models, open_chats
from bot_gateway.chats.visit import Shop
from bot_gateway.domain.people import Arrival
from bot_gateway.pace import Pace
from bot_gateway.store import intake, people
from bot_gateway.telegram import open_bot
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.chat_lane import ChatLane
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from shared.platform.texts import Texts
from tests.kit.bot import TOKEN, UNHURRIED, message_update, opened, user
from tests.kit.bot_lanes import WatchedBells, arrive, nothing_waits, states, working
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.sandbox import Sandbox, SandboxClient

LEASE_S = 0.2


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from updates")
        await database.execute("delete from chat_leases")
        yield database


async def test_three_replicas_keep_the_order_of_each_chat(
    place: FreshDatabase, database: Database
) -> None:
    """W-09: twenty chats with ten updates each; each update runs once, after the one before it."""
    running: set[int] = set()
    ran: dict[int, list[int]] = defaultdict(list)

    async def run(update: dict[str, Any], _: datetime) -> None:
        chat = update["message"]["chat"]["id"]
        assert chat not in running, "updates of one person overlap"
        running.add(chat)
        await asyncio.sleep(0.002)
        running.discard(chat)
        ran[chat].append(update["message"]["message_id"])

    for index in range(10):
        await arrive(database, *(message_update(chat, message_id=index) for chat in range(1, 21)))
    async with (
        opened(place.dsn("bot_app")) as second,
        opened(place.dsn("bot_app")) as third,
        working(*(ChatLane(own, Bells(), run) for own in (database, second, third))),
    ):
        await until(nothing_waits(database))
    assert ran == {chat: list(range(10)) for chat in range(1, 21)}
    assert set(await states(database)) == {("done", 0)}


async def test_concurrent_claims_of_a_chat_succeed_once(database: Database) -> None:
    """W-08: there is no gap between looking and taking, in thirty rounds."""
    lease = timedelta(minutes=1)
    for chat in range(1, 31):
        await arrive(database, message_update(chat))
        claims = await asyncio.gather(
            *(intake.claim_chats(uuid4(), lease, 10, database) for _ in range(8))
        )
        assert sorted(claims)[-1] == [chat]
        assert sum(map(len, claims)) == 1


async def test_a_killed_replicas_chat_runs_after_its_lease(database: Database) -> None:
    """R-15: the update that it was running runs again."""
    ran: list[int] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(update["update_id"])

    await arrive(database, message_update(1, update_id=1))
    killed, lease, bells = uuid4(), timedelta(minutes=1), WatchedBells()
    assert await intake.claim_chats(killed, lease, 10, database) == [1]
    assert await intake.step(killed, 1, intake.UpdateOutcome(None), lease, database) is not None
    async with working(ChatLane(database, bells, run)):
        async with asyncio.timeout(HANG_S):
            await bells.waited_for.wait()
        holder = await database.fetchval("select holder from chat_leases where chat = 1")
        assert holder == killed
        assert ran == []
        await database.execute("update chat_leases set held_until = now()")
        await until(nothing_waits(database))
    assert ran == [1]


async def test_a_worker_without_the_lease_gets_no_update(database: Database) -> None:
    await arrive(database, message_update(1), message_update(1))
    slow, quick = uuid4(), uuid4()
    assert await intake.claim_chats(slow, timedelta(0), 10, database) == [1]
    assert await intake.claim_chats(quick, timedelta(minutes=1), 10, database) == [1]
    assert (
        await intake.step(slow, 1, intake.UpdateOutcome(None), timedelta(minutes=1), database)
        is None
    )
    await intake.release_chats(slow, database)
    assert (
        await intake.step(quick, 1, intake.UpdateOutcome(None), timedelta(minutes=1), database)
        is not None
    )


async def test_a_poison_update_is_set_aside(database: Database) -> None:
    """P-10: it never stops the updates behind it, nor other chats."""
    ran: list[int] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(update["update_id"])
        if update["update_id"] == 1:
            raise RuntimeError("a fault of ours")

    await arrive(
        database,
        *(message_update(chat, update_id=number) for number, chat in ((1, 1), (2, 1), (3, 9))),
    )
    async with working(ChatLane(database, Bells(), run, our_fault_pause_s=(0.05, 0.05))):
        await until(nothing_waits(database))
    assert [number for number in ran if number != 3] == [1, 1, 1, 2]
    assert await states(database) == [("failed", 2), ("done", 0), ("done", 0)]
    reason = await database.fetchval("select reason from updates where state = 'failed'")
    assert reason == "RuntimeError: a fault of ours"


async def test_an_invitation_code_in_use_is_drawn_again(database: Database) -> None:
    """D-13: the conflict on the second index costs one retry."""
    arrival = Arrival(telegram_id=13, first_name="Ann", username=None, language="en", payload=None)
    clash = """
    insert into people (person, telegram_id, first_name, language, code, started_event)
    values ($1, 14, '', 'en', $2, $1)
    """
    async with database.transaction() as tx:
        ann = await people.start_person(arrival, None, tx)
    assert ann is not None
    codes = iter([ann.code, "another-one"])

    async def run(*_: object) -> None:
        await database.execute(clash, uuid4(), next(codes))

    await arrive(database, message_update(14, text="/start"))
    async with working(ChatLane(database, Bells(), run, our_fault_pause_s=(0.05,))):
        await until(nothing_waits(database))
    assert await states(database) == [("done", 1)]


async def test_a_429_pauses_the_chat_without_a_try(database: Database) -> None:
    """N-02, W-20: the chat is paused for as long as Telegram asks, and then goes on."""
    ran: list[float] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(asyncio.get_running_loop().time())
        if len(ran) == 1:
            raise TelegramRetryAfter(method=GetMe(), message="Too Many Requests", retry_after=1)

    await arrive(database, message_update(1))
    async with working(ChatLane(database, Bells(), run)):
        await until(nothing_waits(database))
    assert ran[1] - ran[0] >= 1
    assert await states(database) == [("done", 0)]


async def test_a_stop_lets_the_running_update_end(database: Database) -> None:
    """R-15, W-24: SIGTERM during an update; the next update is left for the next process."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def run(*_: object) -> None:
        began.set()
        await asyncio.sleep(1)  # Longer than the lane needs to notice the stop.
        ended.set()

    await arrive(database, message_update(1), message_update(1))
    async with working(ChatLane(database, Bells(), run)):
        await began.wait()
    assert ended.is_set()
    assert await states(database) == [("done", 0), ("waiting", 0)]
    assert await database.fetchval("select count(*) from chat_leases") == 0


class CountingPace(Pace):
    """Counts the messages that took a token, and the tokens that came back."""

    taken = given_back = 0

    async def __call__(self) -> None:
        await super().__call__()
        self.taken += 1

    async def give_back(self) -> None:
        self.given_back += 1
        await super().give_back()


async def test_dead_chats_delay_no_newcomer(database: Database, tmp_path: Path) -> None:
    """W-40: each of 500 updates of chats that are gone costs one call and no pace."""
    pace = CountingPace(database, 10)
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
    ):
        newcomer = await people.new_person("Ann")
        await newcomer.say("/start")
        bot = open_bot(TOKEN, sandbox.url, pace)
        shop = Shop(bot, database, Bus("nats://127.0.0.1:1", "unused"), Texts("bot_gateway"))
        await arrive(database, *(message_update(chat, text="/start") for chat in range(1, 501)))
        await arrive(database, message_update(newcomer.id, text="/start"))
        lane = ChatLane(database, Bells(), open_chats(shop), our_fault_pause_s=(0.01, 0.01))
        async with working(lane):
            await newcomer.receives("Welcome", timeout_s=300)
            assert pace.taken <= 501
            await until(nothing_waits(database), within_s=300)
        await bot.session.close()
    assert set(await states(database)) == {("done", 0)}
    assert (pace.taken, pace.given_back) == (501, 500)


async def test_a_tap_in_a_dead_chat_calls_once(database: Database, tmp_path: Path) -> None:
    """W-40: the refused edit says it all, and no new message is tried."""
    pace = CountingPace(database, 10)
    async with Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox:
        bot = open_bot(TOKEN, sandbox.url, pace)
        shop = Shop(bot, database, Bus("nats://127.0.0.1:1", "unused"), Texts("bot_gateway"))
        tap = {
            "update_id": 77,
            "callback_query": {
                "id": "1",
                "from": user(77),
                "chat_instance": "1",
                "data": "go:menu",
                "message": message_update(77)["message"],
            },
        }
        await arrive(database, tap)
        async with working(ChatLane(database, Bells(), open_chats(shop))):
            await until(nothing_waits(database))
        await bot.session.close()
    assert (pace.taken, pace.given_back) == (1, 1)


async def test_a_lease_does_not_outlive_a_clock_step(database: Database) -> None:
    """W-20: a pause of a chat that ends tomorrow was written before the clock stepped back."""
    await arrive(database, message_update(1))
    lease = timedelta(minutes=1)
    assert await intake.claim_chats(uuid4(), lease, 10, database) == [1]
    assert await intake.claim_chats(uuid4(), lease, 10, database) == []
    await database.execute("update chat_leases set held_until = now() + interval '1 day'")
    assert await intake.claim_chats(uuid4(), lease, 10, database) == [1]


async def test_an_update_does_not_pay_for_the_first(database: Database) -> None:
    """The preparation of a process takes no time of an update, nor of its lease."""
    order: list[str] = []

    def prepare() -> None:
        order.append("prepared")
        time.sleep(2 * LEASE_S)

    async def run(update: dict[str, Any], _: datetime) -> None:
        order.append(update["message"]["text"])

    lease = timedelta(seconds=LEASE_S)
    await arrive(database, message_update(1, text="first"))
    async with working(ChatLane(database, Bells(), run, prepare=prepare, lease=lease)):
        await until(nothing_waits(database))
    assert order == ["prepared", "first"]
    assert await states(database) == [("done", 0)]


def test_models_are_built_before_they_are_used() -> None:
    built = build_models()
    assert build_models() is built
    assert all(model.__pydantic_complete__ for model in built)
