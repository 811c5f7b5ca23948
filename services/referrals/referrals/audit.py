"""The truths of referrals' tables, each as a sentence and the query that looks for what breaks it."""

from shared.audit import Check, Kind, audited
from shared.db import Database
from shared.questions import AskAudit, Audit

UNLIKE_THE_ROLL = """
select receipt::text as example
from rewards
join people on people.person = rewards.payer
where rewards.partner is distinct from people.partner
"""

NEVER_TOLD = """
select receipt::text as example
from rewards
left join facts on facts.id = rewards.told_as
where rewards.outcome = 'rewarded' and rewards.decided_at > now() - interval '29 days' and facts.id is null
"""

WAITED_TOO_LONG = """
select fact::text as example
from waiting
where waits_since < now() - interval '10 minutes'
"""

FORGOTTEN_IN_WAITING = """
select fact::text as example
from waiting
join people on people.person = waiting.payer
"""

OF_ANOTHER_LEVEL = """
select receipt::text as example
from rewards
where scale is not null and percent is distinct from (
  select levels.percent
  from levels
  where levels.scale = rewards.scale and levels.paying_from <= rewards.paying
  order by levels.paying_from desc
  limit 1
)
"""

OF_ANOTHER_SUM = """
select receipt::text as example
from rewards
where reward_minor <> coalesce(value_minor * percent / 100, 0)
"""

TO_ONESELF = """
select receipt::text as example
from rewards
where partner = payer
"""

# Counted again in the order of deciding: a payer counts from his first receipt that was worth something.
OF_ANOTHER_COUNT = """
with turns as (
  select
    receipt, partner, seq, paying,
    value_minor > 0 and row_number() over (partition by partner, payer, value_minor > 0 order by seq) = 1 as counts
  from rewards
  where paying is not null
), recounted as (
  select receipt, paying, count(*) filter (where counts) over (partition by partner order by seq) as recount
  from turns
)
select receipt::text as example
from recounted
where paying <> recount
"""

MISCOUNTED_PARTNERS = """
with activated as (
  select people.partner, count(*) as paying
  from invitations
  join people on people.person = invitations.invitee
  where invitations.state = 'activated'
  group by people.partner
)
select partners.person::text as example
from partners
left join activated on activated.partner = partners.person
where partners.paying <> coalesce(activated.paying, 0)
"""

UNREGISTERED = """
select person::text as example
from people
left join invitations on invitations.invitee = people.person and invitations.state = 'registered'
where (people.partner is null) <> (invitations.invitee is null)
"""

ACTIVATED_BY_NOTHING = """
select invitee::text as example
from invitations
left join rewards on rewards.receipt::text = invitations.cause and rewards.payer = invitations.invitee
where invitations.state = 'activated' and rewards.receipt is null
"""

# From the tops down everybody is met once; who is not met hangs below a circle.
IN_A_CIRCLE = """
with recursive met as (
  select person
  from people below
  where partner is null or not exists (select from people above where above.person = below.partner)
  union all
  select people.person
  from met
  join people on people.partner = met.person
)
select people.person::text as example
from people
left join met on met.person = people.person
where met.person is null
"""

BACKWARDS = """
select a.invitee::text as example
from invitations a
join invitations r on r.invitee = a.invitee and r.state = a.follows
where a.at < r.at
"""

CHECKS = (
    Check("I6", "what was decided about a receipt agrees with whom its payer is bound to", UNLIKE_THE_ROLL),
    Check("I6", "every reward was told", NEVER_TOLD),
    Check("I6", "no payment waits longer than ten minutes for the start of its payer", WAITED_TOO_LONG),
    Check("I6", "whoever started leaves no payment waiting", FORGOTTEN_IN_WAITING),
    Check("I7", "the percent of a reward is that of its scale at its count", OF_ANOTHER_LEVEL),
    Check("I7", "a reward is the floor of its percent", OF_ANOTHER_SUM),
    Check("I7", "no partner rewards himself", TO_ONESELF),
    Check("I7", "the count of a reward is that of the payers decided until then", OF_ANOTHER_COUNT),
    Check("I7", "the count of a partner is that of his activated invitations", MISCOUNTED_PARTNERS),
    Check("I7", "everybody who is bound is registered, and nobody else", UNREGISTERED),
    Check("I10", "no step of an invitation is older than the one it follows", BACKWARDS),
    Check("I7", "an invitation is activated by a receipt of its invitee", ACTIVATED_BY_NOTHING),
    Check("I7", "no chain of invitations comes back to where it began", IN_A_CIRCLE),
)

COUNTS = """
select
  count(*) as receipts_decided,
  (select count(*) from waiting) as receipts_waiting,
  count(*) filter (where outcome = 'rewarded') as rewards,
  coalesce(sum(reward_minor), 0) as reward_minor
from rewards
"""


# Receipt and value; what waits for its payer's start is not decided, and not lost.
DECIDED = """
select receipt as place, receipt || ' ' || value_minor as key
from rewards
where receipt > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and decided_at > now() - $2::float8 * interval '1 hour'
  and decided_at <= now() - $3::float8 * interval '1 second'
order by receipt
limit $4
"""

UNDECIDED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
    select from rewards r
    where r.receipt = split_part(k.key, ' ', 1)::uuid and r.value_minor = split_part(k.key, ' ', 2)::bigint
  )
  and split_part(k.key, ' ', 1) not in (select body #>> '{received,receipt}' from waiting)
"""

# Receipt, partner, amount.
REWARDED = """
select receipt as place, concat_ws(' ', receipt, partner, reward_minor) as key
from rewards
where outcome = 'rewarded'
  and receipt > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and decided_at > now() - $2::float8 * interval '1 hour'
  and decided_at <= now() - $3::float8 * interval '1 second'
order by receipt
limit $4
"""

NOT_REWARDED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from rewards r
  where r.receipt = split_part(k.key, ' ', 1)::uuid
    and r.partner = split_part(k.key, ' ', 2)::uuid
    and r.reward_minor = split_part(k.key, ' ', 3)::bigint
)
"""

KINDS = {"decided": Kind(DECIDED, UNDECIDED), "rewards": Kind(REWARDED, NOT_REWARDED)}


async def answer_audit(question: AskAudit, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=question.hours)
