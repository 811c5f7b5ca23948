"""`turnpike restored SERVICE`: a service that came back from a backup hears and tells again what it may lack."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

import payments.app
import payments.settings
import referrals.app
import referrals.settings
from shared.contract import Fact
from shared.db import Database
from shared.facts import InvitationRegistered, PaymentReported, PersonStarted
from shared.outbox import ensure_stream, hour_of
from shared.service import Service
from tests.kit.commands import living, turnpike
from tests.kit.payments import reward
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port

HANG_S = 30.0
BEFORE = "insert into facts (id, topic, version, body, digest) values ($1, $2, 1, $3::json, $4)"


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("referrals")


def referrals_of(place: FreshDatabase, url: str) -> Service:
    dsn = SecretStr(place.dsn("referrals_app"))
    return referrals.app.build(referrals.settings.Settings(dsn=dsn, nats_url=SecretStr(url), http_port=free_port()))


def payments_of(place: FreshDatabase, url: str) -> Service:
    dsn = SecretStr(place.dsn("payments_app"))
    return payments.app.build(payments.settings.Settings(dsn=dsn, nats_url=SecretStr(url), http_port=free_port()))


async def publish(fact: Fact, client: Client) -> None:
    """As its owner's relay does."""
    headers = {
        "Nats-Msg-Id": str(fact.id),
        "Turnpike-Digest": str(fact.digest()),
        "Turnpike-Hour": hour_of(datetime.now(UTC)),
    }
    await client.request(fact.subject(), fact.model_dump_json().encode(), headers=headers)


async def messages(stream: str, client: Client) -> int:
    return int(json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}")).data)["state"]["messages"])


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

    await ensure_stream(client, "bot")
    for _ in range(3):
        person, now = uuid4(), datetime.now(UTC)
        fact = PersonStarted.because(person, about=person, at=now, code=None, invited_by=None)
        await publish(fact, client)
    async with living([referrals_of(place, broker.url)]):
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
    async with living([referrals_of(place, broker.url)]):
        assert await people() == 0, "by itself it waits for new ones only"
        assert await messages("EVT_REFERRALS", client) == 0

    for _ in range(2):  # It may be repeated.
        status, out, err = await turnpike("restored", "referrals", **variables)
        assert (status, err) == (0, "")
    assert out.startswith("referrals tells its facts of 3 days again"), "the durables are gone since the first time"
    assert "Next:\n  1. start referrals" in out
    status, out, _ = await turnpike("restored", "referrals", "--json", **variables)
    assert (status, json.loads(out)) == (0, {"service": "referrals", "from_the_start": []})
    async with living([referrals_of(place, broker.url)]):
        await until(lambda: _is(people, 3))
        await until(lambda: _is(lambda: messages("EVT_REFERRALS", client), 1))
    assert await database.fetchval("select count(*) from comparisons where whole_due_at <= now()") == 2
    await client.close()
    await database.close()


async def _is(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


# What is in the book, but for the moments at which it was written.
BOOK = (
    "select receipt, outcome, because, value_minor, told_as from bookings order by receipt",
    "select id, cause, reason, person from transfers order by id",
    "select transfer, account, amount_minor from entries order by transfer, account",
    "select id, balance_minor from accounts order by id",
    "select id, digest from facts order by id",
)


async def book_in(place: FreshDatabase) -> list[list[tuple[Any, ...]]]:
    connection = await asyncpg.connect(place.dsn("payments_app"))
    try:
        return [[tuple(row) for row in await connection.fetch(sql)] for sql in BOOK]
    finally:
        await connection.close()


async def all_told(place: FreshDatabase) -> bool:
    connection = await asyncpg.connect(place.dsn("payments_app"))
    try:
        return bool(await connection.fetchval("select not exists (select from untold)"))
    finally:
        await connection.close()


def reported(payer: UUID) -> PaymentReported:
    charge, now = uuid4().hex, datetime.now(UTC)
    money: dict[str, Any] = {"payload": "", "currency": "XTR", "amount_minor": 99, "paid_at": now}
    cause = f"telegram_stars:{charge}"
    return PaymentReported.because(
        cause, about=payer, at=now, acquirer="telegram_stars", charge=charge, payer=payer, **money
    )


async def test_a_restored_book_becomes_the_one_that_was_lost(fresh_database: MakeDatabase, broker: Broker) -> None:
    """W-26: what came after the backup is booked again and told again, by the same ids; what came before, not twice."""
    await broker.wipe()
    lost, payer, partner = await fresh_database("payments"), uuid4(), uuid4()
    client = await nats.connect(broker.url)
    for owner in ("bot", "referrals"):
        await ensure_stream(client, owner)
    before, after = reported(payer), reported(payer)

    async def booked(place: FreshDatabase, bookings: int, transfers: int) -> bool:
        book = await book_in(place)
        return (len(book[0]), len(book[1])) == (bookings, transfers)

    await publish(before, client)
    async with living([payments_of(lost, broker.url)]):
        await until(lambda: booked(lost, 1, 1))
        await until(lambda: _is(lambda: messages("EVT_PAYMENTS", client), 1))
    backup = FreshDatabase(await lost.postgres.fresh_database(lost.name), lost.postgres)
    await publish(after, client)
    await publish(reward(partner, uuid4()), client)
    async with living([payments_of(lost, broker.url)]):
        await until(lambda: booked(lost, 2, 3))
        await until(lambda: _is(lambda: messages("EVT_PAYMENTS", client), 2))
    assert await booked(backup, 1, 1)

    variables = {"TURNPIKE_NATS_URL": broker.url, "TURNPIKE_PAYMENTS_DSN": backup.dsn("payments_app")}
    status, out, err = await turnpike("restored", "payments", **variables)
    assert (status, err) == (0, "")
    assert out.splitlines()[:3] == [
        "payments_confirms_reported hears its stream from the start",
        "payments_books_rewards hears its stream from the start",
        "payments tells its facts of 3 days again",
    ]
    async with living([payments_of(backup, broker.url)]):
        await until(lambda: booked(backup, 2, 3))
        await until(lambda: all_told(backup))
    assert await book_in(backup) == await book_in(lost)
    assert await messages("EVT_PAYMENTS", client) == 2, "the broker knows the ids and keeps one of each"
    await client.close()
    await lost.postgres.drop_database(backup.name)


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
