"""Subscriptions: begun, refolded, expired, granted and ended; and the rows behind the queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from shared.platform.db import Database, Row, Tx, columns
from vpn_provisioner.domain.access import Entitlement
from vpn_provisioner.domain.reminders import LONGEST


@dataclass(frozen=True, slots=True)
class Granted:
    """An order that the nodes agree with now, and the access of its person."""

    order: UUID
    person: UUID
    trace: str | None
    plan: str
    devices: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscription that ended, and its end. `refunded`: a refund moved the end into the past."""

    person: UUID
    ends_at: datetime
    refunded: bool


BEGIN = """
insert into subscriptions (
  person, plan, devices, traffic_bytes, node_group, ends_at, remind_at, key, state
)
select person, plan, devices, traffic_bytes, node_group, ends_at, remind_at, key, 'live'
from unnest(
  $1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::timestamptz[],
  $7::timestamptz[], $8::uuid[]
) as s (person, plan, devices, traffic_bytes, node_group, ends_at, remind_at, key)
order by person
on conflict on constraint a_person_has_one_subscription do nothing
returning person
"""


async def begin(entitlements: Mapping[UUID, Entitlement], tx: Tx) -> set[UUID]:
    """Write the subscriptions of people who have none; returns their people.

    Each gets a key that it keeps for life. Two transactions that begin the same subscription meet
    here: the second waits, and then finds it.
    """
    rows = [(*_columns_of(person, fields), uuid4()) for person, fields in entitlements.items()]
    return {row["person"] for row in await tx.fetch(BEGIN, *columns(rows, 8))}


LOCK = """
select person
from subscriptions
where person = any($1::uuid[])
order by person
for update
"""


async def lock(people: Sequence[UUID], tx: Tx) -> None:
    """Keep others from changing these subscriptions and their jobs until the transaction ends."""
    await tx.execute(LOCK, people)


REFOLD = """
update subscriptions s
set plan = f.plan,
  devices = f.devices,
  traffic_bytes = f.traffic_bytes,
  node_group = f.node_group,
  ends_at = f.ends_at,
  remind_at = case when f.ends_at = s.ends_at then s.remind_at else f.remind_at end,
  end_moved_at = case when f.ends_at = s.ends_at then s.end_moved_at else shop_now() end,
  state = 'live'
from unnest(
  $1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::timestamptz[],
  $7::timestamptz[]
) as f (person, plan, devices, traffic_bytes, node_group, ends_at, remind_at)
where s.person = f.person
"""


async def refold(entitlements: Mapping[UUID, Entitlement], tx: Tx) -> None:
    """Write the new folds into locked subscriptions.

    All become live: the next tick expires those whose end has passed. An end that moved has
    reminders of its own.
    """
    rows = [_columns_of(person, fields) for person, fields in entitlements.items()]
    await tx.execute(REFOLD, *columns(rows, 7))


SHORTEN = """
update subscriptions s
set plan = f.plan,
  devices = f.devices,
  traffic_bytes = f.traffic_bytes,
  node_group = f.node_group,
  ends_at = f.ends_at,
  remind_at = case when f.ends_at = s.ends_at then s.remind_at else f.remind_at end,
  end_moved_at = case when f.ends_at = s.ends_at then s.end_moved_at else shop_now() end,
  state = case
    when f.ends_at > shop_now() then 'live'
    when s.state = 'live' then 'ending'
    else s.state
  end
from unnest(
  $1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::timestamptz[],
  $7::timestamptz[]
) as f (person, plan, devices, traffic_bytes, node_group, ends_at, remind_at)
where s.person = f.person
"""


async def shorten(entitlements: Mapping[UUID, Entitlement], tx: Tx) -> None:
    """Write the folds after a refund into locked subscriptions.

    One whose end has passed by this begins to end at once.
    """
    rows = [_columns_of(person, fields) for person, fields in entitlements.items()]
    await tx.execute(SHORTEN, *columns(rows, 7))


EXPIRE = """
with due as (
  select person
  from subscriptions
  where state = 'live' and ends_at <= shop_now()
  order by ends_at
  limit $1
  for update skip locked
)
update subscriptions s
set state = 'ending'
where s.person = any(array(select person from due))
returning s.person
"""


async def expire(most: int, tx: Tx) -> list[UUID]:
    """Let overdue subscriptions begin to end, the longest overdue first; returns their people."""
    return [row["person"] for row in await tx.fetch(EXPIRE, most)]


REVIVE = """
with early as (
  select person
  from subscriptions
  where state <> 'live' and ends_at > shop_now() + interval '1 minute'
  order by ends_at desc
  limit $1
  for update skip locked
)
update subscriptions s
set state = 'live'
where s.person = any(array(select person from early))
returning s.person
"""


async def revive(most: int, tx: Tx) -> list[UUID]:
    """Make subscriptions live again that a clock ahead of this one has ended too early."""
    return [row["person"] for row in await tx.fetch(REVIVE, most)]


GRANT = """
with agreed as (
  select s.person, s.plan, s.devices, s.ends_at
  from subscriptions s
  where s.person = any($1::uuid[])
    and not exists (
      select from access_jobs j
      join nodes n on n.id = j.node and n.state = 'serving'
      where j.person = s.person and j.state <> 'agreed' and (j.present or s.state <> 'live')
    )
    and (s.state <> 'live' or exists (
      select from access_jobs j
      join nodes n on n.id = j.node and n.state = 'serving'
      where j.person = s.person and j.present
    ))
)
update grants g
set announced_at = shop_now()
from agreed a
where g.person = a.person and g.announced_at is null
returning g.order_id, g.person, g.trace, a.plan, a.devices, a.ends_at
"""


async def grant(people: Sequence[UUID], tx: Tx) -> list[Granted]:
    """Mark the open grants of people whose nodes all agree; returns each order once in its life.

    An order that came after its own end is granted too, together with the end.
    """
    return [
        Granted(
            row["order_id"],
            row["person"],
            row["trace"],
            row["plan"],
            row["devices"],
            row["ends_at"],
        )
        for row in await tx.fetch(GRANT, people)
    ]


END = """
update subscriptions s
set state = 'ended'
where s.person = any($1::uuid[])
  and s.state = 'ending'
  and not exists (
    select from access_jobs j
    join nodes n on n.id = j.node and n.state = 'serving'
    where j.person = s.person and j.state <> 'agreed'
  )
returning s.person, s.ends_at,
  exists (
    select from shortenings u where u.person = s.person and u.handled_at > s.ends_at
  ) as refunded
"""


async def end(people: Sequence[UUID], tx: Tx) -> list[Ended]:
    """End the ending subscriptions of which every node has confirmed the removal."""
    return [Ended(*row) for row in await tx.fetch(END, people)]


ACCESS = """
select s.state, s.plan, s.devices, s.ends_at, shop_now() as now,
  count(j.node) > 0 and bool_and(j.state = 'agreed') as agreed
from subscriptions s
left join (access_jobs j join nodes n on n.id = j.node and n.state = 'serving')
  on j.person = s.person and j.present
where s.person = $1
group by s.person
"""


async def access_of(person: UUID, database: Database) -> Row | None:
    """The subscription, and whether every node that should let the person in agrees."""
    return await database.fetchrow(ACCESS, person)


KEY = """
select s.state, s.key, s.ends_at, n.link_template
from subscriptions s
left join (access_jobs j join nodes n on n.id = j.node and n.state = 'serving')
  on j.person = s.person and j.present and j.agreed_at is not null
where s.person = $1
order by n.added_at, n.id
limit 1
"""


async def key_of(person: UUID, database: Database) -> Row | None:
    """The key, and the link template of the first node that was seen to let the person in.

    The template is null where there is no such node.
    """
    return await database.fetchrow(KEY, person)


ORDER = """
select
  p.order_id as order, p.person, p.handled_at,
  extract(epoch from shop_now() - p.handled_at)::float8 as age_s, g.withdrawn,
  case when not g.withdrawn then g.announced_at end as announced_at, s.state, s.ends_at
from periods p
join grants g using (order_id)
join subscriptions s on s.person = p.person
where p.order_id = $1
"""


async def order_of(order: UUID, database: Database) -> Row | None:
    """The subscription that an order went into, and when its grant was announced."""
    return await database.fetchrow(ORDER, order)


JOBS_OF = """
select n.name as node, j.present, j.state, j.tries, j.run_at, j.agreed_at, j.error
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.person = $1
order by n.added_at, n.id
"""


async def jobs_of(person: UUID, database: Database) -> list[Row]:
    """The job of this person on each serving node."""
    return await database.fetch(JOBS_OF, person)


def _columns_of(person: UUID, entitlement: Entitlement) -> tuple[object, ...]:
    return (
        person,
        entitlement.plan,
        entitlement.devices,
        entitlement.traffic_bytes,
        entitlement.node_group,
        entitlement.ends_at,
        entitlement.ends_at - LONGEST,
    )
