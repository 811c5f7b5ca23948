"""Real servers for tests: one PostgreSQL and one NATS per run, reset for each module."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from shared.platform import db
from shared.platform.migrate import migrate
from shared.platform.roles import role
from tests.kit.forks import Forks, forking
from turnpike_local import processes
from turnpike_local.broker import Broker
from turnpike_local.postgres import Postgres
from turnpike_local.services import service

# No data outlives the run, so none has to survive a power cut. SIGKILL of the server loses nothing.
UNSYNCED = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
# The tests of a run log in ten thousand times, and a client hashes 4 096 times for each.
UNSYNCED["scram_iterations"] = "1"
SELDOM_SYNCED = "2m"

# Time-outs of a service are ten times as long here: a hundred transactions that wait for one lock
# take a second, and longer where other programs use the machine. The tests of a time-out set it.
TIMES_LONGER = 10
UNHURRIED = """
alter role {role} in database {database} set statement_timeout = '100s';
alter role {role} in database {database} set lock_timeout = '50s';
alter role {role} in database {database} set idle_in_transaction_session_timeout = '100s';
"""
HURRIED = ("ACQUIRE_TIMEOUT_S", "STATEMENT_TIMEOUT_S", "CONNECT_TIMEOUT_S")


@dataclass(frozen=True)
class FreshDatabase:
    """A separate database with the migrated schemas of some services."""

    name: str
    postgres: Postgres

    def dsn(self, role: str) -> str:
        """The DSN of a role such as `payments_app`, or of the superuser `postgres`."""
        return self.postgres.dsn(role, self.name)


MakeDatabase = Callable[..., Awaitable[FreshDatabase]]


@pytest.fixture(scope="session", autouse=True)
def unhurried() -> Iterator[None]:
    """The time-outs of services that run in the process of the test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in HURRIED:
            patch.setattr(db, name, TIMES_LONGER * getattr(db, name))
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_services() -> Iterator[None]:
    """Services of a `Stack` are forked instead of started; those of `turnpike up` are not."""
    forks = Forks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_spawn", forking(processes._spawn, forks))
        yield
    forks.close()


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
        await unhurry(postgres, names[-1], schemas)
        return FreshDatabase(names[-1], postgres)

    yield make
    for name in names:
        await postgres.drop_database(name)


async def unhurry(postgres: Postgres, database: str, schemas: tuple[str, ...]) -> None:
    """The time-outs of services that run in this database, also as processes of their own."""
    superuser = await asyncpg.connect(postgres.dsn())
    try:
        for schema in schemas:
            await superuser.execute(UNHURRIED.format(role=role(schema, "app"), database=database))
    finally:
        await superuser.close()
