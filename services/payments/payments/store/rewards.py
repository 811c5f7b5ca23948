"""The SQL of rewards: a receipt is rewarded once, and a refund takes back once, for one partner."""

from collections.abc import Sequence
from uuid import UUID

from payments.domain import ledger
from shared.contracts.message import digest_of
from shared.contracts.referrals import RewardEarned, RewardReversed
from shared.messaging import conflicts
from shared.messaging.conflicts import Conflict
from shared.platform.db import Tx, columns

# The sums of each hour tell how much of `earned` is young, at any number of rewards.
CLAIM_REWARDS = """
with rewards as (
  select *
  from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[])
    as r (id, cause, person, amount_minor)
), claimed as (
  insert into transfers (id, cause, reason, person)
  select id, cause, 'reward', person
  from rewards
  order by id
  on conflict do nothing
  returning id
), summed as (
  insert into reward_hours as h (person, hour, amount_minor)
  select r.person, date_trunc('hour', shop_now(), 'UTC'), sum(r.amount_minor)
  from claimed
  join rewards r using (id)
  group by r.person
  order by r.person
  on conflict (person, hour) do update
  set amount_minor = h.amount_minor + excluded.amount_minor
)
select id from claimed
"""

# Rewards mature within 21 days.
DROP_OLD_HOURS = """
delete from reward_hours
where (hour, person) in (
  select hour, person
  from reward_hours
  where hour < shop_now() - interval '60 days'
  order by hour
  limit $1
)
"""

# A separate statement: only a later one sees the row of a transaction that the claim waited for.
BOOKED_REWARDS = """
select t.id, t.person, sum(e.amount_minor)::bigint as reward_minor
from transfers t
join entries e on e.transfer = t.id and e.amount_minor > 0
where t.id = any($1::uuid[])
group by t.id
"""


async def claim_rewards(events: Sequence[RewardEarned], tx: Tx) -> dict[UUID, RewardEarned]:
    """Insert a transfer for each receipt without a reward; returns the events by transfer id.

    The first event of a receipt counts. A partner or amount other than the booked one is recorded
    as a conflict (I12). Claim before any account is locked: two partners named for one receipt
    have no lock in common.
    """
    firsts: dict[UUID, RewardEarned] = {}
    for event in events:
        firsts.setdefault(ledger.reward_id(event.receipt), event)
    rows = [
        (transfer, ledger.reward_cause(event.receipt), event.about, event.reward_minor)
        for transfer, event in firsts.items()
    ]
    fresh = {row["id"] for row in await tx.fetch(CLAIM_REWARDS, *columns(rows, 4))}
    booked = {transfer: digest_of_reward(firsts[transfer]) for transfer in fresh}
    if known := firsts.keys() - fresh:
        for row in await tx.fetch(BOOKED_REWARDS, list(known)):
            booked[row["id"]] = digest_of(row["person"], row["reward_minor"])
    found = [
        Conflict(event.id, booked[ledger.reward_id(event.receipt)], digest_of_reward(event))
        for event in events
    ]
    await conflicts.record("rewards", (one for one in found if one.known != one.received), tx)
    return {transfer: firsts[transfer] for transfer in fresh}


def digest_of_reward(event: RewardEarned) -> int:
    return digest_of(event.about, event.reward_minor)


# A reward that is taken back is no longer young in its hour.
CLAIM_REVERSALS = """
with reversals as (
  select *
  from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[])
    as r (id, cause, person, amount_minor, reward_cause)
), claimed as (
  insert into transfers (id, cause, reason, person)
  select id, cause, 'reward_reversed', person
  from reversals
  order by id
  on conflict do nothing
  returning id
), aged as (
  select r.person, date_trunc('hour', t.at, 'UTC') as hour, sum(r.amount_minor) as amount_minor
  from claimed
  join reversals r using (id)
  join transfers t on t.cause = r.reward_cause and t.reason = 'reward' and t.person = r.person
  group by 1, 2
), summed as (
  update reward_hours h
  set amount_minor = greatest(0, h.amount_minor - a.amount_minor)
  from aged a
  where h.person = a.person and h.hour = a.hour
)
select id from claimed
"""


async def claim_reversals(events: Sequence[RewardReversed], tx: Tx) -> dict[UUID, RewardReversed]:
    """Insert a transfer for each refund that took nothing back yet; the events by transfer id.

    The first event of a refund counts, as that of a receipt does for rewards.
    """
    firsts: dict[UUID, RewardReversed] = {}
    for event in events:
        firsts.setdefault(ledger.reversal_id(event.refund), event)
    rows = [
        (
            transfer,
            ledger.reversal_cause(event.refund),
            event.about,
            event.reversed_minor,
            ledger.reward_cause(event.receipt),
        )
        for transfer, event in firsts.items()
    ]
    fresh = {row["id"] for row in await tx.fetch(CLAIM_REVERSALS, *columns(rows, 5))}
    booked = {transfer: digest_of_reversal(firsts[transfer]) for transfer in fresh}
    if known := firsts.keys() - fresh:
        for row in await tx.fetch(BOOKED_REWARDS, list(known)):
            booked[row["id"]] = digest_of(row["person"], row["reward_minor"])
    found = [
        Conflict(event.id, booked[ledger.reversal_id(event.refund)], digest_of_reversal(event))
        for event in events
    ]
    await conflicts.record("reversals", (one for one in found if one.known != one.received), tx)
    return {transfer: firsts[transfer] for transfer in fresh}


def digest_of_reversal(event: RewardReversed) -> int:
    return digest_of(event.about, event.reversed_minor)
