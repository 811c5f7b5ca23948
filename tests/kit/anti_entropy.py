"""A publisher and a subscriber whose events are compared hour by hour, on a real NATS."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
import pytest
from nats.aio.msg import Msg

from referrals.subscribers import referrals_registers_started
from shared.contracts import streams
from shared.contracts.bot import PersonStarted
from shared.contracts.operations import HourlyChecksumsQuery, PublishedIdsQuery, Republish
from shared.contracts.streams import SUBSCRIPTIONS, Subscription
from shared.messaging.consumer import consume
from shared.messaging.idempotency import execute
from shared.messaging.inbox import Handler
from shared.messaging.jetstream import consumer_lag, incarnation_of
from shared.messaging.relay import Relay
from shared.messaging.rpc import Bus
from shared.operations import anti_entropy
from shared.operations.anti_entropy import HOUR, Compared, compare, start_of_hour
from shared.operations.audit import MISSING, UNKNOWN_EVENTS
from shared.platform.db import Database, Tx
from tests.kit.messaging import set_duplicate_window
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.broker import Broker

HANDLER = "referrals_registers_started"
STARTED = next(entry for entry in SUBSCRIPTIONS if entry.handler == HANDLER)

PROBE = "evt.bot.probe.v1"
"""A subject of the stream that no handler receives."""

INCARNATION = "select incarnation from streams where name = $1"

RECORD = """
with recorded as (
  insert into events (id, topic, version, body, digest, recorded_at)
  select id, $2, 1, body::json, digest, recorded_at
  from unnest($1::uuid[], $3::text[], $4::bigint[], $5::timestamptz[])
    as e (id, body, digest, recorded_at)
  returning seq
)
insert into outbox (seq) select seq from recorded
"""


class Sides:
    """A publisher (bot) and a subscriber (referrals), with the relay and the broker between them.

    The subscriber receives only while `consume` runs.
    """

    def __init__(self, publisher: Database, subscriber: Database, url: str, owner_dsn: str) -> None:
        self.publisher = publisher
        self.owner_dsn = owner_dsn
        self.subscriber = subscriber
        self.url = url
        self.handled: list[UUID] = []
        self.fails: Exception | None = None

    async def __aenter__(self) -> Self:
        self._exits = AsyncExitStack()
        self.bus, publishing = Bus(self.url, "subscriber"), Bus(self.url, "publisher")
        publishing.answers(
            HourlyChecksumsQuery.of("bot"),
            lambda query: anti_entropy.answer_hourly_checksums(query, self.publisher),
        )
        publishing.answers(
            PublishedIdsQuery.of("bot"),
            lambda query: anti_entropy.answer_published_ids(query, self.publisher),
        )
        publishing.answers(Republish.of("bot"), self._republish)
        for one in (publishing, self.bus):
            await one.open()
            self._exits.push_async_callback(one.close)
        self._stopping = asyncio.Event()
        relay = Relay(self.publisher, publishing.client, "bot")
        self._relay = asyncio.create_task(relay.run(self._stopping))
        self._exits.push_async_callback(self.stop_relay)
        await until(self._relay_knows_the_stream)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def stop_relay(self) -> None:
        self._stopping.set()
        await asyncio.wait_for(self._relay, HANG_S)

    async def _relay_knows_the_stream(self) -> bool:
        """Before, it republishes what a test records, once more and at any later time."""
        info = await self.api(f"STREAM.INFO.{STARTED.stream}")
        known = await self.publisher.fetchval(INCARNATION, STARTED.stream)
        return "error" not in info and known == incarnation_of(info)

    async def _republish(self, command: Any) -> Any:
        return await execute(self.publisher, command, anti_entropy.republish)

    async def handle(self, events: Sequence[PersonStarted], tx: Tx) -> None:
        if self.fails is not None:
            raise self.fails
        await referrals_registers_started(events, tx)
        ids = [event.id for event in events]
        tx.after_commit(lambda: self.handled.extend(ids))

    async def publish(self, count: int, hour: datetime, *, relayed: bool = True) -> list[UUID]:
        """Record events in that hour. With `relayed`, wait until the broker acknowledged them."""
        people = [uuid4() for _ in range(count)]
        moments = [hour + timedelta(seconds=number % 3600) for number in range(count)]
        events = [
            PersonStarted.caused_by(person, about=person, at=at, code=None, invited_by=None)
            for person, at in zip(people, moments, strict=True)
        ]
        ids, bodies = [event.id for event in events], [event.model_dump_json() for event in events]
        digests = [event.digest() for event in events]
        await self.publisher.execute(RECORD, ids, PersonStarted.topic, bodies, digests, moments)
        if relayed:
            await self.until_published()
        return ids

    async def until_published(self) -> None:
        async def none_pending() -> bool:
            return bool(await self.publisher.fetchval("select count(*) from outbox") == 0)

        await until(none_pending)

    async def consume(self) -> None:
        """Handle all events that the stream holds, then stop receiving."""
        stopping = asyncio.Event()
        consuming = asyncio.create_task(
            consume(self.bus, Handler(STARTED, self.handle, self.subscriber), stopping)
        )

        async def quiescent() -> bool:
            return (await consumer_lag(self.bus.client))[HANDLER] == 0

        try:
            await until(quiescent)
        finally:
            stopping.set()
            await asyncio.wait_for(consuming, HANG_S)

    async def lose(self, ids: Sequence[UUID]) -> None:
        """Delete these messages from the stream."""
        last = (await self.api(f"STREAM.INFO.{STARTED.stream}"))["state"]["last_seq"]
        lost = 0
        for sequence in range(1, last + 1):
            found = await self.api(f"STREAM.MSG.GET.{STARTED.stream}", {"seq": sequence})
            body = base64.b64decode(found.get("message", {}).get("data", "")).decode()
            if any(str(one) in body for one in ids):
                await self.api(f"STREAM.MSG.DELETE.{STARTED.stream}", {"seq": sequence})
                lost += 1
        assert lost == len(ids), "the stream held them"

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Delete the inbox rows of these events."""
        await self.subscriber.execute("delete from inbox where event_id = any($1)", list(ids))

    async def as_owner(self, sql: str, *args: object) -> list[Any]:
        """Change the publisher's tables in a way that its app role may not."""
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def pull(self, count: int) -> list[Msg]:
        """Receive so many messages for the handler, and acknowledge none."""
        reply = self.bus.client.new_inbox()
        subscription = await self.bus.client.subscribe(reply)
        call = f"$JS.API.CONSUMER.MSG.NEXT.{STARTED.stream}.{HANDLER}"
        request = json.dumps({"batch": count, "expires": 5_000_000_000}).encode()
        await self.bus.client.publish(call, request, reply)
        return [await subscription.next_msg(HANG_S) for _ in range(count)]

    async def outlive_the_duplicate_window(self) -> None:
        """Return once the broker takes every id that it knows as a new one.

        It forgets them in the order in which they came, so the last one tells of all.
        """
        assert await self._takes_as_new(PROBE)
        await set_duplicate_window(self.bus.client, STARTED.stream, 0.1)
        await until(lambda: self._takes_as_new(PROBE))

    async def _takes_as_new(self, subject: str) -> bool:
        headers = {"Nats-Msg-Id": subject}
        reply = await self.bus.client.request(subject, b"", HANG_S, headers=headers)
        answer = json.loads(reply.data)
        assert "error" not in answer, answer
        return not answer.get("duplicate")

    async def change_stream(self, **changes: int) -> None:
        config = (await self.api(f"STREAM.INFO.{STARTED.stream}"))["config"]
        assert "error" not in await self.api(f"STREAM.UPDATE.{STARTED.stream}", config | changes)

    async def api(self, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps(request).encode() if request else b""
        reply = await self.bus.client.request(f"$JS.API.{call}", body, 5)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    async def compare(
        self, *, hours: int = 72, subscription: Subscription = STARTED
    ) -> Compared | None:
        return await compare(subscription, self.subscriber, self.bus, hours=hours)

    async def republishes(self, count: int) -> None:
        """Compare, and expect that so many events are put back into the outbox."""
        compared = await self.compare()
        assert compared is not None
        assert compared.republished == count

    async def let_time_pass(self) -> None:
        """Make the tries 16 minutes older."""
        await self.subscriber.execute(
            "update differences set tried_at = tried_at - interval '16 minutes'"
        )

    async def examples(self, check: str) -> list[str]:
        """The findings of this check of the audit at the subscriber."""
        return [row["example"] for row in await self.subscriber.fetch(check)]

    async def settled(self, ids: Sequence[UUID]) -> bool:
        """Whether each event was handled once, and neither comparison nor audit finds anything."""
        handled = await self.subscriber.fetchval(
            "select count(*) from inbox where event_id = any($1)", list(ids)
        )
        written = await self.subscriber.fetchval("select count(*) from people")
        compared = await self.compare()
        assert compared is not None
        findings = [*await self.examples(MISSING), *await self.examples(UNKNOWN_EVENTS)]
        return (handled, written, compared.differing, findings) == (len(ids), len(ids), 0, [])


@pytest.fixture
def closed_hour() -> datetime:
    return start_of_hour(datetime.now(UTC)) - 3 * HOUR


@pytest.fixture
def duplicate_window() -> timedelta:
    """For how long the broker knows an id: so short that it takes a lost message again."""
    return timedelta(milliseconds=100)


@pytest.fixture
async def sides(
    fresh_database: MakeDatabase,
    broker: Broker,
    duplicate_window: timedelta,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Sides]:
    """On empty tables and an empty broker."""
    monkeypatch.setattr(streams, "DUPLICATE_WINDOW", duplicate_window)
    await broker.wipe()
    place = await fresh_database("bot")
    publisher = Database(place.dsn("bot_app"), name="publisher")
    dsn = (await fresh_database("referrals")).dsn("referrals_app")
    subscriber = Database(dsn, name="subscriber")
    await publisher.open()
    await subscriber.open()
    async with Sides(publisher, subscriber, broker.url, place.dsn("bot_owner")) as opened:
        yield opened
    await publisher.close()
    await subscriber.close()
