"""The nodes, and how far each of them was given back what a restart took from it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db import Database, Tx

NOBODY = UUID(int=0)  # Before every person.


@dataclass(frozen=True, slots=True)
class Node:
    """A panel as a row: where it is and how it is spoken with. Two of the same are the same connection."""

    id: UUID
    name: str
    kind: str
    node_group: str
    address: str
    inbound: str
    link_template: str


SERVING = """
select id, name, kind, node_group, address, inbound, link_template
from nodes
where state = 'serving'
order by added_at, id
"""


async def serving(database: Database) -> list[Node]:
    return [Node(**dict(row)) for row in await database.fetch(SERVING)]


ALONE = "lock table nodes in access exclusive mode"

PLACE = """
insert into nodes (id, name, kind, node_group, address, inbound, link_template, capacity)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do update
set address = excluded.address,
  inbound = excluded.inbound,
  link_template = excluded.link_template
"""


async def place(node: Node, capacity: int, tx: Tx) -> None:
    """Put a node into service, or move one that is.

    It waits until nobody reads the list: whoever decided without this node has committed by then, and the putting-back
    that follows finds his people.
    """
    await tx.execute(ALONE)
    await tx.execute(
        PLACE, node.id, node.name, node.kind, node.node_group, node.address, node.inbound, node.link_template, capacity
    )


INCARNATION = "select incarnation, put_back_after from nodes where id = $1"


async def incarnation_of(node: UUID, database: Database) -> tuple[str | None, bool]:
    """The incarnation that is being served, and whether somebody still has to be put back into it."""
    row = await database.fetchrow(INCARNATION, node)
    return (None, False) if row is None else (row["incarnation"], row["put_back_after"] is not None)


REBORN = """
update nodes
set incarnation = $2,
  put_back_after = $3
where id = $1 and incarnation is distinct from $2
"""


async def reborn(node: UUID, incarnation: str, tx: Tx) -> bool:
    """Note that a node is another one than it was: everybody is to be put back. False when that is known already."""
    return await tx.execute(REBORN, node, incarnation, NOBODY) == "UPDATE 1"


PUTTING_BACK = """
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
    run_at = case when access_jobs.claim is null then now() else access_jobs.run_at end
  where access_jobs.state = 'agreed' or access_jobs.claim is not null
)
select person
from page
order by person desc
limit 1
"""

PUT_BACK_AS_FAR_AS = "update nodes set put_back_after = $2 where id = $1"


async def put_back(node: Node, most: int, tx: Tx) -> bool:
    """Let the jobs of the next people run again whom the node has lost; False when nobody is left to put back.

    Who works on a job now may have written into the node that was, or into the one that is: the generation rises, and
    it is done once more. Dead jobs stay dead. One replica at a time; another finds the place where this one stopped.
    """
    row = await tx.fetchrow(PUTTING_BACK, node.id)
    if row is None:
        return False
    last = await tx.fetchval(PUT_BACK, node.id, node.node_group, row["put_back_after"], most)
    await tx.execute(PUT_BACK_AS_FAR_AS, node.id, last)
    return last is not None


NOW = "select now()"


async def now(database: Database) -> datetime:
    """The database's clock, by which jobs were agreed before a look or after."""
    moment: datetime = await database.fetchval(NOW)
    return moment


LOOKED_AT = """
update nodes
set looked_at = now(),
  missing = $2,
  strangers = $3
where id = $1
"""


async def looked_at(node: UUID, missing: int, strangers: int, tx: Tx) -> None:
    """Record what a look at everybody on the node found."""
    await tx.execute(LOOKED_AT, node, missing, strangers)
