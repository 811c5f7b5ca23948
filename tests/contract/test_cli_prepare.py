"""`turnpike migrate` and `turnpike streams` prepare schemas and streams; failures are sentences."""

import asyncio
from itertools import pairwise

import asyncpg
import pytest

from shared.platform.migrate import migrations_of
from shared.platform.roles import role
from tests.kit.commands import turnpike
from tests.kit.proxy import Proxy
from turnpike_local.broker import Broker
from turnpike_local.postgres import Postgres

RESET_FIRST = 3


async def test_existing_streams_are_left_as_they_are(broker: Broker) -> None:
    await broker.wipe()
    for _ in range(2):
        status, out, err = await turnpike("streams", TURNPIKE_NATS_URL=broker.url)
        assert (status, out) == (0, "all streams exist\n"), err


async def test_concurrent_runs_migrate_a_schema_once(postgres: Postgres) -> None:
    """D-07: two runs wait for each other, and the second has nothing to do."""
    database = await postgres.fresh_database()
    dsn = postgres.dsn(role("payments", "owner"), database)
    runs = await asyncio.gather(
        *(turnpike("migrate", "payments", TURNPIKE_PAYMENTS_OWNER_DSN=dsn) for _ in range(2))
    )
    assert [status for status, _, _ in runs] == [0, 0], runs
    assert sorted("nothing to do" in out for _, out, _ in runs) == [False, True]
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select count(*) from migrations") == len(
        list(migrations_of("payments"))
    )
    await connection.close()
    await postgres.drop_database(database)


class LateLink(Proxy):
    """Resets the first connections."""

    connections = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._refuses = self.connections <= RESET_FIRST
        await super()._accept(reader, writer)


async def test_a_late_server_is_waited_for(postgres: Postgres) -> None:
    """A job retries by itself within seconds; its next pod would start after minutes."""
    database = await postgres.fresh_database()
    async with LateLink(postgres.port) as link:
        dsn = postgres.dsn(role("payments", "owner"), database).replace(
            f":{postgres.port}/", f":{link.port}/"
        )
        status, out, err = await turnpike(
            "migrate", "payments", "--wait-s", "50", TURNPIKE_PAYMENTS_OWNER_DSN=dsn
        )
        assert link.connections > RESET_FIRST
    assert (status, "payments/" in out) == (0, True), err
    reasons = [line for line in err.splitlines() if line.startswith("not yet: ")]
    assert reasons
    assert all(one != other for one, other in pairwise(reasons)), "not repeated at every try"
    await postgres.drop_database(database)


async def test_a_changed_migration_is_refused(postgres: Postgres) -> None:
    database = await postgres.fresh_database()
    dsn = postgres.dsn(role("payments", "owner"), database)
    assert (await turnpike("migrate", "payments", TURNPIKE_PAYMENTS_OWNER_DSN=dsn))[0] == 0
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "update migrations set checksum = 'another' where name like 'payments/%'"
    )
    await connection.close()
    status, _, err = await turnpike("migrate", "payments", TURNPIKE_PAYMENTS_OWNER_DSN=dsn)
    assert status == 2
    assert "was changed after it had been applied" in err
    await postgres.drop_database(database)


@pytest.mark.parametrize(
    ("command", "variables", "sentence"),
    [
        (
            ("migrate", "payments"),
            {"TURNPIKE_PAYMENTS_OWNER_DSN": "junk"},
            "TURNPIKE_PAYMENTS_OWNER_DSN is not usable: it has to begin with postgresql://.",
        ),
        (
            ("streams",),
            {"TURNPIKE_NATS_URL": "nats://127.0.0.1:1", "TURNPIKE_NATS_REPLICAS": "9"},
            "TURNPIKE_NATS_REPLICAS is not usable: Input should be less than or equal to 5.",
        ),
    ],
)
async def test_an_invalid_setting_is_one_sentence(
    command: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    assert await turnpike(*command, **variables) == (2, "", f"{sentence}\n")


async def test_all_wrong_dsns_are_named_before_a_migration(postgres: Postgres) -> None:
    """W-44: the first is right; its schema is not touched."""
    database = await postgres.fresh_database()
    status, out, err = await turnpike(
        *("migrate", "bot-gateway", "payments", "referrals"),
        TURNPIKE_BOT_OWNER_DSN=postgres.dsn("bot_owner", database),
        TURNPIKE_REFERRALS_OWNER_DSN="junk",
    )
    assert (status, out) == (2, "")
    assert [line.split()[0] for line in err.splitlines()] == [
        "TURNPIKE_PAYMENTS_OWNER_DSN",
        "TURNPIKE_REFERRALS_OWNER_DSN",
    ]
    await postgres.drop_database(database)


async def test_a_missing_setting_or_server_is_one_sentence() -> None:
    assert await turnpike("streams") == (2, "", "TURNPIKE_NATS_URL is not set.\n")
    status, _, err = await turnpike("migrate", "payments")
    assert (status, err) == (2, "TURNPIKE_PAYMENTS_OWNER_DSN is not set.\n")
    status, _, err = await turnpike(
        "migrate", "payments", TURNPIKE_PAYMENTS_OWNER_DSN="postgresql://127.0.0.1:1/none"
    )
    assert status == 2
    assert err.count("\n") == 1
    status, _, err = await turnpike("streams", TURNPIKE_NATS_URL="nats://127.0.0.1:1")
    assert status == 2
    assert err.count("\n") == 1
