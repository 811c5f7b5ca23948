"""Real servers for tests: one PostgreSQL and one NATS per run, reset for each module."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.platform.migrate import migrate
from shared.platform.roles import role
from turnpike_local.broker import Broker
from turnpike_local.postgres import Postgres
from turnpike_local.services import service

# No data outlives the run, so none has to survive a power cut. SIGKILL of the server loses nothing.
UNSYNCED = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
SELDOM_SYNCED = "2m"


@dataclass(frozen=True)
class FreshDatabase:
    """A separate database with the migrated schemas of some services."""

    name: str
    postgres: Postgres

    def dsn(self, role: str) -> str:
        """The DSN of a role such as `payments_app`, or of the superuser `postgres`."""
        return self.postgres.dsn(role, self.name)


MakeDatabase = Callable[..., Awaitable[FreshDatabase]]


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """The state folder of this run's servers. Only pytest's user may enter pytest's own folder."""
    with tempfile.TemporaryDirectory(prefix="turnpike-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
async def postgres(servers_dir: Path) -> AsyncIterator[Postgres]:
    cluster = await Postgres.start(servers_dir, settings=UNSYNCED)
    yield cluster
    await cluster.stop()


@pytest.fixture(scope="session")
async def broker(servers_dir: Path) -> AsyncIterator[Broker]:
    server = await Broker.start(servers_dir, sync_interval=SELDOM_SYNCED)
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def nats_url(broker: Broker) -> str:
    """The URL of a broker without streams."""
    await broker.wipe()
    return broker.url


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> Callable[[tuple[str, ...]], Awaitable[str]]:
    """Creates the template database of a set of services, once per set."""
    templates: dict[tuple[str, ...], str] = {}

    async def template(schemas: tuple[str, ...]) -> str:
        if schemas not in templates:
            name = await postgres.fresh_database()
            for schema in schemas:
                await migrate(postgres.dsn(role(schema, "owner"), name), service(schema).package)
            templates[schemas] = name
        return templates[schemas]

    return template


@pytest.fixture(scope="module")
async def fresh_database(
    postgres: Postgres, migrated: Callable[[tuple[str, ...]], Awaitable[str]]
) -> AsyncIterator[MakeDatabase]:
    """`await fresh_database("payments")`: a database with these services' tables.

    It is dropped at the end of the module.
    """
    names: list[str] = []

    async def make(*schemas: str) -> FreshDatabase:
        names.append(await postgres.fresh_database(await migrated(tuple(sorted(schemas)))))
        return FreshDatabase(names[-1], postgres)

    yield make
    for name in names:
        await postgres.drop_database(name)
