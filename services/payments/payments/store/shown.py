"""The SQL of what people are shown: plans, a checkout, balances and their lines, receipts; and the whole book."""

from datetime import timedelta
from uuid import UUID

from shared.db import Database, Row

REWARDS_MATURE_AFTER = timedelta(days=21)

PLANS = """
select p.plan, p.devices, p.traffic_bytes, r.months, r.price_minor, r.stars
from plans p
join prices r using (plan)
where p.on_sale
order by p.place, r.months
"""

INVOICE_FOR_CHECKOUT = """
select o.person, o.state, i.asked_minor, i.asked_currency,
  now() > i.expires_at as expired,
  exists (select from invoices n where n.order_id = o.id and n.opened_at > i.opened_at) as superseded
from invoices i
join orders o on o.id = i.order_id
where i.id = $1 and o.id = $2
"""

HOLDINGS = """
select kind, balance_minor
from accounts
where owner = $1 and kind in ('wallet', 'earned', 'owed') and currency = 'RUB'
"""

YOUNG_REWARDS = """
select coalesce(sum(e.amount_minor), 0)::bigint
from transfers t
join entries e on e.transfer = t.id
join accounts a on a.id = e.account
where t.person = $1 and t.reason = 'reward' and t.at > now() - $2::interval and a.owner = $1 and a.kind = 'earned'
"""

LINES = """
select t.at, t.reason, sum(e.amount_minor)::bigint as amount_minor
from transfers t
join entries e on e.transfer = t.id
join accounts a on a.id = e.account
where t.person = $1 and a.owner = $1 and a.kind in ('wallet', 'earned')
group by t.id, t.at, t.reason
order by t.at desc, t.reason
limit 10
"""


BOOK = """
select a.kind, e.currency, sum(e.amount_minor) as amount_minor
from entries e
join accounts a on a.id = e.account
group by a.kind, e.currency
order by a.kind, e.currency
"""


async def book_lines(database: Database) -> list[Row]:
    return await database.fetch(BOOK)


async def plans(database: Database) -> list[Row]:
    return await database.fetch(PLANS)


async def invoice_for_checkout(invoice: UUID, order: UUID, database: Database) -> Row | None:
    return await database.fetchrow(INVOICE_FOR_CHECKOUT, invoice, order)


async def balances_of(person: UUID, database: Database) -> dict[str, int]:
    return {row["kind"]: row["balance_minor"] for row in await database.fetch(HOLDINGS, person)}


async def young_rewards_of(person: UUID, database: Database) -> int:
    amount_minor: int = await database.fetchval(YOUNG_REWARDS, person, REWARDS_MATURE_AFTER)
    return amount_minor


async def lines_of(person: UUID, database: Database) -> list[Row]:
    return await database.fetch(LINES, person)


# By the person's transfers, of which each receipt is the cause of one: receipts have no index by payer.
RECEIPTS_OF = """
select r.charge, r.paid_at, r.currency, r.amount_minor
from transfers t
join receipts r
  on r.acquirer = split_part(t.cause, ':', 1) and r.charge = substr(t.cause, strpos(t.cause, ':') + 1)
where t.person = $1 and t.reason = 'receipt'
order by t.at desc, r.paid_at desc
limit 3
"""


async def receipts_of(person: UUID, database: Database) -> list[Row]:
    """The newest three."""
    return await database.fetch(RECEIPTS_OF, person)
