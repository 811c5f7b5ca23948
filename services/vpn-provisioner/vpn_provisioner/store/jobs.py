"""What each node is to hold for each person, who is working on it, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared.db import Database, Row, Tx, columns
from vpn_provisioner.attempts import Attempt
from vpn_provisioner.drift import Listed
from vpn_provisioner.store import subscriptions


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was taken: what is wanted of the node, absolutely, in which generation."""

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
  run_at = case when access_jobs.claim is null then now() else access_jobs.run_at end,
  agreed_at = case when access_jobs.present and access_jobs.key = excluded.key then access_jobs.agreed_at end,
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
  run_at = case when j.claim is null then now() else j.run_at end,
  agreed_at = null,
  error = null,
  trace = u.trace
from unwanted u
where j.person = u.person and j.node = u.node
"""


async def want(people: Mapping[UUID, str | None], tx: Tx) -> None:
    """Write into the jobs what the subscriptions of these people, locked before, have become; `people` to traces.

    A job that is being worked on keeps its lease: the answer to the old wish will not count, and then it runs again.
    """
    await tx.execute(WANT, list(people), list(people.values()))
    await tx.execute(UNWANT, list(people), list(people.values()))


CLAIM = """
with due as (
  select person, node
  from access_jobs
  where node = $1 and state = 'waiting' and (tries > 0) = $2 and run_at <= now()
  order by run_at
  limit $3
  for update skip locked
)
update access_jobs j
set claim = $4,
  run_at = now() + $5
from due d
where j.person = d.person and j.node = d.node
returning j.person, j.key, j.until, j.devices, j.traffic_bytes, j.present, j.generation, j.tries, j.trace
"""


async def claim(
    node: UUID, *, failed_before: bool, most: int, token: UUID, lease_s: float, database: Database
) -> list[Job]:
    """Take due jobs of a node for a lease; nobody else gets them before it ends."""
    rows = await database.fetch(CLAIM, node, failed_before, most, token, timedelta(seconds=lease_s))
    return [Job(**dict(row)) for row in rows]


RENEW = """
update access_jobs
set run_at = now() + $4
where node = $1 and person in (
  select person
  from access_jobs
  where person = any($3::uuid[]) and node = $1 and claim = $2
  order by person
  for no key update
)
"""


async def renew(node: UUID, token: UUID, people: Sequence[UUID], *, lease_s: float, database: Database) -> bool:
    """Hold these people's jobs for another lease; False when somebody else has one of them."""
    return _count(await database.execute(RENEW, node, token, people, timedelta(seconds=lease_s))) == len(people)


AGREE = """
update access_jobs j
set state = 'agreed',
  claim = null,
  tries = 0,
  agreed_at = now(),
  error = null
from unnest($3::uuid[], $4::bigint[]) as a (person, generation)
where j.person = a.person and j.node = $1 and j.claim = $2 and j.generation = a.generation
"""

FAIL = """
update access_jobs j
set state = f.state,
  claim = null,
  tries = j.tries + 1,
  run_at = now() + make_interval(secs => f.after_s),
  error = f.error
from unnest($3::uuid[], $4::bigint[], $5::text[], $6::float8[], $7::text[])
  as f (person, generation, state, after_s, error)
where j.person = f.person and j.node = $1 and j.claim = $2 and j.generation = f.generation
"""

GIVE_BACK = """
update access_jobs
set claim = null,
  run_at = now()
where person = any($3::uuid[]) and node = $1 and claim = $2
"""


async def settle(node: UUID, token: UUID, attempts: Mapping[Job, Attempt], tx: Tx) -> None:
    """Write down what came of the jobs that were taken with this token.

    An answer to an older generation does not count: the job is given back and runs again at once. A claim that was
    taken over meanwhile is left to whoever has it.
    """
    await subscriptions.lock([job.person for job in attempts], tx)
    agreed = [(job.person, job.generation) for job, attempt in attempts.items() if attempt.verdict == "agreed"]
    failed = [
        (job.person, job.generation, "dead" if attempt.verdict == "dead" else "waiting", attempt.after_s, attempt.error)
        for job, attempt in attempts.items()
        if attempt.verdict in ("again", "dead")
    ]
    settled = 0
    if agreed:
        settled += _count(await tx.execute(AGREE, node, token, *columns(agreed, 2)))
    if failed:
        settled += _count(await tx.execute(FAIL, node, token, *columns(failed, 5)))
    if settled < len(attempts):
        await tx.execute(GIVE_BACK, node, token, [job.person for job in attempts])


AGAIN = """
update access_jobs
set generation = generation + 1,
  state = 'waiting',
  run_at = now()
where node = $1 and person = any($2::uuid[]) and state = 'agreed'
"""


async def again(node: UUID, people: Sequence[UUID], tx: Tx) -> int:
    """The node has lost, or kept, what it agreed with: let the jobs of these people run again. Answers how many do."""
    await subscriptions.lock(people, tx)
    return _count(await tx.execute(AGAIN, node, people))


SHUT_OUT = """
insert into access_jobs (person, node, key, until, present)
select person, $1, key, now(), false
from unnest($2::uuid[], $3::uuid[]) as s (person, key)
order by person
on conflict on constraint a_person_has_one_job_on_a_node do nothing
"""


async def shut_out(node: UUID, strangers: Mapping[UUID, UUID], tx: Tx) -> int:
    """Want people gone from a node on which nobody ever wanted them; `strangers` to the keys they have there."""
    return _count(await tx.execute(SHUT_OUT, node, list(strangers), list(strangers.values())))


JOBS_PAGE = """
select person, key, present, state = 'agreed' and agreed_at < $4 as settled
from access_jobs
where node = $1 and person > $2
order by person
limit $3
"""


async def jobs_page(node: UUID, after: UUID, most: int, looked_at: datetime, database: Database) -> list[Listed]:
    """So many jobs of a node after this person's, by person; `settled` are those agreed before `looked_at`."""
    rows = await database.fetch(JOBS_PAGE, node, after, most, looked_at)
    return [Listed(row["person"], row["key"], row["present"], row["settled"]) for row in rows]


DEAD = """
select j.person, n.name as node, j.present, j.tries, j.error, j.run_at as died_at, j.trace
from access_jobs j
join nodes n on n.id = j.node
where j.state = 'dead' and ($1::uuid is null or j.person = $1)
order by j.run_at, j.person
limit $2
"""


async def dead(person: UUID | None, most: int, database: Database) -> list[Row]:
    """Jobs that were given up, the oldest first; their last try is the moment they died."""
    return await database.fetch(DEAD, person, most)


REVIVE = """
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
  run_at = now()
from dead d
where j.person = d.person and j.node = d.node
"""


async def revive(person: UUID | None, most: int, tx: Tx) -> int:
    """Let dead jobs run again, of one person or of everybody; answers how many."""
    return _count(await tx.execute(REVIVE, person, most))


COUNTS = """
select n.name, n.capacity,
  (select count(*) from access_jobs j where j.node = n.id and j.state = 'waiting') as waiting,
  (select count(*) from access_jobs j where j.node = n.id and j.state = 'dead') as dead
from nodes n
where n.state = 'serving'
order by n.name
"""


async def counts(database: Database) -> list[tuple[str, int, int, int]]:
    """Per node: its name and capacity, and how many of its jobs wait and are dead."""
    return [(row["name"], row["capacity"], row["waiting"], row["dead"]) for row in await database.fetch(COUNTS)]


def _count(tag: str) -> int:
    """How many rows a statement changed, by PostgreSQL's command tag."""
    return int(tag.split()[-1])
