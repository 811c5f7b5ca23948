"""Rewards: partners under their locks, and the decisions about receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from referrals.domain.rewards import (
    Decisions,
    Level,
    Partner,
    ReceiptFields,
    Reward,
    RewardableReceipt,
    RewardState,
    Scale,
)
from referrals.store import invitations
from shared.platform.db import Database, Row, Tx, columns

LOCK_PARTNERS = """
select person, paying, fixed_percent
from partners
where person = any($1::uuid[])
order by person
for update
"""

DECIDED = """
select receipt, payer, value_minor
from rewards
where receipt = any($1::uuid[])
"""

PAYING = """
select invitee,
  exists (
    select from lapses l where l.invitee = i.invitee and l.resumed_by is null
  ) as lapsed
from invitations i
where invitee = any($1::uuid[]) and state = 'activated'
"""

SCALE = """
select scale, paying_from, percent
from levels
where scale = (select max(scale) from levels)
order by paying_from
"""


async def lock_state(receipts: Sequence[RewardableReceipt], tx: Tx) -> RewardState:
    """Lock the partners of these payers, in the order of ids. Then read the earlier decisions."""
    named = sorted({receipt.partner for receipt in receipts if receipt.partner is not None})
    partners = await lock_partners(named, tx)
    decided = await _decided([receipt.id for receipt in receipts], tx)
    paying = await tx.fetch(PAYING, [receipt.payer for receipt in receipts])
    return RewardState(
        _scale_from(await tx.fetch(SCALE)),
        partners,
        {row["invitee"] for row in paying if not row["lapsed"]},
        {row["invitee"] for row in paying if row["lapsed"]},
        decided,
    )


async def lock_partners(people: Sequence[UUID], tx: Tx) -> dict[UUID, Partner]:
    """By person. A partner whose row is gone is missing."""
    return {row["person"]: partner_from(row) for row in await tx.fetch(LOCK_PARTNERS, people)}


async def _decided(receipts: Sequence[UUID], tx: Tx) -> dict[UUID, ReceiptFields]:
    rows = await tx.fetch(DECIDED, receipts)
    return {row["receipt"]: ReceiptFields(row["payer"], row["value_minor"]) for row in rows}


def partner_from(row: Row) -> Partner:
    return Partner(row["person"], row["paying"], row["fixed_percent"])


def _scale_from(rows: Sequence[Row]) -> Scale:
    return Scale(rows[0]["scale"], tuple(Level(row["paying_from"], row["percent"]) for row in rows))


# In the order of the fold, which is the same in every transaction: `seq` keeps that order, and two
# batches cannot deadlock. The partners' rows are locked.
WRITE = """
with written as (
  insert into rewards (
    receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor,
    published_as
  )
  select
    receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor,
    published_as
  from unnest(
    $1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::uuid[], $6::int[], $7::int[],
    $8::int[], $9::bigint[], $10::uuid[]
  ) with ordinality as decided (
    receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor,
    published_as, position
  )
  order by position
  on conflict (receipt) do nothing
  returning receipt, partner, reward_minor
), earned as (
  update partners p
  set earned_minor = p.earned_minor + w.earned_minor
  from (
    select partner, sum(reward_minor) as earned_minor
    from written
    where reward_minor > 0
    group by partner
  ) w
  where p.person = w.partner
)
select receipt,
  exists (select from waiting_refunds f where f.receipt = written.receipt) as refunded
from written
"""

COUNT_PAYING = """
update partners
set paying = counted.paying
from unnest($1::uuid[], $2::int[]) as counted (person, paying)
where partners.person = counted.person
"""


RESUME = """
update lapses
set resumed_by = resumed.receipt
from unnest($1::uuid[], $2::uuid[]) as resumed (invitee, receipt)
where lapses.invitee = resumed.invitee and lapses.resumed_by is null
"""


@dataclass(frozen=True)
class Written:
    """The receipts that another transaction decided first, with their fields there.

    `refunded` names the written ones whose refund came first.
    """

    known: dict[UUID, ReceiptFields]
    refunded: list[UUID]


class ReceiptTakenError(Exception):
    """Another transaction decided a receipt under another partner's lock: it has two payers."""


async def write(decisions: Decisions, published_as: Mapping[UUID, UUID], tx: Tx) -> Written:
    """Write decisions under the locks of their state. `published_as`: each receipt's event.

    A receipt that another transaction decided meanwhile has no partner here, so nobody was counted
    for it. Raises ReceiptTakenError if it has: it has two payers at one moment, and a retry finds
    the conflict.
    """
    rows = [_row_of(one, published_as.get(one.receipt.id)) for one in decisions.rewards]
    written = {row["receipt"]: row for row in await tx.fetch(WRITE, *columns(rows, 10))}
    lost = [one for one in decisions.rewards if one.receipt.id not in written]
    if taken := [str(one.receipt.id) for one in lost if one.terms]:
        raise ReceiptTakenError(f"{len(taken)} receipts, the first is {taken[0]}")
    await _count(decisions, tx)
    known = await _decided([one.receipt.id for one in lost], tx) if lost else {}
    return Written(known, [receipt for receipt, row in written.items() if row["refunded"]])


async def _count(decisions: Decisions, tx: Tx) -> None:
    """Count the payers who begin to pay, or pay again after all was returned."""
    steps = [(one.receipt.payer, one.receipt.id) for one in decisions.rewards if one.activates]
    if not steps:
        return
    lapsed = decisions.state.lapsed
    if resumed := [step for step in steps if step[0] in lapsed]:
        await tx.execute(RESUME, *columns(resumed, 2))
    if first := [step for step in steps if step[0] not in lapsed]:
        await invitations.activate(first, tx)
    partners = decisions.state.partners.values()
    await set_paying({partner.person: partner.paying for partner in partners}, tx)


async def set_paying(counts: Mapping[UUID, int], tx: Tx) -> None:
    """Write the numbers of paying invitees of locked partners."""
    await tx.execute(COUNT_PAYING, *columns(sorted(counts.items()), 2))


def _row_of(reward: Reward, published_as: UUID | None) -> tuple[object, ...]:
    receipt, terms = reward.receipt, reward.terms
    return (
        receipt.id,
        receipt.payer,
        receipt.value_minor,
        reward.outcome,
        receipt.partner,
        reward.paying,
        terms.scale if terms else None,
        terms.percent if terms else None,
        reward.reward_minor,
        published_as,
    )


# Queries


async def current_scale(database: Database) -> Scale:
    return _scale_from(await database.fetch(SCALE))


REWARDS = """
select
  receipt, outcome, partner, paying, percent, value_minor, reward_minor, published_as as event,
  decided_at,
  (
    select coalesce(sum(v.reversed_minor), 0)::bigint
    from reversals v
    where v.receipt = rewards.receipt
  ) as reversed_minor
from rewards
where receipt = any($1::uuid[])
order by seq
"""


async def rewards_of(receipts: Sequence[UUID], database: Database) -> list[Row]:
    return await database.fetch(REWARDS, list(receipts))
