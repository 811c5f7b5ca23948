"""Invariants of bot-gateway: each is a sentence and a query for its violations."""

from shared.contracts.operations import Audit, AuditQuery
from shared.operations.audit import LOWEST_TIME, Check, Kind, Walk, audited
from shared.platform.db import Database

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

REPORTS_PAGE = """
select received_at, seq
from (
  select received_at, seq
  from updates
  where lane = 'money' and (received_at, seq) > ($1, $2)
  order by received_at, seq
  limit $3
) as page
order by received_at desc, seq desc
limit 1
"""

PEOPLE = Walk(PEOPLE_PAGE)
REPORTS = Walk(REPORTS_PAGE, (LOWEST_TIME, 0))

# I6. Without the event the person is unknown to referrals for ever. Events are kept for 30 days,
# people for longer.
STARTED_BUT_UNPUBLISHED = """
select p.person::text as example
from people p
where (p.started_at, p.person) > ($1, $2)
  and (p.started_at, p.person) <= ($3, $4)
  and not exists (select from events e where e.id = p.started_event)
"""

# I5, I6. Telegram reports a payment for a day. A report that is lost here is booked nowhere.
REPORTED_BUT_UNPUBLISHED = """
select u.seq::text as example
from updates u
where u.lane = 'money'
  and (u.received_at, u.seq) > ($1, $2)
  and (u.received_at, u.seq) <= ($3, $4)
  and u.state in ('done', 'dropped')
  and not exists (select from events e where e.id = u.event)
"""

# I5, I6. A report that could not be read is kept until a person decides.
UNREADABLE = """
select format('%s since %s: %s', seq, received_at, reason) as example
from updates
where lane = 'money' and state = 'failed'
"""

# I13. A report is published within a second. One that fails for a reason of ours is retried for
# ever, and would be visible nowhere else.
PAID_BUT_WAITING = """
select format('%s since %s, after %s tries: %s', seq, received_at, tries, reason) as example
from updates
where lane = 'money' and state = 'waiting' and received_at < shop_now() - interval '1 minute'
"""

# I13. A chat is paused at most for as long as Telegram asks; a pre-checkout is over after 8 s.
WITHOUT_A_NEXT_STEP = """
select seq::text as example
from updates u
where state = 'waiting'
  and received_at < shop_now() - interval '10 minutes'
  and coalesce(u.held_until, received_at) < shop_now() - interval '10 minutes'
  and not exists (
    select from chat_leases l
    where l.chat = u.chat and l.held_until > shop_now() - interval '10 minutes'
  )
"""

# I13. Once an hour, unless Telegram is away; the newest row is the bot's that runs now.
NOT_WALKED = """
select format('bot %s, since %s', bot, walked_at) as example
from (select bot, walked_at from star_walks order by walked_at desc limit 1) as newest
where walked_at < shop_now() - interval '6 hours'
"""

# I11. A chargeback of Apple or Google is deducted from the balance, and no listing need show it:
# nobody can mend that, so a difference is told for a week after it changed.
BALANCE_DIFFERS = """
select
  format(
    'bot %s has %s Stars more than its transactions, since %s',
    bot, trim_scale(gap_nanostars / 1000000000), gap_changed_at
  ) as example
from star_walks
where gap_nanostars <> 0 and gap_changed_at > shop_now() - interval '7 days'
"""

# I13. A refused one ends; only Telegram's silence keeps one waiting.
STARS_NOT_RETURNED = """
select format('refund %s, after %s tries: %s', id, tries, reason) as example
from star_refunds
where state = 'waiting' and asked_at < shop_now() - interval '1 hour'
"""

PUBLISHED = "every payment that Telegram reported was published"

CHECKS = (
    Check("I6", "every start was published", STARTED_BUT_UNPUBLISHED, PEOPLE, days=29),
    Check("I6", PUBLISHED, REPORTED_BUT_UNPUBLISHED, REPORTS, days=29),
    Check("I6", PUBLISHED, UNREADABLE),
    Check("I11", "the balance of Stars equals Telegram's listing", BALANCE_DIFFERS),
    Check("I13", "Telegram's listing of Stars is walked", NOT_WALKED),
    Check("I13", "no refund of Stars waits for an hour", STARS_NOT_RETURNED),
    Check("I13", "no payment waits to be published", PAID_BUT_WAITING),
    Check("I13", "no update waits without a next step", WITHOUT_A_NEXT_STEP),
)

COUNTS = """
select
  (select count(*) from (select from people limit 10000) as p) as people,
  (select count(*) from (select from updates where lane = 'money' limit 10000) as m) as reports,
  (
    select count(*)
    from (select from updates where state = 'failed' limit 10000) as f
  ) as updates_failed
"""


# Events are kept for 30 days; older payments are known to payments only.
REPORTED = """
select
  recorded_at as page_at, seq as page_id,
  case
    when topic = 'bot.payment.reported'
    then (body ->> 'acquirer') || ':' || (body ->> 'charge')
  end as key
from events
where (recorded_at, seq)
    > (greatest($1, shop_now() - least($3::float8, 29 * 24) * interval '1 hour'), $2)
  and recorded_at <= shop_now() - $4::float8 * interval '1 second'
order by recorded_at, seq
limit $5
"""

NOT_REPORTED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from events e
  where e.topic = 'bot.payment.reported'
    and e.body ->> 'charge' = substr(k.key, strpos(k.key, ':') + 1)
    and e.body ->> 'acquirer' = split_part(k.key, ':', 1)
)
"""

KINDS = {"reported": Kind(REPORTED, NOT_REPORTED, lowest_id=0)}


async def answer_audit(query: AuditQuery, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=query.hours, after=query.after)
