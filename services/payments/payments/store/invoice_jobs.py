"""The SQL of the jobs that open and watch invoices at outside providers: claims and outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from payments.domain.provider import Opened, Way
from shared.platform.db import Database, Row, Tx

INSERT = "insert into invoice_jobs (invoice, acquirer, step) values ($1, $2, 'open')"


async def insert(invoice: UUID, acquirer: str, tx: Tx) -> None:
    """The invoice is to be opened at its provider."""
    await tx.execute(INSERT, invoice, acquirer)


# Jobs that failed before come one at a time, beside the others: one that always fails delays none.
CLAIM_OPENING = """
with pace as (
  select failures
  from provider_pace
  where acquirer = $1
    and lane = 'open'
    and next_at <= shop_now()
    and exists (
      select from invoice_jobs
      where acquirer = $1 and step = 'open' and least(tries, 1) in (0, 1) and due_at <= shop_now()
    )
  for update skip locked
), fresh as (
  select invoice, asked_at, lost
  from invoice_jobs
  where acquirer = $1 and step = 'open' and least(tries, 1) = 0 and due_at <= shop_now()
  order by due_at
  limit coalesce((select greatest(1, $2::int >> failures) from pace), 0)
  for update skip locked
), failed as (
  select invoice, asked_at, lost
  from invoice_jobs
  where acquirer = $1 and step = 'open' and least(tries, 1) = 1 and due_at <= shop_now()
  order by due_at
  limit coalesce((select 1 from pace), 0)
  for update skip locked
), claimed as (
  update invoice_jobs j
  set claim = $3,
    due_at = shop_now() + $4::interval,
    asked_at = coalesce(j.asked_at, shop_now()),
    lost = true
  from (select * from fresh union all select * from failed) due
  where j.invoice = due.invoice
    and j.invoice = any(array(select invoice from fresh union all select invoice from failed))
  returning j.invoice, j.asked_at as since, j.tries, due.lost,
    due.asked_at is not null as asked_before
), paced as (
  update provider_pace
  set next_at = shop_now() + every * (select count(*) from claimed)
  where acquirer = $1 and lane = 'open' and exists (select from claimed)
)
select c.invoice, c.since, c.tries, c.lost, c.asked_before, i.way, i.asked_minor as amount_minor,
  i.asked_currency as currency, i.state, i.order_id as order, o.person, o.trace,
  extract(epoch from i.expires_at - i.opened_at)::int as lives_s,
  extract(epoch from shop_now() - i.expires_at)::float8 as past_end_s,
  p.failures, i.saves_method, i.saved_method, m.method
from claimed c
join invoices i on i.id = c.invoice
join orders o on o.id = i.order_id
left join saved_methods m on m.id = i.saved_method
cross join pace p
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """A claimed job: an invoice to open, and what is known of the tries before.

    `lost`: the answer to the last try may be lost. `past_end_s` is negative while the invoice
    lives. `failures` are those of the provider, in a row. `method` is the provider's id of
    `saved_method`, which it charges; None also where that was forgotten meanwhile.
    """

    invoice: UUID
    since: datetime
    tries: int
    lost: bool
    asked_before: bool
    way: Way
    amount_minor: int
    currency: str
    state: str
    order: UUID
    person: UUID
    trace: str | None
    lives_s: int
    past_end_s: float
    failures: int
    saves_method: bool = False
    saved_method: UUID | None = None
    method: str | None = field(default=None, repr=False)

    @property
    def charges(self) -> bool:
        """Whether it charges a saved method: nobody needs a page."""
        return self.saved_method is not None

    @property
    def wanted(self) -> bool:
        """Whether a person still waits for it."""
        return self.state == "asking" and self.past_end_s < 0


async def claim_opening(
    acquirer: str, most: int, token: UUID, lease_s: float, database: Database
) -> list[Opening]:
    """Claim due jobs of a provider, as its pace allows; no other worker gets them meanwhile."""
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(CLAIM_OPENING, acquirer, most, token, lease)
    return [Opening(**dict(row)) for row in rows]


# The first due one of both kinds, or the time from which the provider may be asked.
NEXT_JOB = """
select extract(epoch from greatest(p.next_at, j.due_at) - shop_now())::float8
from provider_pace p
cross join lateral (
  select min(due_at) as due_at
  from (
    (
      select due_at
      from invoice_jobs
      where acquirer = $1 and step = $2 and least(tries, 1) = 0
      order by due_at
      limit 1
    )
    union all
    (
      select due_at
      from invoice_jobs
      where acquirer = $1 and step = $2 and least(tries, 1) = 1
      order by due_at
      limit 1
    )
  ) next
) j
where p.acquirer = $1 and p.lane = $2 and j.due_at is not null
"""


async def due_in_s(
    acquirer: str, step: Literal["open", "watch"], database: Database
) -> float | None:
    """After so many seconds the first job of this step may be claimed. None: there is no job."""
    seconds: float | None = await database.fetchval(NEXT_JOB, acquirer, step)
    return seconds


RENEW = """
update invoice_jobs
set due_at = shop_now() + $3::interval
where invoice in (
  select invoice
  from invoice_jobs
  where invoice = any($1::uuid[]) and claim = $2
  order by invoice
  for no key update
)
"""


async def renew(invoices: Sequence[UUID], token: UUID, lease_s: float, database: Database) -> bool:
    """Renew the lease of these jobs; False when none of them is left to this worker."""
    tag = await database.execute(RENEW, list(invoices), token, timedelta(seconds=lease_s))
    return not tag.endswith(" 0")


GIVE_BACK = """
update invoice_jobs
set claim = null,
  due_at = shop_now(),
  asked_at = case when $3 then asked_at end,
  lost = $4
where invoice = $1 and claim = $2
"""


async def give_back(job: Opening, token: UUID, database: Database) -> None:
    """The provider did nothing. The job is as it was."""
    await database.execute(GIVE_BACK, job.invoice, token, job.asked_before, job.lost)


FAIL = """
update invoice_jobs
set claim = null,
  tries = tries + 1,
  due_at = shop_now() + $3::interval,
  lost = $4
where invoice = $1 and claim = $2
"""


async def fail(
    invoice: UUID, token: UUID, pause_s: float, database: Database, *, lost: bool
) -> None:
    """The outcome is unknown. `lost`: look it up before another try."""
    await database.execute(FAIL, invoice, token, timedelta(seconds=pause_s), lost)


# A superseded invoice keeps its reference: money that comes for it is honoured. `least` ignores an
# end that the provider does not tell. Nobody can pay without a page, or after the end: only a saved
# method is charged all the same, and is read back.
RECORD_OPENED = """
update invoices
set reference = $3,
  pay_url = $4,
  expires_at = least(expires_at, $5::timestamptz),
  state = case
    when state <> 'asking' then state
    when saved_method is not null then 'open'
    when $4::text is null or expires_at <= shop_now() then 'expired'
    else 'open'
  end,
  reason = case
    when state = 'asking'
      and saved_method is null
      and ($4::text is null or expires_at <= shop_now())
    then 'not_payable'
    else reason
  end
where id = $1 and exists (select from invoice_jobs where invoice = $1 and claim = $2)
returning state
"""

WATCH = """
update invoice_jobs
set step = 'watch',
  reference = $3,
  claim = null,
  tries = 0,
  due_at = shop_now() + $4::interval,
  awaited = true
where invoice = $1 and claim = $2
"""


async def record_opened(
    invoice: UUID, token: UUID, opened: Opened, watch_after_s: float, tx: Tx
) -> str | None:
    """Record the provider's invoice, and watch it from then on; returns the invoice's state.

    None when another worker has the job.
    """
    state: str | None = await tx.fetchval(
        RECORD_OPENED, invoice, token, opened.reference, opened.pay_url, opened.expires_at
    )
    after = timedelta(seconds=watch_after_s)
    await tx.execute(WATCH, invoice, token, opened.reference, after)
    return state


END_ASKING = """
update invoices
set state = 'expired', reason = $3
where id = $1
  and state = 'asking'
  and exists (select from invoice_jobs where invoice = $1 and claim = $2)
"""


async def end_asking(invoice: UUID, token: UUID, reason: str, tx: Tx) -> bool:
    """The person gets no page to pay on; False where nobody waits for one any more."""
    return not (await tx.execute(END_ASKING, invoice, token, reason)).endswith(" 0")


DROP = "delete from invoice_jobs where invoice = any($1::uuid[]) and claim = $2"


async def drop(invoices: Sequence[UUID], token: UUID, tx: Tx) -> None:
    """Nothing is left to do about these invoices."""
    await tx.execute(DROP, list(invoices), token)


# Up to 100 000 of each.
COUNTS = """
select p.acquirer,
  (
    select count(*)
    from (
      select from invoice_jobs where acquirer = p.acquirer and step = 'open' limit 100000
    ) o
  ) as opening,
  (
    select count(*)
    from (
      select from invoice_jobs where acquirer = p.acquirer and step = 'watch' limit 100000
    ) w
  ) as watched,
  (
    select count(*)
    from (
      select from notices
      where acquirer = p.acquirer and state in ('waiting', 'asking')
      limit 100000
    ) n
  ) as notices,
  (
    select count(*)
    from (select from notices where acquirer = p.acquirer and state = 'parked' limit 100000) k
  ) as parked
from provider_pace p
where p.lane = 'open' and p.acquirer = any($1::text[])
"""


async def counts(acquirers: Sequence[str], database: Database) -> list[Row]:
    """For each provider: invoices to open, watched ones, waiting notices, and parked ones."""
    return await database.fetch(COUNTS, list(acquirers))
