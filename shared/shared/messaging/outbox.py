"""The outbox: events are written in the transaction that makes them true; a relay publishes them.

This module knows no broker. It rings `PENDING` after the commit, and the relay listens to it.
"""

from collections.abc import Sequence
from uuid import UUID

from shared.contracts.message import Event
from shared.messaging import conflicts
from shared.messaging.conflicts import Conflict
from shared.platform import telemetry
from shared.platform.db import Tx, columns
from shared.platform.loops import Bell

PENDING = Bell()
"""Rings in this process when a committed transaction left events in the outbox."""

RECORD = """
with wanted as (
  select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bigint[], $6::text[])
    with ordinality as w (id, topic, version, body, digest, trace, position)
), recorded as (
  insert into events (id, topic, version, body, digest, trace)
  select id, topic, version, body::json, digest, trace
  from wanted
  order by position
  on conflict (id) do nothing
  returning seq, id
), pending as (
  insert into outbox (seq)
  select seq from recorded
)
select id from recorded
"""

# A separate statement: only a later one sees the row of a transaction that RECORD waited for.
KNOWN = "select id, digest from events where id = any($1::uuid[])"


async def publish(tx: Tx, events: Sequence[Event]) -> None:
    """Write events beside the rows that make them true. A recorded event stays as it is.

    The same id with other business fields is recorded as a conflict: the audit counts it (I12).
    """
    if not events:
        return
    distinct: dict[UUID, tuple[Event, int]] = {}
    met: list[Conflict] = []
    for event in events:
        digest = event.digest()
        _, known = distinct.setdefault(event.id, (event, digest))
        met.append(Conflict(event.id, known, digest))
    here = telemetry.current_trace()
    rows = [
        (
            event.id,
            event.topic,
            event.version,
            event.model_dump_json(),
            digest,
            event.trace or here,
        )
        for event, digest in distinct.values()
    ]
    recorded = {row["id"] for row in await tx.fetch(RECORD, *columns(rows, 6))}
    if repeated := distinct.keys() - recorded:
        for row in await tx.fetch(KNOWN, list(repeated)):
            met.append(Conflict(row["id"], row["digest"], distinct[row["id"]][1]))
    differing = [one for one in met if one.known != one.received]
    await conflicts.record("outbox", differing, tx)
    tx.after_commit(PENDING.ring)


REPUBLISH = """
insert into outbox (republished, seq)
select true, seq
from events
where id = any($1::uuid[])
order by seq
on conflict do nothing
"""


async def republish(ids: Sequence[UUID], tx: Tx) -> int:
    """Put events back into the outbox, behind the live ones; returns how many that were.

    Unknown ids and pending events do not count.
    """
    tag = await tx.execute(REPUBLISH, list(ids))
    tx.after_commit(PENDING.ring)
    return int(tag.split()[-1])


FORGET_STREAMS = "update streams set incarnation = 'restored'"


async def republish_all(tx: Tx) -> None:
    """After a restore: the relay takes its stream for a new one and republishes the last 3 days.

    The sequence does not show a restore: a backup remembers a lower one than the broker has,
    which is also the ordinary case.
    """
    await tx.execute(FORGET_STREAMS)


# Up to 100 000 pending events. The oldest is the first of the live or of the republished ones.
STATE = """
select
  (select count(*) from (select from outbox limit 100000) as o) as pending,
  coalesce(
    (
      select max(extract(epoch from shop_now() - e.recorded_at))
      from unnest(array[false, true]) as r (republished)
      cross join lateral (
        select seq from outbox o where o.republished = r.republished order by seq limit 1
      ) f
      join events e using (seq)
    ),
    0
  )::float8 as oldest_s
"""

DROP_OLD = """
delete from events
where seq in (
  select e.seq
  from events e
  where e.recorded_at < shop_now() - interval '30 days'
    and not exists (select from outbox o where o.seq = e.seq)
  order by e.recorded_at
  limit $1
)
"""
