"""Hearing once: a batch of facts and the rows that remember them are one transaction, and poison is buried alone.

attempt(batch) ──ok──▶ done
    ├─ the database's fault (anything but SQLSTATE 22, 23) ─▶ the whole batch again, for as long as it takes
    ├─ a data error (22, 23) ─▶ halves ─▶ alone: buried at once
    └─ our fault (any other exception) ─▶ halves ─▶ alone: after 1 s, 30 s, 5 min, 1 h, then buried
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

from shared import telemetry
from shared.contract import NAMESPACE, Fact
from shared.db import Database, Tx, columns, data_is_to_blame, database_is_to_blame
from shared.streams import Listening

log = structlog.get_logger()

OUR_FAULT_RETRY_S = (1.0, 30.0, 300.0, 3600.0)
DATABASE_RETRY_S = (0.1, 0.2, 0.5, 1.0)
BURIALS_A_MINUTE = 20

Handle = Callable[[Sequence[Any], Tx], Awaitable[None]]

REMEMBER = """
with heard as (
  select * from unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) as h (fact_id, digest, hour)
), fresh as (
  insert into inbox (handler, fact_id, digest, hour)
  select $1, fact_id, digest, hour from heard order by fact_id
  on conflict do nothing
  returning fact_id
)
select h.fact_id, f.fact_id is not null as fresh, i.digest as known
from heard h
left join fresh f using (fact_id)
left join inbox i on i.handler = $1 and i.fact_id = h.fact_id
"""

NOTE_CONTRADICTION = """
insert into contradictions (where_seen, fact_id, digest_known, digest_heard)
values ($1, $2, $3, $4)
on conflict do nothing
"""

BURY = """
insert into dead_letters (handler, fact_id, subject, headers, body, reason)
values ($1, $2, $3, $4::json, $5, $6)
on conflict do nothing
returning id
"""

REMEMBER_BURIED = """
insert into inbox (handler, fact_id, digest, hour, outcome)
values ($1, $2, $3, $4, 'buried')
on conflict do nothing
"""

STUMBLE = """
insert into stumbles (handler, fact_id, tries, reason)
values ($1, $2, 1, $3)
on conflict (handler, fact_id) do update set tries = stumbles.tries + 1, reason = excluded.reason
returning tries
"""

STAND_UP = "delete from stumbles where handler = $1 and fact_id = $2"

DROP_OLD = """
delete from inbox
where (handler, fact_id) in (
  select handler, fact_id from inbox where heard_at < now() - interval '45 days' limit $1
)
"""

LETTER = "select * from dead_letters where id = $1 and replayed_at is null for update"

REPLAYED = "update dead_letters set replayed_at = now() where id = $1"

REMEMBER_REPLAYED = "update inbox set outcome = 'done' where handler = $1 and fact_id = $2"


class TooManyBurialsError(Exception):
    """A handler buried more than 20 letters in a minute: the fault is not in the letters."""


@dataclass(frozen=True)
class Letter:
    """A message as it came, readable or not."""

    subject: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def fact_id(self) -> UUID:
        """The fact's id; for bytes without a usable one it is derived from them, so that they too are heard once."""
        try:
            return UUID(self.headers.get("Nats-Msg-Id", ""))
        except ValueError:
            return uuid5(NAMESPACE, f"letter|{hashlib.sha256(self.body).hexdigest()}")

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
        except ValueError:
            return datetime(1970, 1, 1, tzinfo=UTC)
        return hour if hour.tzinfo else hour.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Heard:
    letter: Letter
    fact: Fact


@dataclass
class Outcome:
    """What one batch came to; `again` says which letters are wanted back, and after how many seconds."""

    done: int = 0
    repeated: int = 0
    retried: int = 0
    buried: int = 0
    again: dict[UUID, float] = field(default_factory=dict)


class Handler:
    """One name, one kind of fact, one function, and what happens when it fails."""

    def __init__(self, listening: Listening, handle: Handle, database: Database) -> None:
        self.listening = listening
        self.name = listening.handler
        self.handle = handle
        self.database = database
        self._buried_at: deque[float] = deque(maxlen=BURIALS_A_MINUTE + 1)

    async def absorb(self, letters: Sequence[Letter], stopping: asyncio.Event | None = None) -> Outcome:
        """Take a batch in. Returns when every letter is done, buried or wanted again; raises TooManyBurialsError."""
        outcome, began = Outcome(), time.perf_counter()
        readable: dict[UUID, Heard] = {}
        for letter in letters:
            try:
                fact = self._read(letter)
            except (ValidationError, ValueError) as error:
                bury = partial(self._bury, letter, f"unreadable: {error}"[:1000])
                await self._until_the_database_agrees(bury, stopping)
                outcome.buried += 1
            else:
                first = readable.get(letter.fact_id)
                if first is None:
                    readable[letter.fact_id] = Heard(letter, fact)
                    continue
                outcome.repeated += 1
                if first.letter.digest != letter.digest:
                    differs = partial(self._differs, Heard(letter, fact), first.letter.digest)
                    await self._until_the_database_agrees(differs, stopping)
        if readable:
            batch = sorted(readable.values(), key=lambda heard: heard.fact.id)
            await self._attempt(batch, outcome, stopping)
        self._speak(outcome, len(letters), (time.perf_counter() - began) * 1000)
        return outcome

    def _read(self, letter: Letter) -> Fact:
        fact_type = self.listening.fact
        if letter.subject != fact_type.subject():
            raise ValueError(f"unknown version: {letter.subject}")
        fact = fact_type.model_validate_json(letter.body)
        if fact.id != letter.fact_id:
            raise ValueError("the id in the body is not the id of the message")
        return fact

    async def _attempt(self, batch: Sequence[Heard], outcome: Outcome, stopping: asyncio.Event | None) -> None:
        try:
            await self._until_the_database_agrees(partial(self._once, batch, outcome), stopping)
        except Exception as error:  # Whatever a handler throws, the stream goes on.
            if database_is_to_blame(error):  # Only while stopping: whoever comes next takes the batch.
                outcome.again.update({heard.fact.id: 0.0 for heard in batch})
            elif len(batch) > 1:
                middle = len(batch) // 2
                await self._attempt(batch[:middle], outcome, stopping)
                await self._attempt(batch[middle:], outcome, stopping)
            else:
                await self._until_the_database_agrees(partial(self._fail, batch[0], error, outcome), stopping)

    async def _until_the_database_agrees(
        self, act: Callable[[], Awaitable[None]], stopping: asyncio.Event | None
    ) -> None:
        tries = 0
        while True:
            try:
                return await act()
            except Exception as error:
                if not database_is_to_blame(error) or (stopping is not None and stopping.is_set()):
                    raise
                telemetry.HANDLED.labels(self.name, "retried").inc()
                log.warning("database refused a batch", handler=self.name, error=repr(error), tries=tries)
            await asyncio.sleep(DATABASE_RETRY_S[min(tries, len(DATABASE_RETRY_S) - 1)])
            tries += 1

    async def _once(self, batch: Sequence[Heard], outcome: Outcome) -> None:
        """One transaction: remember who was heard, hand the new ones to the handler."""
        stories = [heard.letter.headers.get("traceparent") for heard in batch]
        with telemetry.batch(self.name, stories) as events:
            for heard, event in zip(batch, events, strict=True):
                heard.fact.continuing(event.trace)
            async with self.database.transaction() as tx:
                rows = [(heard.letter.fact_id, heard.letter.digest, heard.letter.hour) for heard in batch]
                answers = {row["fact_id"]: row for row in await tx.fetch(REMEMBER, self.name, *columns(rows, 3))}
                fresh = [heard for heard in batch if answers[heard.fact.id]["fresh"]]
                for heard in batch:
                    known = answers[heard.fact.id]["known"]
                    if known is not None and known != heard.letter.digest:
                        await self._contradicted(heard, known, tx)
                if fresh:
                    await self.handle([heard.fact for heard in fresh], tx)
        outcome.done += len(fresh)
        outcome.repeated += len(batch) - len(fresh)

    async def _contradicted(self, heard: Heard, known: int, tx: Tx) -> None:
        log.error("a fact came again with other fields", handler=self.name, fact=str(heard.fact.id))
        await tx.execute(NOTE_CONTRADICTION, self.name, heard.fact.id, known, heard.letter.digest)
        tx.after_commit(telemetry.CONTRADICTIONS.labels(self.name).inc)

    async def _differs(self, heard: Heard, known: int) -> None:
        """Two letters of one batch bear one id and are not the same fact."""
        async with self.database.transaction() as tx:
            await self._contradicted(heard, known, tx)

    async def _fail(self, heard: Heard, error: Exception, outcome: Outcome) -> None:
        """A letter failed alone: a data error is buried at once, any other when its tries are used up."""
        reason = f"{type(error).__name__}: {error}"[:1000]
        if not data_is_to_blame(error):
            tries = await self.database.fetchval(STUMBLE, self.name, heard.fact.id, reason)
            if tries <= len(OUR_FAULT_RETRY_S):
                outcome.again[heard.fact.id] = OUR_FAULT_RETRY_S[tries - 1]
                outcome.retried += 1
                log.error("handler failed", handler=self.name, fact=str(heard.fact.id), tries=tries, error=reason)
                return
        await self._bury(heard.letter, reason)
        outcome.buried += 1

    async def _bury(self, letter: Letter, reason: str) -> None:
        """Keep the bytes and the reason, and remember that it was heard; both or neither."""
        async with self.database.transaction() as tx:
            headers = json.dumps(dict(letter.headers))
            await tx.execute(BURY, self.name, letter.fact_id, letter.subject, headers, letter.body, reason)
            await tx.execute(REMEMBER_BURIED, self.name, letter.fact_id, letter.digest, letter.hour)
            await tx.execute(STAND_UP, self.name, letter.fact_id)
        log.error("letter buried", handler=self.name, fact=str(letter.fact_id), reason=reason)
        self._buried_at.append(time.monotonic())
        if len(self._buried_at) > BURIALS_A_MINUTE and self._buried_at[-1] - self._buried_at[0] < 60:
            raise TooManyBurialsError(self.name)

    async def replay(self, letter_id: int, tx: Tx) -> bool:
        """Hand a buried letter to its handler again, in this transaction; False when there is no such letter."""
        row = await tx.fetchrow(LETTER, letter_id)
        if row is None or row["handler"] != self.name:
            return False
        letter = Letter(row["subject"], json.loads(row["headers"]), bytes(row["body"]))
        fact = self._read(letter).continuing(letter.headers.get("traceparent"))
        await self.handle([fact], tx)
        await tx.execute(REPLAYED, letter_id)
        await tx.execute(REMEMBER_REPLAYED, self.name, fact.id)
        return True

    def _speak(self, outcome: Outcome, letters: int, took_ms: float) -> None:
        counts = {name: getattr(outcome, name) for name in ("done", "repeated", "retried", "buried")}
        for name, count in counts.items():
            telemetry.HANDLED.labels(self.name, name).inc(count)
        telemetry.HANDLER_SECONDS.labels(self.name).observe(took_ms / 1000)
        log.info("batch absorbed", handler=self.name, letters=letters, took_ms=round(took_ms, 1), **counts)
