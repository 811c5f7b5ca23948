"""The SQL of the catalogue as operators read and change it."""

from datetime import datetime

from shared.contracts.payments_acts import PlanRecord, RateRecord, WayRecord
from shared.platform.db import Database, Row, Tx

ALL_PLANS = """
select plan, position, devices, traffic_bytes, node_group, on_sale
from plans
order by position, plan
limit $1
"""

# The versions of a price are found by its key.
ALL_PRICES = """
select r.plan, r.months, r.price_minor, r.stars, version.from_at as since
from prices r
join plans p using (plan)
cross join lateral (
  select from_at
  from price_versions v
  where v.plan = r.plan and v.months = r.months
  order by from_at desc
  limit 1
) version
order by p.position, r.plan, r.months
limit $1
"""

ALL_RATES = """
select currency, from_at, kopecks, per_minor,
  case
    when from_at > shop_now() then 'future'
    when row_number() over (partition by currency, from_at > shop_now() order by from_at desc) = 1
      then 'present'
    else 'past'
  end as state
from rates
order by currency, from_at desc
limit $1
"""

ALL_WAYS = """
select way, acquirer, currency, least_minor, most_minor, on_sale
from ways
order by position, way
limit $1
"""


async def plans(most: int, database: Database) -> list[Row]:
    return await database.fetch(ALL_PLANS, most)


async def prices(most: int, database: Database) -> list[Row]:
    """Each with the beginning of its present version."""
    return await database.fetch(ALL_PRICES, most)


async def rates(most: int, database: Database) -> list[Row]:
    """Of each currency the newest first."""
    return await database.fetch(ALL_RATES, most)


async def ways(most: int, database: Database) -> list[Row]:
    return await database.fetch(ALL_WAYS, most)


# The row of the plan is the lock of its prices, too: a new price has no row yet.
LOCK_PLAN = """
select plan, position, devices, traffic_bytes, node_group, on_sale
from plans
where plan = $1
for no key update
"""


async def lock_plan(plan: str, tx: Tx) -> Row | None:
    return await tx.fetchrow(LOCK_PLAN, plan)


SET_PLAN = "update plans set on_sale = $2, devices = $3, traffic_bytes = $4 where plan = $1"


async def set_plan(plan: PlanRecord, tx: Tx) -> None:
    await tx.execute(SET_PLAN, plan.plan, plan.on_sale, plan.devices, plan.traffic_bytes)


PRICE_NOW = "select price_minor, stars from prices where plan = $1 and months = $2"


async def price(plan: str, months: int, tx: Tx) -> Row | None:
    """To be read under the lock of the plan."""
    return await tx.fetchrow(PRICE_NOW, plan, months)


SET_PRICE = """
insert into prices (plan, months, price_minor, stars)
values ($1, $2, $3, $4)
on conflict (plan, months) do update
set price_minor = excluded.price_minor, stars = excluded.stars
"""


async def set_price(plan: str, months: int, price_minor: int, stars: int, tx: Tx) -> None:
    await tx.execute(SET_PRICE, plan, months, price_minor, stars)


RATE_AT = """
select kopecks, per_minor
from rates
where currency = $1 and from_at <= $2
order by from_at desc
limit 1
"""


async def rate_at(currency: str, at: datetime, tx: Tx) -> Row | None:
    """The rate that is in force at this time, as far as it is known now."""
    return await tx.fetchrow(RATE_AT, currency, at)


ADD_RATE = """
insert into rates (currency, from_at, kopecks, per_minor)
values ($1, $2, $3, $4)
on conflict do nothing
returning currency
"""


async def add_rate(rate: RateRecord, tx: Tx) -> bool:
    """False when a rate begins at this time already."""
    fields = rate.currency, rate.from_at, rate.kopecks, rate.per_minor
    return await tx.fetchval(ADD_RATE, *fields) is not None


LOCK_WAY = """
select way, acquirer, currency, least_minor, most_minor, on_sale
from ways
where way = $1
for no key update
"""


async def lock_way(way: str, tx: Tx) -> Row | None:
    return await tx.fetchrow(LOCK_WAY, way)


SET_WAY = "update ways set on_sale = $2, least_minor = $3, most_minor = $4 where way = $1"


async def set_way(way: WayRecord, tx: Tx) -> None:
    await tx.execute(SET_WAY, way.way, way.on_sale, way.least_minor, way.most_minor)
