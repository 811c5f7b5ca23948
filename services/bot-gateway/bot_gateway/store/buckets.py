"""Token buckets, one row each, shared by all replicas."""

from shared.db import Database

TAKE_FROM_BUCKET = """
insert into buckets as b (name, tokens, filled_at)
values ($1, $3::float8 - 1, clock_timestamp())
on conflict (name) do update
set filled_at = clock_timestamp(),
  tokens = least($3, b.tokens + $2::float8 * greatest(extract(epoch from clock_timestamp() - b.filled_at), 0)) - 1
where least($3, b.tokens + $2 * greatest(extract(epoch from clock_timestamp() - b.filled_at), 0)) - 1 >= $4::float8
returning tokens
"""


async def take_token(
    bucket: str, database: Database, *, per_s: float, burst: float, least: float = 0.0
) -> float | None:
    """Take one of a bucket that fills with `per_s`; None when fewer than `least` would stay.

    With a negative `least` a token may be owed: the answer is then below 0, and its holder waits until it is paid.
    """
    tokens: float | None = await database.fetchval(TAKE_FROM_BUCKET, bucket, per_s, burst, least)
    return tokens


DROP_FULL_BUCKETS = "delete from buckets where filled_at < now() - interval '1 hour'"


async def drop_full_buckets(database: Database) -> None:
    """A bucket that nobody took from for an hour is full: no row says the same."""
    await database.execute(DROP_FULL_BUCKETS)
