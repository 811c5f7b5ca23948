"""The SQL of reconciliations: the place of a run, its listed charges, and its differences."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from payments.domain.provider import Sum
from payments.domain.reconciliation import Difference
from shared.contracts.payments import (
    ReconciliationCounts,
    ReconciliationKind,
    ReconciliationRecord,
)
from shared.platform.db import Database, Row, Tx, columns

Step = Literal["payments", "refunds", "booked", "balance", "clearing"]

MAX_DIFFERENCES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has not ended, as its row stands."""

    id: UUID
    acquirer: str
    kind: ReconciliationKind
    since: datetime
    until: datetime
    step: Step
    after: str | None
    pages: int
    counts: ReconciliationCounts
    reason: str | None
    failures: int
    """Failures of the provider in a row."""
    age_s: float
    is_recent: bool
    """Its window ended within the last hour: little came since."""


# A page

LIST = """
insert into reconciliation_listed (run, charge)
select $1, charge
from unnest($2::text[]) as l (charge)
order by charge
on conflict do nothing
returning charge
"""


async def list_charges(run: UUID, charges: Sequence[str], tx: Tx) -> set[str]:
    """Remember these charges as listed; returns those that no page before has shown."""
    return {row["charge"] for row in await tx.fetch(LIST, run, list(charges))}


BOOKED = """
select charge, currency, amount_minor
from receipts
where acquirer = $1 and charge = any($2::text[])
"""


async def booked(acquirer: str, charges: Sequence[str], tx: Tx) -> dict[str, Sum]:
    """The sums of the receipts of these charges."""
    rows = await tx.fetch(BOOKED, acquirer, list(charges))
    return {row["charge"]: Sum(row["currency"], row["amount_minor"]) for row in rows}


# The last row of the page comes in any case, and says where the next page begins.
UNLISTED = """
with page as (
  select paid_at, charge, currency, amount_minor
  from receipts
  where acquirer = $1
    and acquirer not like 'telegram\\_%'
    and (paid_at, charge) > ($2, $3)
    and paid_at < $4
  order by paid_at, charge
  limit $6
)
select paid_at, charge, currency, amount_minor, listed
from (
  select p.*,
    exists (
      select from reconciliation_listed l where l.run = $5 and l.charge = p.charge
    ) as listed,
    lead(p.charge) over (order by p.paid_at, p.charge) is null as last
  from page p
) compared
where last or not listed
order by paid_at, charge
"""

After = tuple[datetime, str]


async def unlisted(run: Run, after: After, most: int, database: Database) -> list[Row]:
    """The receipts of a page of the window that the run has not listed, and the page's last one.

    Empty behind the end of the window. The others are `listed`.
    """
    return await database.fetch(UNLISTED, run.acquirer, *after, run.until, run.id, most)


# The provider's balance by the ledger: in one snapshot with what was booked lately.
ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"

CLEARED = """
select currency, sum(amount_minor) as amount_minor
from (
  select currency, amount_minor from closed_sums where kind = 'clearing:' || $1
  union all
  select e.currency, e.amount_minor
  from ledger_closing c
  cross join lateral (
    select id from transfers where (at, id) > (c.closed_at, c.closed_id) offset 0
  ) t
  cross join lateral (select * from entries where transfer = t.id offset 0) e
  join accounts a on a.id = e.account
  where a.kind = 'clearing:' || $1
) sums
group by currency
"""

BOOKED_SINCE = """
select r.charge,
  coalesce(l.arrived_currency, r.arrived_currency, r.currency) as currency,
  coalesce(l.arrived_minor, r.arrived_minor, r.amount_minor) as amount_minor
from receipts r
left join late_arrivals l on l.receipt = r.id
where r.acquirer = $1 and r.acquirer not like 'telegram\\_%' and r.paid_at >= $2
order by r.paid_at, r.charge
limit $3
"""

MAX_BOOKED_SINCE = 20_000


async def cleared(acquirer: str, tx: Tx) -> dict[str, int]:
    """The sums of the clearing account, by currency."""
    rows = await tx.fetch(CLEARED, acquirer)
    return {row["currency"]: int(row["amount_minor"]) for row in rows}


LOCK_CLEARED = """
select pg_advisory_xact_lock(hashtext(current_schema() || ' withdrawals'), hashtext($1))
"""


async def lock_cleared(acquirer: str, tx: Tx) -> None:
    """One withdrawal of an acquirer at a time, until the commit."""
    await tx.execute(LOCK_CLEARED, acquirer)


async def held(
    acquirer: str, since: datetime, database: Database
) -> tuple[dict[str, int], dict[str, Sum]]:
    """The clearing account, and what arrived of the receipts since then, as of one moment."""
    async with database.transaction() as tx:
        await tx.execute(ONE_SNAPSHOT)
        rows = await tx.fetch(BOOKED_SINCE, acquirer, since, MAX_BOOKED_SINCE)
        booked = {row["charge"]: Sum(row["currency"], row["amount_minor"]) for row in rows}
        return await cleared(acquirer, tx), booked


CLEAR = """
delete from reconciliation_listed
where run = $1
  and charge in (select charge from reconciliation_listed where run = $1 order by charge limit $2)
"""


async def clear(run: UUID, most: int, tx: Tx) -> bool:
    """Forget so many listed charges of a run; False when none was left."""
    return not (await tx.execute(CLEAR, run, most)).endswith(" 0")


WRITE_DIFFERENCES = """
insert into reconciliation_differences (
  run, acquirer, kind, reference, charge, their_currency, their_minor, our_currency, our_minor,
  sentence, done
)
select $1, $2, *
from unnest(
  $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::bigint[],
  $10::text[], $11::text[]
)
on conflict do nothing
"""


async def write_differences(run: Run, found: Sequence[Difference], tx: Tx) -> None:
    """Keep the first of a run. A foreign payment that was reported before is not written again."""
    room = MAX_DIFFERENCES_KEPT - (sum(run.counts.model_dump().values()) - run.counts.listed)
    rows = [
        (
            one.kind,
            one.reference,
            one.charge,
            *(one.theirs or (None, None)),
            *(one.ours or (None, None)),
            one.sentence,
            one.done,
        )
        for one in found[: max(0, room)]
    ]
    if rows:
        await tx.execute(WRITE_DIFFERENCES, run.id, run.acquirer, *columns(rows, 9))


WRITE_RUN = """
update reconciliations
set step = $2, after = $3, pages = pages + 1, counts = $4::jsonb, reason = $5
where id = $1 and state = 'running'
"""


async def write_run(run: Run, tx: Tx) -> None:
    """Where the run stands after a page."""
    counts = run.counts.model_dump_json()
    await tx.execute(WRITE_RUN, run.id, run.step, run.after, counts, run.reason)


END = """
with ended as (
  update reconciliations
  set state = case when reason is null then 'done' else 'failed' end, ended_at = shop_now()
  where id = $1 and state = 'running'
  returning acquirer, kind, until, state
)
update reconciliation_leases l
set finished_at = shop_now(),
  reconciled_until = case
    when e.kind = 'hourly' then greatest(l.reconciled_until, e.until)
    else l.reconciled_until
  end
from ended e
where l.acquirer = e.acquirer and e.state = 'done'
"""


async def end(run: Run, tx: Tx) -> None:
    """The run is done, or failed where it has a reason."""
    await tx.execute(END, run.id)


# Runs that an operator asks for

UNFINISHED = "select count(*) from reconciliations where acquirer = $1 and state = 'running'"

ASK = """
insert into reconciliations (id, acquirer, kind, since, until)
values ($1, $2, 'asked', $3, $4)
returning id, acquirer, kind, since, until, state, counts::text as counts, reason, started_at,
  ended_at
"""


async def unfinished(acquirer: str, tx: Tx) -> int:
    count: int = await tx.fetchval(UNFINISHED, acquirer)
    return count


async def ask(
    run: UUID, acquirer: str, since: datetime, until: datetime, tx: Tx
) -> ReconciliationRecord:
    row = await tx.fetchrow(ASK, run, acquirer, since, until)
    assert row is not None, "an insert that returns"
    return record_from(row)


# For operators

RUNS = """
select id, acquirer, kind, since, until, state, counts::text as counts, reason, started_at,
  ended_at
from reconciliations
where $1::text is null or acquirer = $1
order by started_at desc, id desc
limit $2
"""

RUN = """
select id, acquirer, kind, since, until, state, counts::text as counts, reason, started_at,
  ended_at
from reconciliations
where id = $1
"""

DIFFERENCES = """
select id, kind, reference, charge, their_currency, their_minor, our_currency, our_minor, sentence,
  case
    when kind = 'foreign' and exists (
      select from receipts r where r.acquirer = d.acquirer and r.charge = d.charge
    ) then 'booked'
    else done
  end as done
from reconciliation_differences d
where run = $1 and id > $2
order by id
limit $3
"""


async def runs(
    acquirer: str | None, most: int, database: Database
) -> tuple[ReconciliationRecord, ...]:
    """The newest first."""
    rows = await database.fetch(RUNS, acquirer, most)
    return tuple(record_from(row) for row in rows)


async def run(id_: UUID, database: Database) -> ReconciliationRecord | None:
    row = await database.fetchrow(RUN, id_)
    return record_from(row) if row is not None else None


async def differences(run: UUID, after: int, most: int, database: Database) -> list[Row]:
    """A foreign payment that was a card in Telegram is booked once its report came."""
    return await database.fetch(DIFFERENCES, run, after, most)


def run_from(row: Row) -> Run:
    fields: dict[str, Any] = dict(row) | {"counts": counts_from(row)}
    return Run(**fields)


def record_from(row: Row) -> ReconciliationRecord:
    fields: dict[str, Any] = dict(row) | {"counts": counts_from(row)}
    return ReconciliationRecord(run=fields.pop("id"), **fields)


def counts_from(row: Row) -> ReconciliationCounts:
    return ReconciliationCounts(**json.loads(row["counts"]))


# Pruning

DROP_OLD_DIFFERENCES = """
delete from reconciliation_differences
where id in (
  select id
  from reconciliation_differences
  where found_at < shop_now() - interval '90 days'
  order by found_at
  limit $1
)
"""

# After its differences, so that no deletion takes ten thousand of them along.
DROP_OLD_RUNS = """
delete from reconciliations
where id in (
  select r.id
  from reconciliations r
  where r.started_at < shop_now() - interval '91 days'
    and r.state <> 'running'
    and not exists (select from reconciliation_differences d where d.run = r.id)
  order by r.started_at
  limit $1
)
"""
