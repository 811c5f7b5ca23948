"""One filled database for all tests of this folder, in a server of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.owners import OWNERS
from shared.platform.migrate import migrate
from shared.platform.roles import role
from tests.bounds.fill import fill
from tests.kit.servers import UNSYNCED, FreshDatabase, unhurry
from turnpike_local.postgres import DATABASE, Postgres
from turnpike_local.services import service

# Room for the tables while they are filled: nothing is written twice.
LARGE = {
    "shared_buffers": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
}


@pytest.fixture(scope="session")
async def filled(servers_dir: Path) -> AsyncIterator[FreshDatabase]:
    """The large shop. Tests roll back what they write."""
    server = await Postgres.start(servers_dir / "large", settings=UNSYNCED | LARGE)
    fresh = FreshDatabase(DATABASE, server)
    for schema in OWNERS:
        await migrate(fresh.dsn(role(schema, "owner")), service(schema).package)
    await unhurry(server, DATABASE, tuple(OWNERS))
    await fill(fresh.dsn("postgres"))
    yield fresh
    await server.stop()
