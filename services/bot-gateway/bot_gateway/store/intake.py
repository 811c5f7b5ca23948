"""Updates on their way through the three lanes, and the leases of the chats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from bot_gateway.domain.updates import Lane, Update
from shared.contracts.message import Event
from shared.platform.db import Database, Row, Tx, check_writable, columns

INSERT_UPDATES = """
insert into updates (bot, update_id, lane, chat, body)
select $1, update_id, lane, chat, body::json
from unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[])
  with ordinality as u (update_id, lane, chat, body, place)
order by place
on conflict on constraint an_update_is_taken_in_once do nothing
returning lane
"""


async def insert_updates(bot: int, updates: Sequence[Update], tx: Tx) -> set[Lane]:
    """Store new updates in the order of arrival; returns the lanes that got some."""
    rows = [(update.update_id, update.lane, update.chat, update.body) for update in updates]
    return {row["lane"] for row in await tx.fetch(INSERT_UPDATES, bot, *columns(rows, 4))}


# One process polls: a session lock, held by the connection that also stores the polled updates.

# The first number is ours ("poll"), the second keeps several bots in one database apart.
# PostgreSQL closes a silently cut connection after 25 s; then another process may poll.
TAKE_POLLING_LOCK = """
select pg_try_advisory_lock(1886350444, hashtext($1::text)),
  set_config('tcp_keepalives_idle', '10', false),
  set_config('tcp_keepalives_interval', '5', false),
  set_config('tcp_keepalives_count', '3', false)
"""


async def take_polling_lock(bot: int, connection: Any) -> bool:
    """True for one connection at a time, until it closes."""
    taken: bool = await connection.fetchval(TAKE_POLLING_LOCK, str(bot))
    return taken


async def check_polling_lock(connection: Any) -> None:
    """Raises when the connection is gone, or left behind by a failover, and the lock with it."""
    await check_writable(connection)


# Chats: one worker at a time runs the updates of a chat.

# No lease and no pause is longer than half an hour: a later end was written before the clock
# stepped back.
CLAIM_CHATS = """
with oldest as (
  select u.chat, u.seq
  from updates u
  where u.state = 'waiting' and u.lane = 'chat'
    and not exists (
      select from chat_leases l
      where l.chat = u.chat
        and l.held_until > shop_now()
        and l.held_until <= shop_now() + interval '30 minutes'
    )
  order by u.seq
  limit 1000
), due as (
  select chat
  from oldest
  group by chat
  order by min(seq)
  limit $3
)
insert into chat_leases as l (chat, holder, held_until)
select chat, $1, shop_now() + $2::interval from due order by chat
on conflict (chat) do update
set holder = excluded.holder, held_until = excluded.held_until
where l.held_until <= shop_now() or l.held_until > shop_now() + interval '30 minutes'
returning chat
"""


async def claim_chats(holder: UUID, lease: timedelta, most: int, database: Database) -> list[int]:
    """Claim chats with waiting updates, the longest waiting first."""
    return [row["chat"] for row in await database.fetch(CLAIM_CHATS, holder, lease, most)]


STEP = """
with settled as (
  update updates
  set state = $4, reason = $5, ended_at = shop_now()
  where seq = $3 and state = 'waiting'
), next as (
  select u.seq, u.body::text as body, u.tries, u.received_at,
    extract(epoch from shop_now() - u.received_at)::float8 as age_s
  from updates u
  join chat_leases l on l.chat = u.chat and l.holder = $1
  where u.chat = $2 and u.lane = 'chat' and u.state = 'waiting' and u.seq is distinct from $3
  order by u.seq
  limit 1
), renewed as (
  update chat_leases
  set held_until = shop_now() + $6::interval
  where chat = $2 and holder = $1 and exists (select from next)
), released as (
  delete from chat_leases
  where chat = $2 and holder = $1 and not exists (select from next)
)
select seq, body, tries, received_at, age_s from next
"""


@dataclass(frozen=True)
class UpdateOutcome:
    """The end of an update: `done`, `dropped` (no longer useful) or `failed` (set aside)."""

    seq: int | None
    state: str = "done"
    reason: str | None = None


async def step(
    holder: UUID, chat: int, ended: UpdateOutcome, lease: timedelta, database: Database
) -> Row | None:
    """Mark one update and take the next one of the chat, with a renewed lease.

    None when there is no next update (the lease is released) or another worker holds the chat by
    now.
    """
    return await database.fetchrow(STEP, holder, chat, ended.seq, ended.state, ended.reason, lease)


PAUSE_CHAT = """
with tried as (
  update updates set tries = tries + $4, reason = $5 where seq = $3
)
update chat_leases
set holder = null, held_until = shop_now() + $6::interval
where chat = $2 and holder = $1
"""


async def pause_chat(
    holder: UUID,
    chat: int,
    seq: int,
    pause: timedelta,
    reason: str,
    database: Database,
    *,
    counted: bool,
) -> None:
    """Release the chat, and let no worker claim it during the pause.

    A `counted` failure adds to the tries after which the update is set aside.
    """
    await database.execute(PAUSE_CHAT, holder, chat, seq, int(counted), reason, pause)


RELEASE_CHATS = "delete from chat_leases where holder = $1"


async def release_chats(holder: UUID, database: Database) -> None:
    await database.execute(RELEASE_CHATS, holder)


# Payments: reports become events, in one transaction.

TAKE_REPORTS = """
select seq, body::text as body, shop_now() as now
from updates
where lane = 'money' and state = 'waiting' and (held_until is null or held_until <= shop_now())
order by seq
for update skip locked
limit $1
"""


async def take_reports(most: int, tx: Tx) -> list[Row]:
    return await tx.fetch(TAKE_REPORTS, most)


END_REPORTS = """
update updates u
set state = case when r.event is null then 'failed' else 'done' end,
  event = r.event, reason = r.reason, ended_at = shop_now()
from unnest($1::bigint[], $2::uuid[], $3::text[]) as r (seq, event, reason)
where u.seq = r.seq
"""


async def end_reports(
    published: Mapping[int, Event], unreadable: Mapping[int, str], tx: Tx
) -> None:
    """Mark published reports as done and unreadable ones as failed, by sequence number."""
    rows: list[tuple[int, UUID | None, str | None]] = [
        (seq, event.id, None) for seq, event in published.items()
    ]
    rows += [(seq, None, reason) for seq, reason in unreadable.items()]
    await tx.execute(END_REPORTS, *columns(rows, 3))


# Telegram's update ids are positive, so the copy for the chat lane uses the negated id.
HAND_TO_CHATS = """
insert into updates (bot, update_id, lane, chat, body)
select u.bot, -u.update_id, 'chat', u.chat, u.body
from unnest($1::bigint[], $2::uuid[]) as r (seq, order_id)
join updates u using (seq)
join people p on p.telegram_id = u.chat and p.screen_order = r.order_id
order by u.seq
on conflict on constraint an_update_is_taken_in_once do nothing
returning seq
"""


async def hand_to_chats(orders: Mapping[int, UUID | None], tx: Tx) -> bool:
    """Copy reports (by sequence number) to the chat lane where the screen still offers the order.

    Returns whether any was copied.
    """
    return bool(await tx.fetch(HAND_TO_CHATS, *columns(list(orders.items()), 2)))


PUT_OFF_REPORT = """
update updates
set tries = tries + 1, reason = $2,
  held_until = shop_now() + least(interval '1 second' * 2 ^ least(tries, 9), interval '5 minutes')
where seq = $1 and state = 'waiting'
"""


async def put_off_report(seq: int, reason: str, database: Database) -> None:
    """Let other reports pass one that failed alone. It is retried for ever, because it is money."""
    await database.execute(PUT_OFF_REPORT, seq, reason)


# Pre-checkouts have a lane of their own.

# The newest first: under overload they are answered in time, and the others are too old anyway.
CLAIM_CHECKOUTS = """
with due as (
  select seq, received_at < shop_now() - $2::interval as too_old
  from updates
  where lane = 'checkout' and state = 'waiting' and (held_until is null or held_until <= shop_now())
  order by seq desc
  limit $3
  for update skip locked
)
update updates u
set held_until = shop_now() + $1::interval, tries = tries + 1,
  state = case when due.too_old then 'dropped' else 'waiting' end,
  reason = case when due.too_old then 'too old' end,
  ended_at = case when due.too_old then shop_now() end
from due
where u.seq = due.seq and u.seq = any(array(select seq from due))
returning u.seq, u.body::text as body, due.too_old
"""


async def claim_checkouts(
    lease: timedelta, too_old: timedelta, most: int, database: Database
) -> list[Row]:
    """Claim the newest pre-checkouts. The too old among them are dropped here, without work."""
    return await database.fetch(CLAIM_CHECKOUTS, lease, too_old, most)


END_UPDATES = """
update updates u
set state = e.state, reason = e.reason, ended_at = shop_now()
from unnest($1::bigint[], $2::text[], $3::text[]) as e (seq, state, reason)
where u.seq = e.seq and u.state = 'waiting'
"""


async def end_updates(ended: Sequence[UpdateOutcome], tx: Tx) -> None:
    """Mark updates, unless another worker has ended them meanwhile."""
    rows = sorted((one.seq, one.state, one.reason) for one in ended if one.seq is not None)
    await tx.execute(END_UPDATES, *columns(rows, 3))


# Housekeeping

# Telegram repeats updates for a day, and their ids may restart after a week without any. Three days
# are enough to recognise a repeat.
DROP_ENDED_UPDATES = """
delete from updates
where seq in (
  select seq
  from updates
  where state in ('done', 'dropped') and ended_at < shop_now() - interval '3 days'
  order by ended_at
  limit $1
)
"""

# A report of a payment that could not be read stays: it is money.
DROP_FAILED_UPDATES = """
delete from updates
where seq in (
  select seq
  from updates
  where state = 'failed'
    and lane in ('chat', 'checkout')
    and received_at < shop_now() - interval '30 days'
  limit $1
)
"""

# Up to 10 000 of each kind. `seq` is the order of arrival.
STATE_OF_INTAKE = """
select k.lane, s.state, count(*) as updates,
  coalesce(extract(epoch from shop_now() - min(s.received_at)), 0)::float8 as oldest_s
from unnest(array['chat', 'money', 'checkout']) as k (lane)
cross join lateral (
  (
    select state, received_at
    from updates
    where state = 'waiting' and lane = k.lane
    order by seq
    limit 10000
  )
  union all
  (
    select state, received_at
    from updates
    where state = 'failed' and lane = k.lane
    order by received_at
    limit 10000
  )
) s
group by k.lane, s.state
"""


async def state_of_intake(database: Database) -> list[Row]:
    return await database.fetch(STATE_OF_INTAKE)
