"""The walk over Telegram's listing of Stars: one row per bot, with its lease and its position."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from bot_gateway.domain.star_transactions import Position
from shared.platform.db import Database, Row, Tx


class LeaseLostError(Exception):
    """Another replica walks by now, or has moved the position."""


@dataclass(frozen=True)
class Held:
    """A locked walk: transactions of before `since` are not reported.

    The events about those that were walked before are there since `seen_since` only.
    """

    since: datetime
    seen_since: datetime
    now: datetime


# Older payments were made to an earlier program with the same bot: Telegram keeps updates for a
# day, so the shop can have received none from longer than a day before its first person. And events
# are kept for 30 days: nobody here knows whether an older one was reported.
CLAIM = """
insert into star_walks as w (bot, since, holder, held_until)
select $1::bigint,
  greatest(
    coalesce((select started_at from people order by started_at, person limit 1), shop_now())
      - interval '1 day',
    shop_now() - interval '29 days'
  ),
  $2::uuid,
  shop_now() + $3::interval
on conflict (bot) do update
set holder = excluded.holder, held_until = excluded.held_until, due_at = least(w.due_at, shop_now())
where (w.held_until <= shop_now() or w.holder = excluded.holder) and (w.due_at <= shop_now() or $4)
returning walked, last_key
"""


async def claim(
    bot: int, holder: UUID, lease: timedelta, database: Database, *, anyway: bool
) -> Position | None:
    """Claim the walk where nobody holds it. `anyway`: although it is not due yet."""
    row = await database.fetchrow(CLAIM, bot, holder, lease, anyway)
    return Position(row["walked"], row["last_key"]) if row else None


LOCK = """
select since, greatest(since, shop_now() - interval '29 days') as seen_since, shop_now() as now
from star_walks
where bot = $1 and holder = $2 and walked = $3
for update
"""


async def lock(bot: int, holder: UUID, position: Position, tx: Tx) -> Held:
    """Raises LeaseLostError when the walk is no longer this holder's, at this position."""
    row = await tx.fetchrow(LOCK, bot, holder, position.walked)
    if row is None:
        raise LeaseLostError
    tx.began(row["now"])
    return Held(row["since"], row["seen_since"], row["now"])


MOVE = """
update star_walks
set walked = $2, last_key = $3, listed_nanostars = listed_nanostars + $4,
  is_exact = is_exact and $5, held_until = shop_now() + $6::interval, walked_at = shop_now()
where bot = $1
"""


async def move(
    bot: int, position: Position, nanostars: int, lease: timedelta, tx: Tx, *, is_exact: bool
) -> None:
    """Remember the position, add what was listed, and renew the lease."""
    await tx.execute(
        MOVE, bot, position.walked, position.last_key, Decimal(nanostars), is_exact, lease
    )


RESTART = """
update star_walks
set walked = 0, last_key = null, listed_nanostars = 0, is_exact = true,
  since = greatest(since, shop_now() - interval '29 days'), held_until = shop_now() + $2::interval
where bot = $1
"""


async def restart(bot: int, lease: timedelta, tx: Tx) -> None:
    """Walk again from the first transaction. The events about older ones are dropped by now."""
    await tx.execute(RESTART, bot, lease)


END = """
update star_walks
set holder = null, held_until = shop_now(), due_at = shop_now() + $3::interval
where bot = $1 and holder = $2
"""


async def end(bot: int, holder: UUID, every: timedelta, database: Database) -> None:
    """The end of the listing was reached: the next walk is due later."""
    await database.execute(END, bot, holder, every)


RELEASE = """
update star_walks
set holder = null, held_until = shop_now() + $3::interval
where bot = $1 and holder = $2
"""


async def release(bot: int, holder: UUID, pause: timedelta, database: Database) -> None:
    """Leave the rest to the next claim, after a pause."""
    await database.execute(RELEASE, bot, holder, pause)


COMPARE = """
update star_walks
set gap_nanostars = $3 - listed_nanostars,
  gap_changed_at = case
    when gap_nanostars is distinct from $3 - listed_nanostars then shop_now() else gap_changed_at
  end
where bot = $1 and walked = $2 and is_exact
returning gap_nanostars, gap_changed_at = shop_now() and gap_nanostars <> 0 as is_news
"""


async def compare(
    bot: int, position: Position, balance_nanostars: int, database: Database
) -> Row | None:
    """Keep what the balance has more than the listing. None where the sum is not exact."""
    return await database.fetchrow(COMPARE, bot, position.walked, Decimal(balance_nanostars))


PUBLISHED = "select id from events where id = any($1::uuid[])"


async def published(ids: Sequence[UUID], tx: Tx) -> set[UUID]:
    """Which of these events are recorded here."""
    return {row["id"] for row in await tx.fetch(PUBLISHED, ids)}
