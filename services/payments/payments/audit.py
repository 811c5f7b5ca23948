"""The book's invariants as SQL: each a sentence, and a query for what breaks it."""

from shared.audit import Check, audited
from shared.db import Database
from shared.questions import AskAudit, Audit

BALANCED = """
select transfer::text as example
from entries
group by transfer, currency
having sum(amount_minor) <> 0
"""

INSERT_ONLY = """
select format('%s may be changed: %s', t.name, p.privilege) as example
from unnest(array['receipts', 'bookings', 'transfers', 'entries']) as t (name)
cross join unnest(array['update', 'delete', 'truncate']) as p (privilege)
where has_table_privilege(current_schema() || '_app', t.name, p.privilege)
"""

BALANCES = """
select a.id::text as example
from accounts a
left join entries e on e.account = a.id
where a.owner is not null
group by a.id
having a.balance_minor <> coalesce(sum(e.amount_minor), 0)
"""

ONE_TRANSFER = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
left join transfers t on t.cause = r.acquirer || ':' || r.charge and t.reason = 'receipt'
group by r.id
having count(t.id) <> 1
"""

PAID_ONCE = """
select o.id::text as example
from orders o
left join transfers t on t.cause = 'order:' || o.id::text and t.reason = 'purchase'
left join entries e on e.transfer = t.id and e.amount_minor > 0
group by o.id
having coalesce(sum(e.amount_minor), 0) <> case when o.state = 'paid' then o.price_minor else 0 end
"""

ALL_BOOKED = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
left join bookings b on b.receipt = r.id
where b.receipt is null
"""

TOLD = """
select b.receipt::text as example
from bookings b
left join facts f on f.id = b.told_as
where b.booked_at > now() - interval '29 days' and f.id is null
"""

ASKED_OR_POLICY = """
select format('%s:%s', r.acquirer, r.charge) as example
from bookings b
join receipts r on r.id = b.receipt
join orders o on o.id = b.order_id
join invoices i on i.id = b.invoice and i.order_id = o.id
where b.outcome <> 'suspense'
  and r.currency = i.asked_currency
  and b.value_minor <> div(r.amount_minor::numeric * o.price_minor, i.asked_minor)
"""

CHECKS = (
    Check("I1", "every transfer balances to zero per currency", BALANCED),
    Check("I2", "receipts, bookings, transfers and entries are insert-only", INSERT_ONLY),
    Check("I3", "every balance equals the sum of its entries", BALANCES),
    Check("I4", "one receipt and one transfer per charge", ONE_TRANSFER),
    Check("I5", "every paid order was paid by exactly one transfer of its price, no other by any", PAID_ONCE),
    Check("I5", "every receipt is booked", ALL_BOOKED),
    Check("I6", "every booking was told", TOLD),
    Check("I9", "what was confirmed is what the invoice asked, or is booked by its ratio", ASKED_OR_POLICY),
)

COUNTS = """
select
  (select count(*) from receipts) as receipts,
  (
    select count(*)
    from receipts
    where acquirer in ('telegram_stars', 'telegram_card') and received_at > now() - interval '29 days'
  ) as reported_lately,
  (select count(*) from bookings where outcome <> 'suspense') as received,
  (select count(*) from bookings where outcome = 'bought') as bought,
  (select count(*) from bookings where outcome = 'suspense') as parked,
  (select count(*) from transfers where reason = 'reward') as rewards,
  (
    select coalesce(sum(e.amount_minor), 0)
    from transfers t
    join entries e on e.transfer = t.id
    where t.reason = 'reward' and e.amount_minor > 0
  ) as reward_minor
"""


async def answer_audit(_: AskAudit, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS)
