"""The invariants of messages: each is a sentence and a query for its violations."""

from shared.contracts.operations import Audit, AuditQuery
from shared.operations.audit import Check, Kind, Walk, audited
from shared.platform.db import Database

DELIVERIES_PAGE = """
select written_at, id
from (
  select written_at, id
  from deliveries
  where (written_at, id) > ($1, $2)
  order by written_at, id
  limit $3
) as page
order by written_at desc, id desc
limit 1
"""

LOST_PAGE = """
select settled_at, id
from (
  select settled_at, id
  from deliveries
  where state in ('failed', 'unknown') and (settled_at, id) > ($1, $2)
  order by settled_at, id
  limit $3
) as page
order by settled_at desc, id desc
limit 1
"""

DELIVERIES = Walk(DELIVERIES_PAGE)
LOST = Walk(LOST_PAGE)

# A key of access that is gone is not sent, and nothing takes its place.
SUPERSEDED_BY_NOTHING = """
select format('order %s', d.thread) as example
from deliveries d
where (d.written_at, d.id) > ($1, $2)
  and (d.written_at, d.id) <= ($3, $4)
  and d.state = 'superseded'
  and d.thread is not null
  and d.reason is distinct from 'the access is gone'
  and not exists (
    select from deliveries h
    where h.thread = d.thread and h.person = d.person and h.rank > d.rank
  )
"""

# A second message replaces one that could not be edited. Its row has the reason.
SENT_TWICE = """
select distinct format('order %s', d.thread) as example
from deliveries d
where (d.written_at, d.id) > ($1, $2)
  and (d.written_at, d.id) <= ($3, $4)
  and d.state = 'sent'
  and d.thread is not null
  and exists (
    select from deliveries o
    where o.thread = d.thread and o.person = d.person and o.state = 'sent'
    having count(distinct o.message_id) > 1 and count(o.reason) = 0
  )
"""

OUT_OF_RANK = """
select format('order %s', d.thread) as example
from deliveries d
join deliveries h on h.thread = d.thread and h.person = d.person and h.rank > d.rank
where (d.written_at, d.id) > ($1, $2)
  and (d.written_at, d.id) <= ($3, $4)
  and d.state = 'sent'
  and h.state = 'sent'
  and d.settled_at > h.settled_at
"""

# A payer can be reached unless they block the bot: that is `unreachable`, and no violation. A later
# message of the same kind is enough, because it has the same key or the wallet's newest balance.
GIVEN_UP = """
select format('%s of person %s: %s', d.kind, d.person, d.reason) as example
from deliveries d
where d.state in ('failed', 'unknown')
  and (d.settled_at, d.id) > ($1, $2)
  and (d.settled_at, d.id) <= ($3, $4)
  and d.kind in ('paid_issuing', 'access_ready', 'topped_up', 'missing', 'left_over')
  and not exists (
    select from deliveries l
    where l.person = d.person
      and l.kind = d.kind
      and l.state = 'sent'
      and l.kind in ('paid_issuing', 'access_ready', 'topped_up', 'missing', 'left_over')
      and l.settled_at > d.settled_at
  )
  and not exists (
    select from deliveries l
    where l.thread = d.thread
      and l.person = d.person
      and l.state = 'sent'
      and l.settled_at > d.settled_at
  )
"""

WITHOUT_NEXT_STEP = """
select format('%s of person %s', d.kind, d.person) as example
from deliveries d
join recipients r on r.person = d.person
where d.state in ('waiting', 'claimed')
  and case when d.state = 'waiting' then r.due_at is null else r.claim is null end
"""

OVERDUE = """
select format('person %s is due since %s', person, due_at) as example
from recipients
where due_at < shop_now() - interval '1 minute'
  and (claim is not null or due_at < shop_now() - interval '10 minutes')
"""

DUE_TOO_LATE = """
select format('person %s is due only at %s', r.person, r.due_at) as example
from recipients r
where r.claim is null
  and r.due_at > shop_now() + interval '1 minute'
  and exists (
    select from deliveries d
    where d.person = r.person
      and d.state = 'waiting'
      and greatest(d.not_before, r.paused_until) < r.due_at - interval '1 minute'
  )
"""

CHECKS = (
    Check(
        "I6",
        "every superseded message has a later one in its thread",
        SUPERSEDED_BY_NOTHING,
        DELIVERIES,
    ),
    Check("I6", "an order has one message, unless an edit was rejected", SENT_TWICE, DELIVERIES),
    Check(
        "I6", "no message of an order was sent after one of higher rank", OUT_OF_RANK, DELIVERIES
    ),
    Check("I6", "no key and no receipt was given up", GIVEN_UP, LOST),
    Check("I13", "every open message has a next step", WITHOUT_NEXT_STEP),
    Check("I13", "no chat is overdue, and no claim outlived its lease", OVERDUE),
    Check("I13", "no chat is due later than its first message", DUE_TOO_LATE),
)

COUNTS = """
select
  count(*) filter (where kind = 'paid_issuing') as order_messages,
  count(*) filter (where kind = 'access_ready') as key_messages,
  count(*) filter (where kind in ('topped_up', 'missing')) as receipt_messages,
  count(*) filter (where kind = 'refunded') as refund_messages,
  count(*) filter (where kind = 'reward_earned') as reward_messages,
  count(*) filter (where kind = 'friend_registered') as invitation_messages,
  count(*) filter (where state in ('waiting', 'claimed')) as deliveries_open,
  count(*) filter (where state in ('failed', 'unknown')) as deliveries_lost
from (select kind, state from deliveries limit 10000) as d
"""


# The key is the cause of the message: an order that was bought, or one that was granted.
ORDERS = """
select written_at as page_at, id as page_id, case when kind = 'paid_issuing' then cause end as key
from deliveries
where (written_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and written_at <= shop_now() - $4::float8 * interval '1 second'
order by written_at, id
limit $5
"""

ORDERS_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from deliveries d
  where d.thread = k.key::uuid and d.kind = 'paid_issuing'
)
"""

KEYS = """
select written_at as page_at, id as page_id, case when kind = 'access_ready' then cause end as key
from deliveries
where (written_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and written_at <= shop_now() - $4::float8 * interval '1 second'
order by written_at, id
limit $5
"""

KEYS_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from deliveries d
  where d.thread = k.key::uuid and d.kind = 'access_ready'
)
"""

# The key is the receipt, the partner and the amount.
REWARDS = """
select
  written_at as page_at, id as page_id,
  case
    when kind = 'reward_earned' then concat_ws(' ', cause, person, details ->> 'reward_minor')
  end as key
from deliveries
where (written_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and written_at <= shop_now() - $4::float8 * interval '1 second'
order by written_at, id
limit $5
"""

REWARDS_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from deliveries d
  where d.person = split_part(k.key, ' ', 2)::uuid
    and d.cause = split_part(k.key, ' ', 1)
    and d.kind = 'reward_earned'
    and d.details ->> 'reward_minor' = split_part(k.key, ' ', 3)
)
"""

# The key is the refund, its payer and its value.
REFUNDS = """
select
  written_at as page_at, id as page_id,
  case
    when kind = 'refunded' then concat_ws(' ', cause, person, details ->> 'value_minor')
  end as key
from deliveries
where (written_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and written_at <= shop_now() - $4::float8 * interval '1 second'
order by written_at, id
limit $5
"""

REFUNDS_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from deliveries d
  where d.person = split_part(k.key, ' ', 2)::uuid
    and d.cause = split_part(k.key, ' ', 1)
    and d.kind = 'refunded'
    and d.details ->> 'value_minor' = split_part(k.key, ' ', 3)
)
"""

KINDS = {
    "orders": Kind(ORDERS, ORDERS_MISSING),
    "keys": Kind(KEYS, KEYS_MISSING),
    "rewards": Kind(REWARDS, REWARDS_MISSING),
    "refunds": Kind(REFUNDS, REFUNDS_MISSING),
}


async def answer_audit(query: AuditQuery, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=query.hours, after=query.after)
