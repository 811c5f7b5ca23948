"""Token buckets, one row each, shared by all replicas."""

from datetime import timedelta

from shared.platform.db import Database

# No pause is longer than half an hour: a later end was written before the clock stepped back, and
# so was a time of filling that is later than now.
TAKE_FROM_BUCKET = """
insert into buckets as b (name, tokens, filled_at)
values ($1, $3::float8 - 1, shop_clock())
on conflict (name) do update
set filled_at = shop_clock(),
  tokens = tokens_now(
    b.tokens,
    case when b.filled_at < shop_clock() then b.filled_at else shop_now() - interval '1 s' end,
    $2::float8,
    $3::float8
  ) - 1
where tokens_now(
    b.tokens,
    case when b.filled_at < shop_clock() then b.filled_at else shop_now() - interval '1 s' end,
    $2::float8,
    $3::float8
  ) - 1 >= $4::float8
  and (
    b.paused_until is null
    or b.paused_until <= shop_clock()
    or b.paused_until > shop_clock() + interval '30 minutes'
  )
returning tokens
"""


async def take_token(
    bucket: str, database: Database, *, per_s: float, burst: float, least: float = 0.0
) -> float | None:
    """Take one token of a bucket that fills with `per_s`, up to `burst`.

    None when fewer than `least` would remain, and while the bucket is paused. With a negative
    `least` a token may be borrowed: the answer is then below 0, and the caller waits until the
    bucket would be at 0 again.
    """
    tokens: float | None = await database.fetchval(TAKE_FROM_BUCKET, bucket, per_s, burst, least)
    return tokens


GIVE_BACK = "update buckets set tokens = tokens + 1 where name = $1"


async def give_back(bucket: str, database: Database) -> None:
    await database.execute(GIVE_BACK, bucket)


RECORD_REFUSAL = """
insert into buckets as b (name, tokens, filled_at, refused_chat, refused_until)
values ($1, 0, shop_clock(), $2, shop_clock() + $3::interval)
on conflict (name) do update
set refused_chat = excluded.refused_chat, refused_until = excluded.refused_until,
  paused_until = case
    when b.refused_until > shop_clock()
      and b.refused_until <= shop_clock() + interval '30 minutes'
      and b.refused_chat <> excluded.refused_chat
    then greatest(
      case when b.paused_until <= shop_clock() + interval '30 minutes' then b.paused_until end,
      excluded.refused_until
    )
    else b.paused_until
  end
"""


async def record_refusal(
    bucket: str, chat: int, retry_after: timedelta, database: Database
) -> None:
    """Telegram refused a message to this chat.

    A refusal of another chat within `retry_after` pauses the bucket.
    """
    await database.execute(RECORD_REFUSAL, bucket, chat, retry_after)


PAUSED_FOR = """
select extract(epoch from paused_until - shop_clock())::float8
from buckets
where name = $1 and paused_until <= shop_clock() + interval '30 minutes'
"""


async def paused_for_s(bucket: str, database: Database) -> float:
    """0 for a bucket that is not paused."""
    return max(0.0, await database.fetchval(PAUSED_FOR, bucket) or 0.0)


# A bucket from which nothing was taken for an hour is full, and so is one without a row.
DROP_FULL_BUCKETS = """
delete from buckets
where name in (
  select name
  from buckets
  where filled_at < shop_now() - interval '1 hour'
    and (paused_until is null or paused_until < shop_now())
  order by filled_at
  limit $1
)
"""
