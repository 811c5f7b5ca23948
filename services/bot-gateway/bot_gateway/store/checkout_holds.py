"""Checkout approvals: one pay sheet of an invoice is approved at a time, and charged once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared.platform.db import Database, Tx, columns

# Telegram charges within a second after the approval. Without a charge the hold ends after this.
HOLD = timedelta(seconds=60)

# Of several pay sheets of one invoice the holder's own is tried, else any. In the order of the
# payloads, so two replicas cannot deadlock. A limit keeps the lookups by index also in a plan that
# was made while the table was empty.
APPROVE = """
with asked as (
  select a.payload, a.query_id, h.query_id as holder, h.charged_at
  from unnest($1::text[], $2::text[]) as a (payload, query_id)
  left join lateral (
    select query_id, charged_at from checkout_holds where payload = a.payload limit 1
  ) h on true
), tried as (
  select distinct on (payload) payload, query_id
  from asked
  order by payload, (holder is not distinct from query_id) desc
), approved as (
  insert into checkout_holds as h (payload, query_id, approved_at)
  select payload, query_id, shop_clock()
  from tried
  order by payload
  on conflict (payload) do update
  set query_id = excluded.query_id, approved_at = excluded.approved_at
  where h.charged_at is null
    and (h.query_id = excluded.query_id or h.approved_at < excluded.approved_at - $3::interval)
  returning query_id
)
select query_id, charged_at is not null as charged
from asked
where query_id not in (select query_id from approved)
"""


async def approve(sheets: Sequence[tuple[str, str]], database: Database) -> dict[str, bool]:
    """Record the approvals of these pay sheets (payload, query id) before Telegram receives them.

    Returns the query ids that are not approved, because another pre-checkout holds the invoice,
    with whether it was charged.
    """
    rows = await database.fetch(APPROVE, *columns(sheets, 2), HOLD)
    return {row["query_id"]: row["charged"] for row in rows}


WAS_CHARGED = """
select
  exists (select from checkout_holds where payload = $1 and charged_at is not null) as charged,
  shop_now() as now
"""


async def was_charged(payload: str, database: Database) -> tuple[bool, datetime]:
    """Whether this invoice was charged, and the time at which it was looked up."""
    row = await database.fetchrow(WAS_CHARGED, payload)
    assert row is not None, "a row for every payload"
    return row["charged"], row["now"]


# A payload begins with its order.
CHARGED_OF_ORDER = """
select payload
from checkout_holds
where left(payload, 32) = $1 and charged_at is not null
limit $2
"""


async def charged_of_order(order: UUID, most: int, database: Database) -> list[str]:
    """The payloads of this order that were charged."""
    rows = await database.fetch(CHARGED_OF_ORDER, order.hex, most)
    return [row["payload"] for row in rows]


RECORD_CHARGES = """
with charged as (
  select payload from checkout_holds where payload = any($1::text[]) order by payload for update
)
update checkout_holds h
set charged_at = shop_now()
from charged c
where h.payload = c.payload and h.charged_at is null
"""


async def record_charges(payloads: Sequence[str], tx: Tx) -> None:
    """Telegram reported these: the invoice is not charged again, whenever payments books it."""
    await tx.execute(RECORD_CHARGES, payloads)


# An invoice expires after half an hour; from then on payments itself refuses the charge.
DROP_OLD_HOLDS = """
delete from checkout_holds
where payload in (
  select payload
  from checkout_holds
  where approved_at < shop_now() - interval '1 day'
  order by approved_at
  limit $1
)
"""
