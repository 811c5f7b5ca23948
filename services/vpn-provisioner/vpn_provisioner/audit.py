"""The truths about access: each a sentence, and the query that looks for what breaks it."""

from shared.audit import EXAMPLES, Check, Kind, audited
from shared.db import Database
from shared.questions import AskAudit, Audit, Finding
from vpn_provisioner.access import fold
from vpn_provisioner.store.nodes import NOBODY
from vpn_provisioner.store.subscriptions import Kept, kept_page

PEOPLE_AT_ONCE = 1_000

WITHOUT_SUBSCRIPTION = """
select p.order_id::text as example
from periods p
left join subscriptions s using (person)
left join grants g using (order_id)
where s.person is null or g.order_id is null
"""

PERIODS_MAY_CHANGE = """
select format('periods may be changed: %s', p.privilege) as example
from unnest(array['update', 'delete', 'truncate']) as p (privilege)
where has_table_privilege(current_schema() || '_app', 'periods', p.privilege)
"""

LIVE_BEYOND_ITS_END = """
select person::text as example
from subscriptions
where state = 'live' and ends_at < now() - interval '1 minute'
"""

NOT_WANTED_WHERE_IT_SHOULD = """
select format('%s on %s', s.person, n.name) as example
from subscriptions s
join nodes n on n.node_group = s.node_group and n.state = 'serving' and n.put_back_after is null
left join access_jobs j on j.person = s.person and j.node = n.id
where s.state = 'live'
  and n.incarnation is not null
  and (j.key, j.until, j.devices, j.traffic_bytes, j.present)
    is distinct from (s.key, s.ends_at, s.devices, s.traffic_bytes, true)
"""

WANTED_WHERE_IT_SHOULD_NOT = """
select format('%s on %s', j.person, n.name) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
left join subscriptions s on s.person = j.person and s.state = 'live' and s.node_group = n.node_group
where j.present and s.person is null
"""

NODES_DRIFT = """
select format('%s: %s missing, %s not wanted', name, missing, strangers) as example
from nodes
where state = 'serving' and missing + strangers > 0
"""

ENDED_UNCONFIRMED = """
select s.person::text as example
from subscriptions s
join access_jobs j on j.person = s.person and j.state <> 'agreed'
join nodes n on n.id = j.node and n.state = 'serving'
where s.state = 'ended'
"""

JOBS_STAND_STILL = """
select format('%s on %s: %s', j.person, n.name, coalesce(j.error, 'not taken')) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.state = 'waiting' and j.run_at < now() - interval '30 seconds'
"""

JOBS_DEAD = """
select format('%s on %s: %s', j.person, n.name, j.error) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.state = 'dead'
"""

PROMISES_FORGOTTEN = """
select g.order_id::text as example
from grants g
where g.told_at is null and not exists (
  select from access_jobs j
  join nodes n on n.id = j.node and n.state = 'serving'
  where j.person = g.person and j.state <> 'agreed'
)
"""

CHECKS = (
    Check("I6", "every bought order has its subscription and its promise", WITHOUT_SUBSCRIPTION),
    Check("I2", "what was bought is insert-only", PERIODS_MAY_CHANGE),
    Check("I8", "no subscription lives beyond its end", LIVE_BEYOND_ITS_END),
    Check("I8", "every node of its group is asked for what a live subscription is", NOT_WANTED_WHERE_IT_SHOULD),
    Check("I8", "no node is asked to let anybody else in", WANTED_WHERE_IT_SHOULD_NOT),
    Check("I8", "each node held exactly whom it should when it was last looked at", NODES_DRIFT),
    Check("I8", "nothing is called ended before every node confirmed it", ENDED_UNCONFIRMED),
    Check("I13", "no access job stands still", JOBS_STAND_STILL),
    Check("I13", "no access job is dead", JOBS_DEAD),
    Check("I13", "no order waits for an answer that nobody will give", PROMISES_FORGOTTEN),
)

COUNTS = """
select
  (select count(*) from periods) as periods,
  (select count(*) from grants where told_at is not null) as orders_granted,
  (select count(*) from subscriptions where state = 'live') as live
"""


HEARD = """
select order_id as place, order_id::text as key
from periods
where order_id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and heard_at > now() - $2::float8 * interval '1 hour'
  and heard_at <= now() - $3::float8 * interval '1 second'
order by order_id
limit $4
"""

NOT_HEARD = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from periods p where p.order_id = k.key::uuid)
"""

GRANTED = """
select order_id as place, order_id::text as key
from grants
where order_id > coalesce($1::text::uuid, '00000000-0000-0000-0000-000000000000')
  and told_at > now() - $2::float8 * interval '1 hour'
  and told_at <= now() - $3::float8 * interval '1 second'
order by order_id
limit $4
"""

NOT_GRANTED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from grants g where g.order_id = k.key::uuid and g.told_at is not null)
"""

KINDS = {"periods": Kind(HEARD, NOT_HEARD), "granted": Kind(GRANTED, NOT_GRANTED)}


async def answer_audit(question: AskAudit, database: Database) -> Audit:
    audit = await audited(database, CHECKS, COUNTS, hours=question.hours)
    return Audit(findings=(await _folds(database), *audit.findings), counts=audit.counts)


async def _folds(database: Database) -> Finding:
    """Every subscription folded again from its rows, a page at a time; each page is of one moment."""
    broken: list[str] = []
    after = NOBODY
    while page := await kept_page(after, PEOPLE_AT_ONCE, database):
        broken += [str(kept.person) for kept in page if not _is_its_fold(kept)]
        after = page[-1].person
    return Finding(
        invariant="I8",
        truth="every subscription is the fold of what was bought, by the book's time",
        violations=len(broken),
        examples=tuple(broken[:EXAMPLES]),
    )


def _is_its_fold(kept: Kept) -> bool:
    return bool(kept.periods) and fold(kept.periods) == kept.standing
