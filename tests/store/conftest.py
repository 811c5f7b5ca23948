"""Fixtures of the store tests that run against payments' database and an empty broker."""

from collections.abc import AsyncIterator

import pytest

from shared.platform.db import Database
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments")


@pytest.fixture(scope="module")
async def store(place: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(place.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def wiped_url(broker: Broker) -> str:
    """An empty broker that runs, whatever the test before did to it."""
    await broker.wipe()
    return broker.url
