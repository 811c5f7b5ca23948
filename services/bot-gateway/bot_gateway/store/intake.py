"""Updates on their way through the three lanes, and whose turn a chat is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from bot_gateway.updates import Lane, Update
from shared.contract import Fact
from shared.db import Database, Row, Tx, columns

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
    """Keep what was not kept before, in the order of arrival; answers the lanes that have something new."""
    rows = [(update.update_id, update.lane, update.chat, update.body) for update in updates]
    return {row["lane"] for row in await tx.fetch(INSERT_UPDATES, bot, *columns(rows, 4))}


# One process polls: a session lock, over the connection that also writes what was polled

# The first number is ours ("poll"), the second keeps several bots in one database apart.
# A connection that was cut without a word is ended by the server after 25 s, so that another process may poll.
TAKE_POLLING_LOCK = """
select pg_try_advisory_lock(1886350444, hashtext($1::text)),
  set_config('tcp_keepalives_idle', '10', false),
  set_config('tcp_keepalives_interval', '5', false),
  set_config('tcp_keepalives_count', '3', false)
"""


async def take_polling_lock(bot: int, connection: Any) -> bool:
    """True for one connection at a time, for as long as it lives."""
    taken: bool = await connection.fetchval(TAKE_POLLING_LOCK, str(bot))
    return taken


STILL_THERE = "select 1"


async def check_polling_lock(connection: Any) -> None:
    """Raises when the connection is gone, and the lock with it."""
    await connection.execute(STILL_THERE)


# Chats: one worker at a time runs a chat's updates

CLAIM_CHATS = """
with oldest as (
  select u.chat, u.seq
  from updates u
  where u.state = 'waiting' and u.lane = 'chat'
    and not exists (select from turns t where t.chat = u.chat and t.held_until > now())
  order by u.seq
  limit 1000
), due as (
  select chat
  from oldest
  group by chat
  order by min(seq)
  limit $3
)
insert into turns as t (chat, holder, held_until)
select chat, $1, now() + $2::interval from due order by chat
on conflict (chat) do update
set holder = excluded.holder, held_until = excluded.held_until
where t.held_until <= now()
returning chat
"""


async def claim_chats(holder: UUID, lease: timedelta, most: int, database: Database) -> list[int]:
    """The chats whose turn it is now ours to run, longest waiting first."""
    return [row["chat"] for row in await database.fetch(CLAIM_CHATS, holder, lease, most)]


STEP = """
with settled as (
  update updates
  set state = $4, reason = $5, ended_at = now()
  where seq = $3 and state = 'waiting'
), next as (
  select u.seq, u.body::text as body, u.tries, u.received_at,
    extract(epoch from now() - u.received_at)::float8 as age_s
  from updates u
  join turns t on t.chat = u.chat and t.holder = $1
  where u.chat = $2 and u.lane = 'chat' and u.state = 'waiting' and u.seq is distinct from $3
  order by u.seq
  limit 1
), renewed as (
  update turns
  set held_until = now() + $6::interval
  where chat = $2 and holder = $1 and exists (select from next)
), released as (
  delete from turns
  where chat = $2 and holder = $1 and not exists (select from next)
)
select seq, body, tries, received_at, age_s from next
"""


@dataclass(frozen=True)
class Ended:
    """How a run of an update ended: `done`, `dropped` (not worth doing) or `failed` (set aside for a look)."""

    seq: int | None
    state: str = "done"
    reason: str | None = None


async def step(holder: UUID, chat: int, ended: Ended, lease: timedelta, database: Database) -> Row | None:
    """Mark one update and take the chat's next with a fresh lease; without a next one the chat is given back.

    Also None when the turn is somebody else's meanwhile.
    """
    return await database.fetchrow(STEP, holder, chat, ended.seq, ended.state, ended.reason, lease)


REST_CHAT = """
with tried as (
  update updates set tries = tries + $4, reason = $5 where seq = $3
)
update turns
set holder = null, held_until = now() + $6::interval
where chat = $2 and holder = $1
"""


async def rest_chat(
    holder: UUID, chat: int, seq: int, pause: timedelta, reason: str, database: Database, *, counted: bool
) -> None:
    """Nobody runs this chat for a while; `counted` failures bring the update nearer to being set aside."""
    await database.execute(REST_CHAT, holder, chat, seq, int(counted), reason, pause)


GIVE_BACK_CHATS = "delete from turns where holder = $1"


async def give_back_chats(holder: UUID, database: Database) -> None:
    await database.execute(GIVE_BACK_CHATS, holder)


# Money: reports become facts, in one transaction

TAKE_REPORTS = """
select seq, body::text as body, now() as now
from updates
where lane = 'money' and state = 'waiting' and (held_until is null or held_until <= now())
order by seq
for update skip locked
limit $1
"""


async def take_reports(most: int, tx: Tx) -> list[Row]:
    return await tx.fetch(TAKE_REPORTS, most)


END_REPORTS = """
update updates u
set state = case when r.fact is null then 'failed' else 'done' end,
  fact = r.fact, reason = r.reason, ended_at = now()
from unnest($1::bigint[], $2::uuid[], $3::text[]) as r (seq, fact, reason)
where u.seq = r.seq
"""


async def end_reports(told: Mapping[int, Fact], unreadable: Mapping[int, str], tx: Tx) -> None:
    """What was told is done; what could not be read is set aside, by its sequence number."""
    rows: list[tuple[int, UUID | None, str | None]] = [(seq, fact.id, None) for seq, fact in told.items()]
    rows += [(seq, None, reason) for seq, reason in unreadable.items()]
    await tx.execute(END_REPORTS, *columns(rows, 3))


# An id of Telegram's is above zero, so a chat's own copy of an update may have it below.
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
    """Let the chats run these reports, by sequence number, whose screen still offers their order; says if any does."""
    return bool(await tx.fetch(HAND_TO_CHATS, *columns(list(orders.items()), 2)))


PUT_OFF_REPORT = """
update updates
set tries = tries + 1, reason = $2,
  held_until = now() + least(interval '1 second' * 2 ^ least(tries, 9), interval '5 minutes')
where seq = $1 and state = 'waiting'
"""


async def put_off_report(seq: int, reason: str, database: Database) -> None:
    """Let the others pass the one that failed alone. It comes again, for ever: it is money."""
    await database.execute(PUT_OFF_REPORT, seq, reason)


# Pre-checkout: a lane of its own

CLAIM_CHECKOUTS = """
update updates
set held_until = now() + $1::interval, tries = tries + 1
where seq in (
  select seq
  from updates
  where lane = 'checkout' and state = 'waiting' and (held_until is null or held_until <= now())
  order by seq
  for update skip locked
  limit $2
)
returning seq, body::text as body, tries, extract(epoch from now() - received_at)::float8 as age_s
"""


async def claim_checkouts(lease: timedelta, most: int, database: Database) -> list[Row]:
    return await database.fetch(CLAIM_CHECKOUTS, lease, most)


END_UPDATE = "update updates set state = $2, reason = $3, ended_at = now() where seq = $1 and state = 'waiting'"


async def end_update(ended: Ended, tx: Tx) -> None:
    await tx.execute(END_UPDATE, ended.seq, ended.state, ended.reason)


# By time

DROP_ENDED_UPDATES = """
delete from updates
where seq in (
  select seq
  from updates
  where state in ('done', 'dropped') and ended_at < now() - interval '3 days'
  limit $1
)
"""


async def drop_ended_updates(most: int, database: Database) -> None:
    """Updates repeat within a day, and after a quiet week their ids may begin anew: three days are enough."""
    while await database.execute(DROP_ENDED_UPDATES, most) == f"DELETE {most}":
        pass


STATE_OF_INTAKE = """
select lane, state, count(*) as updates,
  coalesce(extract(epoch from now() - min(received_at)), 0)::float8 as oldest_s
from updates
where state in ('waiting', 'failed')
group by lane, state
"""


async def state_of_intake(database: Database) -> list[Row]:
    return await database.fetch(STATE_OF_INTAKE)
