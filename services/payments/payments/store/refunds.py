"""The SQL of refunds: each is claimed once, locked with what it may undo, and booked once."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from payments.domain.confirmation import PAYABLE, gross_of
from payments.domain.outgoing import End, Outgoing
from payments.domain.provider import Sum
from payments.domain.refunds import Payment, Purchase, Refund, RefundBatch
from payments.store import accounts, debts, fiscal, orders, outgoing
from shared.contracts.message import Event, digest_of
from shared.messaging import conflicts
from shared.messaging.conflicts import Conflict
from shared.platform.db import Database, Row, Tx, columns

MAX_SPENT_SINCE = 20
"""Orders that the balance paid since a payment, and that its refund may undo."""
MAX_LOOKED_AT = 1_000
"""Waiting refunds that a tick looks at, the newest first."""

RETURNED_OTHERWISE = "returned_already: the money went back by another refund"
"""Why a refund that nobody was asked for yet has ended."""

CLAIM_REFUNDS = """
insert into refunds (
  id, receipt, acquirer, charge, reference, payer, currency, amount_minor, refunded_at, trace
)
select *
from unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::bigint[],
  $9::timestamptz[], $10::text[]
) as r (
  id, receipt, acquirer, charge, reference, payer, currency, amount_minor, refunded_at, trace
)
order by id
on conflict do nothing
returning id
"""

# A separate statement: only a later one sees the row of a transaction that the claim waited for.
KNOWN = "select id, currency, amount_minor from refunds where id = any($1::uuid[])"


async def claim_refunds(reported: Sequence[Refund], tx: Tx) -> list[UUID]:
    """Insert refunds; returns those that are new. The first report of each counts.

    The same refund with another currency or amount is recorded as a conflict (I12).
    """
    firsts: dict[UUID, Refund] = {}
    for refund in reported:
        firsts.setdefault(refund.id, refund)
    rows = [
        (
            r.id,
            r.receipt,
            r.acquirer,
            r.charge,
            r.reference,
            r.payer,
            r.currency,
            r.amount_minor,
            r.refunded_at,
            r.trace,
        )
        for r in firsts.values()
    ]
    fresh = {row["id"] for row in await tx.fetch(CLAIM_REFUNDS, *columns(rows, 10))}
    digests = {id_: digest_of_refund(firsts[id_]) for id_ in fresh}
    if known := firsts.keys() - fresh:
        for row in await tx.fetch(KNOWN, list(known)):
            digests[row["id"]] = digest_of(row["currency"], row["amount_minor"])
    found = [
        Conflict(refund.id, digests[refund.id], digest_of_refund(refund)) for refund in reported
    ]
    await conflicts.record("refunds", (one for one in found if one.known != one.received), tx)
    return sorted(fresh)


def digest_of_refund(refund: Refund) -> int:
    return digest_of(refund.currency, refund.amount_minor)


WAITING_OF = """
select id
from refunds
where receipt = any($1::uuid[]) and state = 'waiting'
order by id
"""


async def waiting_of(receipts: Collection[UUID], tx: Tx) -> list[UUID]:
    """The refunds that came before these receipts."""
    return [row["id"] for row in await tx.fetch(WAITING_OF, list(receipts))]


MET_LATE = """
select f.id
from (
  select id, receipt
  from refunds
  where state = 'waiting'
  order by reported_at desc
  limit $1
) f
where exists (select from bookings b where b.receipt = f.receipt)
limit $2
"""


async def met_late(most: int, database: Database) -> list[UUID]:
    """Waiting refunds whose payment is booked: both were written at the same moment."""
    return [row["id"] for row in await database.fetch(MET_LATE, MAX_LOOKED_AT, most)]


# The state of a batch

OPEN_RETURNS = """
insert into refunded_receipts (receipt, amount_minor)
select distinct r.id, r.amount_minor
from refunds f
join receipts r on r.id = f.receipt
where f.id = any($1::uuid[]) and f.state = 'waiting'
order by r.id
on conflict do nothing
"""

LOCK_RETURNS = """
select receipt
from refunded_receipts
where receipt in (select receipt from refunds where id = any($1::uuid[]))
order by receipt
for update
"""

# The lock of an operator's resolution: parked money is returned or resolved, the second sees the
# first.
LOCK_RECEIPTS = """
select pg_advisory_xact_lock(hashtext(current_schema()), hashtext(f.receipt::text))
from (select distinct receipt from refunds where id = any($1::uuid[]) order by receipt) f
"""

# Read under the locks: another transaction may have booked some of them meanwhile. Of money that
# was parked, an operator named the payer and the order later.
TO_BOOK = """
select f.acquirer, f.charge, f.reference, f.payer as reported_payer, f.currency, f.amount_minor,
  f.refunded_at, f.trace, coalesce(v.person, r.payer) as payer,
  r.currency as paid_currency, r.amount_minor as paid_minor,
  coalesce(l.arrived_currency, r.arrived_currency) as arrived_currency,
  coalesce(l.arrived_minor, r.arrived_minor) as arrived_minor,
  coalesce(l.fee_minor, r.fee_minor) as fee_minor, b.receipt,
  coalesce(v.value_minor, b.value_minor) as value_minor,
  coalesce(v.resolved_at, b.booked_at) as booked_at, x.returned_minor,
  case
    when coalesce(v.because, b.because) in ('paid', 'topped_up', 'too_little', 'part_spent')
      then coalesce(v.order_id, b.order_id)
  end as counted_for
from refunds f
join receipts r on r.id = f.receipt
join bookings b on b.receipt = r.id
left join resolutions v on v.receipt = r.id
left join late_arrivals l on l.receipt = r.id
join refunded_receipts x on x.receipt = r.id
where f.id = any($1::uuid[]) and f.state = 'waiting'
"""


async def open_batch(ids: Sequence[UUID], tx: Tx) -> tuple[list[Refund], RefundBatch]:
    """Lock and read everything that these refunds affect; of those whose payment is booked."""
    await tx.execute(OPEN_RETURNS, ids)
    await tx.fetch(LOCK_RETURNS, ids)
    await tx.fetch(LOCK_RECEIPTS, ids)
    rows = await tx.fetch(TO_BOOK, ids)
    payments = {row["receipt"]: payment_from(row) for row in rows}
    under_way = await outgoing.lock_open_of(list(payments), tx)
    payers = sorted({one.payer for one in payments.values() if one.payer})
    balances = await accounts.lock_balances(payers, tx)
    # Of everybody: the first refund of a batch may make a person owe.
    parts = await orders.received_parts(payers, tx)
    holdings = accounts.holdings_from(balances, parts)
    spent_since = await orders_spent_since(rows, tx)
    own = {one.order for one in payments.values() if one.order}
    purchases, topups = await lock_purchases(own.union(*spent_since.values()), tx)
    batch = RefundBatch(await tx.now(), payments, holdings, purchases, topups, spent_since)
    batch.outgoing = under_way
    return [refund_from(row) for row in rows], batch


def payment_from(row: Row) -> Payment:
    return Payment(
        row["receipt"],
        row["payer"],
        row["paid_currency"],
        row["paid_minor"],
        row["value_minor"],
        row["counted_for"],
        gross_from(row),
        row["returned_minor"],
    )


def gross_from(row: Row) -> Sum:
    paid = Sum(row["paid_currency"], row["paid_minor"])
    arrived = Sum(currency, row["arrived_minor"]) if (currency := row["arrived_currency"]) else None
    return gross_of(paid, arrived, row["fee_minor"])


def refund_from(row: Row) -> Refund:
    return Refund(
        row["acquirer"],
        row["charge"],
        row["reference"],
        row["reported_payer"],
        row["currency"],
        row["amount_minor"],
        row["refunded_at"],
        row["trace"],
    )


# To be read under the locks of the accounts: every purchase of a person holds their wallet.
SPENT_SINCE = """
select paid.receipt, spent.id
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as paid (receipt, person, booked_at)
cross join lateral (
  select id, paid_at
  from orders
  where person = paid.person
    and paid_at >= paid.booked_at
    and what = 'subscription'
    and state in ('paid', 'partly_refunded')
    and received_minor < price_minor
  order by paid_at desc, id desc
  limit $4
) spent
order by paid.receipt, spent.paid_at desc, spent.id desc
"""


async def orders_spent_since(paid: Iterable[Row], tx: Tx) -> dict[UUID, list[UUID]]:
    """By receipt: the newest orders that the payer's balance paid since, the newest first."""
    keys = {(row["receipt"], row["payer"], row["booked_at"]) for row in paid if row["payer"]}
    found: dict[UUID, list[UUID]] = {}
    if keys:
        arguments = columns(sorted(keys), 3)
        for row in await tx.fetch(SPENT_SINCE, *arguments, MAX_SPENT_SINCE):
            found.setdefault(row["receipt"], []).append(row["id"])
    return found


# An order without a transfer of its purchase bought nothing that could be undone. A top-up is
# locked beside them: its row says how much of it was returned.
LOCK_PURCHASES = """
select o.id, p.wallet_minor, p.earned_minor, o.undone_minor, o.plan, o.months, o.what, o.price_minor
from orders o
cross join lateral (
  select coalesce(-sum(e.amount_minor) filter (where a.kind = 'wallet'), 0)::bigint as wallet_minor,
    coalesce(-sum(e.amount_minor) filter (where a.kind = 'earned'), 0)::bigint as earned_minor
  from transfers t
  join entries e on e.transfer = t.id
  join accounts a on a.id = e.account
  where t.cause = 'order:' || o.id::text and t.reason = 'purchase'
) p
where o.id = any($1::uuid[]) and (p.wallet_minor + p.earned_minor > 0 or o.what = 'topup')
order by o.id
for update of o
"""


async def lock_purchases(
    ids: Collection[UUID], tx: Tx
) -> tuple[dict[UUID, Purchase], dict[UUID, int]]:
    """Those of these orders that bought, and the prices of those that topped up."""
    rows = await tx.fetch(LOCK_PURCHASES, list(ids)) if ids else []
    purchases = {row["id"]: Purchase(*row[:6]) for row in rows if row["what"] == "subscription"}
    return purchases, {row["id"]: row["price_minor"] for row in rows if row["what"] == "topup"}


# Writing

WRITE_REFUNDS = """
with booked as (
  update refunds f
  set state = 'booked',
      booked_minor = c.booked_minor,
      value_minor = c.value_minor,
      owed_minor = c.owed_minor,
      published_as = c.published_as,
      booked_at = shop_now()
  from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[])
    as c (id, booked_minor, value_minor, owed_minor, published_as)
  where f.id = c.id
), counted as (
  update refunded_receipts r
  set returned_minor = c.returned_minor
  from unnest($6::uuid[], $7::bigint[]) as c (receipt, returned_minor)
  where r.receipt = c.receipt
), lost as (
  update orders o
  set received_minor = greatest(0, o.received_minor - c.value_minor)
  from unnest($8::uuid[], $9::bigint[]) as c (id, value_minor)
  where o.id = c.id and o.state = any($10::text[])
), undone as (
  update orders o
  set undone_minor = c.undone_minor,
      state = case c.undone_minor
        when o.price_minor then 'refunded'
        when 0 then o.state
        else 'partly_refunded'
      end
  from unnest($11::uuid[], $12::bigint[]) as c (id, undone_minor)
  where o.id = c.id
)
insert into undone_orders (id, refund, order_id, undone_minor)
select *
from unnest($13::uuid[], $14::uuid[], $15::uuid[], $16::bigint[])
"""


async def write_batch(batch: RefundBatch, events: Sequence[Event | None], tx: Tx) -> None:
    """Write the decisions. `events` has one per booking: the event that publishes it, if any."""
    opened = [
        (b.refund.id, b.payment.payer) for b in batch.bookings if b.lost_minor and b.payment.payer
    ]
    await debts.open_debts(opened, tx)
    await accounts.write_transfers(batch.transfers, tx)
    await outgoing.end([ended_row(*one) for one in batch.ended], tx)
    booked = [
        (b.refund.id, b.amount_minor, b.value_minor, b.owed_minor, event.id if event else None)
        for b, event in zip(batch.bookings, events, strict=True)
    ]
    returned = [(one.receipt, one.returned_minor) for one in batch.payments.values()]
    undone = [(b.refund.id, one) for b in batch.bookings for one in b.undone]
    await tx.execute(
        WRITE_REFUNDS,
        *columns(booked, 5),
        *columns(returned, 2),
        *columns(list(lost_by_orders(batch).items()), 2),
        sorted(PAYABLE),
        *columns(sorted(undone_by_orders(batch).items()), 2),
        *columns([(one.transfer, id_, one.purchase.order, one.minor) for id_, one in undone], 4),
    )
    returned_outside = [
        fiscal.Returned(b.refund.acquirer, b.refund.charge, b.refund.reference, b.amount_minor)
        for b in batch.bookings
        if b.amount_minor and b.payment.currency == "RUB"
    ]
    await fiscal.returned(returned_outside, tx)


def ended_row(under_way: Outgoing, end: End, refund: Refund) -> outgoing.Ended:
    if end == "settled":
        return under_way.id, end, refund.id, refund.reference, None
    return under_way.id, end, None, None, RETURNED_OTHERWISE


def undone_by_orders(batch: RefundBatch) -> dict[UUID, int]:
    """How much of each changed order is undone now, in kopecks."""
    changed = {one.purchase.order for booking in batch.bookings for one in booking.undone}
    undone = {order: batch.purchases[order].undone_minor for order in changed}
    for payment in batch.payments.values():
        price_minor = batch.topups.get(payment.order) if payment.order else None
        if payment.order and price_minor is not None:
            undone[payment.order] = payment.undone_of_topup(price_minor)
    return undone


def lost_by_orders(batch: RefundBatch) -> dict[UUID, int]:
    """The amounts that open orders lose by returned payments, in kopecks."""
    lost: dict[UUID, int] = {}
    for one in batch.bookings:
        if one.payment.order is not None:
            lost[one.payment.order] = lost.get(one.payment.order, 0) + one.value_minor
    return lost
