"""Purchases and their undone shares as insert-only rows: a subscription is the fold of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from uuid import UUID

from shared.contracts.payments import PlanTerms
from shared.platform.db import Row, Tx, columns
from vpn_provisioner.domain.access import Entitlement, Period


@dataclass(frozen=True, slots=True)
class Purchase:
    """A period, its person and the trace of its order."""

    person: UUID
    period: Period
    trace: str | None


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """A subscription as it is written, and the rows that it should be the fold of."""

    person: UUID
    entitlement: Entitlement
    periods: tuple[Period, ...] = field(repr=False)


# A refund may have come first: then the order is not granted, or for a shorter time.
ADD_PERIODS = """
with bought as (
  insert into periods (
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group,
    list_month_minor
  )
  select
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group,
    list_month_minor
  from unnest(
    $1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::int[], $6::int[], $7::bigint[],
    $8::text[], $9::int[]
  ) as p (
    order_id, person, booked_at, plan, months, devices, traffic_bytes, node_group,
    list_month_minor
  )
  order by order_id
  on conflict on constraint an_order_buys_one_period do nothing
  returning order_id, person
), shortened as (
  select b.order_id, b.person, u.undone_minor, u.price_minor
  from bought b
  cross join lateral (
    select coalesce(sum(undone_minor), 0)::bigint as undone_minor,
      coalesce(max(price_minor), 1) as price_minor
    from shortenings
    where order_id = b.order_id
  ) u
), promised as (
  insert into grants (order_id, person, trace, announced_at, withdrawn)
  select s.order_id, s.person, t.trace,
    case when s.undone_minor >= s.price_minor then shop_now() end,
    s.undone_minor >= s.price_minor
  from shortened s
  join unnest($1::uuid[], $10::text[]) as t (order_id, trace) using (order_id)
)
select order_id, undone_minor, price_minor from shortened
"""


async def add_periods(purchases: Sequence[Purchase], tx: Tx) -> list[Purchase]:
    """Write the orders that are new, each with its grant to announce; returns those."""
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
    fresh = {row["order_id"]: row for row in await tx.fetch(ADD_PERIODS, *columns(rows, 10))}
    return [
        replace(purchase, period=replace(purchase.period, undone=_undone_in(row)))
        for purchase in purchases
        if (row := fresh.get(purchase.period.order))
    ]


PERIODS_OF = """
select
  p.person, p.order_id, p.booked_at, p.plan, p.months, p.devices, p.traffic_bytes, p.node_group,
  p.list_month_minor, coalesce(u.undone_minor, 0) as undone_minor,
  coalesce(u.price_minor, 1) as price_minor
from periods p
left join (
  select order_id, sum(undone_minor)::bigint as undone_minor, max(price_minor) as price_minor
  from shortenings
  where person = any($1::uuid[])
  group by order_id
) u using (order_id)
where p.person = any($1::uuid[])
"""


async def periods_of(people: Sequence[UUID], tx: Tx) -> dict[UUID, list[Period]]:
    """All purchases of these people, in no order."""
    periods: dict[UUID, list[Period]] = {person: [] for person in people}
    for row in await tx.fetch(PERIODS_OF, people):
        periods[row["person"]].append(_period_from(row))
    return periods


MANY_PERIODS = 300

# One period more than what is folded shows that there are more.
SUBSCRIPTIONS = """
select
  s.person, s.plan as stored_plan, s.devices as stored_devices,
  s.traffic_bytes as stored_traffic_bytes, s.node_group as stored_node_group,
  s.ends_at as stored_ends_at, p.order_id, p.booked_at, p.plan, p.months, p.devices,
  p.traffic_bytes, p.node_group, p.list_month_minor, coalesce(u.undone_minor, 0) as undone_minor,
  coalesce(u.price_minor, 1) as price_minor
from subscriptions s
left join lateral (
  select order_id, booked_at, plan, months, devices, traffic_bytes, node_group, list_month_minor
  from periods
  where person = s.person
  limit 301
) p on true
left join (
  select order_id, sum(undone_minor)::bigint as undone_minor, max(price_minor) as price_minor
  from shortenings
  where person = any($1::uuid[])
  group by order_id
) u using (order_id)
where s.person = any($1::uuid[])
order by s.person
"""


async def subscriptions_of(people: Sequence[UUID], tx: Tx) -> list[StoredSubscription]:
    """The subscriptions of these people, each with its rows, at most `MANY_PERIODS` and one."""
    rows: dict[UUID, list[Row]] = {}
    for row in await tx.fetch(SUBSCRIPTIONS, people):
        rows.setdefault(row["person"], []).append(row)
    return [_subscription_from(person, own) for person, own in rows.items()]


def _subscription_from(person: UUID, rows: Sequence[Row]) -> StoredSubscription:
    first = rows[0]
    entitlement = Entitlement(
        first["stored_plan"],
        first["stored_devices"],
        first["stored_traffic_bytes"],
        first["stored_node_group"],
        first["stored_ends_at"],
    )
    periods = tuple(_period_from(row) for row in rows if row["order_id"] is not None)
    return StoredSubscription(person, entitlement, periods)


def _period_from(row: Row) -> Period:
    terms = PlanTerms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )
    return Period(row["order_id"], row["booked_at"], terms, _undone_in(row))


def _undone_in(row: Row) -> Fraction:
    return Fraction(row["undone_minor"], row["price_minor"])
