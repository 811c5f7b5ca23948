"""The invariants of the ledger as SQL. The keys that other services must have are in `keys`."""

from datetime import date, timedelta

from payments.store import closing
from payments.store.balances import unequal_balances
from shared.contracts.operations import Audit, AuditQuery
from shared.operations.audit import LOWEST_ID, LOWEST_TIME, Check, Cursor, Walk, audited
from shared.platform.db import Database, Tx

# The pages. Those without a time cannot begin some hours back.

TRANSFERS_PAGE = """
select at, id
from (select at, id from transfers where (at, id) > ($1, $2) order by at, id limit $3) as page
order by at desc, id desc
limit 1
"""

RECEIPTS_PAGE = """
select received_at, id
from (
  select received_at, id
  from receipts
  where (received_at, id) > ($1, $2)
  order by received_at, id
  limit $3
) as page
order by received_at desc, id desc
limit 1
"""

BOOKINGS_PAGE = """
select booked_at, receipt
from (
  select booked_at, receipt
  from bookings
  where (booked_at, receipt) > ($1, $2)
  order by booked_at, receipt
  limit $3
) as page
order by booked_at desc, receipt desc
limit 1
"""

PLACED_PAGE = """
select placed_at, id
from (
  select placed_at, id
  from orders
  where (placed_at, id) > ($1, $2)
  order by placed_at, id
  limit $3
) as page
order by placed_at desc, id desc
limit 1
"""

PAID_PAGE = """
select paid_at, id
from (
  select paid_at, id
  from orders
  where paid_at is not null and (paid_at, id) > ($1, $2)
  order by paid_at, id
  limit $3
) as page
order by paid_at desc, id desc
limit 1
"""

INVOICES_PAGE = """
select opened_at, id
from (
  select opened_at, id
  from invoices
  where (opened_at, id) > ($1, $2)
  order by opened_at, id
  limit $3
) as page
order by opened_at desc, id desc
limit 1
"""

RESOLVED_PAGE = """
select resolved_at, receipt
from (
  select resolved_at, receipt
  from resolutions
  where (resolved_at, receipt) > ($1, $2)
  order by resolved_at, receipt
  limit $3
) as page
order by resolved_at desc, receipt desc
limit 1
"""

OWNERS_PAGE = """
select owner
from (select owner from accounts where owner > $1 order by owner limit $2) as page
order by owner desc
limit 1
"""

REFUNDS_PAGE = """
select booked_at, id
from (
  select booked_at, id
  from refunds
  where state = 'booked' and (booked_at, id) > ($1, $2)
  order by booked_at, id
  limit $3
) as page
order by booked_at desc, id desc
limit 1
"""

LATE_PAGE = """
select told_at, receipt
from (
  select told_at, receipt
  from late_arrivals
  where (told_at, receipt) > ($1, $2)
  order by told_at, receipt
  limit $3
) as page
order by told_at desc, receipt desc
limit 1
"""

UNDONE_PAGE = """
select booked_at, id
from (
  select booked_at, id
  from undone_orders
  where (booked_at, id) > ($1, $2)
  order by booked_at, id
  limit $3
) as page
order by booked_at desc, id desc
limit 1
"""

# A day is its number since 1970: a cursor holds no date.
DAYS_PAGE = """
select closed_at, day - date '1970-01-01' as number
from (
  select closed_at, day
  from closed_days
  where (closed_at, day - date '1970-01-01') > ($1, $2::int)
  order by closed_at, day - date '1970-01-01'
  limit $3
) as page
order by closed_at desc, number desc
limit 1
"""

CLOSING_PAGE = """
select closed_at, closed_id
from ledger_closing
where (closed_at, closed_id) > ($1, $2)
limit $3
"""

OUTGOING_PAGE = """
select requested_at, id
from (
  select requested_at, id
  from outgoing_refunds
  where (requested_at, id) > ($1, $2)
  order by requested_at, id
  limit $3
) as page
order by requested_at desc, id desc
limit 1
"""

TRANSFERS = Walk(TRANSFERS_PAGE)
RECEIPTS = Walk(RECEIPTS_PAGE)
BOOKINGS = Walk(BOOKINGS_PAGE)
PLACED = Walk(PLACED_PAGE)
PAID = Walk(PAID_PAGE)
INVOICES = Walk(INVOICES_PAGE)
RESOLVED = Walk(RESOLVED_PAGE)
REFUNDS = Walk(REFUNDS_PAGE)
UNDONE = Walk(UNDONE_PAGE)
LATE = Walk(LATE_PAGE, rows=200)
OUTGOING = Walk(OUTGOING_PAGE)
OWNERS = Walk(OWNERS_PAGE, (LOWEST_ID,))
MOVED = Walk(TRANSFERS_PAGE, rows=100)
ARRIVED = Walk(RECEIPTS_PAGE, rows=200)
DAYS = Walk(DAYS_PAGE, (LOWEST_TIME, -1), rows=100)
EACH_DAY = Walk(DAYS_PAGE, (LOWEST_TIME, -1), rows=1)
CLOSING = Walk(CLOSING_PAGE, rows=1)

UNBALANCED = """
select t.id::text as example
from transfers t
where (t.at, t.id) > ($1, $2)
  and (t.at, t.id) <= ($3, $4)
  and exists (
    select from entries e
    where e.transfer = t.id
    group by e.currency
    having sum(e.amount_minor) <> 0
  )
"""

MUTABLE = """
select format('%s may be changed: %s', t.name, p.privilege) as example
from unnest(
  array[
    'receipts', 'bookings', 'transfers', 'entries', 'resolutions', 'price_versions',
    'undone_orders', 'closed_days', 'account_days', 'late_arrivals'
  ]
) as t (name)
cross join unnest(array['update', 'delete', 'truncate']) as p (privilege)
where has_table_privilege(current_schema() || '_app', t.name, p.privilege)
"""

OWNERS_OF_PAGE = """
select distinct owner
from accounts
where owner > $1 and owner <= $2
order by owner
"""

PEOPLE_OF_TRANSFERS = """
select distinct person
from transfers
where (at, id) > ($1, $2) and (at, id) <= ($3, $4) and person is not null
order by person
"""


async def look_at_balances(tx: Tx, after: Cursor, until: Cursor) -> list[str]:
    """Those of everybody, however many transfers one has."""
    people = [row["owner"] for row in await tx.fetch(OWNERS_OF_PAGE, *after, *until)]
    return await unequal_balances(people, tx, every_length=True)


async def look_at_moved_balances(tx: Tx, after: Cursor, until: Cursor) -> list[str]:
    """Those that moved, of people with few transfers."""
    people = [row["person"] for row in await tx.fetch(PEOPLE_OF_TRANSFERS, *after, *until)]
    return await unequal_balances(people, tx, every_length=False)


OF_ANOTHER_PERSON = """
select t.id::text as example
from transfers t
where (t.at, t.id) > ($1, $2)
  and (t.at, t.id) <= ($3, $4)
  and exists (
    select from entries e
    join accounts a on a.id = e.account
    where e.transfer = t.id and a.owner is not null and a.owner is distinct from t.person
  )
"""

WRONG_SIGN = """
select format('%s of person %s: %s', kind, owner, balance_minor) as example
from accounts
where owner > $1
  and owner <= $2
  and case when kind = 'owed' then balance_minor > 0 else balance_minor < 0 end
"""

NOT_ONE_TRANSFER = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
where (r.received_at, r.id) > ($1, $2)
  and (r.received_at, r.id) <= ($3, $4)
  and 1 <> (
    select count(*)
    from transfers t
    where t.cause = r.acquirer || ':' || r.charge and t.reason = 'receipt'
  )
"""

RESOLVED_WITHOUT_TRANSFER = """
select s.receipt::text as example
from resolutions s
join receipts r on r.id = s.receipt
where (s.resolved_at, s.receipt) > ($1, $2)
  and (s.resolved_at, s.receipt) <= ($3, $4)
  and not exists (
    select from transfers t
    where t.cause = r.acquirer || ':' || r.charge
      and t.reason = 'resolution'
      and t.person = s.person
  )
"""

RESOLVED_UNPUBLISHED = """
select s.receipt::text as example
from resolutions s
where (s.resolved_at, s.receipt) > ($1, $2)
  and (s.resolved_at, s.receipt) <= ($3, $4)
  and not exists (select from events e where e.id = s.published_as)
"""

# Acts are kept for ever.
WITHOUT_AN_ACT = """
select t.id::text as example
from transfers t
where (t.at, t.id) > ($1, $2)
  and (t.at, t.id) <= ($3, $4)
  and t.reason in ('adjustment', 'withdrawn')
  and not exists (
    select from commands c
    where c.id = substr(t.cause, 5)::uuid
      and c.outcome = 'done'
      and c.topic = case t.reason
        when 'adjustment' then 'payments.adjust_balance'
        else 'payments.record_withdrawal'
      end
      and exists (
        select from entries e
        join accounts a on a.id = e.account and a.owner is null
        where e.transfer = t.id
          and e.amount_minor = -(c.request ->> 'amount_minor')::bigint
          and a.kind = case t.reason
            when 'adjustment' then coalesce(c.request ->> 'source', 'adjustments')
            else 'withdrawn'
          end
      )
  )
"""

NOT_PAID_ONCE = """
select o.id::text as example
from orders o
where (o.placed_at, o.id) > ($1, $2)
  and (o.placed_at, o.id) <= ($3, $4)
  and case when o.paid_at is not null and o.what = 'subscription' then o.price_minor else 0 end <> (
    select coalesce(sum(e.amount_minor), 0)
    from transfers t
    join entries e on e.transfer = t.id and e.amount_minor > 0
    where t.cause = 'order:' || o.id::text and t.reason = 'purchase'
  )
"""

NOT_PAID_ONCE_LATELY = """
select o.id::text as example
from orders o
where o.paid_at is not null
  and o.what = 'subscription'
  and (o.paid_at, o.id) > ($1, $2)
  and (o.paid_at, o.id) <= ($3, $4)
  and o.price_minor <> (
    select coalesce(sum(e.amount_minor), 0)
    from transfers t
    join entries e on e.transfer = t.id and e.amount_minor > 0
    where t.cause = 'order:' || o.id::text and t.reason = 'purchase'
  )
"""

UNBOOKED = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
where (r.received_at, r.id) > ($1, $2)
  and (r.received_at, r.id) <= ($3, $4)
  and not exists (select from bookings b where b.receipt = r.id)
"""

UNPUBLISHED = """
select b.receipt::text as example
from bookings b
where (b.booked_at, b.receipt) > ($1, $2)
  and (b.booked_at, b.receipt) <= ($3, $4)
  and not exists (select from events e where e.id = b.published_as)
"""

# Of a purchase from the balance. The others were published with the booking of their money.
BOUGHT_UNPUBLISHED = """
select o.id::text as example
from orders o
where o.paid_at is not null
  and (o.paid_at, o.id) > ($1, $2)
  and (o.paid_at, o.id) <= ($3, $4)
  and o.what = 'subscription'
  and not exists (select from events e where e.id = o.published_as)
  and not exists (select from bookings b where b.order_id = o.id and b.because = 'paid')
"""

TOPPED_UP_BY_NOTHING = """
select format('order %s', o.id) as example
from orders o
where o.paid_at is not null
  and (o.paid_at, o.id) > ($1, $2)
  and (o.paid_at, o.id) <= ($3, $4)
  and o.what = 'topup'
  and 1 <> (
    select count(*) from bookings b where b.order_id = o.id and b.because = 'topped_up'
  ) + (
    select count(*) from resolutions s where s.order_id = o.id and s.because = 'topped_up'
  )
"""

# By the sum: parts are not rounded one by one. Each invoice is summed apart, so that its rows are
# found by their keys, even if PostgreSQL misjudges the size of a page.
NOT_BY_SUM = """
select format('invoice %s', page.invoice) as example
from (
  select distinct invoice
  from bookings
  where (booked_at, receipt) > ($1, $2) and (booked_at, receipt) <= ($3, $4)
) page
cross join lateral (
  select sum(b.value_minor) as value_minor, sum(r.amount_minor) as amount_minor,
    i.received_minor, i.asked_minor, coalesce(i.worth_minor, o.price_minor) as worth_minor
  from invoices i
  join orders o on o.id = i.order_id
  join bookings b on b.invoice = i.id
  join receipts r on r.id = b.receipt
  where i.id = page.invoice
    and b.outcome <> 'suspense'
    and r.currency = i.asked_currency
    and r.payer = o.person
  group by i.id, o.id
) paid
where paid.value_minor <> div(paid.amount_minor * paid.worth_minor, paid.asked_minor)
  or paid.amount_minor <> paid.received_minor
"""

NOT_BY_INVOICE = """
select format('%s:%s', r.acquirer, r.charge) as example
from bookings b
join receipts r on r.id = b.receipt
join invoices i on i.id = b.invoice
join orders o on o.id = i.order_id
where (b.booked_at, b.receipt) > ($1, $2)
  and (b.booked_at, b.receipt) <= ($3, $4)
  and b.outcome <> 'suspense'
  and r.currency = i.asked_currency
  and r.payer is distinct from o.person
  and b.value_minor <> div(
    r.amount_minor::numeric * coalesce(i.worth_minor, o.price_minor), i.asked_minor
  )
"""

# Rates are versions: a rate that has begun is never changed, and none is dated back.
NOT_BY_RATE = """
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
where (b.booked_at, b.receipt) > ($1, $2)
  and (b.booked_at, b.receipt) <= ($3, $4)
  and (b.outcome <> 'suspense' or b.because = 'no_rate')
  and i.asked_currency is distinct from r.currency
  and b.value_minor is distinct from
    case
      when r.currency = 'RUB' then r.amount_minor
      else div(r.amount_minor::numeric * d.kopecks, d.per_minor)
    end
"""

NOT_AS_ARRIVED = """
select format('%s:%s', r.acquirer, r.charge) as example
from receipts r
left join late_arrivals l on l.receipt = r.id
where (r.received_at, r.id) > ($1, $2)
  and (r.received_at, r.id) <= ($3, $4)
  and coalesce(l.arrived_minor, r.arrived_minor, r.amount_minor) is distinct from (
    select -sum(e.amount_minor)
    from transfers t
    join entries e on e.transfer = t.id
    join accounts a on a.id = e.account
    where t.cause = r.acquirer || ':' || r.charge
      and t.reason in ('receipt', 'fee')
      and a.kind = 'clearing:' || r.acquirer
      and e.currency = coalesce(l.arrived_currency, r.arrived_currency, r.currency)
  )
"""

# In every currency of the clearing account: the paid sum moves where another asset came.
LATE_OTHERWISE = """
select format('%s:%s', r.acquirer, r.charge) as example
from late_arrivals l
join receipts r on r.id = l.receipt
cross join lateral (
  select coalesce(sum(e.amount_minor) filter (where e.currency = l.arrived_currency), 0) as arrived,
    coalesce(sum(e.amount_minor) filter (where e.currency <> l.arrived_currency), 0) as others
  from transfers t
  join entries e on e.transfer = t.id
  join accounts a on a.id = e.account
  where t.cause = r.acquirer || ':' || r.charge
    and t.reason in ('receipt', 'fee')
    and a.kind = 'clearing:' || r.acquirer
) held
where (l.told_at, l.receipt) > ($1, $2)
  and (l.told_at, l.receipt) <= ($3, $4)
  and (held.arrived <> -l.arrived_minor or held.others <> 0)
"""

# Money of an invoice without a job would be found by nobody but the listing.
UNWATCHED = """
select format('invoice %s is %s', i.id, i.state) as example
from invoices i
where (i.opened_at, i.id) > ($1, $2)
  and (i.opened_at, i.id) <= ($3, $4)
  and i.state in ('asking', 'open')
  and i.acquirer not like 'telegram\\_%'
  and not exists (select from invoice_jobs j where j.invoice = i.id)
"""

OVERDUE = """
select format('invoice %s: to %s since %s', invoice, step, due_at) as example
from invoice_jobs
where due_at < shop_now() - interval '1 hour'
"""

WAITING_NOTICES = """
select format('%s of %s, received at %s', reference, acquirer, received_at) as example
from notices
where state in ('waiting', 'asking') and received_at < shop_now() - interval '1 hour'
"""

PARKED_NOTICES = """
select format('%s of %s: %s', reference, acquirer, reason) as example
from notices
where state = 'parked'
"""

FISCAL_FAILED = """
select format('%s of payment %s: %s', kind, payment, reason) as example
from fiscal_receipts
where state = 'failed' and made_at > shop_now() - interval '30 days'
"""

FISCAL_WAITS = """
select format('%s of payment %s, made at %s', kind, payment, made_at) as example
from fiscal_receipts
where state = 'waiting' and made_at < shop_now() - interval '1 hour'
"""

REFUND_WAITS = """
select
  format(
    '%s:%s: %s %s, returned at %s UTC',
    acquirer, charge, amount_minor, currency,
    to_char(refunded_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
  ) as example
from refunds
where state = 'waiting' and reported_at < shop_now() - interval '10 minutes'
"""

REFUNDED_BEYOND = """
select
  format(
    '%s:%s: %s of %s %s booked', acquirer, charge, booked_minor, amount_minor, currency
  ) as example
from refunds
where state = 'booked'
  and (booked_at, id) > ($1, $2)
  and (booked_at, id) <= ($3, $4)
  and booked_minor <> amount_minor
"""

# Of the sum of a charge, in the asset that came: the transfers take from suspense or from a person.
REFUNDS_MISCOUNTED = """
select format('%s:%s', f.acquirer, f.charge) as example
from refunds f
join refunded_receipts x using (receipt)
join receipts r on r.id = f.receipt
left join late_arrivals l on l.receipt = r.id
where f.state = 'booked'
  and (f.booked_at, f.id) > ($1, $2)
  and (f.booked_at, f.id) <= ($3, $4)
  and div(
    x.returned_minor::numeric * case
      when coalesce(l.arrived_currency, r.arrived_currency) <> r.currency
        then coalesce(l.arrived_minor + l.fee_minor, r.arrived_minor + r.fee_minor)
      else r.amount_minor
    end,
    r.amount_minor
  ) <> (
    select coalesce(sum(e.amount_minor), 0)
    from refunds every
    join transfers t on t.cause = 'refund:' || every.id::text and t.reason = 'refund'
    join entries e on e.transfer = t.id
    join accounts a on a.id = e.account
    where every.receipt = f.receipt
      and a.kind = 'clearing:' || f.acquirer
      and e.currency = coalesce(l.arrived_currency, r.arrived_currency, r.currency)
  )
"""

TAKEN_OTHERWISE = """
select f.id::text as example
from refunds f
cross join lateral (
  select coalesce(-sum(e.amount_minor), 0)::bigint as value_minor,
    coalesce(-sum(e.amount_minor) filter (where a.kind = 'owed'), 0)::bigint as owed_minor
  from transfers t
  join entries e on e.transfer = t.id
  join accounts a on a.id = e.account
  where t.cause = 'refund:' || f.id::text and t.reason = 'refund' and a.owner is not null
) taken
where f.state = 'booked'
  and (f.booked_at, f.id) > ($1, $2)
  and (f.booked_at, f.id) <= ($3, $4)
  and (f.value_minor <> taken.value_minor or f.owed_minor <> taken.owed_minor)
"""

# The hold is the sum of the transfers that name the refund; nothing is left after its end.
HELD_OTHERWISE = """
select format('refund %s is %s', o.id, o.state) as example
from outgoing_refunds o
where (o.requested_at, o.id) > ($1, $2)
  and (o.requested_at, o.id) <= ($3, $4)
  and case when o.ended_at is null then o.held_minor else 0 end <> (
    select coalesce(sum(e.amount_minor), 0)
    from transfers t
    join entries e on e.transfer = t.id
    join accounts a on a.id = e.account
    where t.cause = 'outgoing:' || o.id::text
      and t.reason in ('hold', 'hold_returned')
      and a.kind = 'outgoing:' || o.acquirer
  )
"""

# The account has no other entries, and the holds that have not ended are few.
OUTGOING_OTHERWISE = """
with sums as (
  select kind, sum(amount_minor) as amount_minor
  from (
    select kind, amount_minor from closed_sums
    union all
    select a.kind, e.amount_minor
    from ledger_closing c
    join transfers t on (t.at, t.id) > (c.closed_at, c.closed_id)
    cross join lateral (select * from entries where transfer = t.id offset 0) e
    join accounts a on a.id = e.account
  ) as every
  where kind like 'outgoing:%'
  group by kind
), held as (
  select 'outgoing:' || acquirer as kind, sum(held_minor) as amount_minor
  from outgoing_refunds
  where state in ('held', 'calling', 'pending', 'pending_review')
  group by acquirer
)
select format('%s: %s, and %s are held', kind, s.amount_minor, h.amount_minor) as example
from sums s
full join held h using (kind)
where coalesce(s.amount_minor, 0) <> coalesce(h.amount_minor, 0)
"""

# Acts are kept for ever.
REFUND_WITHOUT_AN_ACT = """
select o.id::text as example
from outgoing_refunds o
where (o.requested_at, o.id) > ($1, $2)
  and (o.requested_at, o.id) <= ($3, $4)
  and not exists (
    select from commands c
    where c.topic = 'payments.refund' and c.id = o.id and c.outcome = 'done'
  )
"""

OVERDUE_REFUNDS = """
select format('refund %s of %s: %s since %s', id, acquirer, state, due_at) as example
from outgoing_refunds
where state in ('held', 'calling', 'pending') and due_at < shop_now() - interval '1 hour'
"""

REFUNDS_IN_REVIEW = """
select format('refund %s of %s: %s', id, acquirer, reason) as example
from outgoing_refunds
where state = 'pending_review'
"""

REFUND_UNPUBLISHED = """
select f.id::text as example
from refunds f
where f.state = 'booked'
  and (f.booked_at, f.id) > ($1, $2)
  and (f.booked_at, f.id) <= ($3, $4)
  and (
    f.published_as is null and f.value_minor > 0
    or f.published_as is not null
      and not exists (select from events e where e.id = f.published_as)
  )
"""

UNDONE_OTHERWISE = """
select format('order %s', u.order_id) as example
from undone_orders u
cross join lateral (select undone_minor from orders where id = u.order_id offset 0) o
where (u.booked_at, u.id) > ($1, $2)
  and (u.booked_at, u.id) <= ($3, $4)
  and (
    u.undone_minor <> (
      select coalesce(sum(e.amount_minor), 0)
      from entries e
      where e.transfer = u.id and e.amount_minor > 0
    )
    or o.undone_minor <> (
      select sum(undone_minor) from undone_orders where order_id = u.order_id
    )
  )
"""

# The same age and terms, and a lost order that is undone: it is not paid for twice.
RESTORED_OTHERWISE = """
select o.id::text as example
from orders o
join orders lost on lost.id = o.restores
where o.paid_at is not null
  and (o.paid_at, o.id) > ($1, $2)
  and (o.paid_at, o.id) <= ($3, $4)
  and (
    lost.state <> 'refunded'
    or (o.person, o.price_minor, o.plan, o.months)
      is distinct from (lost.person, lost.price_minor, lost.plan, lost.months)
  )
"""

TOPUP_UNDONE_OTHERWISE = """
select format('order %s', o.id) as example
from refunds f
join refunded_receipts x using (receipt)
join bookings b using (receipt)
join orders o on o.id = b.order_id
where f.state = 'booked'
  and (f.booked_at, f.id) > ($1, $2)
  and (f.booked_at, f.id) <= ($3, $4)
  and b.because = 'topped_up'
  and o.undone_minor <> div(x.returned_minor::numeric * o.price_minor, x.amount_minor)
"""

# `offset 0` begins with the page: there are fewer orders that are not paid, but not in the page.
ORDERS_WENT_BACK = """
select format('order %s has bought and is %s', o.id, o.state) as example
from bookings b
cross join lateral (select id, state, paid_at from orders where id = b.order_id offset 0) o
where (b.booked_at, b.receipt) > ($1, $2)
  and (b.booked_at, b.receipt) <= ($3, $4)
  and b.because in ('paid', 'topped_up')
  and o.paid_at is null
"""

PAID_BEFORE_PLACED = """
select format('order %s is paid before it was placed', id) as example
from orders
where paid_at is not null
  and (paid_at, id) > ($1, $2)
  and (paid_at, id) <= ($3, $4)
  and paid_at < placed_at
"""

CLOSED_WITHOUT_REASON = """
select format('order %s', o.id) as example
from orders o
where (o.placed_at, o.id) > ($1, $2)
  and (o.placed_at, o.id) <= ($3, $4)
  and o.state = 'closed'
  and not exists (
    select from orders p
    where p.person = o.person
      and p.what = o.what
      and p.paid_at is not null
      and (p.placed_at, p.id) > (o.placed_at, o.id)
  )
"""

# The newer order is offered, or was paid.
SUPERSEDED_BY_NONE = """
select format('order %s', o.id) as example
from orders o
where (o.placed_at, o.id) > ($1, $2)
  and (o.placed_at, o.id) <= ($3, $4)
  and o.state = 'superseded'
  and not exists (
    select from orders n
    where n.person = o.person
      and n.what = o.what
      and n.state in ('open', 'superseded')
      and (n.placed_at, n.id) > (o.placed_at, o.id)
  )
  and not exists (
    select from orders n
    where n.person = o.person
      and n.what = o.what
      and n.paid_at is not null
      and (n.placed_at, n.id) > (o.placed_at, o.id)
  )
"""

EXPIRED_TOO_EARLY = """
select format('order %s', id) as example
from orders
where (placed_at, id) > ($1, $2)
  and (placed_at, id) <= ($3, $4)
  and state = 'expired'
  and honoured_until > shop_now()
"""

# `offset 0` looks for the bookings of each invoice, and does not read all bookings once.
INVOICES_WENT_BACK = """
select format('invoice %s is %s, its order %s', i.id, i.state, o.state) as example
from invoices i
cross join lateral (select id, state, paid_at from orders where id = i.order_id offset 0) o
where (i.opened_at, i.id) > ($1, $2)
  and (i.opened_at, i.id) <= ($3, $4)
  and (
    i.state in ('asking', 'open') and o.state <> 'open'
    or i.state = 'expired'
      and i.reason is null
      and o.state <> 'expired'
      and o.paid_at is null
    or (i.state = 'paid') <> exists (
      select from bookings b
      where b.invoice = i.id and b.order_id = o.id and b.because in ('paid', 'topped_up')
      offset 0
    )
  )
"""

DAY_UNBALANCED = """
select d.day::text as example
from closed_days d
where (d.closed_at, d.day - date '1970-01-01') > ($1, $2::int)
  and (d.closed_at, d.day - date '1970-01-01') <= ($3, $4::int)
  and exists (
    select from account_days a
    where a.day = d.day
    group by a.currency
    having sum(a.balance_minor) <> 0 or sum(a.debit_minor) <> sum(a.credit_minor)
  )
"""

# Of the first closed day nothing was closed before.
DAY_WITHOUT_YESTERDAY = """
select format('%s: %s %s', d.day, a.account, a.currency) as example
from closed_days d
cross join lateral (
  select coalesce(t.account, y.account) as account, coalesce(t.currency, y.currency) as currency
  from (select * from account_days where day = d.day) t
  full join (select * from account_days where day = d.day - 1) y using (account, currency)
  where t.balance_minor is distinct from
    coalesce(y.balance_minor, 0) + coalesce(t.credit_minor - t.debit_minor, 0)
) a
where (d.closed_at, d.day - date '1970-01-01') > ($1, $2::int)
  and (d.closed_at, d.day - date '1970-01-01') <= ($3, $4::int)
  and d.day > (select min(day) from closed_days)
union all
select format('%s: the day before is not closed', d.day)
from closed_days d
where (d.closed_at, d.day - date '1970-01-01') > ($1, $2::int)
  and (d.closed_at, d.day - date '1970-01-01') <= ($3, $4::int)
  and d.day > (select min(day) from closed_days)
  and not exists (select from closed_days y where y.day = d.day - 1)
"""

# One row per kind of account: the sums continue the last closed day, without its history.
SUMS_WITHOUT_DAY = """
select format('%s %s', s.kind, s.currency) as example
from closed_sums s
left join account_days a
  on a.day = (select max(day) from closed_days)
  and a.account = s.kind
  and a.currency = s.currency
where exists (select from closed_days)
  and coalesce(a.balance_minor, 0) + s.credit_minor - s.debit_minor <> s.amount_minor
"""


async def look_at_day(tx: Tx, _: Cursor, until: Cursor) -> list[str]:
    """A closed day, summed again from its transfers."""
    number = until[1]
    assert isinstance(number, int), "the second column of the walk"
    return await closing.unequal_day(date(1970, 1, 1) + timedelta(days=number), tx)


async def look_at_open_day(tx: Tx, _: Cursor, __: Cursor) -> list[str]:
    """The part of the open day that is summed: a day of transfers at most."""
    return await closing.unequal_open_day(tx)


INSERT_ONLY = (
    "receipts, late arrivals, bookings, resolutions, transfers, entries, undone orders, old prices "
    "and closed days are insert-only"
)
A_SUM = "every balance equals the sum of its entries"
PAID_ONCE = "every paid order was paid by one transfer of its price, and no other order by any"
PAID_FOR_EVER = "an order that has bought or topped up is paid for ever, or refunded"

# Events are kept for 30 days.
CHECKS = (
    Check("I1", "every transfer balances to zero per currency", UNBALANCED, TRANSFERS),
    Check("I2", INSERT_ONLY, MUTABLE),
    Check("I3", A_SUM, walk=OWNERS, look=look_at_balances),
    Check("I3", A_SUM, walk=MOVED, when="hourly", look=look_at_moved_balances),
    Check("I3", "a transfer moves no other person's balance", OF_ANOTHER_PERSON, TRANSFERS),
    Check("I3", "no balance is negative except owed", WRONG_SIGN, OWNERS),
    Check("I4", "there is one receipt and one transfer per charge", NOT_ONE_TRANSFER, RECEIPTS),
    Check(
        "I4",
        "a resolved receipt has one transfer out of suspense",
        RESOLVED_WITHOUT_TRANSFER,
        RESOLVED,
    ),
    Check("I3", "every adjustment and withdrawal is that of an act", WITHOUT_AN_ACT, TRANSFERS),
    Check("I5", PAID_ONCE, NOT_PAID_ONCE, PLACED),
    Check("I5", PAID_ONCE, NOT_PAID_ONCE_LATELY, PAID, when="hourly"),
    Check("I5", "every receipt is booked", UNBOOKED, RECEIPTS),
    Check("I6", "every booking was published", UNPUBLISHED, BOOKINGS, days=29),
    Check("I6", "every resolution was published", RESOLVED_UNPUBLISHED, RESOLVED, days=29),
    Check("I6", "every purchase from the balance was published", BOUGHT_UNPUBLISHED, PAID, days=29),
    Check("I5", "a top-up is paid by the money of one receipt", TOPPED_UP_BY_NOTHING, PAID),
    Check("I10", PAID_FOR_EVER, ORDERS_WENT_BACK, BOOKINGS),
    Check("I10", PAID_FOR_EVER, PAID_BEFORE_PLACED, PAID),
    Check(
        "I10", "an order is closed only by a newer one that was paid", CLOSED_WITHOUT_REASON, PLACED
    ),
    Check("I10", "an order is superseded only by a newer one", SUPERSEDED_BY_NONE, PLACED),
    Check("I10", "an order expires only after its price was honoured", EXPIRED_TOO_EARLY, PLACED),
    Check(
        "I10",
        "an invoice is open only while its order is, and paid by the payment that bought",
        INVOICES_WENT_BACK,
        INVOICES,
    ),
    Check("I9", "the parts of an invoice are worth their sum by its ratio", NOT_BY_SUM, BOOKINGS),
    Check("I9", "money of others for an invoice is booked by its ratio", NOT_BY_INVOICE, BOOKINGS),
    Check(
        "I9", "money without a matching invoice is booked by the day's rate", NOT_BY_RATE, BOOKINGS
    ),
    Check("I9", "a clearing account holds what arrived, less the fee", NOT_AS_ARRIVED, ARRIVED),
    Check("I9", "a fee that was told late is booked once", LATE_OTHERWISE, LATE),
    Check("I13", "an open invoice of a provider has a job", UNWATCHED, INVOICES),
    Check("I13", "no job of an invoice is overdue by an hour", OVERDUE),
    Check("I13", "no notice of a provider waits for an hour", WAITING_NOTICES),
    Check("I13", "no notice of a provider is parked", PARKED_NOTICES),
    Check("I13", "no receipt for the tax office has failed", FISCAL_FAILED),
    Check("I13", "no offset of an advance waits for an hour", FISCAL_WAITS),
    Check("I4", "no more is returned of a charge than was paid", REFUNDED_BEYOND, REFUNDS),
    Check("I4", "what is returned of a charge left its account", REFUNDS_MISCOUNTED, REFUNDS),
    Check("I4", "a refund took its value from the payer, or is owed", TAKEN_OTHERWISE, REFUNDS),
    Check("I5", "no refund waits over ten minutes for its payment", REFUND_WAITS),
    Check("I5", "an order is undone by what its refunds returned", UNDONE_OTHERWISE, UNDONE),
    Check("I5", "a restored order takes the place of an undone one", RESTORED_OTHERWISE, PAID),
    Check("I5", "a top-up is undone by what was returned of it", TOPUP_UNDONE_OTHERWISE, REFUNDS),
    Check("I1", "every closed day balances to zero per currency", DAY_UNBALANCED, DAYS),
    Check("I3", "a closed day continues the day before", DAY_WITHOUT_YESTERDAY, DAYS),
    Check("I3", "a closed day equals its entries", walk=EACH_DAY, look=look_at_day),
    Check("I3", "the closed sums continue the last closed day", SUMS_WITHOUT_DAY),
    Check("I3", "the open day equals its entries", walk=CLOSING, look=look_at_open_day),
    Check("I5", "a refund under way holds what its transfers say", HELD_OTHERWISE, OUTGOING),
    Check("I11", "the account `outgoing` holds what refunds under way hold", OUTGOING_OTHERWISE),
    Check("I3", "every refund of an operator has its act", REFUND_WITHOUT_AN_ACT, OUTGOING),
    Check("I13", "no refund under way is overdue by an hour", OVERDUE_REFUNDS),
    Check("I13", "no refund waits for an operator's review", REFUNDS_IN_REVIEW),
    Check("I6", "every refund was published", REFUND_UNPUBLISHED, REFUNDS, days=29),
)

COUNTS = """
select
  (select count(*) from (select from receipts limit 10000) as r) as receipts,
  count(*) filter (where outcome <> 'suspense') as received,
  count(*) filter (where outcome = 'bought') as bought,
  count(*) filter (where outcome = 'suspense') as parked,
  (select count(*) from (select from refunds limit 10000) as f) as refunds
from (select outcome from bookings limit 10000) as b
"""


async def answer_audit(query: AuditQuery, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=query.hours, after=query.after)
