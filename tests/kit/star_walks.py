"""A walk over Telegram's listing of Stars in tests of its store: the row, and what it reported."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import REGISTRY

from bot_gateway.workers.star_walk import StarWalk
from shared.platform.db import Database
from tests.kit.bot import BOT, opened
from tests.kit.servers import FreshDatabase
from tests.kit.stars import FakeListing

BEGUN_A_YEAR_AGO = "insert into star_walks (bot, since) values ($1, now() - interval '1 year')"


@asynccontextmanager
async def emptied(place: FreshDatabase) -> AsyncIterator[Database]:
    """Without a walk or an event of the test before, and with a shop that began a year ago."""
    await forget_events(place)
    async with opened(place.dsn("postgres")) as admin:
        await admin.execute("truncate bot.star_walks, bot.updates")
        await admin.execute("truncate bot.conflicts, bot.checkout_holds")
    async with opened(place.dsn("bot_app")) as database:
        await database.execute(BEGUN_A_YEAR_AGO, BOT)
        yield database


async def forget_events(place: FreshDatabase) -> None:
    """As after 30 days."""
    async with opened(place.dsn("postgres")) as admin:
        await admin.execute("truncate bot.outbox, bot.events cascade")


async def walked(database: Database, listing: FakeListing) -> None:
    """One walk to the end, by a replica that has just started."""
    await StarWalk(database, BOT, listing).look(asyncio.Event())


async def reported(database: Database) -> int:
    count: int = await database.fetchval("select count(*) from events")
    return count


async def row_of(database: Database) -> dict[str, Any]:
    row = await database.fetchrow("select * from star_walks")
    assert row is not None
    return dict(row)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"turnpike_{name}_total", labels) or 0.0
