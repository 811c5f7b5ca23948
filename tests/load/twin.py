"""A twin of a service with raw asyncpg and nats-py: a pool, a standing pull for each handler, a relay."""

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

from shared import outbox
from shared.contract import NAMESPACE
from shared.streams import LISTENING, Listening

MOST_PER_BATCH = 500
ASKED_AHEAD = 1_000

# How every handler's statement begins; who was heard before is not in `heard`.
HEARD = """
with heard as (
  insert into inbox (handler, fact_id, digest, hour)
  select $1, * from unnest($2::uuid[], $3::bigint[], $4::timestamptz[])
  on conflict do nothing
  returning fact_id
)"""

Json = dict[str, Any]

_root = NAMESPACE.bytes


@dataclass(frozen=True)
class Batch:
    """What a handler has taken: the facts by id, and as columns what the inbox keeps of them, in the same order."""

    handler: str
    facts: dict[UUID, Json]
    columns: list[list[object]]

    async def hear(self, connection: Any, then: str, *others: object) -> list[Any]:
        """The inbox, and what follows for those that are new, as one statement: `then` goes on after `heard`."""
        rows: list[Any] = await connection.fetch(HEARD + then, self.handler, *self.columns, *others)
        return rows


Act = Callable[[Any, Batch], Awaitable[None]]
"""Hears a batch and does what follows, in one transaction."""


class Twin:
    """One process: a pool, a connection to NATS, a relay."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.told = asyncio.Event()

    async def run(self, hears: dict[str, Act]) -> None:
        dsn = os.environ[f"TURNPIKE_{self.owner.upper()}_DSN"]
        self.pool = await asyncpg.create_pool(dsn, min_size=1, max_size=5, reset=_nothing_to_reset)
        self.nats = await nats.connect(os.environ["TURNPIKE_NATS_URL"], pending_size=64 * 1024 * 1024)
        door = await asyncio.start_server(_say_ok, "127.0.0.1", int(os.environ["TURNPIKE_HTTP_PORT"]))
        gc.freeze()  # As the services do it, too.
        async with door:
            await asyncio.gather(
                self.relay(dsn),
                *(self.listen(entry, hears[entry.handler]) for entry in LISTENING if entry.handler in hears),
            )

    async def listen(self, listening: Listening, act: Act) -> None:
        queue: deque[Any] = deque()
        arrived, asked = asyncio.Event(), 0
        path, reply = f"{listening.stream}.{listening.handler}", self.nats.new_inbox()

        async def take(message: Any) -> None:
            queue.append(message)
            arrived.set()

        await self.nats.subscribe(reply, cb=take, pending_msgs_limit=-1)
        config = {"stream_name": listening.stream, "config": listening.consumer_config(), "action": "create"}
        create = f"$JS.API.CONSUMER.CREATE.{path}.{listening.filter_subject}"
        await self.nats.request(create, json.dumps(config).encode(), 5)
        while True:
            if asked <= ASKED_AHEAD // 2:
                wanted = {"batch": ASKED_AHEAD - asked, "expires": int(600e9)}
                await self.nats.publish(f"$JS.API.CONSUMER.MSG.NEXT.{path}", json.dumps(wanted).encode(), reply)
                asked = ASKED_AHEAD
            arrived.clear()
            if not queue:
                await arrived.wait()
            batch = [queue.popleft() for _ in range(min(MOST_PER_BATCH, len(queue)))]
            asked -= len(batch)
            await self.absorb(listening.handler, batch, act)
            for message in batch:
                await self.nats.publish(message.reply, b"+ACK")
            self.told.set()

    async def absorb(self, handler: str, messages: Sequence[Any], act: Act) -> None:
        kept: dict[UUID, tuple[int, datetime]] = {}
        facts: dict[UUID, Json] = {}
        for message in messages:
            headers = message.headers
            fact = json.loads(message.data)
            fact["trace"] = headers.get("traceparent")
            id_ = pgproto.UUID(fact["id"])
            facts[id_] = fact
            kept[id_] = int(headers["Turnpike-Digest"]), datetime.fromisoformat(headers["Turnpike-Hour"])
        ids = sorted(facts)
        batch = Batch(handler, {id_: facts[id_] for id_ in ids}, across([(id_, *kept[id_]) for id_ in ids]))
        async with self.pool.acquire() as connection, connection.transaction():
            await act(connection, batch)

    async def relay(self, dsn: str) -> None:
        # As the shop's: what is forgotten and then lost with a crash is told again, and heard once.
        connection, floor = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"}), 0
        while True:
            self.told.clear()
            async with connection.transaction():
                rows = await connection.fetch(outbox.TAKE, floor, MOST_PER_BATCH)
                if rows:
                    await self.publish(rows)
                    floor = rows[-1]["seq"]
            if len(rows) < MOST_PER_BATCH:
                await self.told.wait()

    async def publish(self, rows: Sequence[Any]) -> None:
        """One atomic batch, or one message."""
        batch = uuid4().hex
        for place, row in enumerate(rows, start=1):
            headers = outbox.headers_of(row)
            if len(rows) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place == len(rows) > 1:
                headers["Nats-Batch-Commit"] = "1"
            subject, body = outbox.subject_of(row), row["body"].encode()
            if place in (1, len(rows)):
                answer = await self.nats.request(subject, body, 5, headers=headers)
                assert b'"error"' not in answer.data, answer.data
            else:
                await self.nats.publish(subject, body, headers=headers)


async def _say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def _nothing_to_reset(_: Any) -> None:
    """As the services do it: a round trip for each transaction saved."""


def told(topic: str, cause: str, about: str, now: datetime, trace: str | None, fields: Json) -> tuple[object, ...]:
    """A row for `facts`, as the outbox takes it."""
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
