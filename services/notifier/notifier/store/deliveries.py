"""Deliveries: written once per person, cause and kind; superseded, reopened and settled."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from uuid import UUID

from notifier.domain.deliveries import Settled
from notifier.domain.messages import REOPENED, REOPENED_FOR, Message
from notifier.store import recipients
from shared.platform.db import Database, Row, Tx, columns
from shared.platform.loops import Bell

MAX_REOPENED = 20

DUE = Bell()
"""Rings in this process when a committed transaction wrote a message that is due."""

WRITE = """
insert into deliveries (
  id, person, cause, kind, priority, thread, rank, details, trace, occurred_at, position, not_before
)
select
  id, person, cause, kind, priority, thread, rank, details::json, trace, occurred_at, position,
  shop_now() + after_s * interval '1 second'
from unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::uuid[], $7::smallint[],
  $8::text[], $9::text[], $10::timestamptz[], $11::int[], $12::float8[], $13::text[]
) as m (
  id, person, cause, kind, priority, thread, rank, details, trace, occurred_at, position, after_s,
  follows
)
where follows is null or (
  select e.state <> 'waiting'
  from deliveries e
  where e.person = m.person and e.cause = m.cause and e.kind = m.follows
)
order by id
on conflict do nothing
"""

SUPERSEDE = """
update deliveries d
set state = 'superseded', reason = 'a later message says more', settled_at = shop_now()
where d.thread = any($1::uuid[])
  and d.state = 'waiting'
  and exists (
    select from deliveries h
    where h.thread = d.thread and h.person = d.person and h.rank > d.rank
  )
"""


async def write(messages: Sequence[Message], tx: Tx) -> None:
    """Write messages, each once for ever. A message that a later one supersedes is never sent."""
    if not messages:
        return
    people = sorted({message.person for message in messages})
    await recipients.lock_all(people, tx)
    await tx.execute(WRITE, *columns([_row_of(message) for message in messages], 13))
    await supersede((message.thread for message in messages), tx)
    await recipients.schedule(people, tx)


def _row_of(message: Message) -> tuple[object, ...]:
    return (
        message.id,
        message.person,
        message.cause,
        message.kind,
        message.priority,
        message.thread,
        message.rank,
        json.dumps(dict(message.details)),
        message.trace,
        message.occurred_at,
        message.position,
        message.after_s,
        message.follows,
    )


async def supersede(threads: Iterable[UUID | None], tx: Tx) -> None:
    """Give up the waiting messages that have a later message in their thread."""
    if named := sorted({thread for thread in threads if thread is not None}):
        await tx.execute(SUPERSEDE, named)


# At most $4 messages of each kind: the next ones follow when one of these has been sent.
REOPEN = """
update deliveries d
set state = 'waiting', reason = null, settled_at = null, not_before = shop_now()
from unnest($1::uuid[]) as p (person)
cross join unnest($2::text[]) as k (kind)
cross join lateral (
  select u.id
  from deliveries u
  where u.person = p.person
    and u.kind = k.kind
    and u.state = 'unreachable'
    and u.written_at > shop_now() - $3::interval
  order by u.written_at
  limit $4
) u
where d.id = u.id
returning d.person, d.thread
"""


async def reopen(people: Sequence[UUID], tx: Tx) -> None:
    """Send again the recent messages that these people missed while they were unreachable."""
    rows = await tx.fetch(REOPEN, people, sorted(REOPENED), REOPENED_FOR, MAX_REOPENED)
    if rows:
        await supersede((row["thread"] for row in rows), tx)
        await recipients.schedule(sorted({row["person"] for row in rows}), tx)


# A pause grows at random by up to a tenth: messages that failed together are retried apart.
SETTLE = """
update deliveries d
set
  state = s.state,
  reason = s.reason,
  message_id = coalesce(s.message_id, d.message_id),
  tries = s.tries,
  waits = s.waits,
  unclear = s.unclear,
  not_before = shop_now() + s.pause_s * (1 + random() / 10) * interval '1 second',
  settled_at = case when s.state = 'waiting' then null else shop_now() end
from unnest(
  $1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::float8[], $6::int[], $7::int[], $8::int[]
) as s (id, state, reason, message_id, pause_s, tries, waits, unclear)
where d.id = s.id
"""


async def settle(settled: Sequence[Settled], tx: Tx) -> None:
    """Write the verdicts. A later message may supersede a delivery that waits again."""
    rows = [
        (each.claimed.id, v.state, v.reason, v.message_id, v.pause_s, *astuple(v.counts))
        for each in settled
        for v in [each.verdict]
    ]
    await tx.execute(SETTLE, *columns(rows, 8))
    again = (each.claimed.thread for each in settled if each.verdict.state == "waiting")
    await supersede(again, tx)
    # A message that was sent proves that the person is reachable.
    if reached := sorted(each.claimed.person for each in settled if each.verdict.state == "sent"):
        await reopen(reached, tx)


OPEN = """
select kind, count(*) as deliveries
from (
  select kind from deliveries where state in ('waiting', 'claimed') limit 10000
) as open
group by kind
"""


async def open_by_kind(database: Database) -> dict[str, int]:
    """The number of open deliveries of each kind, of the first 10 000."""
    return {row["kind"]: row["deliveries"] for row in await database.fetch(OPEN)}


# A repeat of an event is known by its inbox row for 45 days, and events are kept for 30.
DROP_OLD_DELIVERIES = """
delete from deliveries
where id in (
  select id
  from deliveries
  where written_at < shop_now() - interval '1 year' and settled_at is not null
  order by written_at
  limit $1
)
"""

DELIVERIES = """
select
  id as delivery, person, kind, cause, state, reason, tries, not_before, written_at, settled_at
from deliveries
where person = any($1::uuid[]) and cause = any($2::text[])
order by written_at, rank, kind
limit $3
"""


async def deliveries_of(
    people: Sequence[UUID], causes: Sequence[str], most: int, database: Database
) -> list[Row]:
    """The messages to these people for these causes."""
    return await database.fetch(DELIVERIES, list(people), list(causes), most)
