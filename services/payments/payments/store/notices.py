"""The SQL of notices: the reports of providers, and the outcome of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from shared.platform.db import Database, Tx, columns

NoticeState = Literal["waiting", "done", "refused", "parked"]

# Of references that no invoice has, only so many may wait: anybody can invent them where a provider
# signs nothing. Those of our invoices are always taken.
INSERT = """
with known as (
  select exists (select from invoices where acquirer = $1 and reference = $2) as it_is
), room as (
  select from known
  where it_is or $5 > (
    select count(*)
    from (
      select from notices
      where acquirer = $1 and state in ('waiting', 'asking') and not known
      limit $5
    ) unknown
  )
), fresh as (
  insert into notices (acquirer, reference, kind, body, known, state)
  select $1, $2, $3, $4, it_is, 'waiting'
  from known, room
  on conflict do nothing
  returning 'waiting' as state
), repeated as (
  insert into notices (acquirer, reference, kind, body, known, state, reason)
  select $1, $2, $3, $4, it_is, 'done', 'repeated'
  from known, room
  where not exists (select from fresh)
  returning 'done' as state
)
select state from fresh
union all
select state from repeated
"""


async def insert(
    acquirer: str, reference: str, kind: str, body: bytes, most_unknown: int, database: Database
) -> NoticeState | None:
    """Keep a notice. `done`: another one of its reference waits already. None: no room is left."""
    state: NoticeState | None = await database.fetchval(
        INSERT, acquirer, reference, kind, body, most_unknown
    )
    return state


@dataclass(frozen=True, slots=True)
class Told:
    """A claimed notice. `failures` and `every_s` are those of its provider."""

    key: UUID
    reference: str
    kind: Literal["payment", "refund"]
    tries: int
    failures: int
    every_s: float


# `$2` is how many references one call reads, and `$3` how many calls are made at once. Notices that
# failed before are read one by one, beside the others.
CLAIM = """
with pace as (
  select failures, every, greatest(1, $2::int >> failures) as size
  from provider_pace
  where acquirer = $1
    and lane = 'notice'
    and next_at <= shop_now()
    and exists (
      select from notices
      where acquirer = $1
        and least(tries, 1) in (0, 1)
        and due_at <= shop_now()
        and state in ('waiting', 'asking')
    )
  for update skip locked
), fresh as (
  select id
  from notices
  where acquirer = $1
    and least(tries, 1) = 0
    and due_at <= shop_now()
    and state in ('waiting', 'asking')
  order by due_at
  limit coalesce((select size * $3::int from pace), 0)
  for update skip locked
), failed as (
  select id
  from notices
  where acquirer = $1
    and least(tries, 1) = 1
    and due_at <= shop_now()
    and state in ('waiting', 'asking')
  order by due_at
  limit coalesce((select 1 from pace), 0)
  for update skip locked
), claimed as (
  update notices n
  set state = 'asking', claim = $4, due_at = shop_now() + $5::interval
  where n.id = any(array(select id from fresh union all select id from failed))
  returning n.id, n.reference, n.kind, n.tries
), paced as (
  update provider_pace
  set next_at = shop_now() + every * (
    select ceil(count(*) filter (where tries = 0) / (select size from pace)::numeric)::int
      + count(*) filter (where tries > 0)
    from claimed
  )
  where acquirer = $1 and lane = 'notice' and exists (select from claimed)
)
select c.id as key, c.reference, c.kind, c.tries, p.failures,
  extract(epoch from p.every)::float8 as every_s
from claimed c
cross join pace p
"""


async def claim(
    acquirer: str, at_once: int, calls: int, token: UUID, lease_s: float, database: Database
) -> list[Told]:
    """Claim due notices of a provider, as its pace allows."""
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(CLAIM, acquirer, at_once, calls, token, lease)
    return [Told(**dict(row)) for row in rows]


# The first due one of both kinds, or the time from which the provider may be asked.
NEXT_NOTICE = """
select extract(epoch from greatest(p.next_at, n.due_at) - shop_now())::float8
from provider_pace p
cross join lateral (
  select min(due_at) as due_at
  from (
    (
      select due_at
      from notices
      where acquirer = $1 and least(tries, 1) = 0 and state in ('waiting', 'asking')
      order by due_at
      limit 1
    )
    union all
    (
      select due_at
      from notices
      where acquirer = $1 and least(tries, 1) = 1 and state in ('waiting', 'asking')
      order by due_at
      limit 1
    )
  ) next
) n
where p.acquirer = $1 and p.lane = 'notice' and n.due_at is not null
"""


async def due_in_s(acquirer: str, database: Database) -> float | None:
    """After so many seconds the first notice may be claimed. None: none waits."""
    seconds: float | None = await database.fetchval(NEXT_NOTICE, acquirer)
    return seconds


RENEW = """
update notices
set due_at = shop_now() + $3::interval
where id in (
  select id
  from notices
  where id = any($1::uuid[]) and claim = $2
  order by id
  for no key update
)
"""


async def renew(keys: Sequence[UUID], token: UUID, lease_s: float, database: Database) -> bool:
    """Renew the lease of these notices; False when none of them is left to this worker."""
    tag = await database.execute(RENEW, list(keys), token, timedelta(seconds=lease_s))
    return not tag.endswith(" 0")


GIVE_BACK = """
update notices set claim = null, due_at = shop_now() where id = any($1::uuid[]) and claim = $2
"""


async def give_back(keys: Sequence[UUID], token: UUID, database: Database) -> None:
    """The provider did not answer, which is no fault of these notices."""
    await database.execute(GIVE_BACK, list(keys), token)


END = """
update notices n
set state = e.state, reason = e.reason, claim = null
from unnest($2::uuid[], $3::text[], $4::text[]) as e (id, state, reason)
where n.id = e.id and n.claim = $1
"""

RETRY = """
update notices n
set claim = null,
  tries = n.tries + 1,
  reason = r.reason,
  due_at = shop_now() + make_interval(secs => r.pause_s)
from unnest($2::uuid[], $3::text[], $4::float8[]) as r (id, reason, pause_s)
where n.id = r.id and n.claim = $1
"""


async def settle(
    token: UUID,
    ended: Sequence[tuple[UUID, NoticeState, str]],
    retried: Sequence[tuple[UUID, str, float]],
    tx: Tx,
) -> None:
    """End these notices, and let those be read again after so many seconds."""
    if ended:
        await tx.execute(END, token, *columns(ended, 3))
    if retried:
        await tx.execute(RETRY, token, *columns(retried, 3))


DROP_OLD = """
delete from notices
where id in (
  select id
  from notices
  where received_at < shop_now() - interval '30 days' and state not in ('waiting', 'asking')
  order by received_at
  limit $1
)
"""
