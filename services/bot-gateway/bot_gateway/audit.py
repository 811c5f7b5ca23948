"""What must be true of our tables: each truth is a sentence and a query for what breaks it."""

from shared.audit import Check, Kind, audited
from shared.db import Database
from shared.questions import AskAudit, Audit

# I6. A person without the fact is unknown to referrals for ever. Facts are kept for 30 days, people for longer.
STARTED_BUT_NOT_TOLD = """
select person::text as example
from people p
where started_at > now() - interval '29 days' and not exists (select from facts f where f.id = p.started_fact)
"""

# I5, I6. Telegram reports a payment for a day; what we forget of it, nobody books.
PAID_BUT_NOT_TOLD = """
select seq::text as example
from updates u
where lane = 'money' and state <> 'waiting' and not exists (select from facts f where f.id = u.fact)
"""

# I13. A report is told within the second; one that fails for a reason of ours is tried for ever, as quietly as that.
PAID_BUT_WAITING = """
select format('%s since %s, after %s tries: %s', seq, received_at, tries, reason) as example
from updates
where lane = 'money' and state = 'waiting' and received_at < now() - interval '1 minute'
"""

# I13. A chat rests at most for what Telegram asks for; a pre-checkout is over after 8 s.
WAITING_FOR_NOBODY = """
select seq::text as example
from updates u
where state = 'waiting'
  and received_at < now() - interval '10 minutes'
  and coalesce(u.held_until, received_at) < now() - interval '10 minutes'
  and not exists (select from turns t where t.chat = u.chat and t.held_until > now() - interval '10 minutes')
"""

CHECKS = (
    Check("I6", "everybody who started was told", STARTED_BUT_NOT_TOLD),
    Check("I6", "every payment that Telegram reported was told", PAID_BUT_NOT_TOLD),
    Check("I13", "no payment waits to be told", PAID_BUT_WAITING),
    Check("I13", "no update waits without a next step", WAITING_FOR_NOBODY),
)

COUNTS = """
select
  (select count(*) from people) as people,
  (select count(*) from facts where topic = 'bot.person.started') as people_told,
  (select count(*) from updates where lane = 'money') as reports,
  (select count(*) from updates where state = 'failed') as updates_failed
"""


# Facts are kept for 30 days: of older payments payments alone can tell.
REPORTED = """
select seq as place, (body ->> 'acquirer') || ':' || (body ->> 'charge') as key
from facts
where topic = 'bot.payment.reported'
  and seq > coalesce($1::text::bigint, 0)
  and told_at > now() - least($2::float8, 29 * 24) * interval '1 hour'
  and told_at <= now() - $3::float8 * interval '1 second'
order by seq
limit $4
"""

NOT_REPORTED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from facts f
  where f.topic = 'bot.payment.reported'
    and f.body ->> 'charge' = substr(k.key, strpos(k.key, ':') + 1)
    and f.body ->> 'acquirer' = split_part(k.key, ':', 1)
)
"""

KINDS = {"reported": Kind(REPORTED, NOT_REPORTED)}


async def answer_audit(question: AskAudit, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=question.hours)
