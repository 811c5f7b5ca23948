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

from shared import contradictions, crash, telemetry
from shared.contract import NAMESPACE, Fact
from shared.contradictions import Contradiction
from shared.db import Database, Tx, columns, data_is_to_blame, database_is_to_blame
from shared.streams import Listening

log = structlog.get_logger()

OUR_FAULT_RETRY_S = (1.0, 30.0, 300.0, 3600.0)
DATABASE_RETRY_S = (0.1, 0.2, 0.5, 1.0)
BURIALS_A_MINUTE = 20

Handle = Callable[[Sequence[Any], Tx], Awaitable[None]]

# Whoever stumbled over a fact and takes it in now has stood up again.
REMEMBER = """
with stood_up as (
  delete from stumbles where handler = $1 and fact_id = any($2::uuid[])
)
insert into inbox (handler, fact_id, digest, hour)
select $1, fact_id, digest, hour
from unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) as h (fact_id, digest, hour)
order by fact_id
on conflict do nothing
returning fact_id, now() as now
"""

# A statement of its own: only a later one sees the row of a transaction that the first had to wait for.
KNOWN = "select fact_id, digest from inbox where handler = $1 and fact_id = any($2::uuid[])"

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
            return hour.astimezone(UTC) if hour.tzinfo else hour.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return datetime(1970, 1, 1, tzinfo=UTC)


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
                bury = partial(self._bury, letter, _storable(f"unreadable: {error}"), outcome)
                await self._until_the_database_agrees(bury, stopping)
            else:
                first = readable.get(letter.fact_id)
                if first is None:
                    readable[letter.fact_id] = Heard(letter, fact)
                    continue
                outcome.repeated += 1
                if first.letter.digest != letter.digest:
                    differs = partial(self._differs, letter, first.letter.digest)
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
        traces = [heard.letter.headers.get("traceparent") for heard in batch]
        with telemetry.batch(self.name, traces) as events:
            for heard, event in zip(batch, events, strict=True):
                heard.fact.continuing(event.trace)
            async with self.database.transaction() as tx:
                rows = [(heard.letter.fact_id, heard.letter.digest, heard.letter.hour) for heard in batch]
                remembered = await tx.fetch(REMEMBER, self.name, *columns(rows, 3))
                new = {row["fact_id"] for row in remembered}
                fresh = [heard for heard in batch if heard.fact.id in new]
                if len(fresh) < len(batch):
                    await self._compare([heard.letter for heard in batch if heard.fact.id not in new], tx)
                if fresh:
                    tx.began(remembered[0]["now"])
                    crash.passing("handler_remembered", self.name)
                    await self.handle([heard.fact for heard in fresh], tx)
                    crash.passing("handler_done", self.name)
        outcome.done += len(fresh)
        outcome.repeated += len(batch) - len(fresh)

    async def _compare(self, letters: Sequence[Letter], tx: Tx) -> None:
        """What was heard before must be what it was then."""
        rows = await tx.fetch(KNOWN, self.name, [letter.fact_id for letter in letters])
        known = {row["fact_id"]: row["digest"] for row in rows}
        met = (Contradiction(letter.fact_id, known[letter.fact_id], letter.digest) for letter in letters)
        await contradictions.note(self.name, (one for one in met if one.known != one.heard), tx)

    async def _differs(self, letter: Letter, known: int) -> None:
        """Two letters of one batch bear one id and are not the same fact."""
        async with self.database.transaction() as tx:
            await contradictions.note(self.name, [Contradiction(letter.fact_id, known, letter.digest)], tx)

    async def _fail(self, heard: Heard, error: Exception, outcome: Outcome) -> None:
        """A letter failed alone: a data error is buried at once, any other when its tries are used up."""
        reason = _storable(f"{type(error).__name__}: {error}")
        if not data_is_to_blame(error):
            tries = await self.database.fetchval(STUMBLE, self.name, heard.fact.id, reason)
            if tries <= len(OUR_FAULT_RETRY_S):
                outcome.again[heard.fact.id] = OUR_FAULT_RETRY_S[tries - 1]
                outcome.retried += 1
                log.error("handler failed", handler=self.name, fact=str(heard.fact.id), tries=tries, error=reason)
                return
        await self._bury(heard.letter, reason, outcome)

    async def _bury(self, letter: Letter, reason: str, outcome: Outcome) -> None:
        """Keep the bytes and the reason, and remember that it was heard; both or neither, and once."""
        async with self.database.transaction() as tx:
            headers = json.dumps(dict(letter.headers))
            text = (letter.subject, headers, letter.body, reason)
            number = await tx.fetchval(BURY, self.name, letter.fact_id, *text)
            await tx.execute(REMEMBER_BURIED, self.name, letter.fact_id, letter.digest, letter.hour)
            await tx.execute(STAND_UP, self.name, letter.fact_id)
        if number is None:
            outcome.repeated += 1
            return
        outcome.buried += 1
        log.error("letter buried", handler=self.name, fact=str(letter.fact_id), letter=number, reason=reason)
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


def _storable(reason: str) -> str:
    """At most 1000 characters that PostgreSQL can hold, whatever an error quotes."""
    return reason.encode(errors="backslashreplace").decode().replace("\0", r"\x00")[:1000]
