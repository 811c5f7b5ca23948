"""The token bucket: one row, so that all replicas share Telegram's limit for one bot."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from notifier.domain.token_bucket import Bucket, burst
from shared.platform.db import Tx

# A bucket that was filled later than now was filled before the clock stepped back.
LOCK = """
select
  tokens_now(
    tokens,
    case when filled_at <= shop_clock() then filled_at else shop_now() - interval '1 second' end,
    $1,
    $2
  ) as tokens,
  soon(paused_until) as paused_until,
  shop_clock() as seen_at,
  (
    select extract(epoch from min(due_at) - shop_clock())::float8
    from recipients
    where due_at is not null
  ) as next_due_s
from buckets
where name = 'telegram'
for update
"""

# Returns the next due time, so that the round after a claim needs no query of its own. A claimed
# chat counts with the end of its lease.
KEEP = """
update buckets set tokens = $1, filled_at = $2
where name = 'telegram'
returning (
  select extract(epoch from min(due_at) - shop_clock())::float8
  from recipients
  where due_at is not null
)
"""


class Locked(NamedTuple):
    """The bucket under its lock. `next_due_s`: the seconds until the first chat is due."""

    bucket: Bucket
    seen_at: datetime
    next_due_s: float


async def lock(per_s: float, tx: Tx) -> Locked:
    """The bucket, which fills with `per_s`. Other workers wait for this transaction."""
    row = await tx.fetchrow(LOCK, per_s, burst(per_s))
    assert row is not None, "the migration made the bucket"
    bucket = Bucket(row["tokens"], row["paused_until"])
    return Locked(bucket, row["seen_at"], wait_s(row["next_due_s"]))


async def keep(tokens: float, seen_at: datetime, tx: Tx) -> float:
    """Write what is left of the bucket. Returns the seconds until the first chat is due."""
    return wait_s(await tx.fetchval(KEEP, tokens, seen_at))


def wait_s(due_s: float | None) -> float:
    """Infinite if no chat is due at any time."""
    return float("inf") if due_s is None else due_s


RETURN_TOKENS = "update buckets set tokens = tokens + $1 where name = 'telegram'"


async def return_tokens(tokens: int, tx: Tx) -> None:
    await tx.execute(RETURN_TOKENS, float(tokens))


RECORD_REFUSAL = """
update buckets
set
  refused_person = $1,
  refused_until = n.until,
  tokens = case when n.another then 0 else tokens end,
  paused_until = case
    when n.another then greatest(soon(paused_until), n.until) else paused_until
  end
from (
  select
    shop_clock() + $2 * interval '1 second' as until,
    soon(refused_until) > shop_clock() and refused_person <> $1 as another
  from buckets
  where name = 'telegram'
) n
where name = 'telegram'
"""


async def record_refusal(person: UUID, pause_s: float, tx: Tx) -> None:
    """Telegram refused a message to this person with a 429.

    A refusal of another person within its time pauses the bucket, and so every replica.
    """
    await tx.execute(RECORD_REFUSAL, person, pause_s)
