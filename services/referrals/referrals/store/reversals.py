"""Reversals: rewards under their partners' locks, and what refunds take back of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from referrals.domain.reversals import Lapse, RefundedValue, Reversal, Rewarded
from referrals.domain.rewards import Partner
from referrals.store.rewards import lock_partners, set_paying
from shared.contracts.payments import PaymentRefunded
from shared.platform.db import Database, Row, Tx, columns

MAX_LOOKED_AT = 1_000
"""Waiting refunds that a tick looks at, the newest first."""

# Rewards never change, so their partners are known before they are locked.
PARTNERS_OF_RECEIPTS = """
select distinct partner
from rewards
where receipt = any($1::uuid[]) and partner is not null
order by partner
"""

REWARDED = """
select r.receipt, r.payer, r.partner, r.value_minor, r.percent, r.reward_minor,
  coalesce(v.returned_minor, 0)::bigint as returned_minor,
  coalesce(v.reversed_minor, 0)::bigint as reversed_minor
from rewards r
cross join lateral (
  select sum(value_minor) as returned_minor, sum(reversed_minor) as reversed_minor
  from reversals
  where receipt = r.receipt
) v
where r.receipt = any($1::uuid[])
"""

KNOWN = "select refund, value_minor from reversals where refund = any($1::uuid[])"


@dataclass(frozen=True)
class ReversalState:
    """The locked state that a batch of refunds is decided on."""

    partners: Mapping[UUID, Partner]
    rewarded: Mapping[UUID, Rewarded]
    known: Mapping[UUID, int]


async def lock_state(refunds: Sequence[RefundedValue], tx: Tx) -> ReversalState:
    """Lock the partners of these receipts, in the order of ids. Then read the decisions."""
    receipts = [refund.receipt for refund in refunds]
    named = [row["partner"] for row in await tx.fetch(PARTNERS_OF_RECEIPTS, receipts)]
    partners = await lock_partners(named, tx)
    rewarded = await tx.fetch(REWARDED, receipts)
    known = await tx.fetch(KNOWN, [refund.id for refund in refunds])
    return ReversalState(
        partners,
        {row["receipt"]: Rewarded(*row) for row in rewarded},
        {row["refund"]: row["value_minor"] for row in known},
    )


WRITE_REVERSALS = """
with written as (
  insert into reversals
    (refund, receipt, payer, value_minor, partner, reversed_minor, published_as)
  select *
  from unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::uuid[], $6::bigint[], $7::uuid[]
  ) as r (refund, receipt, payer, value_minor, partner, reversed_minor, published_as)
  returning partner, reversed_minor
)
update partners p
set earned_minor = p.earned_minor - w.reversed_minor
from (
  select partner, sum(reversed_minor) as reversed_minor
  from written
  where reversed_minor > 0
  group by partner
) w
where p.person = w.partner
"""


async def write(reversals: Sequence[Reversal], published_as: Mapping[UUID, UUID], tx: Tx) -> None:
    """Write reversals under the locks of their state. `published_as`: each refund's event."""
    rows = [
        (
            one.refund.id,
            one.refund.receipt,
            one.refund.payer,
            one.refund.value_minor,
            one.partner,
            one.reversed_minor,
            published_as.get(one.refund.id),
        )
        for one in reversals
    ]
    await tx.execute(WRITE_REVERSALS, *columns(rows, 7))


# The newest hundred payments are looked at: more that were all returned are hardly a customer.
NOTHING_LEFT = """
select i.invitee
from unnest($1::uuid[]) as p (payer)
join invitations i on i.invitee = p.payer and i.state = 'activated'
where not exists (select from lapses l where l.invitee = p.payer and l.resumed_by is null)
  and not exists (
    select from (
      select receipt, value_minor
      from rewards
      where payer = p.payer
      order by seq desc
      limit 100
    ) r
    where r.value_minor > (
      select coalesce(sum(v.value_minor), 0) from reversals v where v.receipt = r.receipt
    )
  )
order by i.invitee
"""


async def nothing_left(payers: Collection[UUID], tx: Tx) -> list[UUID]:
    """Those who count as paying, though nothing of what they paid remains."""
    return [row["invitee"] for row in await tx.fetch(NOTHING_LEFT, sorted(payers))]


LAPSE = """
insert into lapses (invitee, partner, paying, refund)
select invitee, partner, paying, refund
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[]) with ordinality
  as l (invitee, partner, paying, refund, position)
order by position
"""


async def lapse(lapses: Sequence[Lapse], tx: Tx) -> None:
    """Count these payers no more. Their partners are locked."""
    if not lapses:
        return
    rows = [(one.invitee, one.partner, one.paying, one.refund) for one in lapses]
    await tx.execute(LAPSE, *columns(rows, 4))
    await set_paying({one.partner: one.paying for one in lapses}, tx)


# Refunds that came first

WAIT = """
insert into waiting_refunds (refund, receipt, body, trace)
select refund, receipt, body::json, trace
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as w (refund, receipt, body, trace)
on conflict do nothing
"""


async def wait(events: Sequence[PaymentRefunded], tx: Tx) -> None:
    """Keep refunds until their payment is decided."""
    rows = [
        (one.returned.refund, one.returned.receipt, one.model_dump_json(), one.trace)
        for one in events
    ]
    await tx.execute(WAIT, *columns(sorted(rows), 4))


TAKE = """
delete from waiting_refunds
where receipt = any($1::uuid[])
returning body::text as body, trace
"""


async def take(receipts: Collection[UUID], tx: Tx) -> list[Row]:
    """Remove the refunds that waited for these receipts, and answer them."""
    return await tx.fetch(TAKE, sorted(receipts))


MET_LATE = """
select w.receipt
from (
  select receipt
  from waiting_refunds
  order by waits_since desc
  limit $1
) w
where exists (select from rewards r where r.receipt = w.receipt)
limit $2
"""


async def met_late(most: int, database: Database) -> list[UUID]:
    """Receipts that are decided while their refund waits: both came at the same moment."""
    return [row["receipt"] for row in await database.fetch(MET_LATE, MAX_LOOKED_AT, most)]
