"""Claims: a worker takes the next message of a chat for the time of a lease.

A claim skips locked rows, so claiming never waits for another transaction.
"""

import json
from collections import ChainMap
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from notifier.domain.deliveries import Claimed, Counts, Reachability
from notifier.domain.messages import NEVER_REPEATED, Kind
from notifier.store import deliveries
from notifier.store.buckets import wait_s
from notifier.store.recipients import CHAT_PAUSE_S
from shared.contracts.bot import Recipient
from shared.platform.db import Database, Row, Tx, columns

LEASE_S = 5.0
SENDER_DIED = "the sender died"

NEXT_DUE = """
select extract(epoch from min(due_at) - shop_clock())::float8
from recipients
where due_at is not null
"""


async def next_due_s(database: Database) -> float:
    """Seconds until the first chat is due: not above zero if one is due, infinite if none is."""
    return wait_s(await database.fetchval(NEXT_DUE))


CLAIM_CHATS = """
with due as (
  select person, claim is not null as abandoned
  from recipients
  where due_at <= shop_now() and person <> all($4::uuid[])
  order by due_at
  limit $2
  for no key update skip locked
)
update recipients r
set claim = $1, due_at = shop_now() + $3 * interval '1 second'
from due d
where r.person = d.person and r.person = any(array(select person from due))
returning r.person, d.abandoned
"""


class Chat(NamedTuple):
    """A claimed chat. `abandoned`: an earlier claim on it outlived its lease."""

    person: UUID
    abandoned: bool


async def claim_chats(worker: UUID, busy: Collection[UUID], most: int, tx: Tx) -> list[Chat]:
    """Claim at most `most` due chats for `LEASE_S`, without the people in `busy`."""
    rows = await tx.fetch(CLAIM_CHATS, worker, most, LEASE_S, list(busy))
    return [Chat(row["person"], row["abandoned"]) for row in rows]


GIVE_UP = """
update deliveries
set state = 'unknown', reason = $3, settled_at = shop_now()
where person = any($1::uuid[]) and state = 'claimed' and kind = any($2::text[])
returning id, person, kind, trace
"""


class GivenUp(NamedTuple):
    """A delivery that nobody sends again, because it may have arrived."""

    id: UUID
    person: UUID
    kind: Kind
    trace: str | None


async def give_up(chats: Sequence[Chat], tx: Tx) -> list[GivenUp]:
    """End the deliveries of dead workers that must not be sent twice. The chats are claimed."""
    abandoned = [chat.person for chat in chats if chat.abandoned]
    if not abandoned:
        return []
    rows = await tx.fetch(GIVE_UP, abandoned, sorted(NEVER_REPEATED), SENDER_DIED)
    return [GivenUp(*row) for row in rows]


PICK_UP = """
update deliveries set state = 'waiting'
where person = any($1::uuid[]) and state = 'claimed'
returning thread
"""

CLAIM = """
with next as (
  select n.id
  from unnest($1::uuid[]) as p (person)
  cross join lateral (
    select d.id
    from deliveries d
    where d.person = p.person and d.state = 'waiting' and soon(d.not_before) <= shop_now()
    order by d.priority, d.rank desc, d.occurred_at, d.position, d.id
    limit 1
  ) n
)
update deliveries d
set state = 'claimed'
from next n, recipients r
where d.id = n.id and r.person = d.person
returning
  d.id, d.person, d.kind, d.trace, d.thread,
  d.tries, d.waits, d.unclear,
  r.chat_id, r.language, r.reachable, r.changed_at,
  (
    select max(s.message_id)
    from deliveries s
    where s.thread = d.thread and s.person = d.person
  ) as instead_of,
  array(
    select s.details::text
    from deliveries s
    where s.thread = d.thread and s.person = d.person and s.id <> d.id
    order by s.rank
  ) || d.details::text as details
"""


async def claim_messages(chats: Sequence[Chat], worker: UUID, tx: Tx) -> list[Claimed]:
    """Claim the next message of each claimed chat. A chat without one is released."""
    abandoned = [chat.person for chat in chats if chat.abandoned]
    if abandoned:  # Their worker is gone. A later message may have been written meanwhile.
        picked_up = await tx.fetch(PICK_UP, abandoned)
        await deliveries.supersede((row["thread"] for row in picked_up), tx)
    people = sorted(chat.person for chat in chats)
    claimed = [_claimed_from(row) for row in await tx.fetch(CLAIM, people)]
    idle = sorted(set(people) - {delivery.person for delivery in claimed})
    if idle:
        await release([(person, False, None, 0.0) for person in idle], worker, tx)
    return claimed


def _claimed_from(row: Row) -> Claimed:
    """With the details of its whole thread: each message says all that is known by then."""
    known = row["chat_id"] is not None
    details = ChainMap(*(json.loads(each) for each in reversed(row["details"])))
    return Claimed(
        row["id"],
        row["person"],
        row["kind"],
        details,
        row["trace"],
        row["thread"],
        Counts(row["tries"], row["waits"], row["unclear"]),
        Recipient(chat_id=row["chat_id"], language=row["language"], reachable=row["reachable"])
        if known
        else None,
        row["instead_of"],
        row["changed_at"],
    )


RENEW = """
update recipients
set due_at = shop_now() + $3 * interval '1 second'
where person in (
  select person
  from recipients
  where person = any($1::uuid[]) and claim = $2
  for no key update skip locked
)
"""


async def renew(people: Sequence[UUID], worker: UUID, tx: Tx) -> None:
    """Extend the leases of these chats. A locked row waits for the next renewal."""
    await tx.execute(RENEW, list(people), worker, LEASE_S)


LOCK_HELD = """
select person, reachable, changed_at
from recipients
where person = any($1::uuid[]) and claim = $2
order by person
for no key update
"""


async def lock_held(people: Sequence[UUID], worker: UUID, tx: Tx) -> dict[UUID, Reachability]:
    """Lock the chats that this worker still holds; a chat whose lease ended may be another's."""
    return {
        row["person"]: Reachability(row["reachable"], row["changed_at"])
        for row in await tx.fetch(LOCK_HELD, people, worker)
    }


RELEASE = """
update recipients r
set
  claim = null,
  reachable = coalesce(p.reachable, r.reachable),
  called_at = case when p.called then shop_now() else r.called_at end,
  paused_until = case
    when p.pause_s > 0 then shop_now() + p.pause_s * interval '1 second'
    when soon(r.paused_until) > shop_now() then r.paused_until
  end,
  due_at = case
    when w.first_at is null then null
    else greatest(
      soon(w.first_at),
      soon(case when p.called then shop_now() else r.called_at end + $6 * interval '1 second'),
      case
        when p.pause_s > 0 then shop_now() + p.pause_s * interval '1 second'
        else soon(r.paused_until)
      end
    )
  end
from unnest($1::uuid[], $2::boolean[], $3::boolean[], $4::float8[])
  as p (person, called, reachable, pause_s)
cross join lateral (
  select min(not_before) as first_at
  from deliveries d
  where d.person = p.person and d.state = 'waiting'
) w
where r.person = p.person and r.claim = $5
"""


async def release(
    chats: Sequence[tuple[UUID, bool, bool | None, float]], worker: UUID, tx: Tx
) -> None:
    """Release chats; each is due with its next message, after its pauses.

    Of each chat: the person, whether Telegram was called, the reachability if it was learned, and
    the seconds of a pause that Telegram asked for.
    """
    await tx.execute(RELEASE, *columns(chats, 4), worker, CHAT_PAUSE_S)
