"""The invariants of referrals: each is a sentence and a query for its violations."""

from shared.contracts.operations import Audit, AuditQuery
from shared.operations.audit import LOWEST_ID, Check, Kind, Walk, audited
from shared.platform.db import Database

REWARDS_PAGE = """
select decided_at, receipt
from (
  select decided_at, receipt
  from rewards
  where (decided_at, receipt) > ($1, $2)
  order by decided_at, receipt
  limit $3
) as page
order by decided_at desc, receipt desc
limit 1
"""

STEPS_PAGE = """
select at, invitee
from (
  select at, invitee
  from invitations
  where (at, invitee) > ($1, $2)
  order by at, invitee
  limit $3
) as page
order by at desc, invitee desc
limit 1
"""

PEOPLE_PAGE = """
select started_at, person
from (
  select started_at, person
  from people
  where (started_at, person) > ($1, $2)
  order by started_at, person
  limit $3
) as page
order by started_at desc, person desc
limit 1
"""

PARTNERS_PAGE = """
select person
from (select person from partners where person > $1 order by person limit $2) as page
order by person desc
limit 1
"""

REVERSALS_PAGE = """
select decided_at, refund
from (
  select decided_at, refund
  from reversals
  where (decided_at, refund) > ($1, $2)
  order by decided_at, refund
  limit $3
) as page
order by decided_at desc, refund desc
limit 1
"""

DECISIONS = Walk(REWARDS_PAGE)
REVERSALS = Walk(REVERSALS_PAGE)
STEPS = Walk(STEPS_PAGE)
PEOPLE = Walk(PEOPLE_PAGE)
PARTNERS = Walk(PARTNERS_PAGE, (LOWEST_ID,))

OF_ANOTHER_PARTNER = """
select r.receipt::text as example
from rewards r
join people p on p.person = r.payer
where (r.decided_at, r.receipt) > ($1, $2)
  and (r.decided_at, r.receipt) <= ($3, $4)
  and r.partner is distinct from p.partner
"""

NEVER_PUBLISHED = """
select r.receipt::text as example
from rewards r
where (r.decided_at, r.receipt) > ($1, $2)
  and (r.decided_at, r.receipt) <= ($3, $4)
  and r.outcome = 'rewarded'
  and not exists (select from events e where e.id = r.published_as)
"""

WAITED_TOO_LONG = """
select event::text as example
from waiting
where waits_since < shop_now() - interval '10 minutes'
"""

WAITS_FOR_NOTHING = """
select w.event::text as example
from waiting w
join people p on p.person = w.payer
"""

REFUND_WAITED_TOO_LONG = """
select f.refund::text as example
from waiting_refunds f
where f.waits_since < shop_now() - interval '10 minutes'
  and not exists (
    select from waiting w where w.body #>> '{received,receipt}' = f.receipt::text
  )
"""

REVERSED_BUT_UNPUBLISHED = """
select v.refund::text as example
from reversals v
where (v.decided_at, v.refund) > ($1, $2)
  and (v.decided_at, v.refund) <= ($3, $4)
  and v.reversed_minor > 0
  and not exists (select from events e where e.id = v.published_as)
"""

NOT_OF_THE_REST = """
select v.receipt::text as example
from reversals v
join rewards r using (receipt)
cross join lateral (
  select sum(value_minor) as value_minor, sum(reversed_minor) as reversed_minor
  from reversals
  where receipt = v.receipt
) s
where (v.decided_at, v.refund) > ($1, $2)
  and (v.decided_at, v.refund) <= ($3, $4)
  and r.reward_minor - s.reversed_minor <> div(
    greatest(0, r.value_minor - s.value_minor) * coalesce(r.percent, 0), 100
  )
"""

COUNTED_FOR_NOTHING = """
select v.payer::text as example
from reversals v
join invitations i on i.invitee = v.payer and i.state = 'activated'
where (v.decided_at, v.refund) > ($1, $2)
  and (v.decided_at, v.refund) <= ($3, $4)
  and (
    select count(*) from lapses l where l.invitee = v.payer and l.resumed_by is null
  ) <> case
    when exists (
      select from (
        select receipt, value_minor from rewards where payer = v.payer order by seq desc limit 100
      ) r
      where r.value_minor > (
        select coalesce(sum(e.value_minor), 0) from reversals e where e.receipt = r.receipt
      )
    ) then 0
    else 1
  end
"""

OF_ANOTHER_LEVEL = """
select r.receipt::text as example
from rewards r
where (r.decided_at, r.receipt) > ($1, $2)
  and (r.decided_at, r.receipt) <= ($3, $4)
  and r.scale is not null
  and r.percent is distinct from (
    select l.percent
    from levels l
    where l.scale = r.scale and l.paying_from <= r.paying
    order by l.paying_from desc
    limit 1
  )
"""

OF_ANOTHER_AMOUNT = """
select receipt::text as example
from rewards
where (decided_at, receipt) > ($1, $2)
  and (decided_at, receipt) <= ($3, $4)
  and reward_minor <> coalesce(value_minor * percent / 100, 0)
"""

TO_ONESELF = """
select receipt::text as example
from rewards
where (decided_at, receipt) > ($1, $2)
  and (decided_at, receipt) <= ($3, $4)
  and partner = payer
"""

# `offset 0` looks for the one lapse, and does not hash all of them.
# A chain: the count is that of the partner's decision or lapse before, and one more where this
# receipt activated or resumed its payer. A receipt with a value has an activated payer.
OF_ANOTHER_COUNT = """
select r.receipt::text as example
from rewards r
left join invitations i on i.invitee = r.payer and i.state = 'activated'
where (r.decided_at, r.receipt) > ($1, $2)
  and (r.decided_at, r.receipt) <= ($3, $4)
  and r.paying is not null
  and (
    (r.value_minor > 0 and i.invitee is null)
    or r.paying <> coalesce(i.cause = r.receipt::text, false)::int
      + exists (select from lapses l where l.resumed_by = r.receipt offset 0)::int
      + coalesce(
        (
          select before.paying
          from (
            (
              select e.paying, e.seq
              from rewards e
              where e.partner = r.partner and e.paying is not null and e.seq < r.seq
              order by e.seq desc
              limit 1
            )
            union all
            (
              select l.paying, l.seq
              from lapses l
              where l.partner = r.partner and l.seq < r.seq
              order by l.seq desc
              limit 1
            )
          ) before
          order by before.seq desc
          limit 1
        ),
        0
      )
  )
"""

# The count of a partner is that of their last decision or lapse. OF_ANOTHER_COUNT checks the
# decisions.
MISCOUNTED_PARTNERS = """
select p.person::text as example
from partners p
where p.person > $1
  and p.person <= $2
  and p.paying <> coalesce(
    (
      select last.paying
      from (
        (
          select r.paying, r.seq
          from rewards r
          where r.partner = p.person and r.paying is not null
          order by r.seq desc
          limit 1
        )
        union all
        (
          select l.paying, l.seq
          from lapses l
          where l.partner = p.person
          order by l.seq desc
          limit 1
        )
      ) last
      order by last.seq desc
      limit 1
    ),
    0
  )
"""

MISCOUNTED_LATELY = """
select p.person::text as example
from (
  select distinct partner
  from rewards
  where (decided_at, receipt) > ($1, $2) and (decided_at, receipt) <= ($3, $4)
) l
cross join lateral (select * from partners where person = l.partner offset 0) p
where p.paying is distinct from (
  select last.paying
  from (
    (
      select r.paying, r.seq
      from rewards r
      where r.partner = p.person and r.paying is not null
      order by r.seq desc
      limit 1
    )
    union all
    (
      select c.paying, c.seq
      from lapses c
      where c.partner = p.person
      order by c.seq desc
      limit 1
    )
  ) last
  order by last.seq desc
  limit 1
)
"""

# Up to a hundred rewards: the sum of more is compared with payments, receipt by receipt.
WRONG_TOTALS = """
select p.person::text as example
from partners p
cross join lateral (
  select count(*) as rewards,
    coalesce(sum(r.reward_minor - coalesce(v.reversed_minor, 0)), 0) as earned_minor
  from (
    select receipt, reward_minor
    from rewards
    where partner = p.person and paying is not null
    limit 101
  ) r
  cross join lateral (
    select sum(reversed_minor) as reversed_minor from reversals where receipt = r.receipt
  ) v
) t
where p.person > $1 and p.person <= $2 and t.rewards <= 100 and p.earned_minor <> t.earned_minor
"""

WRONG_INVITED = """
select p.person::text as example
from partners p
left join invited i on i.partner = p.person
cross join lateral (
  select count(*) as people
  from (select from people where partner = p.person limit 101) n
) t
where p.person > $1
  and p.person <= $2
  and t.people <= 100
  and coalesce(i.people, 0) <> t.people
"""

UNREGISTERED = """
select p.person::text as example
from people p
where (p.started_at, p.person) > ($1, $2)
  and (p.started_at, p.person) <= ($3, $4)
  and (p.partner is not null) <> exists (
    select from invitations i where i.invitee = p.person and i.state = 'registered'
  )
"""

ACTIVATED_BY_NOTHING = """
select i.invitee::text as example
from invitations i
where (i.at, i.invitee) > ($1, $2)
  and (i.at, i.invitee) <= ($3, $4)
  and i.state = 'activated'
  and not exists (
    select from rewards r
    where r.receipt = case when i.cause ~ '^[0-9a-f-]{36}$' then i.cause::uuid end
      and r.payer = i.invitee
  )
"""

# A climb from each person to the top. One that comes back to its beginning is a circle.
IN_A_CIRCLE = """
with recursive climb as (
  select person, partner as above, 1 as steps
  from people
  where (started_at, person) > ($1, $2) and (started_at, person) <= ($3, $4)
  union all
  select c.person, p.partner, c.steps + 1
  from climb c
  join people p on p.person = c.above
  where c.above <> c.person and c.steps < 100
)
select distinct person::text as example
from climb
where above = person
"""

BACKWARDS = """
select a.invitee::text as example
from invitations a
join invitations r on r.invitee = a.invitee and r.state = a.follows
where (a.at, a.invitee) > ($1, $2) and (a.at, a.invitee) <= ($3, $4) and a.at < r.at
"""

TOTALS = "a partner's total is the sum of what is left of their rewards"
COUNTED = "a partner's count is their number of paying invitees"

# Events are kept for 30 days.
CHECKS = (
    Check("I6", "a reward decision names the partner of its payer", OF_ANOTHER_PARTNER, DECISIONS),
    Check("I6", "every reward was published", NEVER_PUBLISHED, DECISIONS, days=29),
    Check("I6", "no payment waits over ten minutes for its payer's start", WAITED_TOO_LONG),
    Check("I6", "no payment waits for a payer who has started", WAITS_FOR_NOTHING),
    Check(
        "I6", "no refund waits over ten minutes for its payment's decision", REFUND_WAITED_TOO_LONG
    ),
    Check("I6", "every reversal was published", REVERSED_BUT_UNPUBLISHED, REVERSALS, days=29),
    Check("I7", "a reward is the percentage of what remains paid", NOT_OF_THE_REST, REVERSALS),
    Check("I7", "an invitee counts while something remains paid", COUNTED_FOR_NOTHING, REVERSALS),
    Check(
        "I7",
        "the percent of a reward is that of its scale at its count",
        OF_ANOTHER_LEVEL,
        DECISIONS,
    ),
    Check("I7", "a reward is the floor of its percent", OF_ANOTHER_AMOUNT, DECISIONS),
    Check("I7", "no partner is rewarded for their own payment", TO_ONESELF, DECISIONS),
    Check(
        "I7", "the count of a reward is the number of payers up to it", OF_ANOTHER_COUNT, DECISIONS
    ),
    Check("I7", COUNTED, MISCOUNTED_PARTNERS, PARTNERS),
    Check("I7", COUNTED, MISCOUNTED_LATELY, DECISIONS, when="hourly"),
    Check("I7", TOTALS, WRONG_TOTALS, PARTNERS),
    Check("I7", "a partner's invited people are counted", WRONG_INVITED, PARTNERS),
    Check("I7", "every bound person is registered, and no other", UNREGISTERED, PEOPLE),
    Check("I10", "no step of an invitation is older than the step it follows", BACKWARDS, STEPS),
    Check(
        "I7",
        "an invitation is activated by a receipt of its invitee",
        ACTIVATED_BY_NOTHING,
        STEPS,
    ),
    Check("I7", "invitations form no circle", IN_A_CIRCLE, PEOPLE),
)

COUNTS = """
select
  count(*) as receipts_decided,
  (select count(*) from (select from waiting limit 10000) as w) as receipts_waiting,
  count(*) filter (where outcome = 'rewarded') as rewards,
  coalesce(sum(reward_minor), 0) as reward_minor
from (select outcome, reward_minor from rewards limit 10000) as r
"""


# The key is the receipt and its value. A payment that waits is not decided, and not missing.
DECIDED = """
select decided_at as page_at, receipt as page_id, receipt || ' ' || value_minor as key
from rewards
where (decided_at, receipt) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and decided_at <= shop_now() - $4::float8 * interval '1 second'
order by decided_at, receipt
limit $5
"""

DECIDED_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
    select from rewards r
    where r.receipt = split_part(k.key, ' ', 1)::uuid
      and r.value_minor = split_part(k.key, ' ', 2)::bigint
  )
  and not exists (
    select from waiting w where w.body #>> '{received,receipt}' = split_part(k.key, ' ', 1)
  )
"""

# The key is the receipt, the partner and the amount.
REWARDS = """
select
  decided_at as page_at, receipt as page_id,
  case when outcome = 'rewarded' then concat_ws(' ', receipt, partner, reward_minor) end as key
from rewards
where (decided_at, receipt) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and decided_at <= shop_now() - $4::float8 * interval '1 second'
order by decided_at, receipt
limit $5
"""

REWARDS_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from rewards r
  where r.receipt = split_part(k.key, ' ', 1)::uuid
    and r.partner = split_part(k.key, ' ', 2)::uuid
    and r.reward_minor = split_part(k.key, ' ', 3)::bigint
)
"""

# The key is the refund, its payer and its value. A refund that waits is not missing.
REFUNDED = """
select decided_at as page_at, refund as page_id, concat_ws(' ', refund, payer, value_minor) as key
from reversals
where (decided_at, refund) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and decided_at <= shop_now() - $4::float8 * interval '1 second'
order by decided_at, refund
limit $5
"""

REFUNDED_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
    select from reversals v
    where v.refund = split_part(k.key, ' ', 1)::uuid
      and v.payer = split_part(k.key, ' ', 2)::uuid
      and v.value_minor = split_part(k.key, ' ', 3)::bigint
  )
  and not exists (
    select from waiting_refunds w where w.refund = split_part(k.key, ' ', 1)::uuid
  )
"""

# The key is the refund, the partner and the amount.
REVERSED = """
select
  decided_at as page_at, refund as page_id,
  case when reversed_minor > 0 then concat_ws(' ', refund, partner, reversed_minor) end as key
from reversals
where (decided_at, refund) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and decided_at <= shop_now() - $4::float8 * interval '1 second'
order by decided_at, refund
limit $5
"""

REVERSED_MISSING = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from reversals v
  where v.refund = split_part(k.key, ' ', 1)::uuid
    and v.partner = split_part(k.key, ' ', 2)::uuid
    and v.reversed_minor = split_part(k.key, ' ', 3)::bigint
)
"""

KINDS = {
    "decided": Kind(DECIDED, DECIDED_MISSING),
    "rewards": Kind(REWARDS, REWARDS_MISSING),
    "refunded": Kind(REFUNDED, REFUNDED_MISSING),
    "reversed": Kind(REVERSED, REVERSED_MISSING),
}


async def answer_audit(query: AuditQuery, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=query.hours, after=query.after)
