"""Payments that came before the start of their payer."""

from collections.abc import Collection, Sequence
from uuid import UUID

from shared.contracts.payments import PaymentConfirmed
from shared.platform.db import Row, Tx, columns

WAIT = """
insert into waiting (event, payer, body, trace)
select event, payer, body::json, trace
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as w (event, payer, body, trace)
on conflict do nothing
"""


async def wait(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """Keep payments until their payers start. The caller shares the lock of starts."""
    rows = [(event.id, event.about, event.model_dump_json(), event.trace) for event in events]
    await tx.execute(WAIT, *columns(sorted(rows), 4))


TAKE = """
delete from waiting
where payer = any($1::uuid[])
returning body::text as body, trace
"""


async def take(payers: Collection[UUID], tx: Tx) -> list[Row]:
    """Remove the payments that waited for these payers, and answer them."""
    return await tx.fetch(TAKE, sorted(payers))
