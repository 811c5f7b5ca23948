"""The SQL of the leases of reconciliations: the worker that walks a listing, and the runs due."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from payments.domain.reconciliation import LONGEST_PAUSE_S
from payments.store.reconciliations import Run, run_from
from shared.contracts.payments import MAX_DAYS_RECONCILED
from shared.platform.db import Database, Tx
from shared.platform.waits import Wait

HOURLY_EVERY = timedelta(hours=1)
HOURLY_WINDOW = timedelta(hours=3)
SETTLED_AFTER = timedelta(minutes=2)
"""A payment that was made just now may not be listed yet, and its notice is on its way."""
DAY_ENDS_AFTER = timedelta(minutes=30)
LONGEST_WINDOW = timedelta(days=MAX_DAYS_RECONCILED)
LONGEST_LEASE = timedelta(minutes=1)


class LostLeaseError(Exception):
    """Another replica walks this provider's listing now."""


ENLIST = "insert into reconciliation_leases (acquirer) values ($1) on conflict do nothing"


async def enlist(acquirer: str, database: Database) -> None:
    """A configured provider has its lease."""
    await database.execute(ENLIST, acquirer)


# The lease of a provider

LOCK = """
select failures
from reconciliation_leases
where acquirer = $1 and due_at <= shop_now() and (holder = $2 or held_until <= shop_now())
for update skip locked
"""

# The window begins where the last run ended, so that a service which was down leaves no gap. A run
# of the future was started by a clock that has stepped back since: it does not count.
START_HOURLY = """
insert into reconciliations (id, acquirer, kind, since, until)
select $2, l.acquirer, 'hourly',
  greatest(
    shop_now() - $3::interval,
    least(shop_now() - $4::interval, l.reconciled_until - $5::interval)
  ),
  shop_now() - $5::interval
from reconciliation_leases l
where l.acquirer = $1
  and not exists (
    select from reconciliations r
    where r.acquirer = $1
      and r.kind = 'hourly'
      and r.started_at > shop_now() - $6::interval
      and r.started_at <= shop_now()
  )
  and not exists (
    select from reconciliations r
    where r.acquirer = $1 and r.state = 'running' and r.kind = 'hourly'
  )
"""

# Once a day, and a day that failed once an hour.
START_DAILY = """
insert into reconciliations (id, acquirer, kind, since, until)
select $2, $1, 'daily', ended.day - interval '1 day', ended.day
from (select date_trunc('day', shop_now() - $3::interval, 'UTC') as day) ended
where not exists (
  select from reconciliations r
  where r.acquirer = $1
    and r.kind = 'daily'
    and r.started_at >= ended.day
    and r.until = ended.day
    and (r.state <> 'failed' or r.started_at > shop_now() - $4::interval)
)
"""

NEXT = """
select r.id, r.acquirer, r.kind, r.since, r.until, r.step, r.after, r.pages,
  r.counts::text as counts, r.reason, $2::int as failures,
  extract(epoch from shop_now() - r.started_at)::float8 as age_s,
  r.until > shop_now() - interval '1 hour' as is_recent
from reconciliations r
where r.acquirer = $1 and r.state = 'running'
order by r.started_at, r.kind desc, r.id
limit 1
"""

TAKE = """
update reconciliation_leases
set holder = $2, held_until = shop_now() + $3::interval
where acquirer = $1
"""


async def claim(acquirer: str, holder: UUID, lease_s: float, database: Database) -> Run | None:
    """Start what is due, and take the oldest run that has not ended, for a lease.

    None while another replica walks, while the provider is left alone, and when nothing is due.
    """
    async with database.transaction() as tx:
        failures = await tx.fetchval(LOCK, acquirer, holder)
        if failures is None:
            return None
        hourly = (LONGEST_WINDOW, HOURLY_WINDOW, SETTLED_AFTER, HOURLY_EVERY)
        await tx.execute(START_HOURLY, acquirer, uuid4(), *hourly)
        await tx.execute(START_DAILY, acquirer, uuid4(), DAY_ENDS_AFTER, HOURLY_EVERY)
        row = await tx.fetchrow(NEXT, acquirer, failures)
        if row is not None:
            await tx.execute(TAKE, acquirer, holder, timedelta(seconds=lease_s))
    return run_from(row) if row is not None else None


HOLD = """
update reconciliation_leases
set held_until = shop_now() + $3::interval, failures = 0
where acquirer = $1 and holder = $2
"""


async def hold(acquirer: str, holder: UUID, lease_s: float, tx: Tx) -> None:
    """Renew the lease, and lock it until the commit. Raises LostLeaseError."""
    tag = await tx.execute(HOLD, acquirer, holder, timedelta(seconds=lease_s))
    if tag.endswith(" 0"):
        raise LostLeaseError(acquirer)


RELEASE = """
update reconciliation_leases set held_until = shop_now() where acquirer = $1 and holder = $2
"""


async def release(acquirer: str, holder: UUID, database: Database) -> None:
    """Another replica may go on at once."""
    await database.execute(RELEASE, acquirer, holder)


PUT_OFF = """
with put_off as (
  update reconciliation_leases
  set due_at = shop_now() + $3::interval, failures = failures + 1, held_until = shop_now()
  where acquirer = $1 and holder = $2
  returning acquirer
)
update reconciliations
set reason = $5
where id = $4 and exists (select from put_off)
"""


async def put_off(run: Run, holder: UUID, pause_s: float, reason: str, database: Database) -> None:
    """The provider did not answer: its run waits where it stands."""
    pause = timedelta(seconds=pause_s)
    await database.execute(PUT_OFF, run.acquirer, holder, pause, run.id, reason)


# Gauges, and the bounds of waits

STATE = """
select acquirer,
  extract(epoch from shop_now() - coalesce(finished_at, added_at))::float8 as age_s
from reconciliation_leases
where acquirer = any($1::text[])
"""


async def ages(acquirers: Sequence[str], database: Database) -> dict[str, float]:
    """Seconds since the last finished run of each provider, or since it was configured."""
    rows = await database.fetch(STATE, list(acquirers))
    return {row["acquirer"]: row["age_s"] for row in rows}


PULL_BACK_LEASES = """
update reconciliation_leases
set held_until = shop_now()
where acquirer in (
  select acquirer
  from reconciliation_leases
  where held_until > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

PULL_BACK_PAUSES = """
update reconciliation_leases
set due_at = shop_now()
where acquirer in (
  select acquirer
  from reconciliation_leases
  where due_at > shop_now() + $1::interval
  for update skip locked
  limit $2
)
"""

WAITS = (
    Wait(("reconciliation_leases.held_until",), LONGEST_LEASE, PULL_BACK_LEASES),
    Wait(
        ("reconciliation_leases.due_at",),
        timedelta(seconds=LONGEST_PAUSE_S),
        PULL_BACK_PAUSES,
    ),
)
