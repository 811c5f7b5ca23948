"""A database that becomes read-only, as the old primary does in a failover, and its sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from bot_gateway.store import intake
from payments.app import build
from shared.messaging.relay import Relay
from shared.platform.db import Database, ReadOnlyError, database_is_to_blame
from tests.kit.living import living, probe, readiness, settings
from tests.kit.messaging import Pair
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.postgres import Postgres

SETTING = "show transaction_read_only"
WRITE = "create temporary table written (one int)"


class Cluster:
    """The server; its sessions learn of a change at once, as those of a demoted primary do.

    The postmaster signals one session after the other, the newest first. The superuser's is older
    than those of a test, so they know what it knows.
    """

    def __init__(self, superuser: asyncpg.Connection) -> None:
        self._superuser = superuser

    async def be_read_only(self, value: bool) -> None:
        wanted = "on" if value else "off"
        await self._superuser.execute(f"alter system set default_transaction_read_only = {wanted}")
        await self._superuser.execute("select pg_reload_conf()")

        async def told() -> bool:
            return bool(await self._superuser.fetchval(SETTING) == wanted)

        await until(told)


@pytest.fixture
async def cluster(postgres: Postgres) -> AsyncIterator[Cluster]:
    superuser = await asyncpg.connect(postgres.dsn())
    changed = Cluster(superuser)
    yield changed
    await changed.be_read_only(False)
    await superuser.close()


async def pid_of(database: Database) -> int:
    pid: int = await database.fetchval("select pg_backend_pid()")
    return pid


async def pids_of(database: Database) -> set[int]:
    """The sessions of a whole pool of three."""
    async with AsyncExitStack() as exits:
        held = [await exits.enter_async_context(database.transaction()) for _ in range(3)]
        return {await tx.fetchval("select pg_backend_pid()") for tx in held}


async def test_readiness_follows_a_failover(
    place: FreshDatabase, wiped_url: str, cluster: Cluster
) -> None:
    """W-35: ready, not ready with the reason, ready; and the pool has new sessions then."""
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        before = await pid_of(subject.database)
        await cluster.be_read_only(True)
        await readiness(subject, 503, "the database is read-only")
        assert await probe(subject, "/livez") == (200, "ok")
        await cluster.be_read_only(False)
        await readiness(subject, 200, "ok")
        assert await pid_of(subject.database) != before
        assert not life.done(), "no loop died of it"


async def test_a_service_waits_for_a_primary(
    place: FreshDatabase, wiped_url: str, cluster: Cluster
) -> None:
    """W-35: a start against a standby waits, like one without a database."""
    await cluster.be_read_only(True)
    subject = build(settings(place.dsn("payments_app"), wiped_url))
    async with living(subject, until_open=False) as life:
        await readiness(subject, 503, "the service is starting")
        await cluster.be_read_only(False)
        await readiness(subject, 200, "ok")
        assert not life.done()


async def test_a_refused_write_renews_all_sessions(place: FreshDatabase, cluster: Cluster) -> None:
    """W-35: sessions that only read would answer from the old primary for ever."""
    database = Database(place.dsn("payments_app"), name="failover", size=3)
    await database.open()
    try:
        before = await pids_of(database)
        assert len(before) == 3
        async with database.transaction() as held:
            await held.fetchval("select 1")
            await cluster.be_read_only(True)
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as refused:
                await database.execute(WRITE)
            assert database_is_to_blame(refused.value)
            with pytest.raises(ReadOnlyError) as away:
                await database.fetchval("select 1")
            assert database_is_to_blame(away.value)
            await cluster.be_read_only(False)
        assert before.isdisjoint(await pids_of(database))
    finally:
        await database.close()


@pytest.mark.parametrize("state", ["57P01", "57P02", "57P03", "08006", "08P01"])
async def test_an_ending_session_leaves_the_pool(place: FreshDatabase, state: str) -> None:
    """W-35: the error may come before the end of the connection, or from a pooler that stays."""
    database = Database(place.dsn("payments_app"), name="failover", size=1)
    await database.open()
    try:
        before = await pid_of(database)
        with pytest.raises(asyncpg.PostgresError) as raised:
            await database.execute(
                f"do $$ begin raise exception 'it ends' using errcode = '{state}'; end $$"
            )
        assert database_is_to_blame(raised.value)
        assert await pid_of(database) != before
    finally:
        await database.close()


async def test_a_usual_error_keeps_the_session(place: FreshDatabase) -> None:
    database = Database(place.dsn("payments_app"), name="failover", size=1)
    await database.open()
    try:
        before = await pid_of(database)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await database.fetchval("select 1 / 0")
        assert await pid_of(database) == before
    finally:
        await database.close()


async def test_a_server_without_room_is_waited_for(postgres: Postgres) -> None:
    """W-35: 53300 is the database's fault, and passes."""
    name = await postgres.fresh_database()
    superuser = await asyncpg.connect(postgres.dsn())
    database = Database(postgres.dsn("payments_app", name), name="failover", size=2)
    try:
        await superuser.execute(f"alter database {name} connection limit 0")
        with pytest.raises(asyncpg.TooManyConnectionsError) as full:
            await database.open()
        assert database_is_to_blame(full.value)
        await superuser.execute(f"alter database {name} connection limit -1")
        await database.open()
        assert await pid_of(database)
    finally:
        await superuser.close()
        await database.close()
        await postgres.drop_database(name)


async def test_an_idle_relay_leaves_a_standby(pair: Pair, cluster: Cluster) -> None:
    """W-35: it only looks for events, and a server that was left behind has none."""
    async with pair.open(consuming=False):
        await pair.publish()
        await pair.until_published()
        relay = Relay(pair.publisher, pair.bus.client, "bot")
        async with pair.publisher.held() as connection:
            assert await relay.publish_pending(connection, look_first=True) == 0
            await cluster.be_read_only(True)
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await relay.publish_pending(connection, look_first=True)
        await cluster.be_read_only(False)
        await pair.publish()
        await asyncio.wait_for(pair.until_published(), HANG_S)


async def test_an_idle_poller_leaves_a_standby(pair: Pair, cluster: Cluster) -> None:
    """W-35: its lock is held on the wrong server, and another replica polls already."""
    async with pair.publisher.held() as connection:
        await intake.check_polling_lock(connection)
        await cluster.be_read_only(True)
        with pytest.raises(ReadOnlyError):
            await intake.check_polling_lock(connection)
