"""The invariants of access: each is a sentence and a query for its violations."""

from collections.abc import Sequence

from shared.contracts.operations import Audit, AuditQuery
from shared.operations.audit import LOWEST_ID, Check, Cursor, Kind, Walk, audited
from shared.platform.db import Database, Row, Tx
from vpn_provisioner.domain.access import fold
from vpn_provisioner.store.periods import MANY_PERIODS, StoredSubscription, subscriptions_of

PERIODS_PAGE = """
select handled_at, order_id
from (
  select handled_at, order_id
  from periods
  where (handled_at, order_id) > ($1, $2)
  order by handled_at, order_id
  limit $3
) as page
order by handled_at desc, order_id desc
limit 1
"""

SHORTENINGS_PAGE = """
select handled_at, id
from (
  select handled_at, id
  from shortenings
  where (handled_at, id) > ($1, $2)
  order by handled_at, id
  limit $3
) as page
order by handled_at desc, id desc
limit 1
"""

SUBSCRIPTIONS_PAGE = """
select person
from (select person from subscriptions where person > $1 order by person limit $2) as page
order by person desc
limit 1
"""

JOBS_PAGE = """
select person
from (
  select person from access_jobs where person > $1 order by person limit $2
) as page
order by person desc
limit 1
"""

PERIODS = Walk(PERIODS_PAGE)
LATE_PERIODS = Walk(PERIODS_PAGE, rows=100)
SHORTENINGS = Walk(SHORTENINGS_PAGE)
LATE_SHORTENINGS = Walk(SHORTENINGS_PAGE, rows=100)
SUBSCRIPTIONS = Walk(SUBSCRIPTIONS_PAGE, (LOWEST_ID,))
FEW_SUBSCRIPTIONS = Walk(SUBSCRIPTIONS_PAGE, (LOWEST_ID,), rows=100)
JOBS = Walk(JOBS_PAGE, (LOWEST_ID,))

WITHOUT_SUBSCRIPTION = """
select p.order_id::text as example
from periods p
left join subscriptions s using (person)
left join grants g using (order_id)
where (p.handled_at, p.order_id) > ($1, $2)
  and (p.handled_at, p.order_id) <= ($3, $4)
  and (s.person is null or g.order_id is null)
"""

PERIODS_MAY_CHANGE = """
select format('%s may be changed: %s', t.name, p.privilege) as example
from unnest(array['periods', 'shortenings']) as t (name)
cross join unnest(array['update', 'delete', 'truncate']) as p (privilege)
where has_table_privilege(current_schema() || '_app', t.name, p.privilege)
"""

SHORTENED_TOO_MUCH = """
select format('order %s', s.order_id) as example
from shortenings s
where (s.handled_at, s.id) > ($1, $2)
  and (s.handled_at, s.id) <= ($3, $4)
  and s.price_minor < (select sum(undone_minor) from shortenings where order_id = s.order_id)
"""

SHORTENS_NOTHING = """
select format('order %s', s.order_id) as example
from shortenings s
where (s.handled_at, s.id) > ($1, $2)
  and (s.handled_at, s.id) <= ($3, $4)
  and s.handled_at < shop_now() - interval '10 minutes'
  and not exists (select from periods p where p.order_id = s.order_id and p.person = s.person)
"""

LIVE_PAST_THE_END = """
select person::text as example
from subscriptions
where state = 'live' and ends_at < shop_now() - interval '1 minute'
"""

ENDED_EARLY = """
select person::text as example
from subscriptions
where state <> 'live' and ends_at > shop_now() + interval '1 minute'
"""

UNREMINDED = """
select person::text as example
from subscriptions
where state = 'live'
  and remind_at < shop_now() - interval '1 hour'
  and end_moved_at < shop_now() - interval '1 hour'
"""

NOT_WANTED = """
select format('%s on %s', s.person, n.name) as example
from subscriptions s
join nodes n on n.node_group = s.node_group and n.state = 'serving' and n.put_back_after is null
left join access_jobs j on j.person = s.person and j.node = n.id
where s.person > $1
  and s.person <= $2
  and s.state = 'live'
  and n.incarnation is not null
  and (j.key, j.until, j.devices, j.traffic_bytes, j.present)
    is distinct from (s.key, s.ends_at, s.devices, s.traffic_bytes, true)
"""

NOT_WANTED_LATELY = """
select format('%s on %s', s.person, n.name) as example
from (
  select distinct person
  from periods
  where (handled_at, order_id) > ($1, $2) and (handled_at, order_id) <= ($3, $4)
) p
cross join lateral (select * from subscriptions where person = p.person offset 0) s
join nodes n on n.node_group = s.node_group and n.state = 'serving' and n.put_back_after is null
left join access_jobs j on j.person = s.person and j.node = n.id
where s.state = 'live'
  and n.incarnation is not null
  and (j.key, j.until, j.devices, j.traffic_bytes, j.present)
    is distinct from (s.key, s.ends_at, s.devices, s.traffic_bytes, true)
"""

WRONGLY_WANTED = """
select format('%s on %s', j.person, n.name) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
left join subscriptions s
  on s.person = j.person and s.state = 'live' and s.node_group = n.node_group
where j.person > $1 and j.person <= $2 and j.present and s.person is null
"""

NODES_DRIFT = """
select format('%s: %s missing, %s not wanted', name, missing, unwanted) as example
from nodes
where state = 'serving' and missing + unwanted > 0
"""

# By the open jobs: there are few.
ENDED_UNCONFIRMED = """
select s.person::text as example
from (
  select person, node from access_jobs where state = 'waiting'
  union all
  select person, node from access_jobs where state = 'dead'
) j
join nodes n on n.id = j.node and n.state = 'serving'
join subscriptions s on s.person = j.person and s.state = 'ended'
"""

JOBS_STAND_STILL = """
select format('%s on %s: %s', j.person, n.name, coalesce(j.error, 'not taken')) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.state = 'waiting' and j.run_at < shop_now() - interval '30 seconds'
"""

JOBS_DEAD = """
select format('%s on %s: %s', j.person, n.name, j.error) as example
from access_jobs j
join nodes n on n.id = j.node and n.state = 'serving'
where j.state = 'dead'
"""

GRANTS_FORGOTTEN = """
select g.order_id::text as example
from grants g
where g.announced_at is null and not exists (
  select from access_jobs j
  join nodes n on n.id = j.node and n.state = 'serving'
  where j.person = g.person and j.state <> 'agreed'
)
"""

PEOPLE_OF_PERIODS = """
select distinct person
from periods
where (handled_at, order_id) > ($1, $2) and (handled_at, order_id) <= ($3, $4)
order by person
"""

PEOPLE_OF_SHORTENINGS = """
select distinct person
from shortenings
where (handled_at, id) > ($1, $2) and (handled_at, id) <= ($3, $4)
order by person
"""

PEOPLE_OF_PAGE = """
select person
from subscriptions
where person > $1 and person <= $2
order by person
"""


async def look_at_folds(tx: Tx, after: Cursor, until: Cursor) -> list[str]:
    return await _broken_folds(await tx.fetch(PEOPLE_OF_PAGE, *after, *until), tx)


async def look_at_late_folds(tx: Tx, after: Cursor, until: Cursor) -> list[str]:
    return await _broken_folds(await tx.fetch(PEOPLE_OF_PERIODS, *after, *until), tx)


async def look_at_shortened_folds(tx: Tx, after: Cursor, until: Cursor) -> list[str]:
    return await _broken_folds(await tx.fetch(PEOPLE_OF_SHORTENINGS, *after, *until), tx)


async def _broken_folds(rows: Sequence[Row], tx: Tx) -> list[str]:
    """Fold the subscriptions of these people again from their purchases."""
    people = [row["person"] for row in rows]
    stored = await subscriptions_of(people, tx)
    return [str(one.person) for one in stored if not _is_its_fold(one)]


def _is_its_fold(stored: StoredSubscription) -> bool:
    few = 0 < len(stored.periods) <= MANY_PERIODS
    return few and fold(stored.periods) == stored.entitlement


A_FOLD = "every subscription is the fold of its periods, by booking time"
WANTED = "every node of its group has the job of a live subscription"

CHECKS = (
    Check("I8", A_FOLD, walk=FEW_SUBSCRIPTIONS, look=look_at_folds),
    Check("I8", A_FOLD, walk=LATE_PERIODS, when="hourly", look=look_at_late_folds),
    Check("I8", A_FOLD, walk=LATE_SHORTENINGS, when="hourly", look=look_at_shortened_folds),
    Check(
        "I6", "every bought order has its subscription and its grant", WITHOUT_SUBSCRIPTION, PERIODS
    ),
    Check("I2", "periods and shortenings are insert-only", PERIODS_MAY_CHANGE),
    Check("I8", "no order is shortened by more than the whole", SHORTENED_TOO_MUCH, SHORTENINGS),
    Check("I6", "every undone order is known within ten minutes", SHORTENS_NOTHING, SHORTENINGS),
    Check("I8", "no live subscription is past its end", LIVE_PAST_THE_END),
    Check("I8", "no ended subscription has its end ahead", ENDED_EARLY),
    Check("I8", WANTED, NOT_WANTED, SUBSCRIPTIONS),
    Check("I8", WANTED, NOT_WANTED_LATELY, PERIODS, when="hourly"),
    Check("I8", "no node has the job of anybody else", WRONGLY_WANTED, JOBS),
    Check("I8", "each node held exactly its people at the last comparison", NODES_DRIFT),
    Check("I8", "every node confirmed each ended subscription", ENDED_UNCONFIRMED),
    Check("I13", "no access job stands still", JOBS_STAND_STILL),
    Check("I13", "there is no dead job", JOBS_DEAD),
    Check("I13", "no reminder is overdue", UNREMINDED),
    Check("I13", "no grant waits without an open job", GRANTS_FORGOTTEN),
)

COUNTS = """
select
  (select count(*) from (select from periods limit 10000) as p) as periods,
  (
    select count(*) from (select from grants where announced_at is not null limit 10000) as g
  ) as orders_granted,
  (select count(*) from (select from subscriptions where state = 'live' limit 10000) as s) as live
"""

BOUGHT = """
select handled_at as page_at, order_id as page_id, order_id::text as key
from periods
where (handled_at, order_id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and handled_at <= shop_now() - $4::float8 * interval '1 second'
order by handled_at, order_id
limit $5
"""

NOT_BOUGHT = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (select from periods p where p.order_id = k.key::uuid)
"""

GRANTED = """
select announced_at as page_at, order_id as page_id, order_id::text as key
from grants
where announced_at is not null
  and not withdrawn
  and (announced_at, order_id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and announced_at <= shop_now() - $4::float8 * interval '1 second'
order by announced_at, order_id
limit $5
"""

NOT_GRANTED = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from grants g
  where g.order_id = k.key::uuid and g.announced_at is not null and not g.withdrawn
)
"""

# The key is the refund, the order and its share in kopecks.
UNDONE = """
select handled_at as page_at, id as page_id, concat_ws(' ', refund, order_id, undone_minor) as key
from shortenings
where (handled_at, id) > (greatest($1, shop_now() - $3::float8 * interval '1 hour'), $2)
  and handled_at <= shop_now() - $4::float8 * interval '1 second'
order by handled_at, id
limit $5
"""

NOT_UNDONE = """
select k.key
from unnest($1::text[]) as k (key)
where not exists (
  select from shortenings s
  where s.refund = split_part(k.key, ' ', 1)::uuid
    and s.order_id = split_part(k.key, ' ', 2)::uuid
    and s.undone_minor = split_part(k.key, ' ', 3)::bigint
)
"""

KINDS = {
    "periods": Kind(BOUGHT, NOT_BOUGHT),
    "granted": Kind(GRANTED, NOT_GRANTED),
    "undone": Kind(UNDONE, NOT_UNDONE),
}


async def answer_audit(query: AuditQuery, database: Database) -> Audit:
    return await audited(database, CHECKS, COUNTS, hours=query.hours, after=query.after)
