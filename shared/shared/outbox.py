"""Facts leave the database here: written with the truth they tell, relayed until the broker has acknowledged them."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from shared import contradictions, crash, telemetry
from shared.contract import Fact
from shared.contradictions import Contradiction
from shared.db import Database, Row, Tx, columns
from shared.owners import OWNERS
from shared.streams import KEPT_FOR, stream_config, stream_of
from shared.waiting import happens

log = structlog.get_logger()

MOST_PER_ROUND = 500
ATOMIC_ABOVE = 16
RETOLD_PER_STATEMENT = 50_000
ROUND_TIMEOUT_S = 5.0
POLL_S = 0.5
FROM_ZERO_EVERY_S = 1.0
WATCH_EVERY_S = 60.0
REMEMBER_EVERY_S = 1.0
PAUSE_AFTER_FAILURE_S = 0.25

DUPLICATE_IN_BATCH = 10201  # JetStream's code: one id of the atomic batch was published before.

TELL = """
with wanted as (
  select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bigint[], $6::text[])
    with ordinality as w (id, topic, version, body, digest, trace, place)
), told as (
  insert into facts (id, topic, version, body, digest, trace)
  select id, topic, version, body::json, digest, trace
  from wanted
  order by place
  on conflict (id) do nothing
  returning seq, id
), waiting as (
  insert into untold (seq)
  select seq from told
)
select id from told
"""

# A statement of its own: only a later one sees the fact of a transaction that the first had to wait for.
KNOWN = "select id, digest from facts where id = any($1::uuid[])"


async def tell(tx: Tx, facts: Sequence[Fact]) -> None:
    """Write facts beside the rows that make them true. A fact told before is left as it was.

    The same id with other business fields is noted as a contradiction: the audit counts it (I12).
    """
    if not facts:
        return
    distinct: dict[UUID, tuple[Fact, int]] = {}
    differing: list[Contradiction] = []
    for fact in facts:
        digest = fact.digest()
        _, known = distinct.setdefault(fact.id, (fact, digest))
        if known != digest:
            differing.append(Contradiction(fact.id, known, digest))
    rows = [
        (fact.id, fact.topic, fact.version, fact.model_dump_json(), digest, fact.trace or telemetry.current_trace())
        for fact, digest in distinct.values()
    ]
    told = {row["id"] for row in await tx.fetch(TELL, *columns(rows, 6))}
    if repeated := distinct.keys() - told:
        for row in await tx.fetch(KNOWN, list(repeated)):
            differing.append(Contradiction(row["id"], row["digest"], distinct[row["id"]][1]))
    await contradictions.note("outbox", (one for one in differing if one.known != one.heard), tx)
    tx.after_commit(Relay.wake_all)


WAITS = "select exists (select from untold)"

# Live facts first; those that are told again fill what room is left. What is taken is deleted, which holds only when
# the round is over. By tid and by the lateral look-up it is quick whatever the planner thinks of a table that is empty
# now and had thousands before.
TAKE = """
with live as (
  select ctid
  from untold
  where not retold and seq > $1
  order by seq
  for update skip locked
  limit $2
), again as (
  select ctid
  from untold
  where retold
  order by seq
  for update skip locked
  limit $2 - (select count(*) from live)
), taken as (
  delete from untold
  where ctid = any (array(table live union all table again))
  returning retold, seq
)
select t.retold, f.seq, f.id, f.topic, f.version, f.body::text as body, f.digest, f.trace, f.told_at
from taken t
cross join lateral (select * from facts where facts.seq = t.seq limit 1) f
order by t.retold, f.seq
"""

PUT_BACK = "insert into untold (retold, seq) select * from unnest($1::boolean[], $2::bigint[])"

# A page: three days may be millions, and a statement may take 10 s.
TELL_AGAIN = """
with page as (
  select told_at, seq
  from facts
  where told_at > now() - $1::interval and (told_at, seq) > ($2, $3)
  order by told_at, seq
  limit $4
), put as (
  insert into untold (retold, seq)
  select true, seq from page
  on conflict do nothing
  returning seq
)
select told_at, seq, (select count(*) from put) as again
from page
order by told_at desc, seq desc
limit 1
"""

SEQUENCE_OF_STREAM = "select sequence from streams where name = $1"

# Of this connection only here: whoever forgets that three days were put back tells them to nobody.
FLUSHED = "set local synchronous_commit = on"

KNOWN_STREAM = "select incarnation, sequence from streams where name = $1 for update"

RECORD_STREAM = """
insert into streams (name, incarnation, sequence) values ($1, $2, $3)
on conflict (name) do update set incarnation = excluded.incarnation, sequence = excluded.sequence
"""

# Of the stream that acknowledged it: another relay may have met its successor meanwhile.
REMEMBER_SEQUENCE = """
update streams set sequence = greatest(sequence, $3) where name = $1 and incarnation = $2
"""

STATE_OF_UNTOLD = """
select count(*) as untold, coalesce(extract(epoch from now() - min(f.told_at)), 0)::float8 as oldest_s
from untold u
join facts f using (seq)
"""

DROP_OLD = """
delete from facts
where seq in (
  select f.seq
  from facts f
  where f.told_at < now() - interval '30 days' and not exists (select from untold u where u.seq = f.seq)
  order by f.told_at
  limit $1
)
"""


class BrokerError(Exception):
    """JetStream refused or did not answer in time; what was not acknowledged stays untold."""


@dataclass(frozen=True)
class Acknowledged:
    sequence: int
    duplicate: bool


class Relay:
    """Takes untold facts out, publishes them, puts back what was not acknowledged: one transaction of at most 5 s.

    It is the one outside call inside a transaction: it touches no other table, and its role's idle time-out ends it.
    Any number may run; each has one connection of its own, which waits for no flush of PostgreSQL's log: whoever
    forgets that a fact was told tells it again.
    """

    # Every relay of this process wakes when any transaction told something.
    _all: ClassVar["set[Relay]"] = set()

    def __init__(self, database: Database, client: Client, owner: str, *, replicas: int = 1) -> None:
        self.database = database
        self.client = client
        self.owner = owner
        self.stream = stream_of(owner)
        self.replicas = replicas
        self._woken = asyncio.Event()
        self._look_at_stream = asyncio.Event()
        self._floor = 0
        self._floor_set_at = 0.0
        self._incarnation = ""
        self._acknowledged = 0
        self._highest = 0
        self._went_back = False
        self._round: asyncio.Timeout | None = None

    @classmethod
    def wake_all(cls) -> None:
        for relay in cls._all:
            relay._woken.set()

    def disconnected(self) -> None:
        """Nobody answers what was sent, and the broker that comes back may be another one: it is compared first."""
        self._look_at_stream.set()
        if self._round is not None:
            with suppress(RuntimeError):  # No round is under way.
                self._round.reschedule(0)

    def reconnected(self) -> None:
        self._look_at_stream.set()
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping`; a failure is recorded and tried again, for as long as it takes."""
        self._all.add(self)
        self._look_at_stream.set()
        try:
            while not stopping.is_set():
                try:
                    async with self.database.held(synchronous_commit="off") as connection:
                        await self._relay_over(connection, stopping)
                except Exception as error:  # The loop lives on: untold facts stay untold.
                    telemetry.RELAY_FAILURES.labels(self.owner).inc()
                    log.warning("relay failed", owner=self.owner, error=repr(error))
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        finally:
            self._all.discard(self)

    async def _relay_over(self, connection: Any, stopping: asyncio.Event) -> None:
        watched_at = remembered_at = 0.0
        busy = True
        while not stopping.is_set():
            self._woken.clear()
            if not self.client.is_connected:  # What is published now would be kept, for whichever broker comes back.
                await happens(self._woken, POLL_S)
                continue
            if self._look_at_stream.is_set() or time.monotonic() - watched_at > WATCH_EVERY_S:
                self._look_at_stream.clear()
                await self.compare_stream(connection)
                watched_at = time.monotonic()
            told = await self.tell_some(connection, look_first=not busy)
            if self._went_back:
                continue
            if time.monotonic() - remembered_at > REMEMBER_EVERY_S:
                await self._remember(connection)
                remembered_at = time.monotonic()
            # Where there were no more, whoever tells meanwhile wakes us.
            busy = told == MOST_PER_ROUND or await happens(self._woken, POLL_S)
        await self._remember(connection)

    async def _remember(self, connection: Any) -> None:
        if self._acknowledged:
            await connection.execute(REMEMBER_SEQUENCE, self.stream, self._incarnation, self._acknowledged)
            self._acknowledged = 0

    async def tell_some(self, connection: Any, *, look_first: bool = False) -> int:
        """One round: at most 500 facts, the oldest live ones first. Answers how many were acknowledged."""
        if time.monotonic() - self._floor_set_at > FROM_ZERO_EVERY_S:
            self._floor, self._floor_set_at = 0, time.monotonic()
        async with asyncio.timeout(ROUND_TIMEOUT_S) as self._round:
            if look_first and not await connection.fetchval(WAITS):
                return 0
            async with connection.transaction():
                rows = await connection.fetch(TAKE, self._floor, MOST_PER_ROUND)
                if not rows:
                    return 0
                live, again = [[row for row in rows if row["retold"] is retold] for retold in (False, True)]
                # Apart: one that the stream has already makes it refuse a batch.
                acknowledged = await self._publish(live) + await self._publish(again)
                self._heed([answer.sequence for answer in acknowledged if answer is not None and not answer.duplicate])
                crash.passing("relay_published", self.owner)
                refused = [row for row, answer in zip(rows, acknowledged, strict=True) if answer is None]
                if len(refused) == len(rows):
                    raise BrokerError(f"none of {len(rows)} facts was acknowledged")
                if refused:
                    await connection.execute(PUT_BACK, *columns([(row["retold"], row["seq"]) for row in refused], 2))
        if refused:
            raise BrokerError(f"{len(refused)} of {len(rows)} facts were not acknowledged")
        self._floor = max([self._floor, *(row["seq"] for row in live)])
        telemetry.FACTS_TOLD.labels(self.owner).inc(len(rows))
        return len(rows)

    def _heed(self, fresh: Sequence[int]) -> None:
        """Sequences of what was published just now: one that is not above those before says that the stream went back.

        Said now: soon it has grown over what we remember, and nobody can tell any more.
        """
        if fresh and min(fresh) <= self._highest:
            self._went_back = True
            self._look_at_stream.set()
        self._acknowledged = max([self._acknowledged, *fresh])
        self._highest = max([self._highest, *fresh])

    async def _publish(self, rows: Sequence[Row]) -> list[Acknowledged | None]:
        try:
            if len(rows) > ATOMIC_ABOVE:
                whole = await self._publish_as_one(rows)
                if whole is not None:
                    return whole
            return await self._publish_each(rows)
        except NoRespondersError:
            await ensure_stream(self.client, self.owner, replicas=self.replicas)
            self._look_at_stream.set()
            raise BrokerError("the stream was missing and has been made again") from None

    async def _publish_each(self, rows: Sequence[Row]) -> list[Acknowledged | None]:
        """Pipelined: all are sent before the first acknowledgement is awaited."""
        answers = await asyncio.gather(
            *(
                self.client.request(subject_of(row), body_of(row), ROUND_TIMEOUT_S - 1, headers=headers_of(row))
                for row in rows
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, NoRespondersError):
                raise answer
        return [None if isinstance(answer, BaseException) else acknowledgement(answer.data) for answer in answers]

    async def _publish_as_one(self, rows: Sequence[Row]) -> list[Acknowledged | None] | None:
        """An atomic batch: one fsync for all. None when one of them was published before, which rejects the whole."""
        batch = uuid4().hex
        first, *middle = rows[:-1]
        await self._batched(first, batch, 1, await_answer=True)
        for place, row in enumerate(middle, start=2):
            await self._batched(row, batch, place)
        answer = await self._batched(rows[-1], batch, len(rows), await_answer=True, commit=True)
        if answer.get("error", {}).get("err_code") == DUPLICATE_IN_BATCH:
            return None
        if "error" in answer or "seq" not in answer:
            raise BrokerError(f"the batch was refused: {answer.get('error', answer)}")
        return [Acknowledged(answer["seq"] - len(rows) + place, duplicate=False) for place in range(1, len(rows) + 1)]

    async def _batched(
        self, row: Row, batch: str, place: int, *, await_answer: bool = False, commit: bool = False
    ) -> dict[str, Any]:
        headers = headers_of(row) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
        if commit:
            headers["Nats-Batch-Commit"] = "1"
        if not await_answer:
            await self.client.publish(subject_of(row), body_of(row), headers=headers)
            return {}
        answer = await self.client.request(subject_of(row), body_of(row), ROUND_TIMEOUT_S - 1, headers=headers)
        decoded: dict[str, Any] = json.loads(answer.data) if answer.data else {}
        if not commit and "error" in decoded:
            raise BrokerError(f"the batch was refused: {decoded['error']}")
        return decoded

    async def compare_stream(self, connection: Any) -> None:
        """An unknown incarnation, or a sequence that is or was below what was acknowledged: tell three days again."""
        before = await connection.fetchval(SEQUENCE_OF_STREAM, self.stream)  # First: other relays go on while we ask.
        async with asyncio.timeout(ROUND_TIMEOUT_S) as self._round:
            info = await ensure_stream(self.client, self.owner, replicas=self.replicas)
        incarnation = info["config"].get("metadata", {}).get("turnpike-incarnation", "none")
        last = info["state"]["last_seq"]
        if incarnation != self._incarnation:  # What the stream before it acknowledged says nothing of this one.
            self._incarnation, self._acknowledged, self._highest, self._went_back = incarnation, 0, 0, False
        async with connection.transaction():
            known = await connection.fetchrow(KNOWN_STREAM, self.stream)
            if (
                known is not None
                and known["incarnation"] == incarnation
                and not self._went_back
                and max(min(before or 0, known["sequence"]), self._highest) <= last
            ):
                return
            await connection.execute(FLUSHED)
            again = await self._put_back(connection)
            await connection.execute(RECORD_STREAM, self.stream, incarnation, last)
        self._went_back, self._acknowledged, self._highest = False, 0, last
        if known is not None or again:
            telemetry.FACTS_RETOLD.labels(self.owner).inc(again)
            log.warning("stream is another one, facts are told again", stream=self.stream, facts=again)

    async def _put_back(self, connection: Any) -> int:
        """Mark the last three days as untold; answers how many facts that were."""
        again, at, seq = 0, datetime.min.replace(tzinfo=UTC), 0
        while (page := await connection.fetchrow(TELL_AGAIN, KEPT_FOR, at, seq, RETOLD_PER_STATEMENT)) is not None:
            again, at, seq = again + page["again"], page["told_at"], page["seq"]
        return again


FORGET_STREAMS = "update streams set incarnation = 'restored'"


async def tell_all_again(tx: Tx) -> None:
    """After a restore: any stream is a stranger's to the relay, so the last three days are told again.

    The sequence alone would not say so: what a backup remembers is below what the broker has, which is ordinary.
    """
    await tx.execute(FORGET_STREAMS)


async def ensure_stream(client: Client, owner: str, *, replicas: int = 1) -> dict[str, Any]:
    """The stream's info; made from the one declaration when it is missing, never changed. Raises BrokerError."""
    name = stream_of(owner)
    info = await _api(client, f"STREAM.INFO.{name}")
    if "error" not in info:
        return info
    config = stream_config(owner, replicas=replicas)
    config["metadata"] = {"turnpike-incarnation": uuid4().hex}
    created = await _api(client, f"STREAM.CREATE.{name}", config)
    if "error" in created:  # Somebody else was quicker, or it cannot be made.
        created = await _api(client, f"STREAM.INFO.{name}")
    if "error" in created:
        raise BrokerError(f"the stream {name} cannot be made: {created['error']}")
    log.info("stream made", stream=name)
    return created


async def make_streams(url: str, *, replicas: int = 1) -> None:
    """Make every owner's stream that is missing: what a job does before the services start. Raises BrokerError."""
    try:
        client = await nats.connect(
            url, connect_timeout=5, max_reconnect_attempts=10, reconnect_time_wait=0.5, error_cb=_said_by_the_raise
        )
    except (NatsError, OSError) as error:
        raise BrokerError(f"NATS does not answer: {error}") from error
    try:
        for owner in OWNERS:
            await ensure_stream(client, owner, replicas=replicas)
    except NatsError as error:
        raise BrokerError(f"NATS went away: {error}") from error
    finally:
        await client.close()


async def _said_by_the_raise(_: Exception) -> None:
    """Without a callback nats-py prints a traceback for each attempt."""


async def _api(client: Client, call: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(request).encode() if request else b""
    try:
        answer = await client.request(f"$JS.API.{call}", body, ROUND_TIMEOUT_S)
    except (NoRespondersError, NatsTimeoutError) as error:
        raise BrokerError("JetStream does not answer") from error
    decoded: dict[str, Any] = json.loads(answer.data)
    return decoded


def subject_of(row: Row) -> str:
    return f"evt.{row['topic']}.v{row['version']}"


def body_of(row: Row) -> bytes:
    body: str = row["body"]
    return body.encode()


def headers_of(row: Row) -> dict[str, str]:
    headers = {
        "Nats-Msg-Id": str(row["id"]),
        "Turnpike-Digest": str(row["digest"]),
        "Turnpike-Hour": hour_of(row["told_at"]),
    }
    if row["trace"]:
        headers["traceparent"] = row["trace"]
    return headers


def hour_of(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0).isoformat()


def acknowledgement(data: bytes) -> Acknowledged | None:
    """JetStream's answer to a publish; None when it refused."""
    decoded = json.loads(data)
    if "error" in decoded:
        log.warning("publish refused", error=decoded["error"])
        return None
    return Acknowledged(decoded["seq"], duplicate=bool(decoded.get("duplicate")))
