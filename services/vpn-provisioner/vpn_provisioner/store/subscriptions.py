"""What was bought, and the subscription that it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from shared.db import Database, Row, Tx, columns
from shared.facts import Terms
from vpn_provisioner.access import Period, Standing


@dataclass(frozen=True, slots=True)
class Purchase:
    """A period, whose it is, and the trace of its story."""

    person: UUID
    period: Period
    trace: str | None


@dataclass(frozen=True, slots=True)
class Granted:
    """An order that the nodes now agree with, and what its person may use."""

    order: UUID
    person: UUID
    trace: str | None
    plan: str
    devices: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    person: UUID
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """A subscription as it is written, and the rows that it should be the fold of."""

    person: UUID
    standing: Standing
    periods: tuple[Period, ...] = field(repr=False)


ADD_PERIODS = """
with bought as (
  insert into periods (
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  )
  select order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  from unnest(
    $1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::int[], $6::int[], $7::bigint[], $8::text[], $9::int[]
  ) as p (order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor)
  order by order_id
  on conflict on constraint an_order_buys_one_period do nothing
  returning order_id, person
), promised as (
  insert into grants (order_id, person, trace)
  select b.order_id, b.person, t.trace
  from bought b
  join unnest($1::uuid[], $10::text[]) as t (order_id, trace) using (order_id)
)
select order_id from bought
"""


async def add_periods(purchases: Sequence[Purchase], tx: Tx) -> list[Purchase]:
    """Write the orders that were not known, each with the promise to tell of it; answers those."""
    rows = [
        (
            purchase.period.order,
            purchase.person,
            purchase.period.booked_at,
            terms.plan,
            terms.months,
            terms.devices,
            terms.traffic_bytes,
            terms.node_group,
            terms.list_month_minor,
            purchase.trace,
        )
        for purchase in purchases
        for terms in (purchase.period.terms,)
    ]
    fresh = {row["order_id"] for row in await tx.fetch(ADD_PERIODS, *columns(rows, 10))}
    return [purchase for purchase in purchases if purchase.period.order in fresh]


BEGIN = """
insert into subscriptions (person, plan, devices, traffic_bytes, node_group, ends_at, key, state)
select person, plan, devices, traffic_bytes, node_group, ends_at, key, 'live'
from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::timestamptz[], $7::uuid[])
  as s (person, plan, devices, traffic_bytes, node_group, ends_at, key)
order by person
on conflict on constraint a_person_has_one_subscription do nothing
returning person
"""


async def begin(standings: Mapping[UUID, Standing], tx: Tx) -> set[UUID]:
    """Write the subscriptions of people who have none, each with a key drawn for life; answers whose they are.

    Two transactions that begin the same subscription meet here: the second waits, and then finds it.
    """
    rows = [(*_columns_of(person, standing), uuid4()) for person, standing in standings.items()]
    return {row["person"] for row in await tx.fetch(BEGIN, *columns(rows, 7))}


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


PERIODS_OF = """
select person, order_id, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
from periods
where person = any($1::uuid[])
"""


async def periods_of(people: Sequence[UUID], tx: Tx) -> dict[UUID, list[Period]]:
    """Everything that these people bought, in no order."""
    periods: dict[UUID, list[Period]] = {person: [] for person in people}
    for row in await tx.fetch(PERIODS_OF, people):
        periods[row["person"]].append(_period_from(row))
    return periods


REFOLD = """
update subscriptions s
set plan = f.plan,
  devices = f.devices,
  traffic_bytes = f.traffic_bytes,
  node_group = f.node_group,
  ends_at = f.ends_at,
  state = 'live'
from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::timestamptz[])
  as f (person, plan, devices, traffic_bytes, node_group, ends_at)
where s.person = f.person
"""


async def refold(standings: Mapping[UUID, Standing], tx: Tx) -> None:
    """Write what locked subscriptions have become. All are live now: those whose time is over meet the next tick."""
    rows = [_columns_of(person, standing) for person, standing in standings.items()]
    await tx.execute(REFOLD, *columns(rows, 6))


EXPIRE = """
with due as (
  select person
  from subscriptions
  where state = 'live' and ends_at <= now()
  order by ends_at
  limit $1
  for update skip locked
)
update subscriptions s
set state = 'ending'
from due d
where s.person = d.person
returning s.person
"""


async def expire(most: int, tx: Tx) -> list[UUID]:
    """Let subscriptions whose time is over begin to end, the longest overdue first; answers whose."""
    return [row["person"] for row in await tx.fetch(EXPIRE, most)]


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
set told_at = now()
from agreed a
where g.person = a.person and g.told_at is null
returning g.order_id, g.person, g.trace, a.plan, a.devices, a.ends_at
"""


async def grant(people: Sequence[UUID], tx: Tx) -> list[Granted]:
    """Keep the promises of those whose nodes all agree: each order is answered once in its life, here.

    Of an order that came after its own time was over it is told too, together with the end.
    """
    return [
        Granted(row["order_id"], row["person"], row["trace"], row["plan"], row["devices"], row["ends_at"])
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
returning s.person, s.ends_at
"""


async def end(people: Sequence[UUID], tx: Tx) -> list[Ended]:
    """Close the subscriptions that are ending and of which every node has confirmed the removal."""
    return [Ended(row["person"], row["ends_at"]) for row in await tx.fetch(END, people)]


ACCESS = """
select s.state, s.plan, s.devices, s.ends_at,
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
    """The key and the link's template of the first node that was seen to let the person in, if there is one."""
    return await database.fetchrow(KEY, person)


ORDER = """
select p.order_id as order, p.person, p.heard_at, extract(epoch from now() - p.heard_at)::float8 as age_s, g.told_at,
  s.state, s.ends_at
from periods p
join grants g using (order_id)
join subscriptions s on s.person = p.person
where p.order_id = $1
"""

JOBS_OF = """
select n.name as node, j.present, j.state, j.tries, j.run_at, j.agreed_at, j.error
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.person = $1
order by n.added_at, n.id
"""


async def order_of(order: UUID, database: Database) -> Row | None:
    """What an order gave, and whether it was told."""
    return await database.fetchrow(ORDER, order)


async def jobs_of(person: UUID, database: Database) -> list[Row]:
    """How far each node is with what is wanted of it for this person."""
    return await database.fetch(JOBS_OF, person)


KEPT_PAGE = """
with page as (
  select person, plan, devices, traffic_bytes, node_group, ends_at
  from subscriptions
  where person > $1
  order by person
  limit $2
)
select s.person, s.plan as kept_plan, s.devices as kept_devices, s.traffic_bytes as kept_traffic_bytes,
  s.node_group as kept_node_group, s.ends_at as kept_ends_at,
  p.order_id, p.booked_at, p.plan, p.months, p.devices, p.traffic_bytes, p.node_group, p.list_month_minor
from page s
left join periods p using (person)
order by s.person
"""


async def kept_page(after: UUID, most: int, database: Database) -> list[Kept]:
    """So many subscriptions after this person's, by person, each with its rows as of the same moment."""
    rows: dict[UUID, list[Row]] = {}
    for row in await database.fetch(KEPT_PAGE, after, most):
        rows.setdefault(row["person"], []).append(row)
    return [_kept_from(person, own) for person, own in rows.items()]


def _kept_from(person: UUID, rows: Sequence[Row]) -> Kept:
    first = rows[0]
    standing = Standing(
        first["kept_plan"],
        first["kept_devices"],
        first["kept_traffic_bytes"],
        first["kept_node_group"],
        first["kept_ends_at"],
    )
    return Kept(person, standing, tuple(_period_from(row) for row in rows if row["order_id"] is not None))


def _period_from(row: Row) -> Period:
    terms = Terms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )
    return Period(row["order_id"], row["booked_at"], terms)


def _columns_of(person: UUID, standing: Standing) -> tuple[object, ...]:
    return (
        person,
        standing.plan,
        standing.devices,
        standing.traffic_bytes,
        standing.node_group,
        standing.ends_at,
    )
