"""The SQL of parked receipts: those that wait for an operator, and what each was resolved to."""

from dataclasses import dataclass
from uuid import UUID

from shared.platform.db import Database, Row, Tx

PARKED = """
select r.id as receipt, r.acquirer, r.charge, r.payer, r.currency, r.amount_minor, r.payload,
  r.paid_at, b.booked_at as parked_at, b.because
from bookings b
join receipts r on r.id = b.receipt
where b.outcome = 'suspense'
  and not exists (select from resolutions s where s.receipt = b.receipt)
  and not exists (select from refunds f where f.receipt = b.receipt)
  and not exists (
    select from outgoing_refunds o
    where o.receipt = b.receipt and o.state in ('held', 'calling', 'pending', 'pending_review')
  )
  and ($1::uuid is null or (b.booked_at, b.receipt) > (
    select booked_at, receipt from bookings where receipt = $1
  ))
order by b.booked_at, b.receipt
limit $2
"""


async def parked(after: UUID | None, most: int, database: Database) -> list[Row]:
    """The oldest first, from behind the receipt `after`."""
    return await database.fetch(PARKED, after, most)


PARKED_RECEIPT = """
select r.id, r.acquirer, r.charge, r.payer, r.currency, r.amount_minor, r.payload, r.paid_at
from receipts r
join bookings b on b.receipt = r.id
where r.id = $1 and b.outcome = 'suspense'
"""


async def parked_receipt(receipt: UUID, tx: Tx) -> Row | None:
    """Also one that is resolved. None for a receipt that was never parked."""
    return await tx.fetchrow(PARKED_RECEIPT, receipt)


# Two acts about one receipt: the second always waits here for the first. A row of
# `resolutions` does not exist yet, and a booking may not be updated, so the id itself is locked.
LOCK_RECEIPT = "select pg_advisory_xact_lock(hashtext(current_schema()), hashtext($1::text))"

IS_RESOLVED = "select exists (select from resolutions where receipt = $1)"


async def lock_receipt(receipt: UUID, tx: Tx) -> bool:
    """Whether the receipt is resolved already. Nobody else resolves it in this transaction."""
    await tx.execute(LOCK_RECEIPT, str(receipt))
    return bool(await tx.fetchval(IS_RESOLVED, receipt))


IS_RETURNED = """
select exists (select from refunds where receipt = $1)
  or exists (
    select from outgoing_refunds
    where receipt = $1 and state in ('held', 'calling', 'pending', 'pending_review')
  )
"""


async def is_returned(receipt: UUID, tx: Tx) -> bool:
    """Whether money of it was returned, or a refund is under way.

    To be read under the lock of the receipt.
    """
    return bool(await tx.fetchval(IS_RETURNED, receipt))


@dataclass(frozen=True)
class Resolution:
    receipt: UUID
    person: UUID
    order: UUID | None
    outcome: str
    because: str
    value_minor: int
    published_as: UUID
    act: UUID


INSERT_RESOLUTION = """
insert into resolutions
  (receipt, person, order_id, outcome, because, value_minor, published_as, act)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def insert(resolution: Resolution, tx: Tx) -> None:
    await tx.execute(
        INSERT_RESOLUTION,
        resolution.receipt,
        resolution.person,
        resolution.order,
        resolution.outcome,
        resolution.because,
        resolution.value_minor,
        resolution.published_as,
        resolution.act,
    )
