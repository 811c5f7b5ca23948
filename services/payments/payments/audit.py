"""The book's invariants as SQL: each a sentence, and a query for what breaks it."""

from shared.audit import Check, Kind, audited
from shared.db import Database
from shared.questions import AskAudit, Audit

BALANCED = """
select e.transfer::text as example
from transfers t
join entries e on e.transfer = t.id
where t.at > now() - $1::float8 * interval '1 hour'
group by e.transfer, e.currency
having sum(e.amount_minor) <> 0
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

# Only what a person owes is below zero.
NEGATIVE = """
select format('%s of person %s: %s', kind, owner, balance_minor) as example
from accounts
where case when kind = 'owed' then balance_minor > 0 else balance_minor < 0 end
"""

ONE_TRANSFER = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
left join transfers t on t.cause = r.acquirer || ':' || r.charge and t.reason = 'receipt'
where r.received_at > now() - $1::float8 * interval '1 hour'
group by r.id
having count(t.id) <> 1
"""

PAID_ONCE = """
select o.id::text as example
from orders o
left join transfers t on t.cause = 'order:' || o.id::text and t.reason = 'purchase'
left join entries e on e.transfer = t.id and e.amount_minor > 0
where greatest(o.placed_at, o.paid_at) > now() - $1::float8 * interval '1 hour'
group by o.id
having coalesce(sum(e.amount_minor), 0) <> case when o.state = 'paid' then o.price_minor else 0 end
"""

ALL_BOOKED = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
left join bookings b on b.receipt = r.id
where b.receipt is null and r.received_at > now() - $1::float8 * interval '1 hour'
"""

TOLD = """
select b.receipt::text as example
from bookings b
left join facts f on f.id = b.told_as
where b.booked_at > now() - least($1::float8, 29 * 24) * interval '1 hour' and f.id is null
"""

ASKED_OR_POLICY = """
select format('%s:%s', r.acquirer, r.charge) as example
from bookings b
join receipts r on r.id = b.receipt
join invoices i on i.id = b.invoice
join orders o on o.id = i.order_id
where b.outcome <> 'suspense'
  and r.currency = i.asked_currency
  and b.value_minor <> div(r.amount_minor::numeric * o.price_minor, i.asked_minor)
  and b.booked_at > now() - $1::float8 * interval '1 hour'
"""

# Rates are versions: one that has begun is never changed, and none begins in the past.
WORTH_OF_ITS_DAY = """
select format('%s:%s', r.acquirer, r.charge) as example
from bookings b
join receipts r on r.id = b.receipt
left join invoices i on i.id = b.invoice
left join lateral (
  select kopecks, per_minor
  from rates
  where currency = r.currency and from_at <= b.booked_at
  order by from_at desc
  limit 1
) d on true
where (b.outcome <> 'suspense' or b.because = 'no_rate')
  and i.asked_currency is distinct from r.currency
  and b.value_minor is distinct from
    case when r.currency = 'RUB' then r.amount_minor else div(r.amount_minor::numeric * d.kopecks, d.per_minor) end
  and b.booked_at > now() - $1::float8 * interval '1 hour'
"""

# What has bought is paid for ever; nothing of it may be open again.
ORDERS_WENT_BACK = """
select format('order %s has bought and is %s', o.id, o.state) as example
from bookings b
join orders o on o.id = b.order_id
where b.outcome = 'bought' and o.state <> 'paid' and b.booked_at > now() - $1::float8 * interval '1 hour'
union all
select format('order %s is paid before it was placed', id)
from orders
where paid_at < placed_at and paid_at > now() - $1::float8 * interval '1 hour'
"""

CLOSED_FOR_NOTHING = """
select format('order %s', o.id) as example
from orders o
where o.state = 'closed'
  and o.placed_at > now() - $1::float8 * interval '1 hour'
  and not exists (
    select from orders p
    where p.person = o.person and p.state = 'paid' and (p.placed_at, p.id) > (o.placed_at, o.id)
  )
"""

INVOICES_WENT_BACK = """
select format('invoice %s is %s, its order %s', i.id, i.state, o.state) as example
from invoices i
join orders o on o.id = i.order_id
left join bookings b on b.order_id = o.id and b.invoice = i.id and b.outcome = 'bought'
where i.opened_at > now() - $1::float8 * interval '1 hour'
  and (
    i.state <> 'superseded' and (i.state = 'open') <> (o.state = 'open')
    or (i.state = 'paid') <> (b.receipt is not null)
  )
"""

CHECKS = (
    Check("I1", "every transfer balances to zero per currency", BALANCED),
    Check("I2", "receipts, bookings, transfers and entries are insert-only", INSERT_ONLY),
    Check("I3", "every balance equals the sum of its entries", BALANCES),
    Check("I3", "no balance is negative, but for what is owed", NEGATIVE),
    Check("I4", "one receipt and one transfer per charge", ONE_TRANSFER),
    Check("I5", "every paid order was paid by exactly one transfer of its price, no other by any", PAID_ONCE),
    Check("I5", "every receipt is booked", ALL_BOOKED),
    Check("I6", "every booking was told", TOLD),
    Check("I10", "an order that has bought is paid for ever", ORDERS_WENT_BACK),
    Check("I10", "an order is closed only by a newer one that was paid", CLOSED_FOR_NOTHING),
    Check("I10", "an invoice is open with its order, and paid by what it bought", INVOICES_WENT_BACK),
    Check("I9", "what was confirmed is what the invoice asked, or is booked by its ratio", ASKED_OR_POLICY),
    Check("I9", "what no invoice asked is booked by the rate of its day", WORTH_OF_ITS_DAY),
)

COUNTS = """
select
  (select count(*) from receipts) as receipts,
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


# What bot-gateway must have told: its facts are kept for 30 days.
REPORTED = """
select id as place, acquirer || ':' || charge as key
from receipts
where acquirer in ('telegram_stars', 'telegram_card')
  and id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and received_at > now() - least($2::float8, 29 * 24) * interval '1 hour'
  and received_at <= now() - $3::float8 * interval '1 second'
order by id
limit $4
"""

NOT_A_RECEIPT = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from receipts r
  where r.acquirer = split_part(k.key, ':', 1) and r.charge = substr(k.key, strpos(k.key, ':') + 1)
)
"""

RECEIVED = """
select receipt as place, receipt || ' ' || value_minor as key
from bookings
where outcome <> 'suspense'
  and receipt > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and booked_at > now() - $2::float8 * interval '1 hour'
  and booked_at <= now() - $3::float8 * interval '1 second'
order by receipt
limit $4
"""

NOT_RECEIVED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from bookings b
  where b.receipt = split_part(k.key, ' ', 1)::uuid
    and b.value_minor = split_part(k.key, ' ', 2)::bigint
    and b.outcome <> 'suspense'
)
"""

BOUGHT = """
select receipt as place, order_id::text as key
from bookings
where outcome = 'bought'
  and receipt > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and booked_at > now() - $2::float8 * interval '1 hour'
  and booked_at <= now() - $3::float8 * interval '1 second'
order by receipt
limit $4
"""

NOT_BOUGHT = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from bookings b where b.order_id = k.key::uuid and b.outcome = 'bought')
"""

# Receipt, partner, amount.
REWARDED = """
select t.id as place, concat_ws(' ', substr(t.cause, 8), t.person, sum(e.amount_minor)) as key
from transfers t
join entries e on e.transfer = t.id and e.amount_minor > 0
where t.reason = 'reward'
  and t.id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and t.at > now() - $2::float8 * interval '1 hour'
  and t.at <= now() - $3::float8 * interval '1 second'
group by t.id
order by t.id
limit $4
"""

NOT_REWARDED = """
select k.key
from unnest($1::text[]) as k (key)
left join transfers t on t.cause = 'reward:' || split_part(k.key, ' ', 1) and t.reason = 'reward'
left join entries e on e.transfer = t.id and e.amount_minor > 0
group by k.key, t.id
having t.person is distinct from split_part(k.key, ' ', 2)::uuid
  or coalesce(sum(e.amount_minor), 0) <> split_part(k.key, ' ', 3)::bigint
"""

KINDS = {
    "reported": Kind(REPORTED, NOT_A_RECEIPT),
    "received": Kind(RECEIVED, NOT_RECEIVED),
    "bought": Kind(BOUGHT, NOT_BOUGHT),
    "rewards": Kind(REWARDED, NOT_REWARDED),
}


async def answer_audit(question: AskAudit, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=question.hours)
