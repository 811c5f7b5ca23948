"""`turnpike clock` and its refusals, and a service on a database whose clock was moved."""

import json
import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from shared.contracts.owners import OWNERS
from shared.platform.roles import SCHEMAS, role
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.up import refusal
from turnpike_cli.local_shop import AHEAD, WRITTEN_BY_UP
from turnpike_local.clock import LONGEST, ShopClock
from turnpike_local.processes import program
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import SandboxError
from turnpike_local.state import held, listed, write_secret

TOKEN = "42:" + "A" * 35
REAL_PROVIDER = {"TURNPIKE_YOOKASSA_SHOP_ID": "1", "TURNPIKE_YOOKASSA_SECRET_KEY": "live_x"}
SET_AHEAD = "alter database {name} set turnpike.ahead = '{ahead}'"
NOWHERE = "nats://127.0.0.1:1"


def without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}


async def ended(*argv: str, **environment: str) -> tuple[int | None, str, str]:
    """The status of a program, and what it wrote to both outputs."""
    process = await create_subprocess_exec(
        *argv, env=without_settings() | environment, stdout=PIPE, stderr=PIPE
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), errors.decode()


async def clock(state: Path, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    return await ended(
        program("turnpike"), "clock", *arguments, TURNPIKE_STATE_DIR=str(state), **environment
    )


@pytest.fixture
async def listing(tmp_path: Path) -> AsyncIterator[Path]:
    """The state folder of a shop that seems to run, with a real sandbox and no database."""
    (tmp_path / "postgres").mkdir()
    write_secret(tmp_path / "postgres/pgpass", "")
    moving = ShopClock(tmp_path)
    async with Sandbox(tmp_path / "sandbox", TOKEN, clock=moving) as sandbox:
        parts = [{"name": "sandbox", "address": sandbox.url, "log": "logs/sandbox.log"}]
        dsns = {"payments": "postgresql://payments_app@127.0.0.1:1/turnpike"}
        written = {"parts": parts, "dsns": dsns, "passwords": "postgres/pgpass"}
        with held(tmp_path), listed(tmp_path, written):
            yield tmp_path


async def test_a_clock_without_a_local_shop(tmp_path: Path) -> None:
    """W-81: no folder, a shop that ended, and the address of another shop."""
    nowhere = await clock(tmp_path / "none", "--ahead", "1d")
    assert nowhere == (2, "", "No shop of `make up` was found here: only its clock moves.\n")
    with held(tmp_path):
        pass
    status, _, errors = await clock(tmp_path, "--ahead", "1d")
    assert (status, errors) == (
        2,
        f"The shop in {tmp_path} is not running; `make up` starts it.\n",
    )
    status, _, errors = await clock(tmp_path, "--ahead", "1d", TURNPIKE_NATS_URL=NOWHERE)
    assert status == 2
    assert errors.startswith("TURNPIKE_NATS_URL names another shop")


@pytest.mark.parametrize("given", ["", "0h", "3x", "1h1d", "-1d", "1.5h", "d", "99999d"])
async def test_a_wrong_duration_is_refused(tmp_path: Path, given: str) -> None:
    """W-81: the clock goes forward only, by whole days, hours and minutes in this order."""
    status, _, errors = await clock(tmp_path, f"--ahead={given}")
    assert status == 2
    assert errors.splitlines()[-1].startswith("Error: Invalid value for '--ahead': ")


async def test_a_clock_shows_its_time(listing: Path) -> None:
    """W-81: without an option it only asks."""
    status, output, errors = await clock(listing)
    assert (status, errors) == (0, "")
    assert output.startswith("The shop's time is 20")
    assert output.endswith(" UTC, the time of this machine.\n")


async def test_a_database_that_is_away_moves_nothing(listing: Path) -> None:
    """W-80: the stand-ins stay beside the services."""
    status, _, errors = await clock(listing, "--ahead", "1d")
    assert status == 2
    assert errors.startswith("The database could not be told: ")
    assert not (listing / AHEAD).exists()


async def test_the_sandbox_bounds_a_move(listing: Path) -> None:
    """W-81: by_s comes from a page, or from any program."""
    written = json.loads((listing / WRITTEN_BY_UP).read_text())
    async with SandboxClient(written["parts"][0]["address"]) as sandbox:
        for by_s, sentence in (
            (0, "only goes forward"),
            (-60, "only goes forward"),
            (round(LONGEST.total_seconds()) + 1, "at most 3650 days ahead"),
        ):
            with pytest.raises(SandboxError, match=sentence):
                await sandbox.post("/sandbox/clock", {"by_s": by_s})
        assert (await sandbox.get("/sandbox/clock"))["ahead_s"] == 0


async def test_a_lone_sandbox_has_the_real_time(tmp_path: Path) -> None:
    """W-81: also a shop with a provider of its own, whose time does not move."""
    async with (
        Sandbox(tmp_path, TOKEN) as sandbox,
        SandboxClient(sandbox.url) as client,
    ):
        assert (await client.get("/sandbox/clock"))["moves"] is False
        with pytest.raises(SandboxError, match="stands alone"):
            await client.post("/sandbox/clock", {"by_s": 60})


@pytest.fixture(scope="module")
async def ahead(fresh_database: MakeDatabase) -> FreshDatabase:
    """A database whose clock was moved, as in a dump of a sandbox that somebody restored."""
    fresh = await fresh_database(*SCHEMAS)
    connection = await asyncpg.connect(fresh.dsn("postgres"))
    await connection.execute(SET_AHEAD.format(name=fresh.name, ahead="2678400 s"))
    await connection.close()
    return fresh


@pytest.mark.parametrize("owner", OWNERS)
async def test_production_refuses_a_moved_clock(ahead: FreshDatabase, owner: str) -> None:
    """W-82: each service ends with one sentence before it reads or writes a row."""
    environment = {
        f"TURNPIKE_{owner.upper()}_DSN": ahead.dsn(role(owner, "app")),
        "TURNPIKE_NATS_URL": NOWHERE,
        "TURNPIKE_HTTP_PORT": "0",
        "TURNPIKE_BOT_TOKEN": TOKEN,
    }
    status, _, errors = await ended(sys.executable, "-m", OWNERS[owner], **environment)
    assert status == 2
    (sentence,) = [line for line in errors.splitlines() if not line.startswith("{")]  # No log.
    assert sentence.startswith("The database's clock is set ahead by '2678400 s'")


async def test_a_real_provider_refuses_a_moved_clock(servers_dir: Path, tmp_path: Path) -> None:
    """W-82: a folder whose clock was moved serves its sandbox only."""
    state = servers_dir / tmp_path.name
    (state / AHEAD).parent.mkdir(parents=True)
    (state / AHEAD).write_text("90000\n")
    assert "is 1d1h ahead, for the sandbox" in await refusal(state, **REAL_PROVIDER)
    (state / AHEAD).write_text("soon\n")
    assert "is broken" in await refusal(state)
