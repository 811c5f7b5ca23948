"""What is kept of reported payments: the facts that told them, and the updates that brought them."""

from collections.abc import Sequence
from uuid import UUID

from shared.db import Database, Row

# A payload of our form begins with the order.
TOLD = """
select id as fact, told_at, body ->> 'charge' as charge, body ->> 'currency' as currency,
  (body ->> 'amount_minor')::bigint as amount_minor, (body ->> 'payer')::uuid as payer,
  body ->> 'payload' as payload
from facts
where topic = 'bot.payment.reported'
  and (body ->> 'charge' = any($1::text[]) or left(body ->> 'payload', 32) = $2)
order by seq
limit $3
"""


async def told(charges: Sequence[str], order: UUID | None, most: int, database: Database) -> list[Row]:
    return await database.fetch(TOLD, list(charges), order.hex if order else None, most)


UPDATES = """
select fact, seq, state, reason, tries, received_at, ended_at
from updates
where fact = any($1::uuid[])
order by seq
limit $2
"""


async def updates_of(facts: Sequence[UUID], most: int, database: Database) -> list[Row]:
    """The updates that reported these, the first of them first; what is done is kept for three days."""
    return await database.fetch(UPDATES, list(facts), most)


UNTOLD_UPDATES = """
select seq, state, reason, tries, received_at, ended_at,
  body #>> '{message,successful_payment,telegram_payment_charge_id}' as charge,
  body #>> '{message,successful_payment,currency}' as currency,
  body #>> '{message,successful_payment,invoice_payload}' as payload
from updates
where lane = 'money'
  and state in ('waiting', 'failed')
  and (
    body #>> '{message,successful_payment,telegram_payment_charge_id}' = any($1::text[])
    or left(body #>> '{message,successful_payment,invoice_payload}', 32) = $2
  )
order by seq
limit $3
"""


async def untold(charges: Sequence[str], order: UUID | None, most: int, database: Database) -> list[Row]:
    """Reports that wait, or that nobody can read."""
    return await database.fetch(UNTOLD_UPDATES, list(charges), order.hex if order else None, most)
