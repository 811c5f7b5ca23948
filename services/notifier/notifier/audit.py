"""What must be true of messages, as SQL: each a sentence, and a query for what breaks it."""

from shared.audit import Check, Kind, audited
from shared.db import Database
from shared.questions import AskAudit, Audit

REPLACED_BY_NOTHING = """
select format('order %s', d.story) as example
from deliveries d
where d.state = 'superseded'
  and d.story is not null
  and not exists (select from deliveries h where h.story = d.story and h.person = d.person and h.rank > d.rank)
"""

# A message that could not be edited is followed by a second one, and says why.
TOLD_TWICE = """
select format('order %s', story) as example
from deliveries
where state = 'sent' and story is not null
group by story, person
having count(distinct message_id) > 1 and count(reason) = 0
"""

OUT_OF_RANK = """
select format('order %s', d.story) as example
from deliveries d
join deliveries h on h.story = d.story and h.person = d.person and h.rank > d.rank
where d.state = 'sent' and h.state = 'sent' and d.settled_at > h.settled_at
"""

# Who paid is there to be written to, unless he blocks the bot: that is `unreachable`, and no fault. A later message of
# the kind says as much, for it has the same key, or what the wallet holds by then.
GIVEN_UP = """
select format('%s of person %s: %s', d.kind, d.person, d.reason) as example
from deliveries d
where d.state in ('failed', 'unknown')
  and d.kind in ('paid_issuing', 'access_ready', 'topped_up', 'missing', 'left_over')
  and d.settled_at > now() - $1::float8 * interval '1 hour'
  and not exists (
    select from deliveries l
    where l.person = d.person
      and l.state = 'sent'
      and l.settled_at > d.settled_at
      and (l.kind = d.kind or l.story = d.story)
  )
"""

WITHOUT_NEXT_STEP = """
select format('%s of person %s', d.kind, d.person) as example
from deliveries d
join recipients r on r.person = d.person
where (d.state = 'waiting' and r.due_at is null) or (d.state = 'claimed' and r.claim is null)
"""

OVERDUE = """
select format('person %s is due since %s', person, due_at) as example
from recipients
where due_at < now() - case when claim is null then interval '10 minutes' else interval '1 minute' end
"""

PUT_OFF = """
select format('person %s is due only at %s', r.person, r.due_at) as example
from recipients r
where r.claim is null
  and r.due_at > now() + interval '1 minute'
  and exists (
    select from deliveries d
    where d.person = r.person and d.state = 'waiting' and d.not_before < r.due_at - interval '1 minute'
  )
"""

CHECKS = (
    Check("I6", "what was superseded has a later message of its story", REPLACED_BY_NOTHING),
    Check("I6", "an order is told of by one message, unless it could not be edited", TOLD_TWICE),
    Check("I6", "no message of an order was sent after one that says more", OUT_OF_RANK),
    Check("I6", "no key and no receipt was given up", GIVEN_UP),
    Check("I13", "every message on its way has a next step", WITHOUT_NEXT_STEP),
    Check("I13", "no chat is overdue, and no claim outlived its lease", OVERDUE),
    Check("I13", "no chat waits longer than its first message", PUT_OFF),
)

COUNTS = """
select
  count(*) filter (where kind = 'paid_issuing') as orders_told,
  count(*) filter (where kind = 'access_ready') as keys_told,
  count(*) filter (where kind in ('topped_up', 'missing')) as receipts_told,
  count(*) filter (where kind = 'reward_earned') as rewards_told,
  count(*) filter (where kind = 'friend_registered') as invitations_told,
  count(*) filter (where state in ('waiting', 'claimed')) as deliveries_open,
  count(*) filter (where state in ('failed', 'unknown')) as deliveries_lost
from deliveries
"""


# Orders that were bought, and orders that were granted: the message's cause.
ORDERS_TOLD = """
select id as place, cause as key
from deliveries
where kind = 'paid_issuing'
  and id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and written_at > now() - $2::float8 * interval '1 hour'
  and written_at <= now() - $3::float8 * interval '1 second'
order by id
limit $4
"""

ORDERS_NOT_TOLD = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from deliveries d where d.story = k.key::uuid and d.kind = 'paid_issuing')
"""

KEYS_TOLD = """
select id as place, cause as key
from deliveries
where kind = 'access_ready'
  and id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and written_at > now() - $2::float8 * interval '1 hour'
  and written_at <= now() - $3::float8 * interval '1 second'
order by id
limit $4
"""

KEYS_NOT_TOLD = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from deliveries d where d.story = k.key::uuid and d.kind = 'access_ready')
"""

# Receipt, partner, amount.
REWARDS_TOLD = """
select id as place, concat_ws(' ', cause, person, details ->> 'reward_minor') as key
from deliveries
where kind = 'reward_earned'
  and id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and written_at > now() - $2::float8 * interval '1 hour'
  and written_at <= now() - $3::float8 * interval '1 second'
order by id
limit $4
"""

REWARDS_NOT_TOLD = """
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

KINDS = {
    "orders": Kind(ORDERS_TOLD, ORDERS_NOT_TOLD),
    "keys": Kind(KEYS_TOLD, KEYS_NOT_TOLD),
    "rewards": Kind(REWARDS_TOLD, REWARDS_NOT_TOLD),
}


async def answer_audit(question: AskAudit, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=question.hours)
