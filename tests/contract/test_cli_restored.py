"""`turnpike restored SERVICE`: after a restore a service receives and republishes what it lacks."""

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
from shared.contracts.bot import PaymentReported, PersonStarted
from shared.contracts.message import Event
from shared.contracts.referrals import InvitationRegistered
from shared.messaging.jetstream import ensure_stream
from shared.messaging.relay import hour_of
from shared.platform.db import Database
from shared.service import Service
from tests.kit.commands import living, turnpike
from tests.kit.payments import reward
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port

RECORD = "insert into events (id, topic, version, body, digest) values ($1, $2, 1, $3::json, $4)"


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("referrals")


def referrals_of(place: FreshDatabase, url: str) -> Service:
    dsn = SecretStr(place.dsn("referrals_app"))
    return referrals.app.build(
        referrals.settings.Settings(dsn=dsn, nats_url=SecretStr(url), http_port=free_port())
    )


def payments_of(place: FreshDatabase, url: str) -> Service:
    dsn = SecretStr(place.dsn("payments_app"))
    return payments.app.build(
        payments.settings.Settings(dsn=dsn, nats_url=SecretStr(url), http_port=free_port())
    )


async def publish(event: Event, client: Client) -> None:
    """Publish it as the relay of its owner does."""
    headers = {
        "Nats-Msg-Id": str(event.id),
        "Turnpike-Digest": str(event.digest()),
        "Turnpike-Hour": hour_of(datetime.now(UTC)),
    }
    await client.request(event.subject(), event.model_dump_json().encode(), headers=headers)


async def messages(stream: str, client: Client) -> int:
    info = json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}")).data)
    return int(info["state"]["messages"])


async def test_a_restored_service_receives_and_republishes_again(
    place: FreshDatabase, broker: Broker
) -> None:
    """W-26: the backup is from before three people started.

    It remembers a lower sequence of its stream than the broker has.
    """
    await broker.wipe()
    database = Database(place.dsn("referrals_app"), name="test")
    await database.open()
    client = await nats.connect(broker.url)
    variables = {
        "TURNPIKE_NATS_URL": broker.url,
        "TURNPIKE_REFERRALS_DSN": place.dsn("referrals_app"),
    }

    async def people() -> int:
        return int(await database.fetchval("select count(*) from people"))

    await ensure_stream(client, "bot")
    for _ in range(3):
        person, now = uuid4(), datetime.now(UTC)
        event = PersonStarted.caused_by(person, about=person, at=now, code=None, invited_by=None)
        await publish(event, client)
    async with living([referrals_of(place, broker.url)]):
        await until(lambda: _is(people, 3))
        status, out, err = await turnpike("restored", "referrals", **variables)
        assert (status, out) == (2, "")
        assert err == (
            "referrals is running: stop all its replicas, restore its database,"
            " and run this command again.\n"
        )

    recorded = InvitationRegistered.caused_by(
        uuid4(), about=uuid4(), at=datetime.now(UTC), invitee=uuid4()
    )
    row = (recorded.id, recorded.topic, recorded.model_dump_json(), recorded.digest())
    await database.execute(RECORD, *row)
    await database.execute("update streams set sequence = 0")
    await database.execute("delete from inbox")
    owner = Database(place.dsn("referrals_owner"), name="test")
    await owner.open()
    await owner.execute("delete from people")
    await owner.close()
    async with living([referrals_of(place, broker.url)]):
        assert await people() == 0, "without the command it receives only new events"
        assert await messages("EVT_REFERRALS", client) == 0

    for _ in range(2):  # It may be repeated.
        status, out, err = await turnpike("restored", "referrals", **variables)
        assert (status, err) == (0, "")
    assert out.startswith("referrals will republish its events of the last 3 days"), (
        "the first run dropped the durables"
    )
    assert "Next:\n  1. start referrals" in out
    status, out, _ = await turnpike("restored", "referrals", "--json", **variables)
    assert (status, json.loads(out)) == (0, {"service": "referrals", "dropped_consumers": []})
    async with living([referrals_of(place, broker.url)]):
        await until(lambda: _is(people, 3))
        await until(lambda: _is(lambda: messages("EVT_REFERRALS", client), 1))
    assert (
        await database.fetchval("select count(*) from comparisons where whole_due_at <= now()") == 3
    )
    await client.close()
    await database.close()


async def _is(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


# All rows of the ledger, without the times at which they were written.
LEDGER = (
    "select receipt, outcome, because, value_minor, published_as from bookings order by receipt",
    "select id, cause, reason, person from transfers order by id",
    "select transfer, account, amount_minor from entries order by transfer, account",
    "select id, balance_minor from accounts order by id",
    "select id, digest from events order by id",
)


async def ledger_in(place: FreshDatabase) -> list[list[tuple[Any, ...]]]:
    connection = await asyncpg.connect(place.dsn("payments_app"))
    try:
        return [[tuple(row) for row in await connection.fetch(sql)] for sql in LEDGER]
    finally:
        await connection.close()


async def outbox_empty(place: FreshDatabase) -> bool:
    connection = await asyncpg.connect(place.dsn("payments_app"))
    try:
        return bool(await connection.fetchval("select not exists (select from outbox)"))
    finally:
        await connection.close()


def reported(payer: UUID) -> PaymentReported:
    charge, now = uuid4().hex, datetime.now(UTC)
    money: dict[str, Any] = {"payload": "", "currency": "XTR", "amount_minor": 99, "paid_at": now}
    cause = f"telegram_stars:{charge}"
    return PaymentReported.caused_by(
        cause, about=payer, at=now, acquirer="telegram_stars", charge=charge, payer=payer, **money
    )


async def test_a_restored_ledger_equals_the_lost_one(
    fresh_database: MakeDatabase, broker: Broker
) -> None:
    """W-26: events after the backup are booked again and republished, by the same ids.

    Events before the backup are not booked twice.
    """
    await broker.wipe()
    lost, payer, partner = await fresh_database("payments"), uuid4(), uuid4()
    client = await nats.connect(broker.url)
    for owner in ("bot", "referrals"):
        await ensure_stream(client, owner)
    before, after = reported(payer), reported(payer)

    async def booked(place: FreshDatabase, bookings: int, transfers: int) -> bool:
        rows = await ledger_in(place)
        return (len(rows[0]), len(rows[1])) == (bookings, transfers)

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

    variables = {
        "TURNPIKE_NATS_URL": broker.url,
        "TURNPIKE_PAYMENTS_DSN": backup.dsn("payments_app"),
    }
    status, out, err = await turnpike("restored", "payments", **variables)
    assert (status, err) == (0, "")
    assert out.splitlines()[:5] == [
        "payments_confirms_reported will receive its stream from the start",
        "payments_records_refunds will receive its stream from the start",
        "payments_books_rewards will receive its stream from the start",
        "payments_books_reversals will receive its stream from the start",
        "payments will republish its events of the last 3 days",
    ]
    async with living([payments_of(backup, broker.url)]):
        await until(lambda: booked(backup, 2, 3))
        await until(lambda: outbox_empty(backup))
    assert await ledger_in(backup) == await ledger_in(lost)
    assert await messages("EVT_PAYMENTS", client) == 2, "the broker keeps one of each id"
    await client.close()
    await lost.postgres.drop_database(backup.name)


async def test_a_missing_setting_or_server_is_one_sentence(
    place: FreshDatabase, broker: Broker
) -> None:
    url, dsn = broker.url, place.dsn("referrals_app")
    status, out, err = await turnpike("restored", "payments", TURNPIKE_NATS_URL=url)
    assert (status, out, err) == (2, "", "TURNPIKE_PAYMENTS_DSN is not set.\n")
    no_nats = {"TURNPIKE_NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    status, out, err = await turnpike(
        "restored", "referrals", TURNPIKE_REFERRALS_DSN=dsn, **no_nats
    )
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("NATS does not answer at 127.0.0.1:")
    no_database = {
        "TURNPIKE_NATS_URL": url,
        "TURNPIKE_REFERRALS_DSN": f"postgresql://127.0.0.1:{free_port()}/none",
    }
    status, _, err = await turnpike("restored", "referrals", **no_database)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("The database of referrals does not answer: ")
