"""A twin of a service with raw asyncpg and nats-py: a pool, a pull per handler, a relay."""

import asyncio
import gc
import hashlib
import json
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats
from asyncpg.pgproto import pgproto

from shared.contracts.message import NAMESPACE
from shared.contracts.streams import SUBSCRIPTIONS, Subscription
from shared.messaging import relay as relay_module

MAX_PER_BATCH = 500
ASKED_AHEAD = 1_000

# The beginning of every handler's statement. Events that were handled before are not in `fresh`.
REMEMBER = """
with fresh as (
  insert into inbox (handler, event_id, digest, hour)
  select $1, * from unnest($2::uuid[], $3::bigint[], $4::timestamptz[])
  on conflict do nothing
  returning event_id
)"""

Json = dict[str, Any]

_root = NAMESPACE.bytes


@dataclass(frozen=True)
class Batch:
    """The events of a batch by id, and the columns of their inbox rows, in the same order."""

    handler: str
    events: dict[UUID, Json]
    columns: list[list[object]]

    async def handle(self, connection: Any, then: str, *others: object) -> list[Any]:
        """Remember the batch and act on its new events, in one statement.

        `then` is the rest of the statement, after `fresh`.
        """
        sql = REMEMBER + then
        rows: list[Any] = await connection.fetch(sql, self.handler, *self.columns, *others)
        return rows


Act = Callable[[Any, Batch], Awaitable[None]]
"""Handles a batch in one transaction."""


class Twin:
    """One process: a pool, a connection to NATS, a relay."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.published = asyncio.Event()

    async def run(self, handlers: dict[str, Act]) -> None:
        dsn = os.environ[f"TURNPIKE_{self.owner.upper()}_DSN"]
        self.pool = await asyncpg.create_pool(dsn, min_size=1, max_size=5, reset=_nothing_to_reset)
        self.nats = await nats.connect(
            os.environ["TURNPIKE_NATS_URL"], pending_size=64 * 1024 * 1024
        )
        port = int(os.environ["TURNPIKE_HTTP_PORT"])
        readiness = await asyncio.start_server(_answer_ok, "127.0.0.1", port)
        gc.freeze()  # As in the services.
        async with readiness:
            await asyncio.gather(
                self.relay(dsn),
                *(
                    self.consume(entry, handlers[entry.handler])
                    for entry in SUBSCRIPTIONS
                    if entry.handler in handlers
                ),
            )

    async def consume(self, subscription: Subscription, act: Act) -> None:
        queue: deque[Any] = deque()
        arrived, asked = asyncio.Event(), 0
        path, reply = f"{subscription.stream}.{subscription.handler}", self.nats.new_inbox()

        async def take(message: Any) -> None:
            queue.append(message)
            arrived.set()

        await self.nats.subscribe(reply, cb=take, pending_msgs_limit=-1)
        config = {
            "stream_name": subscription.stream,
            "config": subscription.consumer_config(),
            "action": "create",
        }
        create = f"$JS.API.CONSUMER.CREATE.{path}.{subscription.filter_subject}"
        await self.nats.request(create, json.dumps(config).encode(), 5)
        while True:
            if asked <= ASKED_AHEAD // 2:
                wanted = {"batch": ASKED_AHEAD - asked, "expires": int(600e9)}
                await self.nats.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{path}", json.dumps(wanted).encode(), reply
                )
                asked = ASKED_AHEAD
            arrived.clear()
            if not queue:
                await arrived.wait()
            batch = [queue.popleft() for _ in range(min(MAX_PER_BATCH, len(queue)))]
            asked -= len(batch)
            await self.handle_batch(subscription.handler, batch, act)
            for message in batch:
                await self.nats.publish(message.reply, b"+ACK")
            self.published.set()

    async def handle_batch(self, handler: str, messages: Sequence[Any], act: Act) -> None:
        inbox: dict[UUID, tuple[int, datetime]] = {}
        events: dict[UUID, Json] = {}
        for message in messages:
            headers = message.headers
            event = json.loads(message.data)
            event["trace"] = headers.get("traceparent")
            id_ = pgproto.UUID(event["id"])
            events[id_] = event
            inbox[id_] = (
                int(headers["Turnpike-Digest"]),
                datetime.fromisoformat(headers["Turnpike-Hour"]),
            )
        ids = sorted(events)
        batch = Batch(
            handler, {id_: events[id_] for id_ in ids}, across([(id_, *inbox[id_]) for id_ in ids])
        )
        async with self.pool.acquire() as connection, connection.transaction():
            await act(connection, batch)

    async def relay(self, dsn: str) -> None:
        # As in the shop: a clearing that is lost in a crash is republished, and handled once.
        settings = {"synchronous_commit": "off"}
        connection, floor = await asyncpg.connect(dsn, server_settings=settings), 0
        while True:
            self.published.clear()
            async with connection.transaction():
                rows = await connection.fetch(relay_module.TAKE, floor, MAX_PER_BATCH)
                if rows:
                    await self.publish(rows)
                    floor = rows[-1]["seq"]
            if len(rows) < MAX_PER_BATCH:
                await self.published.wait()

    async def publish(self, rows: Sequence[Any]) -> None:
        """One atomic batch, or one message."""
        batch = uuid4().hex
        for place, row in enumerate(rows, start=1):
            message = relay_module.outgoing(row)
            headers = dict(message.headers)
            if len(rows) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place == len(rows) > 1:
                headers["Nats-Batch-Commit"] = "1"
            subject, body = message.subject, message.body
            if place in (1, len(rows)):
                answer = await self.nats.request(subject, body, 5, headers=headers)
                assert b'"error"' not in answer.data, answer.data
            else:
                await self.nats.publish(subject, body, headers=headers)


async def _answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def _nothing_to_reset(_: Any) -> None:
    """As in the services: one round trip less for each transaction."""


def event_row(
    topic: str, cause: str, about: str, now: datetime, trace: str | None, fields: Json
) -> tuple[object, ...]:
    """A row of `events`."""
    id_ = derived(f"{cause}|{topic}|{about}")
    business = {"about": about, **fields}
    body = {"id": str(id_), "cause": cause, "at": now.isoformat(), **business}
    return id_, topic, 1, json.dumps(body), digest_of(json.dumps(business)), trace


def derived(text: str) -> UUID:
    digest = bytearray(hashlib.sha1(_root + text.encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    return pgproto.UUID(bytes(digest))


def digest_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def across(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
