"""The SQL of the jobs that watch open invoices: the due ones, and the time to ask again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.platform.db import Database, Tx, columns


@dataclass(frozen=True, slots=True)
class Watched:
    """A claimed job. `failures` and `every_s` are those of its provider.

    `reads` are the answers so far. `past_end_s` is negative while the invoice may be paid.
    """

    key: UUID
    reference: str
    tries: int
    reads: int
    past_end_s: float
    failures: int
    every_s: float


# `$2` is how many references one call reads, and `$3` how many calls are made at once. Jobs that
# failed before are read one by one, beside the others. While the provider answers, a call more is
# for invoices whose payers wait, and takes those that came due last: a backlog leaves them half of
# the calls, and they leave it the other half. The array keeps the plan on the primary key, with any
# number of due jobs.
CLAIM = """
with pace as (
  select failures, every, greatest(1, $2::int >> failures) as size
  from provider_pace
  where acquirer = $1
    and lane = 'watch'
    and next_at <= shop_now()
    and exists (
      select from invoice_jobs
      where acquirer = $1 and step = 'watch' and least(tries, 1) in (0, 1) and due_at <= shop_now()
    )
  for update skip locked
), fresh as (
  select invoice
  from invoice_jobs
  where acquirer = $1 and step = 'watch' and least(tries, 1) = 0 and due_at <= shop_now()
  order by due_at
  limit coalesce((select size * $3::int from pace), 0)
  for update skip locked
), awaited as (
  select invoice
  from invoice_jobs
  where acquirer = $1 and step = 'watch' and awaited and tries = 0 and due_at <= shop_now()
  order by due_at desc
  limit coalesce((select size from pace where failures = 0), 0)
  for update skip locked
), failed as (
  select invoice
  from invoice_jobs
  where acquirer = $1 and step = 'watch' and least(tries, 1) = 1 and due_at <= shop_now()
  order by due_at
  limit coalesce((select 1 from pace), 0)
  for update skip locked
), claimed as (
  update invoice_jobs j
  set claim = $4, due_at = shop_now() + $5::interval
  where j.invoice = any (array(
    select * from fresh union select * from awaited union select * from failed
  ))
  returning j.invoice, j.reference, j.tries, j.reads
), paced as (
  update provider_pace
  set next_at = shop_now() + every * (
    select ceil(count(*) filter (where tries = 0) / (select size from pace)::numeric)::int
      + count(*) filter (where tries > 0)
    from claimed
  )
  where acquirer = $1 and lane = 'watch' and exists (select from claimed)
)
select c.invoice as key, c.reference, c.tries, c.reads, p.failures,
  extract(epoch from shop_now() - i.expires_at)::float8 as past_end_s,
  extract(epoch from p.every)::float8 as every_s
from claimed c
join invoices i on i.id = c.invoice
cross join pace p
"""


async def claim(
    acquirer: str, at_once: int, calls: int, token: UUID, lease_s: float, database: Database
) -> list[Watched]:
    """Claim due jobs of a provider, as its pace allows."""
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(CLAIM, acquirer, at_once, calls, token, lease)
    return [Watched(**dict(row)) for row in rows]


GIVE_BACK = """
update invoice_jobs
set claim = null, due_at = shop_now()
where invoice = any($1::uuid[]) and claim = $2
"""


async def give_back(invoices: Sequence[UUID], token: UUID, database: Database) -> None:
    """The provider did not answer, which is no fault of these invoices."""
    await database.execute(GIVE_BACK, list(invoices), token)


LATER = """
update invoice_jobs j
set claim = null,
  tries = case when l.failed then j.tries + 1 else 0 end,
  reads = case when l.failed then j.reads else j.reads + 1 end,
  due_at = shop_now() + make_interval(secs => l.after_s),
  awaited = l.awaited
from unnest($2::uuid[], $3::float8[], $4::bool[], $5::bool[])
  as l (invoice, after_s, failed, awaited)
where j.invoice = l.invoice and j.claim = $1
"""


async def ask_later(token: UUID, later: Sequence[tuple[UUID, float, bool, bool]], tx: Tx) -> None:
    """Ask again after so many seconds; the last two say whether it failed, and may be paid yet."""
    if later:
        await tx.execute(LATER, token, *columns(later, 4))
