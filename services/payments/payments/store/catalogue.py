"""The SQL of the catalogue: plans, prices, rates and ways to pay."""

from payments.domain.confirmation import Rate
from shared.platform.db import Database, Row, Tx

PLANS = """
select p.plan, p.devices, p.traffic_bytes, r.months, r.price_minor, r.stars
from plans p
join prices r using (plan)
where p.on_sale
order by p.position, r.months
"""


async def plans(database: Database) -> list[Row]:
    """One row per price. The rows of a plan are adjacent."""
    return await database.fetch(PLANS)


PRICE = """
select p.plan, p.devices, p.traffic_bytes, p.node_group, r.months, r.price_minor, r.stars,
  m.price_minor as list_month_minor
from plans p
join prices r using (plan)
join prices m on m.plan = p.plan and m.months = 1
where p.plan = $1 and r.months = $2 and p.on_sale
"""


async def price_of(plan: str, months: int, tx: Tx) -> Row | None:
    """The price with the plan's terms. None where the plan is not on sale for so many months."""
    return await tx.fetchrow(PRICE, plan, months)


RATES = """
select distinct on (currency) currency, kopecks, per_minor
from rates
where from_at <= shop_now()
order by currency, from_at desc
"""


async def rates_in_force(tx: Tx | Database) -> dict[str, Rate]:
    """By currency: the newest rate that has begun."""
    rows = await tx.fetch(RATES)
    return {row["currency"]: Rate(row["kopecks"], row["per_minor"]) for row in rows}


WAYS = """
select way, acquirer, currency, least_minor, most_minor
from ways
where on_sale
order by position
"""


async def ways(database: Database) -> list[Row]:
    """The ways to pay that are on sale, in the order of the screen."""
    return await database.fetch(WAYS)


WAY = """
select way, acquirer, currency, least_minor, most_minor
from ways
where way = $1 and on_sale
"""


async def way_of(way: str, tx: Tx) -> Row | None:
    """None for a way that is not on sale."""
    return await tx.fetchrow(WAY, way)
