"""The SQL of orders and their invoices: placing, checkout, the locks of a batch, and the end.

A person may have any number of orders, so every statement names the rows that it reads, or takes
the newest few of a person by an index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from payments.domain.checkout import Offer
from payments.domain.confirmation import Invoice, Order
from payments.domain.ledger import Holdings
from shared.contracts.payments import OrderedWhat, PlanTerms, Way
from shared.platform.db import Database, Row, Tx, columns

Named = tuple[UUID, UUID]
"""An invoice and its order, as a payload names them."""

MAX_OLDER_AT_ONCE = 100
"""Older orders of a person that one order supersedes, or one purchase closes."""
MAX_CHARGES_LOOKED_AT = 20
"""Payable orders of a person whose charges hold up the charge of another one."""
MAX_PART_PAID = 20
"""Orders of a person whose received parts settle no debt: each needs a payment of its own."""

INSERT_ORDER = """
insert into orders (
  id, person, what, plan, months, devices, traffic_bytes, node_group, list_month_minor,
  price_minor, price_stars, placed_at, honoured_until, trace
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, shop_now(), shop_now() + $12::interval, $13)
"""


@dataclass(frozen=True)
class Wanted:
    """The frozen part of an order. `terms` is None for a top-up."""

    terms: PlanTerms | None
    price_minor: int
    price_stars: int | None


async def insert_order(
    order: UUID, person: UUID, wanted: Wanted, honoured_for: timedelta, trace: str | None, tx: Tx
) -> None:
    terms = wanted.terms
    await tx.execute(
        INSERT_ORDER,
        order,
        person,
        "subscription" if terms else "topup",
        terms and terms.plan,
        terms and terms.months,
        terms and terms.devices,
        terms and terms.traffic_bytes,
        terms and terms.node_group,
        terms and terms.list_month_minor,
        wanted.price_minor,
        wanted.price_stars,
        honoured_for,
        trace,
    )


# Read first and locked afterwards: an order that is not open needs no lock. An order that a payment
# holds is left to it. Only older orders: a person who places two at the same time keeps both open.
SUPERSEDE_OLDER = """
with older as (
  select id
  from orders
  where state = 'open'
    and id in (
      select id
      from orders
      where person = $1
        and what = $4
        and state in ('open', 'superseded')
        and (placed_at, id) < (shop_now(), $2::uuid)
      order by placed_at desc, id desc
      limit $3
    )
  for update skip locked
)
update orders o
set state = 'superseded'
from older
where o.id = older.id
returning o.id
"""

# Of its own, under the locks of the orders: it sees an invoice that was opened meanwhile.
CLOSE_INVOICES = """
update invoices
set state = 'superseded'
where order_id = any($1::uuid[]) and state in ('asking', 'open')
"""


async def supersede_older(person: UUID, order: UUID, what: OrderedWhat, tx: Tx) -> None:
    """The order that is placed now replaces the person's older open orders of its kind.

    Money that comes for them late still buys, until a newer order is paid.
    """
    older = await tx.fetch(SUPERSEDE_OLDER, person, order, MAX_OLDER_AT_ONCE, what)
    if older:
        await tx.execute(CLOSE_INVOICES, [row["id"] for row in older])


INSERT_INVOICE = """
with older as (
  update invoices set state = 'superseded' where order_id = $2 and state in ('asking', 'open')
)
insert into invoices (
  id, order_id, way, acquirer, asked_minor, asked_currency, state, opened_at, expires_at,
  worth_minor, saves_method, saved_method
)
select $1, $2, $3, $4, $5, $6, $7, shop_now(),
  least(shop_now() + $8::interval, o.honoured_until), $9, $10, $11
from orders o
where o.id = $2
returning id, state, reason, pay_url, expires_at,
  extract(epoch from expires_at - shop_now())::int as expires_in_s
"""


@dataclass(frozen=True)
class Asked:
    """The amount of an invoice, and its worth in kopecks.

    `method` is the saved one that it charges. `saves` is the payer's consent to save the method
    that pays it; None where it cannot be saved.
    """

    way: Way
    acquirer: str
    amount_minor: int
    currency: str
    worth_minor: int
    saves: bool | None = None
    method: UUID | None = None


async def insert_invoice(
    invoice: UUID, order: UUID, asked: Asked, state: str, lives_for: timedelta, tx: Tx
) -> Row:
    """Open an invoice in place of the order's present one; returns its row.

    `expires_in_s` are the seconds until `expires_at`.
    """
    row = await tx.fetchrow(
        INSERT_INVOICE,
        invoice,
        order,
        asked.way,
        asked.acquirer,
        asked.amount_minor,
        asked.currency,
        state,
        lives_for,
        asked.worth_minor,
        asked.saves is True,
        asked.method,
    )
    assert row is not None, "an insert that returns"
    return row


TO_PAY = """
select *, shop_now() + $2::interval > honoured_until as too_old
from orders
where id = $1
for update
"""


async def to_pay(order: UUID, least: timedelta, tx: Tx) -> tuple[Order | None, int | None, bool]:
    """The order, locked; its price in Stars; and whether it is too old to be asked for.

    It is too old when less than `least` is left of the time for which its price is honoured.
    """
    row = await tx.fetchrow(TO_PAY, order, least)
    if row is None:
        return None, None, True
    return order_from(row), row["price_stars"], row["too_old"]


ORDER_SEEN = """
select *, shop_now() + $2::interval > honoured_until as too_old
from orders
where id = $1
"""


async def seen(
    order: UUID, least: timedelta, database: Database
) -> tuple[Order | None, int | None, bool]:
    """The same as `to_pay`, unlocked: for a screen."""
    row = await database.fetchrow(ORDER_SEEN, order, least)
    if row is None:
        return None, None, True
    return order_from(row), row["price_stars"], row["too_old"]


# Read under the lock of the order, so that it holds the money of a booking that was waited for.
HELD = """
select kind, balance_minor
from accounts
where owner = $1 and kind in ('wallet', 'earned') and currency = 'RUB'
"""


async def held(person: UUID, tx: Tx | Database) -> Holdings:
    """The balances of a person, unlocked: enough to ask for money, not to spend any."""
    found = {row["kind"]: row["balance_minor"] for row in await tx.fetch(HELD, person)}
    return Holdings(person, found.get("wallet", 0), found.get("earned", 0))


BEING_BOOKED = """
select exists (
  select from invoices where id = any($1::uuid[]) and order_id = $2 and received_minor = 0
)
"""


async def being_booked(charged: Sequence[UUID], order: UUID, tx: Tx) -> bool:
    """Whether money for one of these charged invoices of the order is still on its way."""
    return bool(await tx.fetchval(BEING_BOOKED, list(charged), order))


SET_PUBLISHED_AS = "update orders set published_as = $2 where id = $1"


async def set_published_as(order: UUID, event: UUID, tx: Tx) -> None:
    """The event of a purchase that no receipt paid for."""
    await tx.execute(SET_PUBLISHED_AS, order, event)


REOPEN = """
update orders
set state = 'open', from_balance = $2
where id = $1 and (state = 'superseded' or from_balance <> $2)
"""


async def reopen(order: UUID, tx: Tx, *, from_balance: bool) -> None:
    """The person wants this order after all. A newer one stays open beside it."""
    await tx.execute(REOPEN, order, from_balance)


NEWEST_INVOICE = """
select id, way, asked_minor, worth_minor, state, reason, received_minor, pay_url, expires_at,
  saves_method, saved_method,
  extract(epoch from expires_at - shop_now())::int as expires_in_s
from invoices
where order_id = $1
order by opened_at desc, id desc
limit 1
"""


async def newest_invoice(order: UUID, tx: Tx) -> Row | None:
    """To be read under the lock of the order. `expires_in_s` may be negative."""
    return await tx.fetchrow(NEWEST_INVOICE, order)


# The charge may pass though a newer invoice has superseded this one, or its time is over. It is
# always the newest one: as long as this answers, no other is placed.
CHARGE_UNDER_WAY = """
select i.*, extract(epoch from i.expires_at - shop_now())::int as expires_in_s
from (
  select *
  from invoices
  where order_id = $1 and saved_method is not null
  order by opened_at desc, id desc
  limit 1
) i
where i.state <> 'paid' and exists (select from invoice_jobs where invoice = i.id)
"""


async def charge_under_way(order: UUID, tx: Tx) -> Row | None:
    """The charge of a saved method for this order, of which nobody knows the end yet.

    To be read under the lock of the order.
    """
    return await tx.fetchrow(CHARGE_UNDER_WAY, order)


# The newest payable orders of a person. A charge that was never asked for is not under way: its
# invoice was superseded with its order.
CHARGED_ELSEWHERE = """
select exists (
  select from (
    select id
    from orders
    where person = $1 and what = $2 and state in ('open', 'superseded') and id <> $3
    order by placed_at desc, id desc
    limit $4
  ) other
  cross join lateral (
    select id, state
    from invoices
    where order_id = other.id and saved_method is not null
    order by opened_at desc, id desc
    limit 1
  ) charge
  where charge.state <> 'paid'
    and exists (
      select from invoice_jobs where invoice = charge.id and asked_at is not null
    )
)
"""


async def charged_elsewhere(order: Order, tx: Tx) -> bool:
    """Whether a saved method is charged for another order of the same kind, to an unknown end.

    A charge has no page that its person could leave unpaid: the second one would be taken, too.
    """
    arguments = order.person, order.what, order.id, MAX_CHARGES_LOOKED_AT
    return bool(await tx.fetchval(CHARGED_ELSEWHERE, *arguments))


INVOICE_OF = """
select id, order_id, way, acquirer, asked_minor, asked_currency, worth_minor, state, reason,
  pay_url, expires_at, saves_method, saved_method,
  extract(epoch from expires_at - shop_now())::int as expires_in_s
from invoices
where id = $1
"""

ORDER_OF = "select * from orders where id = $1"


async def invoice_of(invoice: UUID, database: Database) -> tuple[Order, Row] | None:
    """An invoice with its order. None for an unknown one."""
    row = await database.fetchrow(INVOICE_OF, invoice)
    order = await database.fetchrow(ORDER_OF, row["order_id"]) if row else None
    return (order_from(order), row) if row and order else None


PEOPLE_OF = "select id, person, trace from orders where id = any($1::uuid[])"


async def people_of(ids: Sequence[UUID], tx: Tx) -> dict[UUID, tuple[UUID, str | None]]:
    """The person and the trace of each of these orders. Neither ever changes."""
    rows = await tx.fetch(PEOPLE_OF, list(ids))
    return {row["id"]: (row["person"], row["trace"]) for row in rows}


END_AT_PROVIDER = """
update invoices i
set state = case when i.state in ('asking', 'open') then 'expired' else i.state end,
  reason = coalesce(i.reason, ended.reason)
from (
  select known.id, known.state as was, e.reason
  from unnest($2::text[], $3::text[]) as e (reference, reason)
  join invoices known on known.acquirer = $1 and known.reference = e.reference
  where known.state <> 'paid'
  order by known.id
  for update of known
) ended
where i.id = ended.id
returning i.id, i.order_id, i.saved_method, ended.reason, ended.was = 'open' as was_open
"""


@dataclass(frozen=True)
class Ended:
    """An invoice that its provider has ended. `was_open`: a person could pay it until now."""

    invoice: UUID
    order: UUID
    saved_method: UUID | None
    reason: str
    was_open: bool


async def end_at_provider(acquirer: str, ended: Sequence[tuple[str, str]], tx: Tx) -> list[Ended]:
    """These invoices, by their references, can no longer be paid at their provider."""
    rows = await tx.fetch(END_AT_PROVIDER, acquirer, *columns(ended, 2))
    return [Ended(*row) for row in rows]


# The limit keeps the lookups by index also in a plan that was made while the tables were empty.
OFFERS = """
select named.invoice, named.order_id, offer.*
from unnest($1::uuid[], $2::uuid[]) as named (invoice, order_id)
cross join lateral (
  select o.person, o.state, i.asked_minor, i.asked_currency,
    i.state in ('asking', 'superseded') as superseded,
    shop_now() > least(i.expires_at, o.honoured_until) as expired
  from invoices i
  join orders o on o.id = i.order_id
  where i.id = named.invoice and o.id = named.order_id
  limit 1
) offer
"""


async def offers(named: Sequence[Named], database: Database) -> dict[Named, Offer]:
    """Invoices with their orders, for checkouts. Those that do not belong together are left out."""
    rows = await database.fetch(OFFERS, *columns(named, 2))
    return {
        (row["invoice"], row["order_id"]): Offer(
            row["person"],
            row["state"],
            row["asked_minor"],
            row["asked_currency"],
            superseded=row["superseded"],
            expired=row["expired"],
        )
        for row in rows
    }


# The named orders, and the newest orders that have received a part. Others need no lock.
LOCK_ORDERS = """
select *
from orders
where id in (
  select unnest($1::uuid[])
  union all
  select part.id
  from unnest($2::uuid[]) as payer (person)
  cross join lateral (
    select id
    from orders
    where person = payer.person and state in ('open', 'superseded') and received_minor > 0
    order by placed_at desc, id desc
    limit $3
  ) part
)
order by id
for update
"""


async def lock_orders(ids: Sequence[UUID], payers: Sequence[UUID], tx: Tx) -> dict[UUID, Order]:
    """By id: these orders, and the newest part-paid orders of these payers, locked."""
    rows = await tx.fetch(LOCK_ORDERS, list(ids), list(payers), MAX_PART_PAID)
    return {row["id"]: order_from(row) for row in rows}


def order_from(row: Row) -> Order:
    return Order(
        row["id"],
        row["person"],
        row["price_minor"],
        row["received_minor"],
        row["state"],
        terms_from(row) if row["what"] == "subscription" else None,
        row["placed_at"],
        row["honoured_until"],
        row["trace"],
        row["from_balance"],
        row["restores"],
    )


def terms_from(row: Row) -> PlanTerms:
    """Of an order, or of a price of the catalogue."""
    return PlanTerms(
        plan=row["plan"],
        months=row["months"],
        devices=row["devices"],
        traffic_bytes=row["traffic_bytes"],
        node_group=row["node_group"],
        list_month_minor=row["list_month_minor"],
    )


INVOICES = """
select id, order_id, asked_minor, asked_currency, received_minor, worth_minor
from invoices
where id = any($1::uuid[])
"""


async def invoices(ids: Sequence[UUID], tx: Tx) -> dict[UUID, Invoice]:
    """These invoices by id, to be read under the locks of their orders: they need none."""
    return {row["id"]: Invoice(*row) for row in await tx.fetch(INVOICES, list(ids))}


# To be read under the locks of the accounts: every booking of a receipt holds its payer's wallet,
# so no received part changes meanwhile.
RECEIVED_PARTS = """
select part.person, part.id, part.received_minor
from unnest($1::uuid[]) as owing (person)
cross join lateral (
  select person, id, received_minor
  from orders
  where person = owing.person and state in ('open', 'superseded') and received_minor > 0
  order by placed_at desc, id desc
  limit $2
) part
order by part.id
"""


async def received_parts(people: Sequence[UUID], tx: Tx) -> list[tuple[UUID, UUID, int]]:
    """The parts that the newest orders of these people have received: person, order, kopecks."""
    rows = await tx.fetch(RECEIVED_PARTS, list(people), MAX_PART_PAID)
    return [(row["person"], row["id"], row["received_minor"]) for row in rows]


EXPIRE = """
with due as (
  select id
  from orders
  where state in ('open', 'superseded') and honoured_until < shop_now()
  order by honoured_until
  limit $1
  for update skip locked
), expired as (
  update orders o
  set state = 'expired'
  from due
  where o.id = due.id
), withdrawn as (
  update invoices i
  set state = 'expired'
  from due
  where i.order_id = due.id and i.state in ('asking', 'open')
)
select count(*) from due
"""


async def expire(most: int, database: Database) -> int:
    """Expire orders whose price is no longer honoured, the oldest first, with their invoices.

    Returns how many there were.
    """
    expired: int = await database.fetchval(EXPIRE, most)
    return expired


# A booking is written under the lock of the order that its payload names, and a resolution under
# that of its order, so none appears here meanwhile. The foreign keys of both hold the same.
PRUNE = """
with due as (
  select id
  from orders
  where state in ('closed', 'expired') and not kept and honoured_until < shop_now() - $1::interval
  order by honoured_until
  limit $2
  for update skip locked
), known as (
  select id
  from due
  where exists (select from bookings b where b.order_id = due.id)
    or exists (select from resolutions s where s.order_id = due.id)
    or exists (
      select from invoices i join bookings b on b.invoice = i.id where i.order_id = due.id
    )
), kept as (
  update orders o
  set kept = true
  from known
  where o.id = known.id
), withdrawn as (
  delete from invoices where order_id in (select id from due except select id from known)
)
delete from orders where id in (select id from due except select id from known)
"""


async def prune(after: timedelta, most: int, database: Database) -> int:
    """Delete orders that ended so long ago, the oldest first, with their invoices.

    An order stays for ever if a booking or a resolution names it. Returns how many were deleted.
    """
    return int((await database.execute(PRUNE, after, most)).split()[-1])
