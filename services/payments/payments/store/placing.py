"""The SQL of placing an order: its price is frozen, and an invoice is opened for it."""

from datetime import timedelta
from uuid import UUID

from shared.db import Row, Tx

ORDER_HONOURED_FOR = timedelta(days=30)
INVOICE_LIVES_FOR = timedelta(minutes=30)

PRICE = """
select p.plan, p.devices, p.traffic_bytes, p.node_group, r.months, r.price_minor, r.stars,
  m.price_minor as list_month_minor
from plans p
join prices r using (plan)
join prices m on m.plan = p.plan and m.months = 1
where p.plan = $1 and r.months = $2 and p.on_sale
"""

INSERT_ORDER = """
insert into orders (
  id, person, what, plan, months, devices, traffic_bytes, node_group, list_month_minor, price_minor,
  placed_at, honoured_until, trace
)
values ($1, $2, 'subscription', $3, $4, $5, $6, $7, $8, $9, now(), now() + $10::interval, $11)
"""

INSERT_INVOICE = """
insert into invoices (id, order_id, way, asked_minor, asked_currency, opened_at, expires_at)
values ($1, $2, $3, $4, $5, now(), now() + $6::interval)
returning expires_at, extract(epoch from expires_at - now())::int as expires_in_s
"""


async def price_of(plan: str, months: int, tx: Tx) -> Row | None:
    return await tx.fetchrow(PRICE, plan, months)


async def insert_order(order: UUID, person: UUID, price: Row, trace: str | None, tx: Tx) -> None:
    await tx.execute(
        INSERT_ORDER,
        order,
        person,
        price["plan"],
        price["months"],
        price["devices"],
        price["traffic_bytes"],
        price["node_group"],
        price["list_month_minor"],
        price["price_minor"],
        ORDER_HONOURED_FOR,
        trace,
    )


async def insert_invoice(invoice: UUID, order: UUID, way: str, asked_minor: int, currency: str, tx: Tx) -> Row:
    """Open an invoice; answers when it expires, and in how many seconds."""
    row = await tx.fetchrow(INSERT_INVOICE, invoice, order, way, asked_minor, currency, INVOICE_LIVES_FOR)
    assert row is not None, "an insert that returns"
    return row
