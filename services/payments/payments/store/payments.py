"""The SQL of payments as operators see them: an order with all money that came for it."""

from collections.abc import Sequence
from uuid import UUID

from shared.platform.db import Database, Row

ORDERS_NAMED = """
select id from orders where id = any($1::uuid[])
union
select order_id from invoices where id = any($1::uuid[])
"""


async def orders_named(ids: Sequence[UUID], database: Database) -> list[UUID]:
    """The orders with these ids, and the orders of invoices with these ids."""
    return [row["id"] for row in await database.fetch(ORDERS_NAMED, list(ids))]


# A parked receipt that an operator resolved is shown as the resolution left it.
RECEIPTS = """
select r.id as receipt, r.acquirer, r.charge,
  (select c.charge from card_charges c where c.receipt = r.id) as telegram_charge,
  coalesce(s.person, r.payer) as payer, r.currency,
  r.amount_minor, r.paid_at, r.received_at, coalesce(s.outcome, b.outcome) as outcome,
  coalesce(s.because, b.because) as because, coalesce(s.value_minor, b.value_minor) as value_minor,
  coalesce(s.published_as, b.published_as) as event, coalesce(s.order_id, b.order_id) as order_id
from receipts r
join bookings b on b.receipt = r.id
left join resolutions s on s.receipt = r.id
where r.id in (
  select unnest($1::uuid[])
  union
  select id from receipts where acquirer = any($2::text[]) and charge = $3
  union
  select receipt from card_charges where charge = $3 and 'telegram_card' = any($2::text[])
  union
  select receipt from bookings where order_id = any($4::uuid[])
  union
  select receipt from resolutions where order_id = any($4::uuid[])
)
order by r.received_at, r.id
limit $5
"""


async def receipts(
    ids: Sequence[UUID],
    acquirers: Sequence[str],
    charge: str | None,
    orders: Sequence[UUID],
    most: int,
    database: Database,
) -> list[Row]:
    """The receipts with these ids, of this charge, or for these orders; the oldest first."""
    return await database.fetch(RECEIPTS, list(ids), list(acquirers), charge, list(orders), most)


ORDER = """
select id as order, person, what, plan, months, price_minor, received_minor, state, placed_at,
  paid_at, honoured_until, trace,
  state in ('open', 'superseded') and honoured_until >= shop_now() as honoured
from orders
where id = $1
"""


async def order(id_: UUID, database: Database) -> Row | None:
    return await database.fetchrow(ORDER, id_)


INVOICES = """
select id as invoice, way, asked_minor, asked_currency as currency, state, reference, opened_at,
  expires_at, shop_now() > expires_at as expired
from invoices
where order_id = $1
order by opened_at, id
limit $2
"""


async def invoices(order: UUID, most: int, database: Database) -> list[Row]:
    """The order's invoices, the oldest first."""
    return await database.fetch(INVOICES, order, most)


REFUNDS = """
select id as refund, receipt, currency, amount_minor, refunded_at, state, booked_minor, value_minor,
  owed_minor, published_as as event
from refunds
where id in (
  select id from refunds where receipt = any($1::uuid[])
  union
  select refund from undone_orders where order_id = any($2::uuid[])
)
order by reported_at, id
limit $3
"""


async def refunds(
    receipts: Sequence[UUID], orders: Sequence[UUID], most: int, database: Database
) -> list[Row]:
    """The refunds of these receipts, and those that undid these orders; the oldest first."""
    return await database.fetch(REFUNDS, list(receipts), list(orders), most)


TRANSFERS = """
select t.id as transfer, t.cause, t.reason, t.person, t.at, a.kind as account, a.owner, e.currency,
  e.amount_minor
from transfers t
join entries e on e.transfer = t.id
join accounts a on a.id = e.account
where t.cause = any($1::text[])
order by t.at, t.reason <> 'receipt', t.reason = 'refund', t.id, e.amount_minor, a.kind
"""


async def transfers(causes: Sequence[str], database: Database) -> list[Row]:
    """One row per entry. The rows of a transfer are adjacent."""
    return await database.fetch(TRANSFERS, list(causes))


# The newest orders of each kind, by its index. A top-up has no plan.
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
), newest as (
  select own.*
  from unnest(array['subscription', 'topup']) as kinds (what)
  cross join lateral (
    select id, what, plan, months, state, price_minor, placed_at
    from orders
    where person = $1 and what = kinds.what and state in ('open', 'superseded')
    order by placed_at desc, id desc
    limit $2
  ) own
)
select named,
  case
    when o.what = 'topup' then 'top-up'
    else coalesce(o.plan || ' for ' || o.months || ' months', 'into the wallet')
  end as what,
  coalesce(o.state, p.outcome) as state, p.amount_minor, p.currency, p.received_at as at
from paid p
left join orders o on o.id = p.named
union all
select id, coalesce(plan || ' for ' || months || ' months', 'top-up'), state, price_minor, 'RUB',
  placed_at
from newest
where state = 'open' and id not in (select named from paid)
order by at desc
limit $2
"""


async def payments_of(person: UUID, most: int, database: Database) -> list[Row]:
    """The person's last payments and their open orders, the newest first."""
    return await database.fetch(PAYMENTS_OF, person, most)
