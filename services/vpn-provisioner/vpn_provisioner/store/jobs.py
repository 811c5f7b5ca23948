"""Access jobs: the state that each node is to hold for each person, its lease and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared.platform.db import Database, Row, Tx, columns
from vpn_provisioner.domain.attempts import Attempt
from vpn_provisioner.domain.drift import ListedJob
from vpn_provisioner.store import subscriptions


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: the absolute state that the node is to hold, and its generation."""

    person: UUID
    key: UUID = field(repr=False)
    until: datetime
    devices: int | None
    traffic_bytes: int | None
    present: bool
    generation: int
    tries: int
    trace: str | None


WANT = """
insert into access_jobs (person, node, key, until, devices, traffic_bytes, present, trace)
select s.person, n.id, s.key, s.ends_at, s.devices, s.traffic_bytes, true, w.trace
from unnest($1::uuid[], $2::text[]) as w (person, trace)
join subscriptions s on s.person = w.person and s.state = 'live'
join nodes n on n.node_group = s.node_group and n.state = 'serving'
order by s.person, n.id
on conflict on constraint a_person_has_one_job_on_a_node do update
set key = excluded.key,
  until = excluded.until,
  devices = excluded.devices,
  traffic_bytes = excluded.traffic_bytes,
  present = true,
  generation = access_jobs.generation + 1,
  state = 'waiting',
  tries = 0,
  run_at = case when access_jobs.claim is null then shop_now() else access_jobs.run_at end,
  agreed_at = case
    when access_jobs.present and access_jobs.key = excluded.key then access_jobs.agreed_at
  end,
  error = null,
  trace = excluded.trace
"""

UNWANT = """
with unwanted as (
  select j.person, j.node, w.trace
  from unnest($1::uuid[], $2::text[]) as w (person, trace)
  join subscriptions s on s.person = w.person
  join access_jobs j on j.person = s.person and j.present
  join nodes n on n.id = j.node
  where s.state <> 'live' or s.node_group <> n.node_group
  order by j.person, j.node
  for update of j
)
update access_jobs j
set present = false,
  generation = j.generation + 1,
  state = 'waiting',
  tries = 0,
  run_at = case when j.claim is null then shop_now() else j.run_at end,
  agreed_at = null,
  error = null,
  trace = u.trace
from unwanted u
where j.person = u.person and j.node = u.node
"""


async def want(people: Mapping[UUID, str | None], tx: Tx) -> None:
    """Write the present subscriptions of these people, locked before, into their jobs.

    `people` maps each person to a trace. A job in progress keeps its lease: the answer to its old
    generation will not count, and then it runs again.
    """
    await tx.execute(WANT, list(people), list(people.values()))
    await tx.execute(UNWANT, list(people), list(people.values()))


CLAIM = """
with due as (
  select person
  from access_jobs
  where node = $1 and state = 'waiting' and (tries > 0) = $2 and run_at <= shop_now()
  order by run_at
  limit $3
  for update skip locked
)
update access_jobs j
set claim = $4,
  run_at = shop_now() + $5
where j.node = $1 and j.person = any(array(select person from due))
returning
  j.person, j.key, j.until, j.devices, j.traffic_bytes, j.present, j.generation, j.tries, j.trace
"""


async def claim(
    node: UUID, *, failed_before: bool, most: int, token: UUID, lease_s: float, database: Database
) -> list[Job]:
    """Claim due jobs of a node for a lease; no other worker gets them before it ends."""
    rows = await database.fetch(CLAIM, node, failed_before, most, token, timedelta(seconds=lease_s))
    return [Job(**dict(row)) for row in rows]


RENEW = """
update access_jobs
set run_at = shop_now() + $4
where node = $1 and person in (
  select person
  from access_jobs
  where person = any($3::uuid[]) and node = $1 and claim = $2
  order by person
  for no key update
)
"""


async def renew(
    node: UUID, token: UUID, people: Sequence[UUID], *, lease_s: float, database: Database
) -> bool:
    """Renew the lease of these people's jobs; False when another worker has one of them."""
    tag = await database.execute(RENEW, node, token, people, timedelta(seconds=lease_s))
    return _count(tag) == len(people)


AGREE = """
update access_jobs j
set state = 'agreed',
  claim = null,
  tries = 0,
  agreed_at = shop_now(),
  error = null
from unnest($3::uuid[], $4::bigint[]) as a (person, generation)
where j.person = a.person and j.node = $1 and j.claim = $2 and j.generation = a.generation
"""

FAIL = """
update access_jobs j
set state = f.state,
  claim = null,
  tries = j.tries + 1,
  run_at = shop_now() + make_interval(secs => f.after_s),
  error = f.error
from unnest($3::uuid[], $4::bigint[], $5::text[], $6::float8[], $7::text[])
  as f (person, generation, state, after_s, error)
where j.person = f.person and j.node = $1 and j.claim = $2 and j.generation = f.generation
"""

GIVE_BACK = """
update access_jobs
set claim = null,
  run_at = shop_now()
where person = any($3::uuid[]) and node = $1 and claim = $2
"""


async def settle(node: UUID, token: UUID, attempts: Mapping[Job, Attempt], tx: Tx) -> None:
    """Record the attempts of the jobs that were claimed with this token.

    An answer to an older generation does not count: the job is given back and runs again at once.
    A claim that another worker took over stays with that worker.
    """
    await subscriptions.lock([job.person for job in attempts], tx)
    agreed = [
        (job.person, job.generation)
        for job, attempt in attempts.items()
        if attempt.verdict == "agreed"
    ]
    failed = [
        (
            job.person,
            job.generation,
            "dead" if attempt.verdict == "dead" else "waiting",
            attempt.after_s,
            attempt.error,
        )
        for job, attempt in attempts.items()
        if attempt.verdict in ("retry", "dead")
    ]
    settled = 0
    if agreed:
        settled += _count(await tx.execute(AGREE, node, token, *columns(agreed, 2)))
    if failed:
        settled += _count(await tx.execute(FAIL, node, token, *columns(failed, 5)))
    if settled < len(attempts):
        await tx.execute(GIVE_BACK, node, token, [job.person for job in attempts])


RERUN = """
update access_jobs
set generation = generation + 1,
  state = 'waiting',
  run_at = shop_now()
where node = $1 and person = any($2::uuid[]) and state = 'agreed'
"""


async def rerun(node: UUID, people: Sequence[UUID], tx: Tx) -> int:
    """Let agreed jobs of these people run again; returns how many.

    For a node that lost a user of its own, or holds a user again that it removed.
    """
    await subscriptions.lock(people, tx)
    return _count(await tx.execute(RERUN, node, people))


REMOVE_UNKNOWN = """
insert into access_jobs (person, node, key, until, present)
select person, $1, key, shop_now(), false
from unnest($2::uuid[], $3::uuid[]) as s (person, key)
order by person
on conflict on constraint a_person_has_one_job_on_a_node do nothing
"""


async def remove_unknown(node: UUID, keys: Mapping[UUID, UUID], tx: Tx) -> int:
    """Write jobs that remove people who never had a job on this node; returns how many.

    `keys` maps each person to their key there.
    """
    return _count(await tx.execute(REMOVE_UNKNOWN, node, list(keys), list(keys.values())))


# A job that was agreed in the future was agreed before the clock stepped back.
PAGE = """
select person, key, present,
  state = 'agreed' and (agreed_at < $4 or agreed_at > shop_now() + interval '5 seconds') as settled
from access_jobs
where node = $1 and person > $2
order by person
limit $3
"""


async def page(
    node: UUID, after: UUID, most: int, listed_at: datetime, database: Database
) -> list[ListedJob]:
    """So many jobs of a node after this person's, by person.

    `settled` are those that the node agreed with before `listed_at`.
    """
    rows = await database.fetch(PAGE, node, after, most, listed_at)
    return [ListedJob(row["person"], row["key"], row["present"], row["settled"]) for row in rows]


DEAD = """
select j.person, n.name as node, j.present, j.tries, j.error, j.run_at as died_at, j.trace
from access_jobs j
join nodes n on n.id = j.node
where j.state = 'dead' and ($1::uuid is null or j.person = $1)
order by j.run_at, j.person
limit $2
"""


async def dead(person: UUID | None, most: int, database: Database) -> list[Row]:
    """Dead jobs, the oldest first. A job died at its last try."""
    return await database.fetch(DEAD, person, most)


REPLAY = """
with dead as (
  select person, node
  from access_jobs
  where state = 'dead' and ($1::uuid is null or person = $1)
  order by person, node
  limit $2
  for update
)
update access_jobs j
set state = 'waiting',
  tries = 0,
  run_at = shop_now()
from dead d
where j.person = d.person and j.node = d.node
"""


async def replay(person: UUID | None, most: int, tx: Tx) -> int:
    """Let dead jobs run again, of one person or of everybody; returns how many."""
    return _count(await tx.execute(REPLAY, person, most))


# Up to 100 000 of each.
COUNTS = """
select n.name, n.capacity,
  (
    select count(*)
    from (
      select from access_jobs where node = n.id and state = 'waiting' limit 100000
    ) as w
  ) as waiting,
  (
    select count(*)
    from (select from access_jobs where node = n.id and state = 'dead' limit 100000) as d
  ) as dead
from nodes n
where n.state = 'serving'
order by n.name
"""


async def counts(database: Database) -> list[tuple[str, int, int, int]]:
    """For each node its name, its capacity, and the numbers of waiting and of dead jobs."""
    return [
        (row["name"], row["capacity"], row["waiting"], row["dead"])
        for row in await database.fetch(COUNTS)
    ]


# A comparison finds a node that holds such a person again, and removes unknown people.
DROP_GONE_JOBS = """
delete from access_jobs
where (person, node) in (
  select person, node
  from access_jobs
  where state = 'agreed' and not present and agreed_at < shop_now() - interval '90 days'
  order by agreed_at
  limit $1
  for update skip locked
)
"""


def _count(tag: str) -> int:
    """The number of changed rows, from PostgreSQL's command tag."""
    return int(tag.split()[-1])
