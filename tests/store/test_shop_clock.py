"""Each schema has its own time: PostgreSQL's, or ahead of it by a setting of the database."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from shared.platform.roles import SCHEMAS
from tests.kit.servers import FreshDatabase, MakeDatabase

AHEAD = "select set_config('turnpike.ahead', $1, false)"
TIMES = """
select
  shop_now() - now() as ahead,
  clock_timestamp() as before,
  shop_clock() as clock,
  clock_timestamp() as after
"""
BY_DEFAULT = """
insert into conflicts (where_seen, event_id, digest_known, digest_received)
values ('here', gen_random_uuid(), 1, 2)
returning seen_at - now() as ahead
"""
PLANNED = "explain (verbose, costs off) select shop_now(), shop_clock()"
BY_INDEX = "explain (costs off) select id from events where recorded_at < shop_now() - $1::interval"


@pytest.fixture(scope="module")
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*SCHEMAS)


@pytest.fixture(params=SCHEMAS)
async def app(
    fresh: FreshDatabase, request: pytest.FixtureRequest
) -> AsyncIterator[asyncpg.Connection]:
    """A session of the role that a service runs as."""
    connection = await asyncpg.connect(fresh.dsn(f"{request.param}_app"))
    yield connection
    await connection.close()


async def expect_ahead(app: asyncpg.Connection, by: timedelta) -> None:
    times = await app.fetchrow(TIMES)
    assert times is not None
    assert times["ahead"] == by
    assert times["before"] <= times["clock"] - by <= times["after"]
    assert await app.fetchval(BY_DEFAULT) == by


async def test_the_shop_has_the_time_of_postgresql(app: asyncpg.Connection) -> None:
    """W-79: without the setting, and with an empty one."""
    await expect_ahead(app, timedelta())
    await app.execute(AHEAD, "")
    await expect_ahead(app, timedelta())


async def test_the_setting_moves_every_time(app: asyncpg.Connection) -> None:
    """W-79: the time of statements, that of the clock, and that of defaults."""
    await app.execute(AHEAD, "2678400 s")
    await expect_ahead(app, timedelta(days=31))


async def test_the_time_is_planned_like_now(app: asyncpg.Connection) -> None:
    """W-79: a function that is not inlined would be called for each row."""
    plan = "\n".join(row[0] for row in await app.fetch(PLANNED))
    assert "now()" in plan
    assert "shop_" not in plan
    by_index = [row[0] for row in await app.fetch(BY_INDEX.replace("$1", "'30 days'"))]
    assert any("Index Cond: (recorded_at < " in step for step in by_index)
