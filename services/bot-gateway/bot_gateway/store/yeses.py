"""One charge per invoice: whose pre-checkout was answered with yes, and whether the charge came."""

from collections.abc import Sequence
from datetime import timedelta

from shared.db import Database, Tx

# Telegram charges in the second after the yes. One that no charge followed keeps its invoice for so long.
ALONE_FOR = timedelta(seconds=60)

SAY_YES = """
insert into yeses as y (payload, query, said_at)
values ($1, $2, clock_timestamp())
on conflict (payload) do update
set query = excluded.query, said_at = excluded.said_at
where y.charged_at is null and (y.query = excluded.query or y.said_at < excluded.said_at - $3::interval)
returning payload
"""


async def say_yes(payload: str, query: str, database: Database) -> bool:
    """Keep a yes before it is said; False when another pre-checkout of this invoice has it, or was charged."""
    return await database.fetchval(SAY_YES, payload, query, ALONE_FOR) is not None


WAS_CHARGED = "select charged_at is not null from yeses where payload = $1"


async def was_charged(payload: str, database: Database) -> bool:
    return bool(await database.fetchval(WAS_CHARGED, payload))


NOTE_CHARGES = """
with charged as (
  select payload from yeses where payload = any($1::text[]) order by payload for update
)
update yeses y
set charged_at = now()
from charged c
where y.payload = c.payload and y.charged_at is null
"""


async def note_charges(payloads: Sequence[str], tx: Tx) -> None:
    """Telegram reported these: the invoice is not charged again, whenever payments books it."""
    await tx.execute(NOTE_CHARGES, payloads)


DROP_OLD_YESES = "delete from yeses where said_at < now() - interval '1 day'"


async def drop_old_yeses(database: Database) -> None:
    """An invoice lives for half an hour; then payments itself says no."""
    await database.execute(DROP_OLD_YESES)
