"""The SQL of Stars to return: commands of payments, and the tries at Telegram."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.platform.db import Database, Row, Tx

# A payer who started the bot, or the one whose update reported the charge: it is kept for 3 days.
TELEGRAM_ID = """
select coalesce(
  (select telegram_id from people where person = $1),
  (
    select (u.body #>> '{message,from,id}')::bigint
    from events e
    join updates u on u.event = e.id
    where e.topic = 'bot.payment.reported' and e.body ->> 'charge' = $2
    order by u.seq
    limit 1
  )
)
"""


async def telegram_id_of(payer: UUID | None, charge: str, tx: Tx | Database) -> int | None:
    """None for a payer of whom nothing here is known any more."""
    found: int | None = await tx.fetchval(TELEGRAM_ID, payer, charge)
    return found


INSERT = "insert into star_refunds (id, charge, payer) values ($1, $2, $3)"


async def insert(id_: UUID, charge: str, payer: UUID | None, tx: Tx) -> None:
    await tx.execute(INSERT, id_, charge, payer)


REFUND = "select id, state, reason from star_refunds where id = $1"


async def refund(id_: UUID, database: Database) -> Row | None:
    return await database.fetchrow(REFUND, id_)


CLAIM = """
update star_refunds
set holder = $1, held_until = shop_now() + $2::interval
where id = (
  select id
  from star_refunds
  where state = 'waiting' and held_until <= shop_now()
  order by held_until
  limit 1
  for update skip locked
)
returning id, charge, payer, tries
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A charge to return. `tries` failed because Telegram did not answer."""

    id: UUID
    charge: str
    payer: UUID | None
    tries: int


async def claim(holder: UUID, lease: timedelta, database: Database) -> Claimed | None:
    """The one that waits longest; no other worker gets it meanwhile."""
    row = await database.fetchrow(CLAIM, holder, lease)
    return Claimed(**dict(row)) if row else None


NEXT_REFUND = """
select extract(epoch from held_until - shop_now())::float8
from star_refunds
where state = 'waiting'
order by held_until
limit 1
"""


async def due_in_s(database: Database) -> float | None:
    """After so many seconds the first one may be claimed. None: none waits."""
    seconds: float | None = await database.fetchval(NEXT_REFUND)
    return seconds


END = """
update star_refunds
set state = $3, reason = $4, holder = null, ended_at = shop_now()
where id = $1 and holder = $2
"""


async def end(id_: UUID, holder: UUID, state: str, reason: str | None, database: Database) -> None:
    await database.execute(END, id_, holder, state, reason)


PUT_OFF = """
update star_refunds
set holder = null, held_until = shop_now() + $3::interval, tries = tries + 1, reason = $4
where id = $1 and holder = $2
"""


async def put_off(
    id_: UUID, holder: UUID, pause: timedelta, reason: str, database: Database
) -> None:
    """Telegram did not answer, or asks for patience: it is asked again."""
    await database.execute(PUT_OFF, id_, holder, pause, reason)


DROP_ENDED_REFUNDS = """
delete from star_refunds
where id in (
  select id
  from star_refunds
  where ended_at < shop_now() - interval '90 days'
  order by ended_at
  limit $1
)
"""
