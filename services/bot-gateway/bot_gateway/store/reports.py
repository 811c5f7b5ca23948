"""Reported payments for operators: published events, and updates that carried the reports."""

from collections.abc import Sequence
from uuid import UUID

from shared.platform.db import Database, Row

# The first 32 characters of a payload are its order (shared.contracts.payload).
PUBLISHED = """
select id as event, recorded_at, body ->> 'charge' as charge, body ->> 'currency' as currency,
  (body ->> 'amount_minor')::bigint as amount_minor, (body ->> 'payer')::uuid as payer,
  body ->> 'payload' as payload
from events
where topic = 'bot.payment.reported'
  and (body ->> 'charge' = any($1::text[]) or left(body ->> 'payload', 32) = $2)
order by seq
limit $3
"""


async def published(
    charges: Sequence[str], order: UUID | None, most: int, database: Database
) -> list[Row]:
    return await database.fetch(PUBLISHED, list(charges), order.hex if order else None, most)


UPDATES = """
select event, seq, state, reason, tries, received_at, ended_at
from updates
where event = any($1::uuid[])
order by seq
limit $2
"""


async def updates_of(events: Sequence[UUID], most: int, database: Database) -> list[Row]:
    """The updates that carried these events, the oldest first. Ended ones are kept for 3 days."""
    return await database.fetch(UPDATES, list(events), most)


# One report with NUL or half of a surrogate pair would fail the query for all of them.
UNPUBLISHED = """
select seq, state, reason, tries, received_at, ended_at,
  body #>> '{message,successful_payment,telegram_payment_charge_id}' as charge,
  body #>> '{message,successful_payment,currency}' as currency,
  body #>> '{message,successful_payment,invoice_payload}' as payload
from updates
where lane = 'money'
  and state in ('waiting', 'failed')
  and case
    when pg_input_is_valid(body::text, 'jsonb') then
      body #>> '{message,successful_payment,telegram_payment_charge_id}' = any($1::text[])
      or left(body #>> '{message,successful_payment,invoice_payload}', 32) = $2
  end
order by seq
limit $3
"""


async def unpublished(
    charges: Sequence[str], order: UUID | None, most: int, database: Database
) -> list[Row]:
    """Reports that wait, and reports that could not be read."""
    return await database.fetch(UNPUBLISHED, list(charges), order.hex if order else None, most)
