"""The relay publishes the events in the outbox, and clears them once the broker has them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from shared.contracts.streams import KEPT_FOR, stream_of
from shared.messaging import jetstream
from shared.messaging.jetstream import Acknowledged, BrokerError, Outgoing
from shared.messaging.nats import Client, NoRespondersError
from shared.messaging.outbox import PENDING
from shared.platform import iterations, telemetry
from shared.platform.db import Database, Row, columns
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever, set_within

log = structlog.get_logger()

MAX_PER_ROUND = 500
ATOMIC_ABOVE = 16
REPUBLISHED_PER_STATEMENT = 50_000
ROUND_TIMEOUT_S = 5.0
POLL_S = 0.5
RESET_FLOOR_EVERY_S = 1.0
COMPARE_EVERY_S = 60.0
SAVE_SEQUENCE_EVERY_S = 1.0

# A session of a server that is read-only since a failover sees nothing new: it goes on to TAKE,
# which fails there, and another session is opened.
IS_PENDING = """
select exists (select from outbox) or current_setting('transaction_read_only') = 'on'
"""

# Live events first; republished ones fill the rest of the round. Rows are deleted as they are
# taken, and the deletion stands only if the round commits. Deleting by ctid and looking events up
# laterally stays fast when the planner's statistics are stale: the table is empty at one moment
# and has thousands of rows at the next.
TAKE = """
with live as (
  select ctid
  from outbox
  where not republished and seq > $1
  order by seq
  for update skip locked
  limit $2
), again as (
  select ctid
  from outbox
  where republished
  order by seq
  for update skip locked
  limit $2 - (select count(*) from live)
), taken as (
  delete from outbox
  where ctid = any (array(table live union all table again))
  returning republished, seq
)
select t.republished, e.seq, e.id, e.topic, e.version, e.body::text as body, e.digest, e.trace,
  e.recorded_at
from taken t
cross join lateral (select * from events where events.seq = t.seq limit 1) e
order by t.republished, e.seq
"""

REQUEUE = """
insert into outbox (republished, seq)
select * from unnest($1::boolean[], $2::bigint[])
"""

# In pages: three days may be millions of events, and a statement may take 10 s.
REPUBLISH_PAGE = """
with page as (
  select recorded_at, seq
  from events
  where recorded_at > shop_now() - $1::interval and (recorded_at, seq) > ($2, $3)
  order by recorded_at, seq
  limit $4
), put as (
  insert into outbox (republished, seq)
  select true, seq from page
  on conflict do nothing
  returning seq
)
select recorded_at, seq, (select count(*) from put) as republished
from page
order by recorded_at desc, seq desc
limit 1
"""

SEQUENCE_OF_STREAM = "select sequence from streams where name = $1"

# For this transaction only: if a crash of PostgreSQL lost it, the events would never be
# republished.
FLUSHED = "set local synchronous_commit = on"

KNOWN_STREAM = "select incarnation, sequence from streams where name = $1 for update"

RECORD_STREAM = """
insert into streams (name, incarnation, sequence) values ($1, $2, $3)
on conflict (name) do update
set incarnation = excluded.incarnation, sequence = excluded.sequence
"""

# Only for the incarnation that acknowledged: another relay may have recorded a newer stream since.
SAVE_SEQUENCE = """
update streams
set sequence = greatest(sequence, $3)
where name = $1 and incarnation = $2
"""


class Relay:
    """Takes events out of the outbox, publishes them, and puts back what was not acknowledged.

    One round is one transaction of at most 5 s. It is the only transaction that waits for another
    system: it locks only rows of the outbox, and the role's idle-in-transaction time-out ends it
    if the relay hangs.

    Any number of relays may run. Each has a connection of its own with `synchronous_commit = off`:
    if a crash loses a deletion, the event is published again.
    """

    def __init__(
        self, database: Database, client: Client, owner: str, *, replicas: int = 1
    ) -> None:
        self.database = database
        self.client = client
        self.owner = owner
        self.stream = stream_of(owner)
        self.replicas = replicas
        self._woken = asyncio.Event()
        self._compare_stream = asyncio.Event()
        # The highest seq published so far: starting above it skips dead index entries. It is reset,
        # because a lower seq may commit later.
        self._floor = 0
        self._floor_set_at = 0.0
        self._incarnation = ""
        self._acknowledged = 0
        self._highest = 0
        self._went_back = False
        self._round: asyncio.Timeout | None = None

    def disconnected(self) -> None:
        """End the round: no answer will come. The broker that comes back may be another one."""
        self._compare_stream.set()
        if self._round is not None:
            with suppress(RuntimeError):  # No round is under way.
                self._round.reschedule(0)

    def reconnected(self) -> None:
        self._compare_stream.set()
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until `stopping`. A failure is recorded and the round is repeated."""

        async def turn() -> None:
            async with self.database.held(synchronous_commit="off") as connection:
                await self._relay_over(connection, stopping)

        self._compare_stream.set()
        with PENDING.listening() as self._woken:
            await forever("relay", turn, stopping)

    async def _relay_over(self, connection: Any, stopping: asyncio.Event) -> None:
        compared_at = saved_at = 0.0
        busy = True
        while not stopping.is_set():
            self._woken.clear()
            iterations.begins()
            # A disconnected client buffers events, and sends them to whichever broker comes back.
            if not self.client.is_connected:
                await set_within(self._woken, POLL_S)
                continue
            if self._compare_stream.is_set() or time.monotonic() - compared_at > COMPARE_EVERY_S:
                self._compare_stream.clear()
                await self.compare_stream(connection)
                compared_at = time.monotonic()
            published = await self.publish_pending(connection, look_first=not busy)
            iterations.handled(published)
            if self._went_back:
                continue
            if time.monotonic() - saved_at > SAVE_SEQUENCE_EVERY_S:
                await self._save_sequence(connection)
                saved_at = time.monotonic()
            # A full round may have left more. Otherwise the bell of the outbox wakes this loop.
            busy = published == MAX_PER_ROUND or await set_within(self._woken, POLL_S)
        await self._save_sequence(connection)

    async def _save_sequence(self, connection: Any) -> None:
        if self._acknowledged:
            known = (self.stream, self._incarnation, self._acknowledged)
            await connection.execute(SAVE_SEQUENCE, *known)
            self._acknowledged = 0

    async def publish_pending(self, connection: Any, *, look_first: bool = False) -> int:
        """One round: at most 500 events, the oldest live ones first.

        Returns how many were acknowledged. Raises BrokerError when some were not.
        """
        if time.monotonic() - self._floor_set_at > RESET_FLOOR_EVERY_S:
            self._floor, self._floor_set_at = 0, time.monotonic()
        async with asyncio.timeout(ROUND_TIMEOUT_S) as self._round:
            if look_first and not await connection.fetchval(IS_PENDING):
                return 0
            async with connection.transaction():
                rows = await connection.fetch(TAKE, self._floor, MAX_PER_ROUND)
                if not rows:
                    return 0
                live = [row for row in rows if not row["republished"]]
                again = [row for row in rows if row["republished"]]
                # Separately: an event that the stream has already makes it reject a batch.
                answers = await self._publish(live) + await self._publish(again)
                fresh = [one.sequence for one in answers if one and not one.duplicate]
                self._check_sequences(fresh)
                failpoint("relay_published", self.owner)
                refused = [row for row, one in zip(rows, answers, strict=True) if one is None]
                if len(refused) == len(rows):
                    raise BrokerError(f"none of {len(rows)} events was acknowledged")
                if refused:
                    back = [(row["republished"], row["seq"]) for row in refused]
                    await connection.execute(REQUEUE, *columns(back, 2))
        if refused:
            raise BrokerError(f"{len(refused)} of {len(rows)} events were not acknowledged")
        self._floor = max([self._floor, *(row["seq"] for row in live)])
        telemetry.EVENTS_PUBLISHED.labels(self.owner).inc(len(rows))
        return len(rows)

    def _check_sequences(self, fresh: Sequence[int]) -> None:
        """A new sequence that is not above all earlier ones means that the stream was rolled back.

        It must be detected at once: the stream soon grows past the remembered sequence.
        """
        if fresh and min(fresh) <= self._highest:
            self._went_back = True
            self._compare_stream.set()
        self._acknowledged = max([self._acknowledged, *fresh])
        self._highest = max([self._highest, *fresh])

    async def _publish(self, rows: Sequence[Row]) -> list[Acknowledged | None]:
        messages = [outgoing(row) for row in rows]
        try:
            if len(rows) > ATOMIC_ABOVE:
                whole = await jetstream.publish_batch(self.client, messages)
                if whole is not None:
                    return whole
            return await jetstream.publish_each(self.client, messages)
        except NoRespondersError:
            await jetstream.ensure_stream(self.client, self.owner, replicas=self.replicas)
            self._compare_stream.set()
            raise BrokerError("the stream was missing and has been created again") from None

    async def compare_stream(self, connection: Any) -> None:
        """Republish the last three days when the stream was replaced, lost events, or is new here.

        A different incarnation means that it was replaced. A last sequence below an acknowledged
        one, or a new sequence not above the earlier ones, means that it lost events.
        """
        # Read first: other relays go on publishing while the broker is asked.
        before = await connection.fetchval(SEQUENCE_OF_STREAM, self.stream)
        async with asyncio.timeout(ROUND_TIMEOUT_S) as self._round:
            info = await jetstream.ensure_stream(self.client, self.owner, replicas=self.replicas)
        incarnation, last = jetstream.incarnation_of(info), info["state"]["last_seq"]
        if incarnation != self._incarnation:
            # Sequences of the stream before say nothing about this one.
            self._incarnation, self._acknowledged, self._highest = incarnation, 0, 0
            self._went_back = False
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
            republished = await self._republish_recent(connection)
            await connection.execute(RECORD_STREAM, self.stream, incarnation, last)
        self._went_back, self._acknowledged, self._highest = False, 0, last
        if known is not None or republished:
            telemetry.EVENTS_REPUBLISHED.labels(self.owner).inc(republished)
            log.warning(
                "stream changed, events are republished", stream=self.stream, events=republished
            )

    async def _republish_recent(self, connection: Any) -> int:
        """Put the events of the last three days into the outbox; returns how many that were."""
        republished, at, seq = 0, datetime.min.replace(tzinfo=UTC), 0
        while True:
            after = (KEPT_FOR, at, seq, REPUBLISHED_PER_STATEMENT)
            page = await connection.fetchrow(REPUBLISH_PAGE, *after)
            if page is None:
                return republished
            republished += page["republished"]
            at, seq = page["recorded_at"], page["seq"]


def outgoing(row: Row) -> Outgoing:
    """A row of `events` as a message. The id drops duplicates; the hour is for the checksums."""
    headers = {
        "Nats-Msg-Id": str(row["id"]),
        "Turnpike-Digest": str(row["digest"]),
        "Turnpike-Hour": hour_of(row["recorded_at"]),
    }
    if row["trace"]:
        headers["traceparent"] = row["trace"]
    return Outgoing(f"evt.{row['topic']}.v{row['version']}", row["body"].encode(), headers)


def hour_of(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0).isoformat()
