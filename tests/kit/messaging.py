"""A publisher and a subscriber on real PostgreSQL and NATS, with a relay between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from shared.contracts.bot import PersonStarted
from shared.contracts.message import Event
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging import jetstream, outbox
from shared.messaging.consumer import consume
from shared.messaging.inbox import Handler, Message
from shared.messaging.relay import Relay, hour_of
from shared.messaging.retries import look_for_due, retry, retry_due
from shared.messaging.rpc import Bus
from shared.platform.db import Database, Tx
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.broker import Broker

STARTED = next(entry for entry in SUBSCRIPTIONS if entry.handler == "referrals_registers_started")

PENDING = "select count(*) from outbox"
ALL_ARE_DUE = "update failed_attempts set run_at = now()"


@pytest.fixture(scope="module")
async def publisher(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    """The database of bot-gateway, which publishes."""
    database = Database((await fresh_database("bot")).dsn("bot_app"), name="publisher")
    await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def subscriber(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    """The database of referrals, which subscribes."""
    fresh = await fresh_database("referrals")
    database = Database(fresh.dsn("referrals_app"), name="subscriber")
    await database.open()
    yield database
    await database.close()


class Pair:
    """A publisher with a relay and a subscriber with one handler, each with a bus of its own."""

    def __init__(self, publisher: Database, subscriber: Database, url: str) -> None:
        self.publisher = publisher
        self.subscriber = subscriber
        self.url = url
        self.handled: list[UUID] = []
        self.batches: list[int] = []
        self.calls = 0
        self.fails: Callable[[PersonStarted], Exception | None] = lambda _: None

    def handler(self) -> Handler:
        return Handler(STARTED, self.handle, self.subscriber)

    async def handle(self, events: Sequence[PersonStarted], tx: Tx) -> None:
        self.calls += 1
        for event in events:
            if error := self.fails(event):
                raise error
        ids = [event.id for event in events]
        self.batches.append(len(ids))
        tx.after_commit(lambda: self.handled.extend(ids))

    async def retry(self) -> None:
        """Make all that waits due, and pass it to a new handler."""
        await self.subscriber.execute(ALL_ARE_DUE)
        while await retry_due(self.handler()):
            pass

    async def publish(self, count: int = 1, *, code: str | None = None) -> list[PersonStarted]:
        async with self.publisher.transaction() as tx:
            now = await tx.now()
            fields: dict[str, Any] = {"at": now, "code": code, "invited_by": None}
            people = [uuid4() for _ in range(count)]
            events = [PersonStarted.caused_by(one, about=one, **fields) for one in people]
            await outbox.publish(tx, events)
        return events

    async def until_handled(self, events: Sequence[PersonStarted]) -> None:
        wanted = {event.id for event in events}
        await until(lambda: wanted <= set(self.handled))

    async def until_published(self) -> None:
        """The outbox is empty."""

        async def empty() -> bool:
            return bool(await self.publisher.fetchval(PENDING) == 0)

        await until(empty)

    @asynccontextmanager
    async def open(self, *, consuming: bool = True) -> AsyncIterator["Pair"]:
        stopping = asyncio.Event()
        publishing, subscribing = Bus(self.url, "publisher"), Bus(self.url, "subscriber")
        await publishing.open()
        await subscribing.open()
        relay = Relay(self.publisher, publishing.client, "bot")
        publishing.on_disconnect(relay.disconnected)
        publishing.on_reconnect(relay.reconnected)
        tasks = [asyncio.create_task(relay.run(stopping))]
        if consuming:
            handler = self.handler()
            tasks.append(asyncio.create_task(consume(subscribing, handler, stopping)))
            due = {handler.name: asyncio.Event()}
            tasks.append(asyncio.create_task(look_for_due(due, self.subscriber, stopping)))
            tasks.append(asyncio.create_task(retry(handler, due[handler.name], stopping)))
        self.bus = subscribing
        try:
            yield self
        finally:
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*tasks), HANG_S)
            await publishing.close()
            await subscribing.close()

    async def stream(self) -> dict[str, Any]:
        """The info of the publisher's stream."""
        return await self.api(f"STREAM.INFO.{STARTED.stream}")

    async def api(self, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await jetstream.api(self.bus.client, call, request)
        assert "error" not in answer, answer
        return answer

    async def replace_stream(self, config: dict[str, Any]) -> None:
        """An empty stream of the same incarnation in the place of the old one."""
        await self.api(f"STREAM.DELETE.{STARTED.stream}")
        await self.api(f"STREAM.CREATE.{STARTED.stream}", config)


@pytest.fixture
async def pair(publisher: Database, subscriber: Database, broker: Broker, nats_url: str) -> Pair:
    """On a broker without streams of other modules; a test before may have left it dead."""
    if not broker.child.alive:
        await broker.restart()
    return Pair(publisher, subscriber, nats_url)


def message_of(event: Event, **headers: str) -> Message:
    """The event as the broker delivers it; `headers` replace the usual ones."""
    known = {
        "Nats-Msg-Id": str(event.id),
        "Turnpike-Digest": str(event.digest()),
        "Turnpike-Hour": hour_of(event.at),
    }
    return Message(event.subject(), known | headers, event.model_dump_json().encode())


async def set_duplicate_window(client: Client, stream: str, seconds: float) -> None:
    """Change how long the stream knows an id, also for the ids that it knows already.

    The change is made twice. nats-server starts a purge of ids a moment before it stores the new
    window (`server/stream.go`, `updateWithAdvisory`). A purge that is faster still reads the old
    window, and the next one comes only when that has passed. The second change starts it again.
    """
    config = (await jetstream.api(client, f"STREAM.INFO.{stream}"))["config"]
    window_ns = int(seconds * 1e9)
    for duplicate_window in (window_ns + 1, window_ns):
        changed = config | {"duplicate_window": duplicate_window}
        answer = await jetstream.api(client, f"STREAM.UPDATE.{stream}", changed)
        assert "error" not in answer, answer
