"""The shares of orders that refunds undid: insert-only rows that a fold reads with the periods."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.contracts.message import derived_id
from shared.platform.db import Tx, columns


@dataclass(frozen=True, slots=True)
class Shortening:
    """A share of an order, `undone_minor` of `price_minor`, that a refund undid."""

    refund: UUID
    order: UUID
    person: UUID
    undone_minor: int
    price_minor: int
    trace: str | None


ADD_SHORTENINGS = """
insert into shortenings (id, refund, order_id, person, undone_minor, price_minor)
select *
from unnest(
  $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[]
) as s (id, refund, order_id, person, undone_minor, price_minor)
order by id
on conflict do nothing
returning id
"""


async def add(shortenings: Sequence[Shortening], tx: Tx) -> list[Shortening]:
    """Write the shares that are new; returns those. An order may be bought later."""
    by_id = {derived_id("shortening", one.refund, one.order): one for one in shortenings}
    rows = [
        (id_, one.refund, one.order, one.person, one.undone_minor, one.price_minor)
        for id_, one in by_id.items()
    ]
    return [by_id[row["id"]] for row in await tx.fetch(ADD_SHORTENINGS, *columns(rows, 6))]


# The order of an undone purchase is not announced any more.
WITHDRAW_GRANTS = """
update grants g
set announced_at = shop_now(), withdrawn = true
from (
  select order_id
  from shortenings
  where person = any($1::uuid[])
  group by order_id
  having sum(undone_minor) >= max(price_minor)
) undone
where g.order_id = undone.order_id and g.announced_at is null
"""


async def withdraw_grants(people: Sequence[UUID], tx: Tx) -> None:
    """Announce no grant of an order of which nothing is left. The subscriptions are locked."""
    await tx.execute(WITHDRAW_GRANTS, people)


SHORTENED_LATELY = """
select distinct s.person
from shortenings s
where s.handled_at > shop_now() - interval '2 minutes'
  and exists (select from periods p where p.order_id = s.order_id)
order by s.person
limit $1
"""


async def shortened_lately(most: int, tx: Tx) -> list[UUID]:
    """People of the last two minutes' refunds, whose order is known."""
    return [row["person"] for row in await tx.fetch(SHORTENED_LATELY, most)]
