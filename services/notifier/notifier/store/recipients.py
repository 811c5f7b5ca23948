"""Recipients: the chat of each person. A recipient's row is the lock on the chat's deliveries.

Rows are locked in the order of persons.
"""

from collections.abc import Sequence
from uuid import UUID

from notifier.domain.deliveries import Settled
from shared.contracts.bot import PersonChanged
from shared.platform.db import Tx, columns

CHAT_PAUSE_S = 1.0  # Telegram: no more than one message a second in one chat.

ADD = """
insert into recipients (person)
select person
from unnest($1::uuid[]) as p (person)
order by person
on conflict do nothing
"""

LOCK = """
select
from recipients
where person = any($1::uuid[])
order by person
for no key update
"""


async def lock_all(people: Sequence[UUID], tx: Tx) -> None:
    """Lock the rows of these people, and add the missing ones. `people` are sorted."""
    await tx.execute(ADD, people)
    await tx.execute(LOCK, people)


# A claimed chat keeps the end of its claim. It is scheduled when its delivery is settled.
SCHEDULE = """
update recipients r
set due_at = greatest(
  soon(w.first_at), soon(r.called_at + $2 * interval '1 second'), soon(r.paused_until)
)
from unnest($1::uuid[]) as p (person)
cross join lateral (
  select min(not_before) as first_at
  from deliveries d
  where d.person = p.person and d.state = 'waiting'
) w
where r.person = p.person and r.claim is null and w.first_at is not null
"""


async def schedule(people: Sequence[UUID], tx: Tx) -> None:
    """Make each chat due with its first message, after its pauses."""
    await tx.execute(SCHEDULE, people, CHAT_PAUSE_S)


FOLLOW = """
insert into recipients (person, language, reachable, changed_at)
select person, language, reachable, changed_at
from unnest($1::uuid[], $2::text[], $3::boolean[], $4::timestamptz[])
  as c (person, language, reachable, changed_at)
order by person
on conflict (person) do update
set
  language = excluded.language,
  reachable = excluded.reachable,
  changed_at = excluded.changed_at
where recipients.changed_at is null or recipients.changed_at < excluded.changed_at
returning person, reachable
"""


async def follow(changes: Sequence[PersonChanged], tx: Tx) -> list[UUID]:
    """Keep the newest change of each person, in whatever order the changes arrive.

    Returns the changed people who are reachable.
    """
    newest = {change.about: change for change in sorted(changes, key=lambda change: change.at)}
    rows = [
        (person, change.language, change.reachable, change.at) for person, change in newest.items()
    ]
    await tx.execute(LOCK, sorted(newest))
    changed = await tx.fetch(FOLLOW, *columns(rows, 4))
    return [row["person"] for row in changed if row["reachable"]]


# Each has a row, because a delivery refers to it. A conflict is found by the primary key whatever
# the plan; an update would scan the table for as long as its plan is one of an empty table.
LEARN = """
insert into recipients as r (person, chat_id, language, reachable)
select person, chat_id, language, reachable
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::boolean[])
  as l (person, chat_id, language, reachable)
order by person
on conflict (person) do update
set
  chat_id = excluded.chat_id,
  language = coalesce(r.language, excluded.language),
  reachable = case when r.changed_at is null then excluded.reachable else r.reachable end
where r.chat_id is null
"""


async def learn(settled: Sequence[Settled], tx: Tx) -> None:
    """Keep the recipients that were queried. Published changes take precedence over them."""
    learned = [(each.claimed.person, each.learned) for each in settled if each.learned is not None]
    # Each person once: one statement cannot update a conflicting row twice.
    rows = [
        (person, known.chat_id, known.language, known.reachable)
        for person, known in dict(learned).items()
    ]
    if rows:
        await tx.execute(LEARN, *columns(rows, 4))
