"""The variables of libpq in the environment change nothing: the DSN says all."""

import asyncio
import os
import sys

import pytest

from shared.platform.db import Database
from shared.platform.migrate import migrate
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import HANG_S

FOREIGN = {
    "PGHOST": "nowhere.invalid",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "nothing",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGPASSFILE": "/nowhere",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLCERT": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLCRL": "/nowhere",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLMINPROTOCOLVERSION": "no version",
    "PGTARGETSESSIONATTRS": "standby",
    "PGKRBSRVNAME": "nobody",
    "PGGSSLIB": "nothing",
}
# Every connection that the code opens: the pool, one held outside it, and the migrating one.
PROGRAM = """
import asyncio, sys
from shared.platform.db import Database
from shared.platform.migrate import migrate

async def main() -> None:
    app, owner = sys.argv[1:]
    database = Database(app, name="test")
    await database.open()
    await database.fetchval("select 1")
    async with database.held() as connection:
        print(await connection.fetchval("select current_user"))
    await database.close()
    await migrate(owner, "payments")

asyncio.run(main())
"""


async def run(place: FreshDatabase, variables: dict[str, str]) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, place.dsn("payments_app"), place.dsn("payments_owner")),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), HANG_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("name", ["PGSSLMODE", "PGSERVICE", "PGSSLMINPROTOCOLVERSION"])
async def test_a_foreign_variable_changes_nothing(place: FreshDatabase, name: str) -> None:
    """D-14: and the log names it."""
    status, out, err = await run(place, {name: FOREIGN[name]})
    assert (status, out.splitlines()[-1]) == (0, "payments_app"), err
    assert name in out + err


async def test_all_foreign_variables_change_nothing(
    place: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D-14: also those that are set in the process that connects."""
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    await migrate(place.dsn("payments_owner"), "payments")
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    database = Database(place.dsn("payments_app"), name="test")
    await database.open()
    try:
        assert await database.fetchval("select current_user") == "payments_app"
    finally:
        await database.close()
