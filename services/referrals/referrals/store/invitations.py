"""People, their partners, and the steps of invitations.

Starts are written one batch at a time, under one advisory lock: the two halves of a circle cannot
miss each other, and neither can a start and a payment that waits for it. Payments of people who
started take no part in this lock.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from referrals.domain.invitations import Binding, Refusal, Start, StartOutcome, Tree
from shared.platform.db import Database, Row, Tx, columns

LOCK_STARTS = "select pg_advisory_xact_lock(hashtext('starts'), hashtext(current_schema()))"


async def lock_starts(tx: Tx) -> None:
    """Until this transaction ends, no other writes a start or begins to wait for one."""
    await tx.execute(LOCK_STARTS)


SHARE_STARTS = "select pg_advisory_xact_lock_shared(hashtext('starts'), hashtext(current_schema()))"


async def share_starts(tx: Tx) -> None:
    """Wait for the starts that are being written. None begins until this transaction ends."""
    await tx.execute(SHARE_STARTS)


# `union` makes every person distinct: a shared chain is walked once, and a circle would end too.
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


async def tree_of(starts: Sequence[Start], tx: Tx) -> Tree:
    """The known bindings of the starters, of the people they name, and of everybody above."""
    named = {start.person for start in starts} | {
        start.invited_by for start in starts if start.invited_by
    }
    rows = await tx.fetch(CHAINS, sorted(named))
    return Tree(Binding(row["person"], row["partner"]) for row in rows)


ADD_PEOPLE = """
insert into people (person, partner, started_at)
select *
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
"""

ADD_PARTNERS = """
insert into partners (person)
select *
from unnest($1::uuid[])
on conflict do nothing
"""

COUNT_INVITED = """
insert into invited as i (partner, people)
select partner, count(*)
from unnest($1::uuid[]) as b (partner)
group by partner
order by partner
on conflict (partner) do update
set people = i.people + excluded.people
"""

STEP = """
insert into invitations (invitee, state, follows, cause)
select invitee, $1::text, $2::text, cause
from unnest($3::uuid[], $4::text[]) as step (invitee, cause)
"""


async def add(outcomes: Sequence[StartOutcome], tx: Tx) -> None:
    """Write new people, and register the bound ones. The caller holds the lock of starts."""
    new = [
        (binding.person, binding.partner, outcome.start.started_at)
        for outcome in outcomes
        if (binding := outcome.binding)
    ]
    await tx.execute(ADD_PEOPLE, *columns(new, 3))
    bound = [(person, partner) for person, partner, _ in new if partner is not None]
    if bound:
        await tx.execute(ADD_PARTNERS, sorted({partner for _, partner in bound}))
        await tx.execute(COUNT_INVITED, [partner for _, partner in bound])
        steps = [(person, str(person)) for person, _ in bound]
        await tx.execute(STEP, "registered", None, *columns(steps, 2))


async def activate(steps: Sequence[tuple[UUID, UUID]], tx: Tx) -> None:
    """Activate invitations. Of each: the invitee, and the receipt that activates it."""
    rows = [(invitee, str(receipt)) for invitee, receipt in steps]
    await tx.execute(STEP, "activated", "registered", *columns(rows, 2))


REFUSE = """
insert into refusals (event, person, invited_by, reason)
select *
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])
on conflict do nothing
returning event
"""


async def refuse(refused: Sequence[tuple[Start, Refusal]], tx: Tx) -> set[UUID]:
    """Keep why a person was not bound. Returns the events whose refusal is new."""
    rows = [(start.event, start.person, start.invited_by, reason) for start, reason in refused]
    return {row["event"] for row in await tx.fetch(REFUSE, *columns(rows, 4))}


PARTNERS_OF = """
select person, partner
from people
where person = any($1::uuid[])
"""


async def partners_of(people: Collection[UUID], tx: Tx) -> dict[UUID, UUID | None]:
    """The partner of each person. A missing person has not started yet."""
    return {row["person"]: row["partner"] for row in await tx.fetch(PARTNERS_OF, sorted(people))}


# Housekeeping

# Operators see why a person was not bound for as long.
DROP_OLD_REFUSALS = """
delete from refusals
where event in (
  select event
  from refusals
  where refused_at < shop_now() - interval '90 days'
  order by refused_at
  limit $1
)
"""


# Queries

COUNTS = """
select
  $1::uuid as person,
  coalesce(partners.paying, 0) as paying,
  partners.fixed_percent,
  coalesce((select people from invited where partner = $1), 0) as invited,
  coalesce(partners.earned_minor, 0) as earned_minor
from (values (true)) as one (row)
left join partners on partners.person = $1
"""


async def invitation_counts(person: UUID, database: Database) -> Row:
    """One row. Its numbers are zero for a person who has invited nobody."""
    row = await database.fetchrow(COUNTS, person)
    assert row is not None, "an outer join of one row has a row"
    return row


# The event of a start is caused by the person. It is the key of a refusal.
START_OF = """
select
  exists (select from people where person = $1) as started,
  (select reason from refusals where event = $2) as refused,
  (select min(waits_since) from waiting where payer = $1) as waits_since
"""


async def start_of(person: UUID, event: UUID, database: Database) -> Row:
    """Whether a person started, why they were not bound, and since when a payment waits."""
    row = await database.fetchrow(START_OF, person, event)
    assert row is not None, "a select of expressions has a row"
    return row
