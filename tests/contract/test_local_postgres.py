"""The local PostgreSQL keeps its rows, and no service can read another service's schema."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from shared.platform import roles
from tests.kit.servers import UNSYNCED, MakeDatabase
from turnpike_local.postgres import Postgres
from turnpike_local.processes import StartError

A_START_S = 1.0
"""A start that does not wait has failed by then."""


@pytest.fixture
async def cluster(servers_dir: Path, tmp_path: Path) -> AsyncIterator[Postgres]:
    """A cluster that a test may break."""
    own = servers_dir / tmp_path.name
    cluster = await Postgres.start(own, settings=UNSYNCED)
    yield cluster
    await cluster.stop()


async def ask(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_rows_outlive_a_restart(cluster: Postgres, end: str) -> None:
    await ask(cluster.dsn("payments_owner"), "create table kept as select 42 as answer")
    if end == "stop":
        await cluster.stop()
    else:
        cluster.kill()
    await cluster.restart()
    assert await ask(cluster.dsn("payments_owner"), "select answer from kept") == 42


async def test_a_restart_waits_for_connections(cluster: Postgres) -> None:
    """A connection outlives the killed server for a moment, and holds its memory."""
    connection = await asyncpg.connect(cluster.dsn())
    process = await connection.fetchval("select pg_backend_pid()")
    os.kill(process, signal.SIGSTOP)
    cluster.kill()
    restarting = asyncio.create_task(cluster.restart())
    await asyncio.wait([restarting], timeout=A_START_S)
    os.kill(process, signal.SIGCONT)
    await restarting
    connection.terminate()
    assert await ask(cluster.dsn(), "select 42") == 42


async def test_a_second_start_keeps_rows_and_passwords(cluster: Postgres) -> None:
    await ask(cluster.dsn("payments_owner"), "create table found as select 7 as answer")
    await cluster.stop()
    again = await Postgres.start(cluster.state_dir, settings=UNSYNCED)
    try:
        assert await ask(again.dsn("payments_owner"), "select answer from found") == 7
        assert again.dsn("bot_app").split("@")[0] == cluster.dsn("bot_app").split("@")[0]
    finally:
        await again.stop()


async def test_the_default_settings_make_commits_durable(servers_dir: Path, tmp_path: Path) -> None:
    cluster = await Postgres.start(servers_dir / tmp_path.name)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await ask(cluster.dsn(), f"show {setting}") == "on"
    finally:
        await cluster.stop()


async def test_only_the_owner_can_read_the_secret(cluster: Postgres) -> None:
    assert (cluster.state_dir / "postgres" / "secret").stat().st_mode & 0o777 == 0o600


async def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host="127.0.0.1",
            port=postgres.port,
            user="payments_app",
            password="guess",
            database="turnpike",
        )


@pytest.mark.parametrize("schema", roles.SCHEMAS)
async def test_a_service_has_no_right_in_another_schema(
    fresh_database: MakeDatabase, schema: str
) -> None:
    database = await fresh_database()
    for other in set(roles.SCHEMAS) - {schema}:
        await ask(
            database.dsn(roles.role(other, "owner")),
            f"create table {schema}_must_not_read as select 1 as secret",
        )
        for duty in roles.DUTIES:
            with pytest.raises(
                asyncpg.InsufficientPrivilegeError, match=f"permission denied for schema {other}"
            ):
                await ask(
                    database.dsn(roles.role(schema, duty)),
                    f"select secret from {other}.{schema}_must_not_read",
                )


@pytest.mark.parametrize(
    "sql", ["create table mine (id int)", "create table public.mine (id int)", "create schema mine"]
)
async def test_the_role_of_a_service_creates_nothing(
    fresh_database: MakeDatabase, sql: str
) -> None:
    """R-22: no program repairs a schema while it serves."""
    database = await fresh_database()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(database.dsn("payments_app"), sql)


async def test_the_role_of_a_service_has_timeouts(postgres: Postgres) -> None:
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        assert await ask(postgres.dsn("payments_app"), f"show {setting}") == "10s"
    assert await ask(postgres.dsn("payments_app"), "show lock_timeout") == "5s"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")],
)
async def test_a_service_plans_once_and_by_index(
    postgres: Postgres, setting: str, value: str
) -> None:
    """W-39: the plan of a statement is the same for an empty table and for a large one."""
    assert await ask(postgres.dsn("payments_app"), f"show {setting}") == value


async def test_the_statements_for_roles_can_run_again(postgres: Postgres) -> None:
    await ask(postgres.dsn(), "select 1")
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute(roles.separation("turnpike"))
    await connection.close()
    assert await ask(postgres.dsn("vpn_app"), "select current_schemas(false)::text") == "{vpn}"


@pytest.mark.parametrize("password", ["it's", "a@b:c/d?", "short", ""])
def test_a_password_that_needs_quoting_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="payments_app"):
        roles.passwords({"payments_app": password})


async def test_a_copy_has_its_own_rows(postgres: Postgres) -> None:
    template = await postgres.fresh_database()
    await ask(postgres.dsn("payments_owner", template), "create table copied as select 1 as answer")
    copy = await postgres.fresh_database(template)
    await ask(postgres.dsn("payments_owner", copy), "update copied set answer = 2")
    assert await ask(postgres.dsn("payments_owner", template), "select answer from copied") == 1
    await postgres.drop_database(copy)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(postgres.dsn("payments_owner", copy))


async def test_cyrillic_has_upper_and_lower_case(postgres: Postgres) -> None:
    assert await ask(postgres.dsn(), "select lower('ЁЖИК')") == "ёжик"


async def test_data_of_another_major_version_is_refused(cluster: Postgres) -> None:
    await cluster.stop()
    version = cluster.state_dir / "postgres" / "data" / "PG_VERSION"
    ours = version.read_text()
    version.write_text("13\n")
    with pytest.raises(
        StartError, match=r"data was made by PostgreSQL 13, and this is PostgreSQL 18\.$"
    ):
        await Postgres.start(cluster.state_dir)
    version.write_text(ours)


def move_away(data: Path, part: str) -> None:
    (data / part).rename(data / "away")


def replace_secret(data: Path, _: str) -> None:
    (data.parent / "secret").write_text("0" * 64)


def overwrite(data: Path, part: str) -> None:
    for file in data.glob(part):
        file.write_bytes(b"garbage" * 4096)


@pytest.mark.parametrize(
    ("breaks", "part"),
    [
        (move_away, "PG_VERSION"),
        (move_away, "global"),
        (move_away, "base"),
        (move_away, "pg_wal"),
        (replace_secret, ""),
        (overwrite, "global/pg_control"),
        (overwrite, "pg_hba.conf"),
        (overwrite, "base/*/1259"),  # pg_class of every database.
    ],
)
async def test_a_broken_data_folder_is_one_sentence(
    cluster: Postgres, breaks: Callable[[Path, str], None], part: str
) -> None:
    await cluster.stop()
    home = cluster.state_dir / "postgres"
    breaks(home / "data", part)
    with pytest.raises(StartError) as refused:
        await Postgres.start(cluster.state_dir)
    assert str(home) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not cluster.child.alive


async def test_a_lost_secret_is_reported(cluster: Postgres) -> None:
    await cluster.stop()
    (cluster.state_dir / "postgres" / "secret").unlink()
    with pytest.raises(StartError, match="secret cannot be read"):
        await Postgres.start(cluster.state_dir)


async def test_an_interrupted_first_start_begins_again(servers_dir: Path, tmp_path: Path) -> None:
    half = servers_dir / tmp_path.name / "postgres" / "data.half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    cluster = await Postgres.start(servers_dir / tmp_path.name, settings=UNSYNCED)
    await cluster.stop()


async def test_a_stale_lock_is_removed(
    cluster: Postgres,
) -> None:
    cluster.kill()
    await cluster.child.wait()
    lock = cluster.state_dir / "postgres" / "data" / "postmaster.pid"
    lines = lock.read_text().split("\n")
    lock.write_text("\n".join(["1", *lines[1:]]))
    await cluster.restart()
