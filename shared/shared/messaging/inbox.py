"""Handling each event once: a batch and its inbox rows are one transaction.

attempt(batch) ──ok──▶ done
    ├─ the database's fault ─▶ the whole batch again, without limit while the database is away;
    │                          refused three times while it answers ─▶ bisect ─▶ alone: a row
    ├─ our fault ─▶ bisect ─▶ alone: a row
    └─ a data error ─▶ bisect ─▶ alone: dead-lettered at once
a row ─▶ tried again after 1 s, 30 s, 5 min, 1 h, then dead-lettered; where the database refused it,
         only if the handler was done with other events meanwhile
"""

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any
from uuid import UUID, uuid5

import structlog
from pydantic import ValidationError

from shared.contracts.message import NAMESPACE, Event
from shared.contracts.streams import Subscription
from shared.messaging import conflicts, failures
from shared.messaging.conflicts import Conflict
from shared.messaging.failures import blame_for, is_given_up
from shared.platform import iterations, telemetry
from shared.platform.db import (
    Database,
    Tx,
    columns,
    database_is_to_blame,
)
from shared.platform.failpoints import failpoint

log = structlog.get_logger()

DATABASE_RETRY_S = (0.1, 0.2, 0.5, 1.0)
REFUSALS_BEFORE_BISECTING = 3
DEAD_LETTERS_PER_MINUTE = 20

Handle = Callable[[Sequence[Any], Tx], Awaitable[None]]

REMEMBER = """
insert into inbox (handler, event_id, digest, hour)
select $1, event_id, digest, hour
from unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) as h (event_id, digest, hour)
order by event_id
on conflict do nothing
returning event_id, shop_now() as now
"""

# The same for messages that waited. Another replica may have resumed them meanwhile.
RESUME = """
with resumed as (
  delete from failed_attempts
  where handler = $1 and event_id = any($2::uuid[])
  returning event_id
)
insert into inbox (handler, event_id, digest, hour)
select $1, event_id, digest, hour
from unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) as h (event_id, digest, hour)
join resumed using (event_id)
order by event_id
on conflict (handler, event_id) do update
set outcome = 'done', handled_at = shop_now()
where inbox.outcome = 'waiting'
returning event_id, shop_now() as now
"""

# A separate statement: only a later one sees the row of a transaction that REMEMBER waited for.
KNOWN = "select event_id, digest from inbox where handler = $1 and event_id = any($2::uuid[])"

DEAD_LETTER = """
insert into dead_letters (handler, event_id, subject, headers, body, reason)
values ($1, $2, $3, $4::json, $5, $6)
on conflict do nothing
returning id
"""

REMEMBER_DEAD_LETTERED = """
insert into inbox (handler, event_id, digest, hour, outcome)
values ($1, $2, $3, $4, 'dead_lettered')
on conflict (handler, event_id) do update
set outcome = 'dead_lettered'
where inbox.outcome = 'waiting'
"""

# A standby refuses it too.
TAKES_WRITES = "select pg_current_xact_id()"

CLEAR_ATTEMPTS = "delete from failed_attempts where handler = $1 and event_id = $2"

# By the hours of each handler: an event is not older than its handling.
DROP_OLD = """
delete from inbox
where (handler, event_id) in (
  select i.handler, i.event_id
  from comparisons c
  cross join lateral (
    select handler, event_id, handled_at
    from inbox
    where handler = c.handler
      and hour < shop_now() - interval '45 days'
      and handled_at < shop_now() - interval '45 days'
      and outcome <> 'waiting'
    order by hour
    limit $1
  ) i
  limit $1
)
"""

DROP_REPLAYED = """
delete from dead_letters
where id in (
  select id
  from dead_letters
  where replayed_at < shop_now() - interval '90 days'
  order by replayed_at
  limit $1
)
"""

TO_REPLAY = "select * from dead_letters where id = $1 and replayed_at is null for update"

REPLAYED = "update dead_letters set replayed_at = shop_now() where id = $1"

REMEMBER_REPLAYED = "update inbox set outcome = 'done' where handler = $1 and event_id = $2"


class TooManyDeadLettersError(Exception):
    """A handler dead-lettered more than 20 messages in a minute: the fault is not in them."""


@dataclass(frozen=True)
class Message:
    """A message as it was received, readable or not."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    waited: bool = False
    """It failed before, and comes from its row. The messages of one batch are alike in this."""

    @cached_property
    def event_id(self) -> UUID:
        """The event's id. Without a usable one it is derived from the bytes."""
        try:
            return UUID(self.headers.get("Nats-Msg-Id", ""))
        except ValueError:
            return uuid5(NAMESPACE, f"message|{hashlib.sha256(self.body).hexdigest()}")

    @cached_property
    def digest(self) -> int:
        text = self.headers.get("Turnpike-Digest", "")
        try:
            number = int(text)
        except ValueError:
            return 0
        return number if -(2**63) <= number < 2**63 else 0

    @property
    def hour(self) -> datetime:
        try:
            hour = datetime.fromisoformat(self.headers.get("Turnpike-Hour", ""))
            return hour.astimezone(UTC) if hour.tzinfo else hour.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Incoming:
    """A readable message with its event."""

    message: Message
    event: Event


@dataclass
class Outcome:
    """The result of one batch. `again` holds the events to redeliver, because the service stops."""

    done: int = 0
    repeated: int = 0
    retried: int = 0
    dead_lettered: int = 0
    again: set[UUID] = field(default_factory=set)


class Handler:
    """One name, one type of event, one function, and the policy for its failures."""

    def __init__(self, subscription: Subscription, handle: Handle, database: Database) -> None:
        self.subscription = subscription
        self.name = subscription.handler
        self.handle = handle
        self.database = database
        self._dead_lettered_at: deque[float] = deque(maxlen=DEAD_LETTERS_PER_MINUTE + 1)

    async def handle_batch(
        self, messages: Sequence[Message], stopping: asyncio.Event | None = None
    ) -> Outcome:
        """Handle a batch: at the end each message is done, dead-lettered, or waits as a row.

        While stopping, the rest is to be redelivered.

        Raises TooManyDeadLettersError.
        """
        stopping = stopping or asyncio.Event()
        outcome, began = Outcome(), time.perf_counter()
        readable: dict[UUID, Incoming] = {}
        for message in messages:
            try:
                event = self._read(message)
            except (ValidationError, ValueError) as error:
                reason = _storable(f"unreadable: {error}")
                act = partial(self._dead_letter, message, reason, outcome)
                await self._until_the_database_agrees(act, stopping)
            else:
                first = readable.get(message.event_id)
                if first is None:
                    readable[message.event_id] = Incoming(message, event)
                    continue
                outcome.repeated += 1
                if first.message.digest != message.digest:
                    act = partial(self._record_conflict, message, first.message.digest)
                    await self._until_the_database_agrees(act, stopping)
        if readable:
            batch = sorted(readable.values(), key=lambda incoming: incoming.event.id)
            patience = 1 if messages[0].waited else REFUSALS_BEFORE_BISECTING
            await self._attempt(batch, outcome, stopping, patience)
        self._report(outcome, len(messages), (time.perf_counter() - began) * 1000)
        return outcome

    def _read(self, message: Message) -> Event:
        event_type = self.subscription.event
        if message.subject != event_type.subject():
            raise ValueError(f"unknown version: {message.subject}")
        event = event_type.model_validate_json(message.body)
        if event.id != message.event_id:
            raise ValueError("the id in the body is not the id of the message")
        return event

    async def _attempt(
        self,
        batch: Sequence[Incoming],
        outcome: Outcome,
        stopping: asyncio.Event,
        patience: int,
    ) -> None:
        """Handle the batch, or find the message that cannot be handled.

        `patience` is how often the database may refuse the batch while it answers otherwise.
        """
        act = partial(self._once, batch, outcome)
        try:
            await self._until_the_database_agrees(act, stopping, patience)
        except Exception as error:  # The stream goes on, whatever a handler raises.
            refused = database_is_to_blame(error)
            if refused and stopping.is_set():  # Another process takes the batch.
                outcome.again.update(incoming.event.id for incoming in batch)
            elif len(batch) > 1:
                middle, patience = len(batch) // 2, 1 if refused else patience
                await self._attempt(batch[:middle], outcome, stopping, patience)
                await self._attempt(batch[middle:], outcome, stopping, patience)
            else:
                act = partial(self._fail, batch[0], error, outcome)
                await self._until_the_database_agrees(act, stopping)

    async def _until_the_database_agrees(
        self,
        act: Callable[[], Awaitable[None]],
        stopping: asyncio.Event,
        patience: int | None = None,
    ) -> None:
        """Act, for as long as it takes, or until the database refused that often and answered."""
        tries = refusals = 0
        while True:
            iterations.turned()
            try:
                return await act()
            except Exception as error:
                if not database_is_to_blame(error) or stopping.is_set():
                    raise
                telemetry.HANDLED.labels(self.name, "retried").inc()
                fields = {"handler": self.name, "error": repr(error), "tries": tries}
                log.warning("database refused a batch", **fields)
                if patience is not None and await self._database_answers():
                    refusals += 1
                    if refusals >= patience:
                        raise
            await asyncio.sleep(DATABASE_RETRY_S[min(tries, len(DATABASE_RETRY_S) - 1)])
            tries += 1

    async def _database_answers(self) -> bool:
        """Whether it takes writes: then a refusal may be the fault of one message."""
        try:
            await self.database.fetchval(TAKES_WRITES)
        except Exception as error:  # Whatever it is, no message is to blame.
            log.warning("database does not answer", handler=self.name, error=repr(error))
            return False
        return True

    async def _once(self, batch: Sequence[Incoming], outcome: Outcome) -> None:
        """One transaction: write the inbox rows, and call the handler with the new events."""
        traces = [incoming.message.headers.get("traceparent") for incoming in batch]
        with telemetry.batch(self.name, traces) as items:
            for incoming, item in zip(batch, items, strict=True):
                incoming.event.continuing(item.trace)
            async with self.database.transaction() as tx:
                messages = [incoming.message for incoming in batch]
                rows = [(one.event_id, one.digest, one.hour) for one in messages]
                remember = RESUME if messages[0].waited else REMEMBER
                remembered = await tx.fetch(remember, self.name, *columns(rows, 3))
                new = {row["event_id"] for row in remembered}
                fresh = [incoming.event for incoming in batch if incoming.event.id in new]
                if len(fresh) < len(batch):
                    repeats = [one for one in messages if one.event_id not in new]
                    await self._compare(repeats, tx)
                if fresh:
                    tx.began(remembered[0]["now"])
                    failpoint("handler_remembered", self.name)
                    await self.handle(fresh, tx)
                    failpoint("handler_done", self.name)
        outcome.done += len(fresh)
        outcome.repeated += len(batch) - len(fresh)

    async def _compare(self, repeats: Sequence[Message], tx: Tx) -> None:
        """A repeat must have the digest of the first time."""
        ids = [message.event_id for message in repeats]
        known = {row["event_id"]: row["digest"] for row in await tx.fetch(KNOWN, self.name, ids)}
        met = [Conflict(one.event_id, known[one.event_id], one.digest) for one in repeats]
        differing = [conflict for conflict in met if conflict.known != conflict.received]
        await conflicts.record(self.name, differing, tx)

    async def _record_conflict(self, message: Message, known: int) -> None:
        """Two messages of one batch have the same id and different digests."""
        async with self.database.transaction() as tx:
            conflict = Conflict(message.event_id, known, message.digest)
            await conflicts.record(self.name, [conflict], tx)

    async def _fail(self, incoming: Incoming, error: Exception, outcome: Outcome) -> None:
        """A message failed alone: it waits for its next try, or is dead-lettered."""
        reason = _storable(f"{type(error).__name__}: {error}")
        message, blame = incoming.message, blame_for(error)
        if blame != "data":
            tries = await self._wait(message, reason)
            if tries is None:
                outcome.repeated += 1
                return
            others_passed = tries > len(failures.RETRY_S) and await self.database.fetchval(
                failures.OTHERS_PASSED, self.name, message.event_id
            )
            if not is_given_up(blame, tries, others_passed=others_passed):
                outcome.retried += 1
                fields = {"handler": self.name, "event_id": str(message.event_id), "tries": tries}
                log.error("handler failed", error=reason, **fields)
                return
        await self._dead_letter(message, reason, outcome)

    async def _wait(self, message: Message, reason: str) -> int | None:
        """Let a message wait as a row; returns its tries, or None where it is handled already."""
        content = (message.subject, json.dumps(dict(message.headers)), message.body, reason)
        row = (self.name, message.event_id, message.digest, message.hour, *content)
        pauses = list(failures.RETRY_S)
        tries: int | None = await self.database.fetchval(failures.WAIT, *row, pauses)
        return tries

    async def _dead_letter(self, message: Message, reason: str, outcome: Outcome) -> None:
        """Keep the bytes and the reason, with the inbox row: both or neither, and once."""
        async with self.database.transaction() as tx:
            headers = json.dumps(dict(message.headers))
            content = (message.subject, headers, message.body, reason)
            id_ = await tx.fetchval(DEAD_LETTER, self.name, message.event_id, *content)
            row = (self.name, message.event_id, message.digest, message.hour)
            await tx.execute(REMEMBER_DEAD_LETTERED, *row)
            await tx.execute(CLEAR_ATTEMPTS, self.name, message.event_id)
        if id_ is None:
            outcome.repeated += 1
            return
        outcome.dead_lettered += 1
        fields = {"handler": self.name, "event_id": str(message.event_id), "dead_letter": id_}
        log.error("message dead-lettered", reason=reason, **fields)
        self._dead_lettered_at.append(time.monotonic())
        last = self._dead_lettered_at
        if len(last) > DEAD_LETTERS_PER_MINUTE and last[-1] - last[0] < 60:
            raise TooManyDeadLettersError(self.name)

    async def replay(self, dead_letter: int, tx: Tx) -> bool:
        """Pass a dead letter to the handler again, in this transaction.

        False when there is no such dead letter of this handler. Raises what the handler raises.
        """
        row = await tx.fetchrow(TO_REPLAY, dead_letter)
        if row is None or row["handler"] != self.name:
            return False
        message = Message(row["subject"], json.loads(row["headers"]), bytes(row["body"]))
        event = self._read(message).continuing(message.headers.get("traceparent"))
        await self.handle([event], tx)
        await tx.execute(REPLAYED, dead_letter)
        await tx.execute(REMEMBER_REPLAYED, self.name, event.id)
        return True

    def _report(self, outcome: Outcome, messages: int, took_ms: float) -> None:
        names = ("done", "repeated", "retried", "dead_lettered")
        counts = {name: getattr(outcome, name) for name in names}
        for name, count in counts.items():
            telemetry.HANDLED.labels(self.name, name).inc(count)
        telemetry.HANDLER_SECONDS.labels(self.name).observe(took_ms / 1000)
        fields = {"messages": messages, "took_ms": round(took_ms, 1)}
        log.info("batch handled", handler=self.name, **fields, **counts)


def _storable(reason: str) -> str:
    """At most 1000 characters that PostgreSQL can store, whatever an error quotes."""
    return reason.encode(errors="backslashreplace").decode().replace("\0", r"\x00")[:1000]
