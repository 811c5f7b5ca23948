"""The SQL of debts: what a refund undid although something stayed owed, and how it ended."""

from collections.abc import Sequence
from uuid import UUID

from payments.domain.confirmation import Order
from payments.domain.debts import Debt, Ended
from payments.store.orders import order_from
from shared.platform.db import Database, Tx, columns

MAX_SETTLED_AT_ONCE = 20
"""Debts of a person that one payment settles, the newest ones."""
MAX_BOUGHT_LOOKED_AT = 20

OPEN = """
insert into debts (refund, person)
select *
from unnest($1::uuid[], $2::uuid[]) as d (refund, person)
on conflict do nothing
"""


async def open_debts(opened: Sequence[tuple[UUID, UUID]], tx: Tx) -> None:
    """Refunds with their person. The accounts of the people are locked."""
    if opened:
        await tx.execute(OPEN, *columns(opened, 2))


# Run under the locks of the accounts, behind the transfers.
SETTLE = """
update debts d
set state = 'settled'
from (
  select paid.refund
  from unnest($1::uuid[]) as payer (person)
  join accounts a on a.owner = payer.person
    and a.kind = 'owed'
    and a.currency = 'RUB'
    and a.balance_minor = 0
  cross join lateral (
    select refund
    from debts
    where person = payer.person and state = 'open'
    order by opened_at desc, refund desc
    limit $2
  ) paid
) settled
where d.refund = settled.refund
"""


async def settle(people: Sequence[UUID], tx: Tx) -> None:
    """Those of these people who owe nothing any more have paid their debts."""
    await tx.execute(SETTLE, people, MAX_SETTLED_AT_ONCE)


SETTLED = """
select distinct person
from debts
where state = 'settled'
order by person
limit $1
"""


async def settled(most: int, database: Database) -> list[UUID]:
    """People whose debts wait for the decision what comes back."""
    return [row["person"] for row in await database.fetch(SETTLED, most)]


LOCK_SETTLED = """
select refund, person, opened_at
from debts
where person = $1 and state = 'settled'
order by opened_at desc, refund desc
limit 1
for update
"""


async def lock_settled(person: UUID, tx: Tx) -> Debt | None:
    """The newest settled debt of a person whose accounts are locked.

    Its refund named the sum that pays all debts, and its own orders again.
    """
    row = await tx.fetchrow(LOCK_SETTLED, person)
    return Debt(*row) if row else None


# A refund undoes at most 21 orders. One of which an earlier refund had undone a share is no more
# what it was.
LOST = """
select o.*
from undone_orders u
join orders o on o.id = u.order_id
where u.refund = $1
  and u.undone_minor = o.price_minor
  and o.what = 'subscription'
  and not exists (select from orders again where again.restores = o.id)
order by o.paid_at, o.id
"""


async def lost(refund: UUID, tx: Tx) -> list[Order]:
    """The orders that a refund undid whole and that are not restored, the oldest first."""
    return [order_from(row) for row in await tx.fetch(LOST, refund)]


BOUGHT_SINCE = """
select exists (
  select from (
    select paid_at, state, restores
    from orders
    where person = $1 and what = 'subscription' and paid_at is not null
    order by placed_at desc, id desc
    limit $3
  ) o
  where o.paid_at > $2 and o.state in ('paid', 'partly_refunded') and o.restores is null
)
"""


async def bought_since(debt: Debt, tx: Tx) -> bool:
    """Whether the person has bought anything since the refund, and has it still."""
    arguments = debt.person, debt.opened_at, MAX_BOUGHT_LOOKED_AT
    return bool(await tx.fetchval(BOUGHT_SINCE, *arguments))


INSERT_RESTORING = """
insert into orders (
  id, person, what, plan, months, devices, traffic_bytes, node_group, list_month_minor,
  price_minor, price_stars, placed_at, honoured_until, trace, from_balance, restores
)
select $1, person, what, plan, months, devices, traffic_bytes, node_group, list_month_minor,
  price_minor, price_stars, placed_at, honoured_until, trace, true, id
from orders
where id = $2
"""


async def insert_restoring(order: Order, tx: Tx) -> None:
    """With the age of the order that it restores: orders that were placed since stay open."""
    await tx.execute(INSERT_RESTORING, order.id, order.restores)


REOPEN = "update debts set state = 'open' where refund = $1"


async def reopen(refund: UUID, tx: Tx) -> None:
    """Something is owed again before it was decided what comes back."""
    await tx.execute(REOPEN, refund)


END = "update debts set state = 'ended', because = $2 where refund = $1"


async def end(refund: UUID, because: Ended, tx: Tx) -> None:
    await tx.execute(END, refund, because)


# After 30 days nothing comes back, whatever is paid.
DROP_OLD = """
delete from debts
where (opened_at, refund) in (
  select opened_at, refund
  from debts
  where opened_at < shop_now() - interval '90 days'
  order by opened_at
  limit $1
)
"""
