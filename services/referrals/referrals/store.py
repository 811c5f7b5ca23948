"""The SQL of referrals: the roll of everybody who started, partners under their locks, rewards, and what waits."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from referrals.binding import Line, Refusal, Roll, Start, Welcome
from referrals.rewards import Business, Level, Partner, Payment, Reward, Scale, Tally
from shared import contradictions
from shared.contradictions import Contradiction
from shared.db import Database, Row, Tx, columns
from shared.facts import PaymentConfirmed

# The roll. Starts are written one batch at a time: two circles' halves cannot miss each other, and neither can a start
# and the payment that waits for it. What pays for people who are known takes no part in this.

LOCK_ROLL = "select pg_advisory_xact_lock(hashtext('the roll'), hashtext(current_schema()))"


async def lock_roll(tx: Tx) -> None:
    """Nobody else starts, or begins to wait for a start, until this transaction ends."""
    await tx.execute(LOCK_ROLL)


SHARE_ROLL = "select pg_advisory_xact_lock_shared(hashtext('the roll'), hashtext(current_schema()))"


async def share_roll(tx: Tx) -> None:
    """Wait for the starts that are being written; no other is written until this transaction ends."""
    await tx.execute(SHARE_ROLL)


# `union` makes every person distinct, so shared chains are walked once, and a circle would end as well.
CHAINS = """
with recursive chain as (
  select person, partner
  from people
  where person = any($1::uuid[])
  union
  select above.person, above.partner
  from chain
  join people above on above.person = chain.partner
)
select person, partner
from chain
"""


async def roll_of(starts: Sequence[Start], tx: Tx) -> Roll:
    """What is known of the starters, of whom they name, and of everybody above."""
    named = {start.person for start in starts} | {start.invited_by for start in starts if start.invited_by}
    return Roll(Line(row["person"], row["partner"]) for row in await tx.fetch(CHAINS, sorted(named)))


ENTER = """
insert into people (person, partner, started_at)
select *
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
"""

OPEN_PARTNERS = """
insert into partners (person)
select *
from unnest($1::uuid[])
on conflict do nothing
"""

STEP = """
insert into invitations (invitee, state, follows, cause)
select invitee, $1::text, $2::text, cause
from unnest($3::uuid[], $4::text[]) as step (invitee, cause)
"""


async def enter(welcomes: Sequence[Welcome], tx: Tx) -> None:
    """Write newcomers into the roll, and register those who are bound. The caller holds the roll's lock."""
    new = [(line.person, line.partner, started.start.started_at) for started in welcomes if (line := started.line)]
    await tx.execute(ENTER, *columns(new, 3))
    bound = [(person, partner) for person, partner, _ in new if partner is not None]
    if bound:
        await tx.execute(OPEN_PARTNERS, sorted({partner for _, partner in bound}))
        steps = [(person, str(person)) for person, _ in bound]
        await tx.execute(STEP, "registered", None, *columns(steps, 2))


REFUSE = """
insert into refusals (fact, person, invited_by, reason)
select *
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])
on conflict do nothing
returning fact
"""


async def refuse(refused: Sequence[tuple[Start, Refusal]], tx: Tx) -> set[UUID]:
    """Keep why somebody was not bound; answers the facts whose refusal is new."""
    rows = [(start.fact, start.person, start.invited_by, reason) for start, reason in refused]
    return {row["fact"] for row in await tx.fetch(REFUSE, *columns(rows, 4))}


PARTNERS_OF = """
select person, partner
from people
where person = any($1::uuid[])
"""


async def partners_of(persons: Collection[UUID], tx: Tx) -> dict[UUID, UUID | None]:
    """Whom each is bound to; somebody who is missing in the answer has not started yet."""
    return {row["person"]: row["partner"] for row in await tx.fetch(PARTNERS_OF, sorted(persons))}


# What waits

WAIT = """
insert into waiting (fact, payer, body, trace)
select fact, payer, body::json, trace
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as come (fact, payer, body, trace)
on conflict do nothing
"""


async def wait(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
    """Keep payments for the start of their payers. The caller shares the roll."""
    rows = [(event.id, event.about, event.model_dump_json(), event.trace) for event in events]
    await tx.execute(WAIT, *columns(sorted(rows), 4))


TURN_OVER = """
delete from waiting
where payer = any($1::uuid[])
returning body::text as body, trace
"""


async def turn_over(persons: Collection[UUID], tx: Tx) -> list[Row]:
    """Take out what waited for these people."""
    return await tx.fetch(TURN_OVER, sorted(persons))


# Rewards

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
select invitee
from invitations
where invitee = any($1::uuid[]) and state = 'activated'
"""

SCALE = """
select scale, paying_from, percent
from levels
where scale = (select max(scale) from levels)
order by paying_from
"""


async def tally_for(payments: Sequence[Payment], tx: Tx) -> Tally:
    """Lock the partners of these payers, each by id; then read what was decided before us."""
    named = sorted({payment.partner for payment in payments if payment.partner is not None})
    locked = await tx.fetch(LOCK_PARTNERS, named)
    decided = await tx.fetch(DECIDED, [payment.receipt for payment in payments])
    paying = await tx.fetch(PAYING, [payment.payer for payment in payments])
    return Tally(
        scale_from(await tx.fetch(SCALE)),
        {row["person"]: partner_from(row) for row in locked},
        {row["invitee"] for row in paying},
        decided_from(decided),
    )


def decided_from(rows: Sequence[Row]) -> dict[UUID, Business]:
    return {row["receipt"]: Business(row["payer"], row["value_minor"]) for row in rows}


def partner_from(row: Row) -> Partner:
    return Partner(row["person"], row["paying"], row["fixed_percent"])


def scale_from(rows: Sequence[Row]) -> Scale:
    return Scale(rows[0]["scale"], tuple(Level(row["paying_from"], row["percent"]) for row in rows))


# In the order of the fold, which is the same in every transaction: `seq` keeps it, and no two batches deadlock.
REWARD = """
insert into rewards (receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor, told_as)
select receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor, told_as
from unnest(
  $1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::uuid[], $6::int[], $7::int[], $8::int[], $9::bigint[],
  $10::uuid[]
) with ordinality as decided (
  receipt, payer, value_minor, outcome, partner, paying, scale, percent, reward_minor, told_as, place
)
order by place
on conflict (receipt) do nothing
returning receipt
"""

COUNT_PAYING = """
update partners
set paying = counted.paying
from unnest($1::uuid[], $2::int[]) as counted (person, paying)
where partners.person = counted.person
"""


class ReceiptTakenError(Exception):
    """Another transaction decided a receipt that this one counted, under another partner's lock: it has two payers."""


async def write(tally: Tally, told_as: Mapping[UUID, UUID], tx: Tx) -> None:
    """Write what was decided, under the locks that the tally was read under; `told_as` names each receipt's fact.

    Raises ReceiptTakenError for a receipt with two payers at one moment; tried again it is a contradiction.
    """
    rows = [row_of(reward, told_as.get(reward.payment.receipt)) for reward in tally.rewards]
    written = {row["receipt"] for row in await tx.fetch(REWARD, *columns(rows, 10))}
    lost = [one for one in tally.rewards if one.payment.receipt not in written]
    if taken := [str(one.payment.receipt) for one in lost if one.terms]:
        raise ReceiptTakenError(f"{len(taken)} receipts, the first is {taken[0]}")
    steps = [(one.payment.payer, str(one.payment.receipt)) for one in tally.rewards if one.activates]
    if steps:
        await tx.execute(STEP, "activated", "registered", *columns(steps, 2))
        counts = [(partner.person, partner.paying) for partner in tally.partners.values()]
        await tx.execute(COUNT_PAYING, *columns(counts, 2))
    if lost:  # Decided by who was faster, and counted for nobody: a repeat, or another payer.
        known = decided_from(await tx.fetch(DECIDED, [one.payment.receipt for one in lost]))
        differing = [one.payment for one in lost if known[one.payment.receipt] != one.payment.business]
        tally.contradicted.extend((payment, known[payment.receipt]) for payment in differing)
        tally.rewards = [one for one in tally.rewards if one.payment.receipt in written]
    met = (Contradiction(payment.fact, known.digest, payment.business.digest) for payment, known in tally.contradicted)
    await contradictions.note("rewards", met, tx)


def row_of(reward: Reward, told_as: UUID | None) -> tuple[object, ...]:
    payment, terms = reward.payment, reward.terms
    return (
        payment.receipt,
        payment.payer,
        payment.value_minor,
        reward.outcome,
        payment.partner,
        reward.paying,
        terms.scale if terms else None,
        terms.percent if terms else None,
        reward.reward_minor,
        told_as,
    )


# What a person may see

STANDING = """
select
  $1::uuid as person,
  coalesce(partners.paying, 0) as paying,
  partners.fixed_percent,
  (select count(*) from people where partner = $1) as invited,
  (select coalesce(sum(reward_minor), 0)::bigint from rewards where partner = $1) as earned_minor
from (values (true)) as one (row)
left join partners on partners.person = $1
"""


async def standing_of(person: UUID, database: Database) -> Row:
    """One row, zeros for somebody who has invited nobody."""
    row = await database.fetchrow(STANDING, person)
    assert row is not None, "a row that is joined to nothing is a row"
    return row


async def scale_of_today(database: Database) -> Scale:
    return scale_from(await database.fetch(SCALE))


# What became of a payment

REWARDS = """
select receipt, outcome, partner, paying, percent, value_minor, reward_minor, told_as as fact, decided_at
from rewards
where receipt = any($1::uuid[])
order by seq
"""

# A start's fact is caused by the person; where it was not bound, it is the key of the refusal.
BOUND = """
select
  exists (select from people where person = $1) as started,
  (select reason from refusals where fact = $2) as refused,
  (select min(waits_since) from waiting where payer = $1) as waits_since
"""


async def rewards_of(receipts: Sequence[UUID], database: Database) -> list[Row]:
    return await database.fetch(REWARDS, list(receipts))


async def bound(person: UUID, started_as: UUID, database: Database) -> Row:
    """Whether somebody started, why he was not bound, and since when a payment of his waits."""
    row = await database.fetchrow(BOUND, person, started_as)
    assert row is not None, "a select of nothing but expressions is one row"
    return row
