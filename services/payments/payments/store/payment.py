"""The SQL of one payment's story: what the book keeps of an order and of all that came for it."""

from collections.abc import Sequence
from uuid import UUID

from shared.db import Database, Row

ORDERS_NAMED = """
select id from orders where id = any($1::uuid[])
union
select order_id from invoices where id = any($1::uuid[])
"""


async def orders_named(ids: Sequence[UUID], database: Database) -> list[UUID]:
    """The orders that are these, or that have these invoices."""
    return [row["id"] for row in await database.fetch(ORDERS_NAMED, list(ids))]


RECEIPTS = """
select r.id as receipt, r.acquirer, r.charge, r.payer, r.currency, r.amount_minor, r.paid_at, r.received_at,
  b.outcome, b.because, b.value_minor, b.told_as as fact, b.order_id
from receipts r
join bookings b on b.receipt = r.id
where r.id in (
  select unnest($1::uuid[])
  union
  select id from receipts where acquirer = any($2::text[]) and charge = $3
  union
  select receipt from bookings where order_id = any($4::uuid[])
)
order by r.received_at, r.id
limit $5
"""


async def receipts(
    ids: Sequence[UUID], acquirers: Sequence[str], charge: str, orders: Sequence[UUID], most: int, database: Database
) -> list[Row]:
    """The receipts that are these, that are of this charge, or that came for these orders; the oldest first."""
    return await database.fetch(RECEIPTS, list(ids), list(acquirers), charge, list(orders), most)


ORDER = """
select id as order, person, plan, months, price_minor, received_minor, state, placed_at, paid_at, honoured_until,
  state = 'open' and honoured_until >= now() as honoured, trace
from orders
where id = $1
"""

INVOICES = """
select id as invoice, way, asked_minor, asked_currency as currency, state, opened_at, expires_at,
  now() > expires_at as expired
from invoices
where order_id = $1
order by opened_at, id
limit $2
"""


async def order(id_: UUID, database: Database) -> Row | None:
    return await database.fetchrow(ORDER, id_)


async def invoices(order: UUID, most: int, database: Database) -> list[Row]:
    return await database.fetch(INVOICES, order, most)


TRANSFERS = """
select t.id as transfer, t.cause, t.reason, t.person, t.at, a.kind as account, a.owner, e.currency, e.amount_minor
from transfers t
join entries e on e.transfer = t.id
join accounts a on a.id = e.account
where t.cause = any($1::text[])
order by t.at, t.reason <> 'receipt', t.id, e.amount_minor, a.kind
"""


async def transfers(causes: Sequence[str], database: Database) -> list[Row]:
    """One row per entry; a transfer's stand together."""
    return await database.fetch(TRANSFERS, list(causes))


PAYMENTS_OF = """
with came as (
  select split_part(cause, ':', 1) as acquirer, substr(cause, strpos(cause, ':') + 1) as charge
  from transfers
  where person = $1 and reason = 'receipt'
  order by at desc
  limit $2
), paid as (
  select coalesce(b.order_id, r.id) as named, r.currency, r.amount_minor, b.outcome, r.received_at
  from came
  join receipts r using (acquirer, charge)
  join bookings b on b.receipt = r.id
)
select named, coalesce(o.plan || ' for ' || o.months || ' months', 'into the wallet') as what,
  coalesce(o.state, p.outcome) as state, p.amount_minor, p.currency, p.received_at as at
from paid p
left join orders o on o.id = p.named
union all
select id, plan || ' for ' || months || ' months', state, price_minor, 'RUB', placed_at
from orders
where person = $1 and state = 'open' and id not in (select named from paid)
order by at desc
limit $2
"""


async def payments_of(person: UUID, most: int, database: Database) -> list[Row]:
    """What this person paid lately and could still pay, the newest first."""
    return await database.fetch(PAYMENTS_OF, person, most)
