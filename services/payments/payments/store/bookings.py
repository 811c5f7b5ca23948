"""The SQL of a batch of receipts: the state that it locks, and the decisions that it writes."""

from collections.abc import Sequence
from uuid import UUID

from payments.domain.confirmation import PAYABLE, Batch, Receipt
from payments.domain.fiscal import spent_from_wallet
from payments.store import accounts, catalogue, fiscal, orders
from shared.contracts.message import Event
from shared.contracts.payload import read_payload
from shared.platform.db import Tx, columns


async def open_batch(fresh: Sequence[Receipt], tx: Tx) -> Batch:
    """Lock and read everything that these fresh receipts affect."""
    payloads = [payload for receipt in fresh if (payload := read_payload(receipt.payload))]
    payers = sorted({receipt.payer for receipt in fresh if receipt.payer})
    balances = await accounts.lock_balances(payers, tx)
    # After the locks of the accounts: they include an order that was placed and partly paid while
    # this transaction waited for them.
    by_id = await orders.lock_orders([payload.order for payload in payloads], payers, tx)
    parts = [
        (order.person, order.id, order.received_minor)
        for order in by_id.values()
        if order.state in PAYABLE and order.received_minor
    ]
    invoices = await orders.invoices([payload.invoice for payload in payloads], tx)
    rates = await catalogue.rates_in_force(tx)
    holdings = accounts.holdings_from(balances, parts)
    return Batch(await tx.now(), rates, by_id, invoices, holdings)


async def open_order(order: UUID, person: UUID, tx: Tx) -> Batch:
    """Lock and read what a purchase from the balance of this person affects."""
    holdings = await accounts.lock_holdings([person], tx)
    by_id = await orders.lock_orders([order], [person], tx)
    return Batch(await tx.now(), {}, by_id, {}, holdings)


async def open_wallet(person: UUID, tx: Tx) -> Batch:
    """Lock and read what money for no order affects."""
    holdings = await accounts.lock_holdings([person], tx)
    return Batch(await tx.now(), {}, {}, {}, holdings)


# A paid order closes the person's older ones of its kind, the newest ones first. The batch holds
# some of them ($8). One that another transaction holds is left: a payment of somebody else, or a
# newer order.
WRITE_BOOKINGS = """
with changed as (
  update orders o
  set received_minor = c.received_minor,
      state = c.state,
      paid_at = case when c.state = 'paid' then shop_now() end
  from unnest($8::uuid[], $9::bigint[], $10::text[]) as c (id, received_minor, state)
  where o.id = c.id
), counted as (
  update invoices i
  set received_minor = c.received_minor,
      state = case
        when i.id = any($12::uuid[]) then 'paid'
        when i.state in ('asking', 'open') and i.order_id = any($11::uuid[]) then 'superseded'
        else i.state
      end
  from unnest($17::uuid[], $18::bigint[]) as c (id, received_minor)
  where i.id = c.id
), closed as (
  update invoices
  set state = 'superseded'
  where order_id = any($11::uuid[])
    and state in ('asking', 'open')
    and id <> all($17::uuid[])
), older as (
  select older.id
  from unnest($13::uuid[], $14::timestamptz[], $15::uuid[], $19::text[])
    as paid (person, placed_at, id, what)
  cross join lateral (
    select id
    from orders
    where person = paid.person
      and what = paid.what
      and state in ('open', 'superseded')
      and (placed_at, id) < (paid.placed_at, paid.id)
    order by placed_at desc, id desc
    limit $16
    for update skip locked
  ) older
  where older.id <> all($8::uuid[])
), closed_older as (
  update orders o
  set state = 'closed'
  from older
  where o.id = older.id
), withdrawn as (
  update invoices i
  set state = 'superseded'
  from older
  where i.order_id = older.id and i.state in ('asking', 'open')
)
insert into bookings (receipt, outcome, because, order_id, invoice, value_minor, published_as)
select *
from unnest(
  $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[], $7::uuid[]
)
"""


async def write_batch(batch: Batch, events: Sequence[Event], tx: Tx) -> None:
    """Write the decisions: transfers, balances, orders, invoices, and bookings.

    `events` has one event per booking, in the same order: the one that publishes it.
    """
    await accounts.write_transfers(batch.transfers, tx)
    bookings = [
        (b.receipt.id, b.outcome, b.because, b.order, b.invoice, b.value_minor, event.id)
        for b, event in zip(batch.bookings, events, strict=True)
    ]
    changed = [batch.orders[order] for order in sorted(batch.changed)]
    rows = [(order.id, order.received_minor, order.state) for order in changed]
    done = [order.id for order in changed if order.state != "open"]
    paid = [
        booking.invoice
        for booking in batch.bookings
        if booking.because in ("paid", "topped_up") and booking.invoice
    ]
    named = sorted({b.invoice for b in batch.bookings if b.order and b.invoice})
    counted = [(invoice, batch.invoices[invoice].received_minor) for invoice in named]
    closing = [(one.person, *one.age, one.what) for one in changed if one.state == "paid"]
    people, placed_at, ids, whats = columns(closing, 4)
    await tx.execute(
        WRITE_BOOKINGS,
        *columns(bookings, 7),
        *columns(rows, 3),
        done,
        paid,
        people,
        placed_at,
        ids,
        orders.MAX_OLDER_AT_ONCE,
        *columns(counted, 2),
        whats,
    )
    await fiscal.offset(spent_from_wallet(batch), tx)
