"""The servers that tests share are isolated per module, and end with the run of pytest."""

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import asyncpg
import pytest

from tests.kit.processes import MARK, living
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.broker import Broker
from turnpike_local.ports import fetch

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 60.0

A_LONG_TEST = """
import asyncio

async def test_it(postgres, broker):
    print("servers are up", flush=True)
    await asyncio.sleep(60)
"""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_an_interrupted_run_leaves_no_server(tmp_path: Path, by: signal.Signals) -> None:
    mark = secrets.token_hex(8)
    folder = tmp_path / mark
    folder.mkdir()
    (folder / "test_long.py").write_text(A_LONG_TEST)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-p",
        "tests.kit.servers",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    environment = os.environ | {"TMPDIR": str(folder), MARK: mark, "PYTHONPATH": str(ROOT)}
    run = await asyncio.create_subprocess_exec(
        *argv, str(folder), env=environment, stdout=PIPE, stderr=DEVNULL
    )
    assert run.stdout is not None
    async with asyncio.timeout(RUN_TIMEOUT_S):
        while b"servers are up" not in (line := await run.stdout.readline()):
            assert line, "the run ended before its servers were up"
        assert len(living(mark, folder)) >= 3  # The run itself, PostgreSQL and NATS.
        run.send_signal(by)
        await run.communicate()
    await until(lambda: not living(mark, folder))


async def test_modules_start_with_an_empty_broker(broker: Broker, nats_url: str) -> None:
    assert nats_url == broker.url
    assert b'"streams":0' in (await fetch(f"{broker.monitor_url}/jsz") or b"").replace(b" ", b"")


async def test_a_fresh_database_has_only_its_services_tables(
    fresh_database: MakeDatabase,
) -> None:
    database = await fresh_database("payments")
    connection = await asyncpg.connect(database.dsn("postgres"))
    try:
        schemas = await connection.fetch(
            "select distinct schemaname from pg_tables where tablename = 'events'"
        )
    finally:
        await connection.close()
    assert [row["schemaname"] for row in schemas] == ["payments"]


async def test_fresh_databases_share_no_rows(fresh_database: MakeDatabase) -> None:
    one, other = await fresh_database("payments"), await fresh_database("payments")
    for database, rows in ((one, 1), (other, 0)):
        connection = await asyncpg.connect(database.dsn("payments_app"))
        try:
            if rows:
                await connection.execute(
                    "insert into streams (name, incarnation, sequence) values ('S', 'i', 1)"
                )
            assert await connection.fetchval("select count(*) from streams") == rows
        finally:
            await connection.close()
