"""One replica walks over Telegram's listing of Stars at a time, at a pace, and to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from aiogram.exceptions import TelegramRetryAfter
from aiogram.methods import GetStarTransactions

from bot_gateway.audit import answer_audit
from bot_gateway.store import star_walks
from bot_gateway.workers import star_walk
from bot_gateway.workers.star_walk import StarWalk
from shared.contracts.operations import AuditQuery
from shared.platform.db import Database
from tests.kit.bot import BOT, opened
from tests.kit.bot_lanes import is_reported
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.star_walks import counted, emptied, reported, row_of, walked
from tests.kit.stars import FakeListing, hasten, incoming, outgoing
from tests.kit.waiting import HANG_S, until

HOUR = timedelta(hours=1)
BALANCE = "the balance of Stars equals Telegram's listing"
WALKED = "Telegram's listing of Stars is walked"


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with emptied(place) as database:
        yield database


async def findings(database: Database) -> dict[str, tuple[int, str]]:
    audit = await answer_audit(AuditQuery.of("bot")(), database)
    return {one.truth: (one.violations, " ".join(one.examples)) for one in audit.findings}


async def test_two_replicas_share_one_walk(place: FreshDatabase, database: Database) -> None:
    """W-76: the second finds the lease, and waits."""
    listing, idle = FakeListing(incoming("shared")), FakeListing()
    await star_walks.claim(BOT, uuid4(), HOUR, database, anyway=True)
    async with opened(place.dsn("bot_app")) as second:
        await walked(second, idle)
        assert idle.asked == []
        await database.execute("update star_walks set held_until = now()")
        await walked(second, listing)
    assert await is_reported(database, "shared")


async def test_a_lost_lease_ends_the_walk(database: Database) -> None:
    """W-76: a replica that slept for longer than its lease writes nothing."""
    listing = FakeListing(incoming("slept"))
    slept, other = StarWalk(database, BOT, listing), StarWalk(database, BOT, FakeListing())
    place = await star_walks.claim(BOT, slept.holder, HOUR, database, anyway=True)
    assert place is not None
    await database.execute("update star_walks set held_until = now()")
    await star_walks.claim(BOT, other.holder, HOUR, database, anyway=True)
    with pytest.raises(star_walks.LeaseLostError):
        await slept.walk(place, asyncio.Event())
    assert await reported(database) == 0


@asynccontextmanager
async def running(walk: StarWalk) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(walk.run(stopping))
    yield
    stopping.set()
    await asyncio.wait_for(task, HANG_S)


async def test_the_walk_comes_back_when_due(database: Database) -> None:
    """R-60: hourly; later transactions are found then, and not before."""
    listing = FakeListing(incoming("begin"))
    async with running(StarWalk(database, BOT, listing)):
        await until(lambda: rests(database))
        assert await is_reported(database, "begin")
        row = await row_of(database)
        assert timedelta(minutes=59) < row["due_at"] - row["walked_at"] < timedelta(minutes=61)
        listing.transactions.append(incoming("later"))
        asked = len(listing.asked)
        await asyncio.sleep(0.3)
        assert len(listing.asked) == asked
        await database.execute("update star_walks set due_at = now()")
        await until(lambda: is_reported(database, "later"))


async def rests(database: Database) -> bool:
    return bool(
        await database.fetchval(
            "select due_at > now() and gap_nanostars is not null from star_walks"
        )
    )


async def test_too_many_requests_are_waited_for(place: FreshDatabase, database: Database) -> None:
    """W-76: no replica asks again before Telegram's time, and the walk goes on then."""
    listing, other = FakeListing(incoming("waited")), FakeListing()
    listing.failures.append(slow_down(600))
    async with (
        opened(place.dsn("bot_app")) as second,
        running(StarWalk(database, BOT, listing)),
    ):
        await until(lambda: paused(database))
        await walked(second, other)
        assert other.asked == []
    await database.execute("update star_walks set held_until = now()")
    listing.failures.append(slow_down(1))
    async with running(StarWalk(database, BOT, listing)):
        await until(lambda: is_reported(database, "waited"))
    assert listing.asked_at[2] - listing.asked_at[1] >= 1


def slow_down(retry_after_s: int) -> TelegramRetryAfter:
    method = GetStarTransactions()
    return TelegramRetryAfter(method=method, message="slow", retry_after=retry_after_s)


async def paused(database: Database) -> bool:
    return bool(
        await database.fetchval("select holder is null and held_until > now() from star_walks")
    )


async def test_a_failure_is_tried_again(database: Database) -> None:
    """W-76: the place stays, and the lease is its own."""
    listing = FakeListing(incoming("again"))
    listing.failures += [OSError("network"), ValueError("no listing")]
    before = counted("star_walks", outcome="failed")
    async with running(StarWalk(database, BOT, listing)):
        await until(lambda: is_reported(database, "again"))
    assert counted("star_walks", outcome="failed") == before + 2


async def test_telegram_is_asked_once_a_second(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-76: also for the page behind the end."""
    monkeypatch.setattr(star_walk, "PACE_S", 0.2)
    listing = FakeListing(*(incoming(f"paced-{n}") for n in range(150)))
    await walked(database, listing)
    gaps = [later - one for one, later in pairwise(listing.asked_at)]
    assert len(gaps) >= 2
    assert min(gaps) >= 0.1  # Each is taken a moment after the walk has looked at its clock.


async def test_a_stop_leaves_the_rest(database: Database) -> None:
    """W-76: the next process goes on without waiting for the lease."""
    listing, stopping = FakeListing(*(incoming(f"stop-{n}") for n in range(500))), asyncio.Event()

    def stop() -> None:
        if len(listing.asked) == 2:
            stopping.set()

    listing.on_page = stop
    await StarWalk(database, BOT, listing).look(stopping)
    row = await row_of(database)
    assert row["holder"] is None
    assert row["walked"] == await reported(database) < 500
    await walked(database, listing)
    assert await reported(database) == 500


async def test_an_equal_balance_is_no_finding(database: Database) -> None:
    await walked(database, FakeListing(incoming("a"), incoming("b", stars=5), outgoing("a")))
    assert (await row_of(database))["gap_nanostars"] == 0
    assert (await findings(database))[BALANCE] == (0, "")


async def test_another_balance_is_a_finding_for_a_week(database: Database) -> None:
    """R-18: a chargeback of Apple or Google is deducted, and need not be listed."""
    listing = FakeListing(incoming("a"))
    listing.hidden_nanostars = -99 * 10**9 - 5 * 10**8
    await walked(database, listing)
    violations, example = (await findings(database))[BALANCE]
    assert violations == 1
    assert "has -99.5 Stars more" in example
    since = (await row_of(database))["gap_changed_at"]
    await walked(database, listing)
    assert (await row_of(database))["gap_changed_at"] == since
    await database.execute(
        "update star_walks set gap_changed_at = gap_changed_at - interval '8 days'"
    )
    assert (await findings(database))[BALANCE][0] == 0
    listing.hidden_nanostars -= 1
    await walked(database, listing)
    assert (await findings(database))[BALANCE][0] == 1


async def test_a_moving_listing_is_not_compared(database: Database) -> None:
    """R-18: a payment between the page and the balance would be a difference that is none."""
    listing = FakeListing(incoming("a"))
    listing.on_balance = lambda: listing.transactions.append(incoming("meanwhile", age_s=0))
    await walked(database, listing)
    assert (await row_of(database))["gap_nanostars"] is None


async def test_a_sum_with_gaps_is_not_compared(database: Database) -> None:
    listing = FakeListing(incoming("a"), {"id": "half"})
    await walked(database, listing)
    assert (await row_of(database))["gap_nanostars"] is None


async def test_a_walk_that_stands_still_is_found(database: Database) -> None:
    """W-76, I13: the token was refused, or every page fails."""
    await walked(database, FakeListing())
    assert (await findings(database))[WALKED][0] == 0
    await database.execute("update star_walks set walked_at = now() - interval '7 hours'")
    assert (await findings(database))[WALKED][0] == 1
