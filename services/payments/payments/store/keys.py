"""The keys that other services must have as well. MISSING: which keys do not exist here."""

from shared.operations.audit import Kind

# Receipts that bot-gateway must have reported. It keeps its events for 30 days.
REPORTED = """
select received_at as page_at, id as page_id,
  case
    when acquirer in ('telegram_stars', 'telegram_card') then acquirer || ':' || charge
    else (select 'telegram_card:' || c.charge from card_charges c where c.receipt = receipts.id)
  end as key
from receipts
where (received_at, id)
    > (greatest($1, shop_now() - least($3::float8, 29 * 24) * interval '1 hour'), $2)
  and received_at <= shop_now() - $4::float8 * interval '1 second'
order by received_at, id
limit $5
"""

MISSING_RECEIPTS = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from receipts r
  where r.acquirer = split_part(k.key, ':', 1) and r.charge = substr(k.key, strpos(k.key, ':') + 1)
) and not exists (
  select from card_charges c
  where split_part(k.key, ':', 1) = 'telegram_card'
    and c.charge = substr(k.key, strpos(k.key, ':') + 1)
)
"""

# The key is the receipt and its value. A parked receipt has none until an operator resolves it.
RECEIVED = """
select b.booked_at as page_at, b.receipt as page_id,
  case
    when b.outcome <> 'suspense' then b.receipt || ' ' || b.value_minor
    when s.resolved_at <= shop_now() - $4::float8 * interval '1 second'
      then b.receipt || ' ' || s.value_minor
  end as key
from bookings b
left join resolutions s on b.outcome = 'suspense' and s.receipt = b.receipt
where (b.booked_at, b.receipt) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and b.booked_at <= shop_now() - $4::float8 * interval '1 second'
order by b.booked_at, b.receipt
limit $5
"""

MISSING_RECEIVED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from bookings b
  where b.receipt = split_part(k.key, ' ', 1)::uuid
    and b.value_minor = split_part(k.key, ' ', 2)::bigint
    and b.outcome <> 'suspense'
) and not exists (
  select from resolutions s
  where s.receipt = split_part(k.key, ' ', 1)::uuid
    and s.value_minor = split_part(k.key, ' ', 2)::bigint
)
"""

BOUGHT = """
select paid_at as page_at, id as page_id,
  case when what = 'subscription' then id::text end as key
from orders
where paid_at is not null
  and (paid_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and paid_at <= shop_now() - $4::float8 * interval '1 second'
order by paid_at, id
limit $5
"""

MISSING_BOUGHT = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from orders o
  where o.id = k.key::uuid and o.paid_at is not null and o.what = 'subscription'
)
"""

# The key is the receipt, the partner and the amount.
REWARDED = """
select
  t.at as page_at,
  t.id as page_id,
  case
    when t.reason = 'reward' then concat_ws(
      ' ', substr(t.cause, 8), t.person,
      (select sum(e.amount_minor) from entries e where e.transfer = t.id and e.amount_minor > 0)
    )
  end as key
from transfers t
where (t.at, t.id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and t.at <= shop_now() - $4::float8 * interval '1 second'
order by t.at, t.id
limit $5
"""

MISSING_REWARDS = """
select k.key
from unnest($1::text[]) as k (key)
left join transfers t on t.cause = 'reward:' || split_part(k.key, ' ', 1) and t.reason = 'reward'
left join entries e on e.transfer = t.id and e.amount_minor > 0
group by k.key, t.id
having t.person is distinct from split_part(k.key, ' ', 2)::uuid
  or coalesce(sum(e.amount_minor), 0) <> split_part(k.key, ' ', 3)::bigint
"""

# The key is the refund, its payer and its value.
REFUNDED = """
select booked_at as page_at, id as page_id,
  case
    when published_as is not null then concat_ws(
      ' ', id, (select payer from receipts where id = refunds.receipt), value_minor
    )
  end as key
from refunds
where state = 'booked'
  and (booked_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and booked_at <= shop_now() - $4::float8 * interval '1 second'
order by booked_at, id
limit $5
"""

MISSING_REFUNDED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from refunds f
  join receipts r on r.id = f.receipt
  where f.id = split_part(k.key, ' ', 1)::uuid
    and r.payer = split_part(k.key, ' ', 2)::uuid
    and f.value_minor = split_part(k.key, ' ', 3)::bigint
    and f.published_as is not null
)
"""

# The key is the refund, the order and its share in kopecks.
UNDONE = """
select booked_at as page_at, id as page_id,
  concat_ws(' ', refund, order_id, undone_minor) as key
from undone_orders
where (booked_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and booked_at <= shop_now() - $4::float8 * interval '1 second'
order by booked_at, id
limit $5
"""

MISSING_UNDONE = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from undone_orders u
  where u.refund = split_part(k.key, ' ', 1)::uuid
    and u.order_id = split_part(k.key, ' ', 2)::uuid
    and u.undone_minor = split_part(k.key, ' ', 3)::bigint
)
"""

# The key is the refund, the partner and the amount.
REVERSED = """
select
  t.at as page_at,
  t.id as page_id,
  case
    when t.reason = 'reward_reversed' then concat_ws(
      ' ', substr(t.cause, 10), t.person,
      (select sum(e.amount_minor) from entries e where e.transfer = t.id and e.amount_minor > 0)
    )
  end as key
from transfers t
where (t.at, t.id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and t.at <= shop_now() - $4::float8 * interval '1 second'
order by t.at, t.id
limit $5
"""

MISSING_REVERSED = """
select k.key
from unnest($1::text[]) as k (key)
left join transfers t
  on t.cause = 'reversal:' || split_part(k.key, ' ', 1) and t.reason = 'reward_reversed'
left join entries e on e.transfer = t.id and e.amount_minor > 0
group by k.key, t.id
having t.person is distinct from split_part(k.key, ' ', 2)::uuid
  or coalesce(sum(e.amount_minor), 0) <> split_part(k.key, ' ', 3)::bigint
"""

KINDS = {
    "reported": Kind(listed=REPORTED, missing=MISSING_RECEIPTS),
    "received": Kind(listed=RECEIVED, missing=MISSING_RECEIVED),
    "bought": Kind(listed=BOUGHT, missing=MISSING_BOUGHT),
    "rewards": Kind(listed=REWARDED, missing=MISSING_REWARDS),
    "refunded": Kind(listed=REFUNDED, missing=MISSING_REFUNDED),
    "undone": Kind(listed=UNDONE, missing=MISSING_UNDONE),
    "reversed": Kind(listed=REVERSED, missing=MISSING_REVERSED),
}
