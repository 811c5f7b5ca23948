"""The nodes, their incarnations, and how far their people were put back after a restart."""

from datetime import datetime
from uuid import UUID

from shared.platform.db import Database, Tx
from vpn_provisioner.domain.nodes import Node

BEFORE_ALL = UUID(int=0)  # The cursor before the first person.


SERVING = """
select id, name, kind, node_group, address, inbound, link_template
from nodes
where state = 'serving'
order by added_at, id
"""


async def serving(database: Database) -> list[Node]:
    return [Node(**dict(row)) for row in await database.fetch(SERVING)]


LOCK_NODES = "lock table nodes in access exclusive mode"

LIKE_IT = """
select name
from nodes
where id <> $1 and (name = $2 or (address = $3 and inbound = $4))
order by name
limit 1
"""

REGISTER = """
insert into nodes (id, name, kind, node_group, address, inbound, link_template, capacity)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do update
set address = excluded.address,
  inbound = excluded.inbound,
  link_template = excluded.link_template
"""


async def register(node: Node, capacity: int, tx: Tx) -> str | None:
    """Put a node into service, or move one that is in service.

    Changes nothing when another row has its address and inbound, or its name: returns that name.
    It waits until no transaction reads the list. A transaction that decided without this node has
    committed by then, and putting back, which follows, finds its people.
    """
    await tx.execute(LOCK_NODES)
    like_it: str | None = await tx.fetchval(LIKE_IT, node.id, node.name, node.address, node.inbound)
    if like_it is not None:
        return like_it
    await tx.execute(
        REGISTER,
        node.id,
        node.name,
        node.kind,
        node.node_group,
        node.address,
        node.inbound,
        node.link_template,
        capacity,
    )
    return None


RETIRED = "select exists (select from nodes where id = $1 and state = 'retired')"


async def is_retired(node: UUID, database: Database) -> bool:
    retired: bool = await database.fetchval(RETIRED, node)
    return retired


INCARNATION = "select incarnation, put_back_after from nodes where id = $1"


async def incarnation_of(node: UUID, database: Database) -> tuple[str | None, bool]:
    """The recorded incarnation, and whether people still have to be put back into it."""
    row = await database.fetchrow(INCARNATION, node)
    return (None, False) if row is None else (row["incarnation"], row["put_back_after"] is not None)


RECORD_INCARNATION = """
update nodes
set incarnation = $2,
  put_back_after = $3
where id = $1 and incarnation is distinct from $2
"""


async def record_incarnation(node: UUID, incarnation: str, tx: Tx) -> bool:
    """Record a new incarnation: everybody is to be put back. False when it is recorded already."""
    return await tx.execute(RECORD_INCARNATION, node, incarnation, BEFORE_ALL) == "UPDATE 1"


PUT_BACK_CURSOR = """
select put_back_after
from nodes
where id = $1 and put_back_after is not null
for no key update skip locked
"""

PUT_BACK = """
with page as (
  select person, key, ends_at, devices, traffic_bytes
  from subscriptions
  where node_group = $2 and state = 'live' and person > $3
  order by person
  limit $4
  for update
), wanted as (
  insert into access_jobs (person, node, key, until, devices, traffic_bytes, present)
  select person, $1, key, ends_at, devices, traffic_bytes, true
  from page
  order by person
  on conflict on constraint a_person_has_one_job_on_a_node do update
  set generation = access_jobs.generation + 1,
    state = 'waiting',
    run_at = case when access_jobs.claim is null then shop_now() else access_jobs.run_at end
  where access_jobs.state = 'agreed' or access_jobs.claim is not null
)
select person
from page
order by person desc
limit 1
"""

MOVE_CURSOR = "update nodes set put_back_after = $2 where id = $1"


async def put_back(node: Node, most: int, tx: Tx) -> bool:
    """Let the jobs of the next page of people run again; False when nobody is left to put back.

    A worker with a claimed job may have written into the old incarnation or into the new one: the
    generation rises, and the job runs once more. Dead jobs stay dead. One replica works at a time;
    another one continues where it stopped.
    """
    row = await tx.fetchrow(PUT_BACK_CURSOR, node.id)
    if row is None:
        return False
    last = await tx.fetchval(PUT_BACK, node.id, node.node_group, row["put_back_after"], most)
    await tx.execute(MOVE_CURSOR, node.id, last)
    return last is not None


NOW = "select shop_now()"


async def now(database: Database) -> datetime:
    """The database's clock: it decides whether a job was agreed before a listing or after it."""
    moment: datetime = await database.fetchval(NOW)
    return moment


RECORD_COMPARISON = """
update nodes
set compared_at = shop_now(),
  missing = $2,
  unwanted = $3
where id = $1
"""


async def record_comparison(node: UUID, missing: int, unwanted: int, tx: Tx) -> None:
    """Record the drift that a comparison of all users on the node found."""
    await tx.execute(RECORD_COMPARISON, node, missing, unwanted)
