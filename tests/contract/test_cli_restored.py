"""`turnpike restored SERVICE`: a service that came back from a backup hears and tells again what it may lack."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import nats
import pytest
from pydantic import SecretStr

from referrals.app import build
from referrals.settings import Settings
from shared.db import Database
from shared.facts import InvitationRegistered, PersonStarted
from shared.outbox import ensure_stream, hour_of
from tests.kit.commands import turnpike
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port

HANG_S = 30.0
BEFORE = "insert into facts (id, topic, version, body, digest) values ($1, $2, 1, $3::json, $4)"


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("referrals")


@asynccontextmanager
async def running(place: FreshDatabase, url: str) -> AsyncIterator[None]:
    dsn, loop = place.dsn("referrals_app"), asyncio.get_running_loop()
    service = build(Settings(dsn=SecretStr(dsn), nats_url=SecretStr(url), http_port=free_port()))
    life = asyncio.create_task(service.run())

    async def opened() -> bool:
        assert not life.done()
        return service.health.opened

    await until(opened)
    yield
    service.stopping.set()
    await asyncio.wait_for(life, HANG_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_S):
        while not await true():
            await asyncio.sleep(0.05)


async def test_a_restored_service_hears_and_tells_again(place: FreshDatabase, broker: Broker) -> None:
    """W-26: the backup is from before three people started, and remembers less of its stream than the broker has."""
    await broker.wipe()
    database = Database(place.dsn("referrals_app"), name="test")
    await database.open()
    client = await nats.connect(broker.url)
    variables = {"TURNPIKE_NATS_URL": broker.url, "TURNPIKE_REFERRALS_DSN": place.dsn("referrals_app")}

    async def people() -> int:
        return int(await database.fetchval("select count(*) from people"))

    async def messages(stream: str) -> int:
        return int(json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}")).data)["state"]["messages"])

    await ensure_stream(client, "bot")
    for _ in range(3):
        person, now = uuid4(), datetime.now(UTC)
        fact = PersonStarted.because(person, about=person, at=now, code=None, invited_by=None)
        headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest()), "Turnpike-Hour": hour_of(now)}
        await client.request(fact.subject(), fact.model_dump_json().encode(), headers=headers)
    async with running(place, broker.url):
        await until(lambda: _is(people, 3))
        status, out, err = await turnpike("restored", "referrals", **variables)
        assert (status, out) == (2, "")
        assert err == "referrals is running: stop all its replicas, restore its database, and call this again.\n"

    partner = uuid4()
    told = InvitationRegistered.because(uuid4(), about=partner, at=datetime.now(UTC), invitee=uuid4())
    await database.execute(BEFORE, told.id, told.topic, told.model_dump_json(), told.digest())
    await database.execute("update streams set sequence = 0")
    await database.execute("delete from inbox")
    owner = Database(place.dsn("referrals_owner"), name="test")
    await owner.open()
    await owner.execute("delete from people")
    await owner.close()
    async with running(place, broker.url):
        assert await people() == 0, "by itself it waits for new ones only"
        assert await messages("EVT_REFERRALS") == 0

    for _ in range(2):  # It may be repeated.
        status, out, err = await turnpike("restored", "referrals", **variables)
        assert (status, err) == (0, "")
    assert out.startswith("referrals tells its facts of 3 days again"), "the durables are gone since the first time"
    assert "Next:\n  1. start referrals" in out
    status, out, _ = await turnpike("restored", "referrals", "--json", **variables)
    assert (status, json.loads(out)) == (0, {"service": "referrals", "from_the_start": []})
    async with running(place, broker.url):
        await until(lambda: _is(people, 3))
        await until(lambda: _is(lambda: messages("EVT_REFERRALS"), 1))
    assert await database.fetchval("select count(*) from comparisons where whole_due_at <= now()") == 2
    await client.close()
    await database.close()


async def _is(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


async def test_what_is_missing_or_away_is_one_sentence(place: FreshDatabase, broker: Broker) -> None:
    url, dsn = broker.url, place.dsn("referrals_app")
    assert await turnpike("restored", "payments", TURNPIKE_NATS_URL=url) == (
        2, "", "TURNPIKE_PAYMENTS_DSN is not set.\n",
    )  # fmt: skip
    away = {"TURNPIKE_NATS_URL": f"nats://127.0.0.1:{free_port()}", "TURNPIKE_REFERRALS_DSN": dsn}
    status, out, err = await turnpike("restored", "referrals", **away)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("NATS does not answer at 127.0.0.1:")
    nowhere = {"TURNPIKE_NATS_URL": url, "TURNPIKE_REFERRALS_DSN": f"postgresql://127.0.0.1:{free_port()}/none"}
    status, _, err = await turnpike("restored", "referrals", **nowhere)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("The database of referrals does not answer: ")
