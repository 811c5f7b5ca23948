"""The SQL of refunds that operators ask for: the hold, the claims of workers, and the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from payments.domain.outgoing import End, Outgoing
from shared.platform.db import Database, Row, Tx, columns

RECEIPT = """
select r.id, r.acquirer, r.charge, r.currency, r.amount_minor,
  coalesce(v.person, r.payer) as payer, coalesce(v.value_minor, b.value_minor) as value_minor
from receipts r
join bookings b on b.receipt = r.id
left join resolutions v on v.receipt = r.id
where r.id = $1
"""


async def receipt(id_: UUID, tx: Tx) -> Row | None:
    """A booked receipt. Without a `value_minor` it is in suspense."""
    return await tx.fetchrow(RECEIPT, id_)


OPEN_RETURN = """
insert into refunded_receipts (receipt, amount_minor)
select id, amount_minor from receipts where id = $1
on conflict do nothing
"""

LOCK_RETURN = "select returned_minor from refunded_receipts where receipt = $1 for update"


async def lock_return(receipt: UUID, tx: Tx) -> int:
    """The returned part of the receipt, locked. No refund of it is booked or begun meanwhile."""
    await tx.execute(OPEN_RETURN, receipt)
    returned_minor: int = await tx.fetchval(LOCK_RETURN, receipt)
    return returned_minor


UNDER_WAY = """
select exists (
  select from outgoing_refunds
  where receipt = $1 and state in ('held', 'calling', 'pending', 'pending_review')
)
"""


async def is_under_way(receipt: UUID, tx: Tx) -> bool:
    return bool(await tx.fetchval(UNDER_WAY, receipt))


INSERT = """
insert into outgoing_refunds (
  id, receipt, acquirer, charge, person, actor, currency, amount_minor, held_minor, trace
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
returning *
"""


async def insert(
    outgoing: Outgoing, charge: str, currency: str, actor: str, trace: str | None, tx: Tx
) -> Row:
    row = await tx.fetchrow(
        INSERT,
        outgoing.id,
        outgoing.receipt,
        outgoing.acquirer,
        charge,
        outgoing.person,
        actor,
        currency,
        outgoing.amount_minor,
        outgoing.held_minor,
        trace,
    )
    assert row is not None, "an insert that returns"
    return row


# In the order of every refund: behind the lock of its receipt, before the accounts.
LOCK_OPEN_OF = """
select id, receipt, acquirer, person, amount_minor, held_minor, reference,
  asked_at is not null as asked
from outgoing_refunds
where receipt = any($1::uuid[]) and state in ('held', 'calling', 'pending', 'pending_review')
order by id
for update
"""


async def lock_open_of(receipts: Sequence[UUID], tx: Tx) -> dict[UUID, Outgoing]:
    """The refunds under way of these receipts, locked; by receipt."""
    rows = await tx.fetch(LOCK_OPEN_OF, list(receipts)) if receipts else []
    return {row["receipt"]: Outgoing(**dict(row)) for row in rows}


SET_REFERENCE = """
update outgoing_refunds set reference = coalesce(reference, $2) where id = $1
"""


async def set_reference(id_: UUID, reference: str, tx: Tx) -> None:
    """By it the booking of this refund is found to be the one under way."""
    await tx.execute(SET_REFERENCE, id_, reference)


END = """
update outgoing_refunds o
set state = e.state,
  refund = e.refund,
  reference = coalesce(e.reference, o.reference),
  reason = case when e.state = 'released' then e.reason end,
  claim = null,
  ended_at = shop_now()
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[])
  as e (id, state, refund, reference, reason)
where o.id = e.id
"""

Ended = tuple[UUID, End, UUID | None, str | None, str | None]
"""The id, the state, the booked refund, its reference, and the reason."""


async def end(ended: Sequence[Ended], tx: Tx) -> None:
    """To be called under the locks of these refunds."""
    if not ended:
        return
    await tx.execute(END, *columns(ended, 5))


FOUND = "select * from outgoing_refunds where id = $1"


async def found(id_: UUID, tx: Tx) -> Row | None:
    return await tx.fetchrow(FOUND, id_)


PAGE = """
select o.*
from outgoing_refunds o
where ($1::text is null or state = $1)
  and ($2::uuid is null or (requested_at, id) < (
    select requested_at, id from outgoing_refunds where id = $2
  ))
order by requested_at desc, id desc
limit $3
"""


async def page(state: str | None, before: UUID | None, most: int, database: Database) -> list[Row]:
    """The newest first, from behind the refund `before`."""
    return await database.fetch(PAGE, state, before, most)


# The work of a worker

CLAIM = """
with pace as (
  select failures
  from provider_pace
  where acquirer = $1
    and lane = 'refund'
    and next_at <= shop_now()
    and exists (
      select from outgoing_refunds
      where acquirer = $1 and state in ('held', 'calling', 'pending') and due_at <= shop_now()
    )
  for update skip locked
), due as (
  select id, lost, asked_at, state
  from outgoing_refunds
  where acquirer = $1 and state in ('held', 'calling', 'pending') and due_at <= shop_now()
  order by due_at
  limit coalesce((select greatest(1, $2::int >> failures) from pace), 0)
  for update skip locked
), claimed as (
  update outgoing_refunds o
  set state = case when o.state = 'pending' then o.state else 'calling' end,
    claim = $3,
    due_at = shop_now() + $4::interval,
    asked_at = coalesce(o.asked_at, shop_now()),
    lost = true
  from due
  where o.id = due.id and o.id = any(array(select id from due))
  returning o.id, o.receipt, o.charge, o.person, o.actor, o.currency, o.amount_minor, o.reference,
    o.trace, o.tries, shop_now() as claimed_at, due.lost, due.asked_at is not null as asked_before,
    extract(epoch from shop_now() - o.asked_at)::float8 as asked_for_s
), paced as (
  update provider_pace
  set next_at = shop_now() + every * (select count(*) from claimed)
  where acquirer = $1 and lane = 'refund' and exists (select from claimed)
)
select c.*, p.failures
from claimed c
cross join pace p
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A refund to ask for, or to read back where it has a `reference`.

    `lost`: the answer to the last try may be lost. `failures` are those of the acquirer, in a row.
    """

    id: UUID
    receipt: UUID
    charge: str
    person: UUID | None
    actor: str
    currency: str
    amount_minor: int
    reference: str | None
    trace: str | None
    tries: int
    claimed_at: datetime
    lost: bool
    asked_before: bool
    asked_for_s: float
    failures: int


async def claim(
    acquirer: str, most: int, token: UUID, lease_s: float, database: Database
) -> list[Claimed]:
    """Claim due refunds of an acquirer, as its pace allows; no other worker gets them meanwhile."""
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(CLAIM, acquirer, most, token, lease)
    return [Claimed(**dict(row)) for row in rows]


NEXT_REFUND = """
select extract(epoch from greatest(p.next_at, o.due_at) - shop_now())::float8
from provider_pace p
cross join lateral (
  select due_at
  from outgoing_refunds
  where acquirer = $1 and state in ('held', 'calling', 'pending')
  order by due_at
  limit 1
) o
where p.acquirer = $1 and p.lane = 'refund'
"""


async def due_in_s(acquirer: str, database: Database) -> float | None:
    """After so many seconds the first refund may be claimed. None: none is under way."""
    seconds: float | None = await database.fetchval(NEXT_REFUND, acquirer)
    return seconds


RENEW = """
update outgoing_refunds
set due_at = shop_now() + $3::interval
where id in (
  select id
  from outgoing_refunds
  where id = any($1::uuid[]) and claim = $2
  order by id
  for no key update
)
"""


async def renew(ids: Sequence[UUID], token: UUID, lease_s: float, database: Database) -> bool:
    """Renew the lease of these refunds; False when none of them is left to this worker."""
    tag = await database.execute(RENEW, list(ids), token, timedelta(seconds=lease_s))
    return not tag.endswith(" 0")


GIVE_BACK = """
update outgoing_refunds
set state = case when $3 then state else 'held' end,
  claim = null,
  due_at = shop_now(),
  asked_at = case when $3 then asked_at end,
  lost = $4,
  reason = $5
where id = $1 and claim = $2
"""


async def give_back(job: Claimed, token: UUID, reason: str, database: Database) -> None:
    """The acquirer did nothing. The refund is as it was."""
    await database.execute(GIVE_BACK, job.id, token, job.asked_before, job.lost, reason)


ASK_LATER = """
update outgoing_refunds
set state = case when $4::text is null then state else 'pending' end,
  reference = coalesce($4, reference),
  claim = null,
  tries = tries + 1,
  reason = $5,
  due_at = shop_now() + $3::interval
where id = $1 and claim = $2
"""


async def ask_later(
    id_: UUID,
    token: UUID,
    pause_s: float,
    reference: str | None,
    reason: str | None,
    database: Database,
) -> None:
    """Look again after a pause; at the refund that was accepted, where there is a `reference`."""
    pause = timedelta(seconds=pause_s)
    await database.execute(ASK_LATER, id_, token, pause, reference, reason)


REVIEW = """
update outgoing_refunds
set state = 'pending_review', claim = null, reason = $3
where id = $1 and claim = $2
"""


async def review(id_: UUID, token: UUID, reason: str, database: Database) -> None:
    """Nobody asks about it any more, until an operator looks."""
    await database.execute(REVIEW, id_, token, reason)


# Up to 10 000 of each.
COUNTS = """
select a.acquirer, s.state,
  (
    select count(*)
    from (
      select from outgoing_refunds
      where acquirer = a.acquirer and state = s.state
        and state in ('held', 'calling', 'pending')
      limit 10000
    ) o
  ) + (
    select count(*)
    from (
      select from outgoing_refunds
      where state = 'pending_review' and acquirer = a.acquirer and state = s.state
      limit 10000
    ) r
  ) as refunds
from unnest($1::text[]) as a (acquirer)
cross join unnest(array['held', 'calling', 'pending', 'pending_review']) as s (state)
"""


async def counts(acquirers: Sequence[str], database: Database) -> list[Row]:
    """Refunds that have not ended, by acquirer and state."""
    return await database.fetch(COUNTS, list(acquirers))


DROP_OLD = """
delete from outgoing_refunds
where id in (
  select id
  from outgoing_refunds
  where ended_at < shop_now() - interval '400 days'
  order by ended_at
  limit $1
)
"""
"""What was returned stays in `refunds` for ever, and the acts in `commands`."""
