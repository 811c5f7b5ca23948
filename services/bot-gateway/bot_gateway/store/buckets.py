"""Token buckets, one row each, shared by all replicas."""

from datetime import timedelta

from shared.db import Database

TAKE_FROM_BUCKET = """
insert into buckets as b (name, tokens, filled_at)
values ($1, $3::float8 - 1, clock_timestamp())
on conflict (name) do update
set filled_at = clock_timestamp(),
  tokens = least($3, b.tokens + $2::float8 * greatest(extract(epoch from clock_timestamp() - b.filled_at), 0)) - 1
where least($3, b.tokens + $2 * greatest(extract(epoch from clock_timestamp() - b.filled_at), 0)) - 1 >= $4::float8
  and (b.rests_until is null or b.rests_until <= clock_timestamp())
returning tokens
"""


async def take_token(
    bucket: str, database: Database, *, per_s: float, burst: float, least: float = 0.0
) -> float | None:
    """Take one of a bucket that fills with `per_s`; None when fewer than `least` would stay, or while it rests.

    With a negative `least` a token may be owed: the answer is then below 0, and its holder waits until it is paid.
    """
    tokens: float | None = await database.fetchval(TAKE_FROM_BUCKET, bucket, per_s, burst, least)
    return tokens


NOTE_REFUSAL = """
insert into buckets as b (name, tokens, filled_at, refused_chat, refused_until)
values ($1, 0, clock_timestamp(), $2, clock_timestamp() + $3::interval)
on conflict (name) do update
set refused_chat = excluded.refused_chat, refused_until = excluded.refused_until,
  rests_until = case
    when b.refused_until > clock_timestamp() and b.refused_chat <> excluded.refused_chat
    then greatest(b.rests_until, excluded.refused_until)
    else b.rests_until
  end
"""


async def note_refusal(bucket: str, chat: int, retry_after: timedelta, database: Database) -> None:
    """Telegram will not have a message to this chat. Another chat that it refuses meanwhile makes the bucket rest."""
    await database.execute(NOTE_REFUSAL, bucket, chat, retry_after)


RESTS_FOR = "select extract(epoch from rests_until - clock_timestamp())::float8 from buckets where name = $1"


async def rests_for_s(bucket: str, database: Database) -> float:
    """0 for a bucket that does not rest."""
    return max(0.0, await database.fetchval(RESTS_FOR, bucket) or 0.0)


DROP_FULL_BUCKETS = """
delete from buckets
where filled_at < now() - interval '1 hour' and (rests_until is null or rests_until < now())
"""


async def drop_full_buckets(database: Database) -> None:
    """A bucket that nobody took from for an hour is full: no row says the same."""
    await database.execute(DROP_FULL_BUCKETS)
