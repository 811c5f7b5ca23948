"""The SQL of receipts for the tax office: their registration and its outcome."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from payments.domain import fiscal
from payments.domain.fiscal import Advance, Spent, Split, Terms
from payments.domain.provider import FiscalKind, FiscalReceipt, Payment
from shared.contracts.message import derived_id
from shared.platform.db import Database, Row, Tx, columns

MAX_ADVANCES = 100
"""Open advances of one person that their purchases use at once, the oldest first."""

ASK = """
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, invoice, service_minor, advance_minor,
  email, item, subject, vat_code, tax_system, state
)
values ($1, $2, 'payment', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'asked')
"""


async def ask(
    invoice: UUID, acquirer: str, person: UUID, order: UUID, split: Split, terms: Terms, tx: Tx
) -> None:
    """The receipt that goes with the payment of this invoice. Later changes of `terms` miss it."""
    id_ = derived_id("fiscal receipt", invoice)
    named = id_, acquirer, person, order, invoice
    await tx.execute(ASK, *named, split.service_minor, split.advance_minor, *terms)


OF_INVOICES = """
select invoice, email, item, subject, vat_code, tax_system, service_minor, advance_minor
from fiscal_receipts
where invoice = any($1::uuid[]) and email is not null
"""


async def of_invoices(invoices: Sequence[UUID], database: Database) -> dict[UUID, FiscalReceipt]:
    rows = await database.fetch(OF_INVOICES, list(invoices))
    return {row["invoice"]: receipt_from(row) for row in rows}


def receipt_from(row: Row) -> FiscalReceipt:
    return FiscalReceipt(
        row["email"],
        row["item"],
        row["subject"],
        row["vat_code"],
        row["tax_system"],
        row["service_minor"],
        row["advance_minor"],
    )


# Rows are locked in the order of their ids. A repeat finds none that waits.
PAID = """
with told as (
  select f.id, t.reference, t.registration
  from unnest($2::uuid[], $3::text[], $4::text[]) as t (invoice, reference, registration)
  join fiscal_receipts f on f.invoice = t.invoice
  where f.acquirer = $1 and f.state = 'asked'
  order by f.id
  for update of f
)
update fiscal_receipts f
set payment = t.reference,
  reference = t.reference,
  rest_minor = f.advance_minor,
  email = null,
  state = case t.registration
    when 'pending' then 'registering'
    when 'succeeded' then 'registered'
    else 'failed'
  end,
  reason = case
    when t.registration = 'canceled' then 'canceled'
    when t.registration is null then 'not_sent'
  end,
  due_at = shop_now() + $5::interval
from told t
where f.id = t.id
"""


async def paid(acquirer: str, invoices: Sequence[tuple[UUID, Payment]], tx: Tx) -> None:
    """These payments succeeded. From now on an advance among them can be offset."""
    told = [(invoice, one.reference, one.registration) for invoice, one in invoices]
    pause = timedelta(seconds=fiscal.pause_of_registration_s(0))
    await tx.execute(PAID, acquirer, *columns(told, 3), pause)


# To be read under the locks of the accounts: every purchase of a person holds their wallet.
OPEN_ADVANCES = """
select f.id, f.person, f.rest_minor
from unnest($1::uuid[]) as p (person)
cross join lateral (
  select id, person, rest_minor, made_at
  from fiscal_receipts
  where person = p.person and rest_minor > 0
  order by made_at, id
  limit $2
  for update
) f
order by f.person, f.made_at, f.id
"""

WRITE_OFFSETS = """
with used as (
  update fiscal_receipts f
  set rest_minor = u.rest_minor
  from unnest($1::uuid[], $2::bigint[]) as u (id, rest_minor)
  where f.id = u.id
)
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, payment, service_minor, advance_minor,
  item, subject, vat_code, tax_system, state
)
select o.id, f.acquirer, 'offset', f.person, o.order_id, f.payment, o.amount_minor, 0,
  f.item, f.subject, f.vat_code, f.tax_system, 'waiting'
from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[])
  as o (id, order_id, advance, amount_minor)
join fiscal_receipts f on f.id = o.advance
"""


async def offset(spent: Sequence[Spent], tx: Tx) -> None:
    """These purchases use the open advances of their people; each gets a receipt of its own.

    Without receipts there are no advances, and nothing is written.
    """
    people = sorted({one.person for one in spent})
    rows = await tx.fetch(OPEN_ADVANCES, people, MAX_ADVANCES) if people else []
    if not rows:
        return
    offsets, used = fiscal.offset(spent, [Advance(*row) for row in rows])
    await tx.execute(WRITE_OFFSETS, *columns(sorted(used.items()), 2), *columns(offsets, 4))


# Refunds

OF_PAYMENTS = """
select id, acquirer, kind, payment, state, service_minor, advance_minor, rest_minor
from fiscal_receipts
where (acquirer, payment) in (select * from unnest($1::text[], $2::text[]))
  and (kind = 'payment' or kind = 'refund' and state = 'asked')
order by id
for update
"""

WRITE_RETURNED = """
with used as (
  update fiscal_receipts f
  set rest_minor = u.rest_minor
  from unnest($1::uuid[], $2::bigint[]) as u (id, rest_minor)
  where f.id = u.id
)
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, payment, reference, service_minor, advance_minor,
  item, subject, vat_code, tax_system, state, due_at
)
select r.id, f.acquirer, 'refund', f.person, f.order_id, f.payment, r.reference, r.service_minor,
  r.advance_minor, f.item, f.subject, f.vat_code, f.tax_system, 'registering',
  shop_now() + $8::interval
from unnest($3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[])
  as r (id, paid, reference, service_minor, advance_minor)
join fiscal_receipts f on f.id = r.paid
on conflict (id) do update
set reference = excluded.reference, state = 'registering', due_at = excluded.due_at, email = null
"""


@dataclass(frozen=True, slots=True)
class Returned:
    """A refund that is booked, in kopecks."""

    acquirer: str
    payment: str
    refund: str
    """The provider's own id."""
    amount_minor: int


async def returned(refunds: Sequence[Returned], tx: Tx) -> None:
    """Use up the advances of these refunds; the registration of each of them is read from now on.

    A refund that we asked for has its row already: the split that was sent stands.
    """
    keys = sorted({(one.acquirer, one.payment) for one in refunds})
    rows = await tx.fetch(OF_PAYMENTS, *columns(keys, 2)) if keys else []
    paid = {(row["acquirer"], row["payment"]): row for row in rows if row["kind"] == "payment"}
    asked = [row for row in rows if row["kind"] == "refund"]
    rest = {row["id"]: row["rest_minor"] for row in paid.values()}
    made = []
    for one in refunds:
        of = paid.get((one.acquirer, one.payment))
        if of is None:
            continue
        split = fiscal.split_of_refund(one.amount_minor, rest[of["id"]])
        rest[of["id"]] -= split.advance_minor
        known = next((row for row in asked if is_of(row, one)), None)
        if known is not None:
            asked.remove(known)
        id_ = known["id"] if known else derived_id("refund receipt", one.acquirer, one.refund)
        made.append((id_, of["id"], one.refund, split.service_minor, split.advance_minor))
    pause = timedelta(seconds=fiscal.pause_of_registration_s(0))
    if made:
        used = columns(sorted(rest.items()), 2)
        await tx.execute(WRITE_RETURNED, *used, *columns(made, 5), pause)


def is_of(asked: Row, refund: Returned) -> bool:
    amount_minor = asked["service_minor"] + asked["advance_minor"]
    named = asked["acquirer"], asked["payment"], amount_minor
    return named == (refund.acquirer, refund.payment, refund.amount_minor)


ASK_REFUND = """
insert into fiscal_receipts (
  id, acquirer, kind, person, order_id, payment, service_minor, advance_minor,
  email, item, subject, vat_code, tax_system, state
)
select $1, acquirer, 'refund', person, order_id, payment,
  $4::bigint - least(rest_minor, $4), least(rest_minor, $4),
  coalesce((select e.email from receipt_emails e where e.person = f.person), $5), item, subject,
  vat_code, tax_system, 'asked'
from fiscal_receipts f
where acquirer = $2 and payment = $3 and kind = 'payment'
on conflict (id) do nothing
"""

REFUND_ASKED = """
select email, item, subject, vat_code, tax_system, service_minor, advance_minor
from fiscal_receipts
where id = $1 and email is not null
"""


async def for_refund(
    key: UUID, acquirer: str, payment: str, amount_minor: int, email: str, tx: Tx
) -> FiscalReceipt | None:
    """The receipt to send with a refund: the same for every try under this key.

    None where the payment had no receipt.
    """
    id_ = derived_id("refund receipt", key)
    await tx.execute(ASK_REFUND, id_, acquirer, payment, amount_minor, email)
    row = await tx.fetchrow(REFUND_ASKED, id_)
    return receipt_from(row) if row else None


# Jobs

CLAIM = """
with due as (
  select id, asked_at is not null as asked_before
  from fiscal_receipts
  where acquirer = $1 and state in ('waiting', 'registering') and due_at <= shop_now()
  order by due_at
  limit $2
  for update skip locked
)
update fiscal_receipts f
set claim = $3,
  due_at = shop_now() + $4::interval,
  asked_at = case
    when f.state = 'waiting' then coalesce(f.asked_at, shop_now())
    else f.asked_at
  end,
  email = case
    when f.state = 'waiting' then coalesce(
      f.email, (select e.email from receipt_emails e where e.person = f.person), $5
    )
  end
from due
where f.id = due.id and f.id = any(array(select id from due))
returning f.id, f.kind, f.state, f.payment, f.reference, f.tries, due.asked_before,
  extract(epoch from shop_now() - f.asked_at)::float8 as asked_for_s, f.email, f.item, f.subject,
  f.vat_code, f.tax_system, f.service_minor, f.advance_minor
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed receipt: to be made where it has no reference, else its registration is read."""

    id: UUID
    kind: FiscalKind
    payment: str
    reference: str | None
    tries: int
    asked_before: bool
    """An answer may be lost: the provider may have it, under our key."""
    asked_for_s: float
    receipt: FiscalReceipt


async def claim(
    acquirer: str, most: int, token: UUID, lease_s: float, email: str, database: Database
) -> list[Job]:
    """Claim due receipts; no other worker gets them meanwhile. A new one goes to
    the e-mail of its person, else to `email`.
    """
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(CLAIM, acquirer, most, token, lease, email)
    return [
        Job(
            row["id"],
            row["kind"],
            row["payment"],
            row["reference"],
            row["tries"],
            row["asked_before"],
            row["asked_for_s"] or 0.0,
            receipt_from(row),
        )
        for row in rows
    ]


RENEW = """
update fiscal_receipts
set due_at = shop_now() + $3::interval
where id in (
  select id
  from fiscal_receipts
  where id = any($1::uuid[]) and claim = $2
  order by id
  for no key update
)
"""


async def renew(ids: Collection[UUID], token: UUID, lease_s: float, database: Database) -> bool:
    """Renew the lease of these jobs; False when none of them is left to this worker."""
    tag = await database.execute(RENEW, list(ids), token, timedelta(seconds=lease_s))
    return not tag.endswith(" 0")


LATER = """
update fiscal_receipts
set claim = null,
  tries = tries + $5::int,
  due_at = shop_now() + $3::interval,
  asked_at = case when $4 then asked_at end
where id = $1 and claim = $2
"""


async def later(
    id_: UUID, token: UUID, pause_s: float, database: Database, *, unclear: bool, tried: bool
) -> None:
    """Try again. `unclear`: the provider may have it already. `tried`: it did answer."""
    pause = timedelta(seconds=pause_s)
    await database.execute(LATER, id_, token, pause, unclear, int(tried))


MADE = """
update fiscal_receipts
set claim = null,
  state = 'registering',
  reference = $3,
  tries = 0,
  email = null,
  due_at = shop_now() + $4::interval
where id = $1 and claim = $2
"""


async def made(id_: UUID, token: UUID, reference: str, pause_s: float, database: Database) -> None:
    """The provider has the offset: its registration is read from now on."""
    await database.execute(MADE, id_, token, reference, timedelta(seconds=pause_s))


END = """
update fiscal_receipts
set claim = null,
  state = case when $3::text is null then 'registered' else 'failed' end,
  reason = $3,
  email = null
where id = $1 and claim = $2
"""


async def end(id_: UUID, token: UUID, reason: str | None, database: Database) -> None:
    """It is registered, or it has failed for this reason."""
    await database.execute(END, id_, token, reason)


# Up to 100 000 of each.
LEFT = """
select
  (
    select count(*)
    from (
      select from fiscal_receipts
      where acquirer = $1 and state in ('waiting', 'registering')
      limit 100000
    ) w
  ) as waiting,
  (
    select count(*)
    from (
      select from fiscal_receipts
      where state = 'failed' and made_at > shop_now() - interval '30 days'
      limit 100000
    ) f
  ) as failed
"""


async def left(acquirer: str, database: Database) -> Row:
    """How many receipts are not registered yet, and how many have failed."""
    row = await database.fetchrow(LEFT, acquirer)
    assert row is not None, "a count has a row"
    return row


# An order is honoured for 30 days, and pruned after 30 more.
DROP_UNPAID = """
delete from fiscal_receipts
where id in (
  select id
  from fiscal_receipts
  where state = 'asked' and made_at < shop_now() - interval '75 days'
  order by made_at
  limit $1
)
"""

# Receipts that no refund can need any more: a provider returns money for three years.
DROP_OLD = """
delete from fiscal_receipts
where id in (
  select id
  from fiscal_receipts
  where rest_minor = 0
    and state in ('registered', 'failed')
    and made_at < shop_now() - interval '1100 days'
  order by made_at
  limit $1
)
"""
