"""The SQL of saved methods: kept once by consent, listed, charged and forgotten."""

from collections.abc import Sequence
from uuid import UUID

from payments.domain.provider import Payment
from payments.domain.saved_methods import MOST_METHODS, SavedMethod, id_of, name_of
from shared.platform.db import Database, Row, Tx, columns

# A consent is used once, so a notice that is repeated brings no forgotten method back. The newest
# invoice of the order tells whether the payer still agrees.
USE_CONSENT = """
update invoices i
set method_saved_at = shop_now()
from unnest($2::uuid[], $3::uuid[]) as paid (invoice, order_id)
join orders o on o.id = paid.order_id
cross join lateral (
  select saves_method
  from invoices
  where order_id = o.id
  order by opened_at desc, id desc
  limit 1
) newest
where i.id = paid.invoice
  and i.order_id = paid.order_id
  and i.acquirer = $1
  and i.saves_method
  and i.method_saved_at is null
  and newest.saves_method
returning i.id, o.person
"""

# One that was saved before stays with its person, also if a payment of another one names it.
KEEP = """
insert into saved_methods (id, name, person, acquirer, method, way, title)
select *
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
  as m (id, name, person, acquirer, method, way, title)
order by acquirer, method
on conflict do nothing
returning person
"""

# A person sees no two buttons that look the same: of such twins the newer one stays.
DROP_BEYOND = """
delete from saved_methods
where id in (
  select one.id
  from unnest($1::uuid[]) as owner (person)
  cross join lateral (
    select id,
      row_number() over (order by saved_at desc, id desc) as place,
      row_number() over (partition by acquirer, way, title order by saved_at desc, id desc) as twin
    from saved_methods
    where person = owner.person
  ) one
  where one.place > $2 or one.twin > 1
  order by one.id
)
"""


async def keep(acquirer: str, paid: Sequence[tuple[UUID, UUID, Payment]], tx: Tx) -> None:
    """Keep the methods that these payments saved, each with its invoice and order.

    Only with the payer's consent, for the person of the order, and once. A refund of the payment
    does not end the consent.
    """
    saved = {invoice: one.method for invoice, _, one in paid if one.method is not None}
    if not saved:
        return
    named = sorted((invoice, order) for invoice, order, one in paid if invoice in saved)
    agreed = await tx.fetch(USE_CONSENT, acquirer, *columns(named, 2))
    rows = []
    for row in agreed:
        method, id_ = saved[row["id"]], id_of(row["id"])
        described = method.id, method.way, method.title
        rows.append((id_, name_of(id_), row["person"], acquirer, *described))
    kept = await tx.fetch(KEEP, *columns(rows, 7)) if rows else []
    if kept:
        await tx.execute(DROP_BEYOND, sorted({row["person"] for row in kept}), MOST_METHODS)


OF_PERSON = """
select id, name, acquirer, way, title
from saved_methods
where person = $1
order by saved_at desc, id desc
limit $2
"""


async def of_person(person: UUID, database: Database) -> list[SavedMethod]:
    """The newest first."""
    rows = await database.fetch(OF_PERSON, person, MOST_METHODS)
    return [method_from(row) for row in rows]


NAMED = "select id, name, acquirer, way, title from saved_methods where person = $1 and name = $2"


async def named(person: UUID, name: str, tx: Tx) -> SavedMethod | None:
    """None for one that was forgotten, or that is another person's."""
    row = await tx.fetchrow(NAMED, person, name)
    return method_from(row) if row else None


def method_from(row: Row) -> SavedMethod:
    return SavedMethod(**dict(row))


USED = "update saved_methods set used_at = shop_now() where id = $1"


async def used(method: UUID, tx: Tx) -> None:
    """It is charged. Comes after the locks of invoices, as `forget` does."""
    await tx.execute(USED, method)


FORGET = "delete from saved_methods where id in (select unnest($1::uuid[]) order by 1)"


async def forget(methods: Sequence[UUID], tx: Tx) -> None:
    await tx.execute(FORGET, list(methods))


FORGET_NAMED = "delete from saved_methods where person = $1 and name = $2"


async def forget_named(person: UUID, name: str, tx: Tx) -> bool:
    """False where the person has no such method."""
    return not (await tx.execute(FORGET_NAMED, person, name)).endswith(" 0")


# The acquirer keeps one as long after its last use.
DROP_UNUSED = """
delete from saved_methods
where id in (
  select id
  from saved_methods
  where used_at < shop_now() - interval '3 years'
  order by used_at
  limit $1
)
"""
