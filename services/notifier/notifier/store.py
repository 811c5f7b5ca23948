"""The SQL of messages: written once, claimed chat by chat, settled in batches.

A recipient's row is the lock on all of a chat's deliveries, and is taken in the order of persons. Whoever claims skips
what is locked, so claiming waits for nobody.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from notifier.deliveries import Verdict
from notifier.messages import ANSWERS_A_PAYMENT, Kind, Message
from notifier.pace import Bucket
from shared.db import Database, Row, Tx, columns
from shared.facts import PersonChanged
from shared.questions import Recipient

LEASE_S = 5.0
CHAT_PAUSE_S = 1.0  # Telegram: no more than one message a second in one chat.
KEPT_FOR_A_RETURN = timedelta(days=7)  # Below the shortest period that is sold: the key that waited still opens.


@dataclass(frozen=True)
class Claimed:
    """A delivery in this process's hands, with what is known of its recipient and the message that it takes over."""

    id: UUID
    person: UUID
    kind: Kind
    details: Mapping[str, Any]
    trace: str | None
    tries: int
    waits: int
    recipient: Recipient | None
    instead_of: int | None
    changed_at: datetime | None
    """What was last told of the recipient when this was claimed."""


@dataclass(frozen=True)
class Settled:
    """What became of a claimed delivery, and its recipient where bot-gateway had to be asked."""

    claimed: Claimed
    verdict: Verdict
    learned: Recipient | None = None


@dataclass(frozen=True)
class Claims:
    """What may be sent now, and after how many seconds it is worth looking again."""

    deliveries: Sequence[Claimed] = field(default_factory=tuple)
    look_again_s: float = 0.0


# Writing


KNOW_PEOPLE = """
insert into recipients (person)
select person from unnest($1::uuid[]) as p (person) order by person
on conflict do nothing
"""

HOLD = "select from recipients where person = any($1::uuid[]) order by person for no key update"

WRITE = """
insert into deliveries (id, person, cause, kind, lane, story, rank, details, trace, told_at, place, not_before)
select id, person, cause, kind, lane, story, rank, details::json, trace, told_at, place,
  now() + after_s * interval '1 second'
from unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::uuid[], $7::smallint[], $8::text[], $9::text[],
  $10::timestamptz[], $11::int[], $12::float8[]
) as m (id, person, cause, kind, lane, story, rank, details, trace, told_at, place, after_s)
order by id
on conflict do nothing
"""

SUPERSEDE = """
update deliveries d
set state = 'superseded', reason = 'a later message says more', settled_at = now()
where d.person = any($1::uuid[])
  and d.state = 'waiting'
  and exists (select from deliveries h where h.story = d.story and h.person = d.person and h.rank > d.rank)
"""

# A chat that somebody has claimed keeps the end of that claim; it is scheduled when it is settled.
SCHEDULE = """
update recipients r
set due_at = greatest(w.first_at, r.spoken_at + $2 * interval '1 second')
from unnest($1::uuid[]) as p (person)
cross join lateral (
  select min(not_before) as first_at
  from deliveries d
  where d.person = p.person and d.state = 'waiting'
) w
where r.person = p.person and r.claim is null and w.first_at is not null
"""


async def write(messages: Sequence[Message], tx: Tx) -> None:
    """Write messages down, each once for ever; what a later one of its story makes needless is never sent."""
    rows = [
        (
            *(m.id, m.person, m.cause, m.kind, m.lane, m.story, m.rank, json.dumps(dict(m.details)), m.trace),
            *(m.told_at, m.place, m.after_s),
        )
        for m in messages
    ]
    if not rows:
        return
    people = sorted({row[1] for row in rows})
    await tx.execute(KNOW_PEOPLE, people)
    await tx.execute(HOLD, people)
    await tx.execute(WRITE, *columns(rows, 12))
    if any(message.story for message in messages):
        await tx.execute(SUPERSEDE, people)
    await tx.execute(SCHEDULE, people, CHAT_PAUSE_S)


FOLLOW = """
insert into recipients (person, language, reachable, changed_at)
select person, language, reachable, changed_at
from unnest($1::uuid[], $2::text[], $3::boolean[], $4::timestamptz[]) as c (person, language, reachable, changed_at)
order by person
on conflict (person) do update
set language = excluded.language, reachable = excluded.reachable, changed_at = excluded.changed_at
where recipients.changed_at is null or recipients.changed_at < excluded.changed_at
returning person, reachable
"""

# Keys and receipts alone: what else was not said to a shut door is no news any more.
TAKE_UP_AGAIN = """
update deliveries
set state = 'waiting', reason = null, settled_at = null
where person = any($1::uuid[])
  and state = 'unreachable'
  and kind = any($2::text[])
  and written_at > now() - $3::interval
"""


async def follow(changes: Sequence[PersonChanged], tx: Tx) -> None:
    """Keep the newest that bot-gateway told of each person, in whatever order it came.

    Whoever is back gets the keys and receipts of the last 7 days that found the door shut.
    """
    newest = {change.about: change for change in sorted(changes, key=lambda change: change.at)}
    rows = [(person, change.language, change.reachable, change.at) for person, change in newest.items()]
    await tx.execute(HOLD, sorted(newest))
    back = [row["person"] for row in await tx.fetch(FOLLOW, *columns(rows, 4)) if row["reachable"]]
    if back:
        await tx.execute(TAKE_UP_AGAIN, back, sorted(ANSWERS_A_PAYMENT), KEPT_FOR_A_RETURN)
        await tx.execute(SUPERSEDE, back)
        await tx.execute(SCHEDULE, back, CHAT_PAUSE_S)


# Claiming


BUCKET = """
select tokens, refilled_at, paused_until, clock_timestamp() as seen_at,
  (select extract(epoch from min(due_at) - clock_timestamp())::float8 from recipients where due_at is not null)
    as next_due_s
from buckets
where name = 'telegram'
for update
"""

# Asked with it, so that the round after a claim needs no look of its own; chats in somebody's hands count by the end
# of their lease.
KEEP_BUCKET = """
update buckets set tokens = $1, refilled_at = $2
where name = 'telegram'
returning (select extract(epoch from min(due_at) - clock_timestamp())::float8 from recipients where due_at is not null)
"""

CLAIM_CHATS = """
with due as (
  select person, claim is not null as abandoned
  from recipients
  where due_at <= now() and person <> all($4::uuid[])
  order by due_at
  limit $2
  for no key update skip locked
)
update recipients r
set claim = $1, due_at = now() + $3 * interval '1 second'
from due d
where r.person = d.person
returning r.person, d.abandoned
"""

PICK_UP = """
update deliveries set state = 'waiting'
where person = any($1::uuid[]) and state = 'claimed'
"""

CLAIM = """
with next as (
  select n.id
  from unnest($1::uuid[]) as p (person)
  cross join lateral (
    select d.id
    from deliveries d
    where d.person = p.person and d.state = 'waiting' and d.not_before <= now()
    order by d.lane, d.rank desc, d.told_at, d.place, d.id
    limit 1
  ) n
)
update deliveries d
set state = 'claimed'
from next n, recipients r
where d.id = n.id and r.person = d.person
returning
  d.id, d.person, d.kind, d.details::text as details, d.trace, d.tries, d.waits, r.chat_id, r.language, r.reachable,
  r.changed_at,
  (select max(s.message_id) from deliveries s where s.story = d.story and s.person = d.person) as instead_of
"""

NEXT_DUE = """
select extract(epoch from min(due_at) - clock_timestamp())::float8
from recipients
where due_at is not null
"""


async def next_due_s(database: Database) -> float:
    """In how many seconds a chat is due; not above zero when one is, and infinite where nobody waits."""
    due_s = await database.fetchval(NEXT_DUE)
    return _wait_s(due_s)


def _wait_s(due_s: float | None) -> float:
    return float("inf") if due_s is None else due_s


async def claim(worker: UUID, busy: Collection[UUID], most: int, per_s: float, tx: Tx) -> Claims:
    """Take the next message of at most `most` chats for `LEASE_S`, as many as the shared bucket lets out.

    `busy` are the people whom this worker speaks to already: its own late lease must not give it a chat twice.
    """
    row = await tx.fetchrow(BUCKET)
    assert row is not None, "the migration made the bucket"
    if row["next_due_s"] is None or row["next_due_s"] > 0:
        return Claims(look_again_s=_wait_s(row["next_due_s"]))
    at = row["seen_at"]
    bucket = Bucket(row["tokens"], row["refilled_at"], row["paused_until"]).filled(at, per_s)
    allowed = min(most, bucket.messages(at))
    if allowed == 0:
        return Claims(look_again_s=bucket.wait_s(at, per_s))
    chats = await tx.fetch(CLAIM_CHATS, worker, allowed, LEASE_S, list(busy))
    if not chats:  # What is due is in another worker's hands.
        return Claims()
    people = sorted(chat["person"] for chat in chats)
    abandoned = [chat["person"] for chat in chats if chat["abandoned"]]
    if abandoned:  # Whoever had these is gone, and a later message may have been written meanwhile.
        await tx.execute(PICK_UP, abandoned)
        await tx.execute(SUPERSEDE, abandoned)
    claimed = [claimed_from(row) for row in await tx.fetch(CLAIM, people)]
    idle = sorted(set(people) - {delivery.person for delivery in claimed})
    if idle:
        await release([(person, False, None) for person in idle], worker, tx)
    next_s = await tx.fetchval(KEEP_BUCKET, bucket.without(len(claimed)).tokens, bucket.refilled_at)
    return Claims(claimed, _wait_s(next_s))


def claimed_from(row: Row) -> Claimed:
    known = row["chat_id"] is not None
    return Claimed(
        row["id"],
        row["person"],
        row["kind"],
        json.loads(row["details"]),
        row["trace"],
        row["tries"],
        row["waits"],
        Recipient(chat_id=row["chat_id"], language=row["language"], reachable=row["reachable"]) if known else None,
        row["instead_of"],
        row["changed_at"],
    )


RENEW = """
update recipients
set due_at = now() + $3 * interval '1 second'
where person in (
  select person from recipients where person = any($1::uuid[]) and claim = $2 for no key update skip locked
)
"""


async def renew(people: Sequence[UUID], worker: UUID, tx: Tx) -> None:
    """Say that these chats are still being spoken to. One that is locked just now is left for the next time."""
    await tx.execute(RENEW, list(people), worker, LEASE_S)


# Settling


HOLD_OURS = """
select person, reachable, changed_at from recipients
where person = any($1::uuid[]) and claim = $2
order by person
for no key update
"""

LEARN = """
update recipients r
set chat_id = l.chat_id, language = coalesce(r.language, l.language),
  reachable = case when r.changed_at is null then l.reachable else r.reachable end
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::boolean[]) as l (person, chat_id, language, reachable)
where r.person = l.person and r.chat_id is null
"""

# A pause is stretched at random by up to a tenth, so that what failed together does not come back together.
SETTLE = """
update deliveries d
set state = s.state, reason = s.reason, message_id = coalesce(s.message_id, d.message_id), tries = s.tries,
  waits = s.waits, not_before = now() + s.pause_s * (1 + random() / 10) * interval '1 second',
  settled_at = case when s.state = 'waiting' then null else now() end
from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::int[], $7::float8[])
  as s (id, state, reason, message_id, tries, waits, pause_s)
where d.id = s.id
"""

RELEASE = """
update recipients r
set claim = null,
  reachable = coalesce(p.reachable, r.reachable),
  spoken_at = case when p.spoke then now() else r.spoken_at end,
  due_at = case
    when w.first_at is null then null
    else greatest(w.first_at, case when p.spoke then now() else r.spoken_at end + $5 * interval '1 second')
  end
from unnest($1::uuid[], $2::boolean[], $3::boolean[]) as p (person, spoke, reachable)
cross join lateral (
  select min(not_before) as first_at
  from deliveries d
  where d.person = p.person and d.state = 'waiting'
) w
where r.person = p.person and r.claim = $4
"""

RETURN_TOKENS = "update buckets set tokens = tokens + $1 where name = 'telegram'"

HUSH = """
update buckets
set tokens = 0, paused_until = greatest(paused_until, clock_timestamp() + $1 * interval '1 second')
where name = 'telegram'
"""


async def settle(settled: Sequence[Settled], worker: UUID, tx: Tx) -> list[Settled]:
    """Write down what became of deliveries; answers those that were still ours.

    A lease that ran out meanwhile is another worker's now, and so is what becomes of its delivery.
    """
    people = [each.claimed.person for each in settled]
    held = {row["person"]: row for row in await tx.fetch(HOLD_OURS, people, worker)}
    ours = [_seen_anew(each, held[each.claimed.person]) for each in settled if each.claimed.person in held]
    await _learn(ours, tx)
    verdicts = [(each.claimed, each.verdict) for each in ours]
    rows = [(c.id, v.state, v.reason, v.message_id, v.tries, v.waits, v.pause_s) for c, v in verdicts]
    await tx.execute(SETTLE, *columns(rows, 7))
    if again := sorted(claimed.person for claimed, verdict in verdicts if verdict.state == "waiting"):
        await tx.execute(SUPERSEDE, again)
    await release([(c.person, v.spoke, v.reachable) for c, v in verdicts], worker, tx)
    await _settle_bucket([verdict for _, verdict in verdicts], tx)
    return ours


def _seen_anew(settled: Settled, recipient: Row) -> Settled:
    """A door that was found shut, of whom we heard meanwhile that he is back: the message is said after all."""
    came_back = recipient["reachable"] and recipient["changed_at"] != settled.claimed.changed_at
    if settled.verdict.state != "unreachable" or not came_back:
        return settled
    return replace(settled, verdict=replace(settled.verdict, state="waiting", reason="came back", reachable=None))


async def _learn(settled: Sequence[Settled], tx: Tx) -> None:
    learned = [(each.claimed.person, each.learned) for each in settled if each.learned is not None]
    rows = [(person, known.chat_id, known.language, known.reachable) for person, known in learned]
    if rows:
        await tx.execute(LEARN, *columns(rows, 4))


async def release(chats: Sequence[tuple[UUID, bool, bool | None]], worker: UUID, tx: Tx) -> None:
    """Let chats go, to be due with their next message. Given: the person, whether spoken to, the door if learned."""
    people, spoke, reachable = columns(chats, 3)
    await tx.execute(RELEASE, people, spoke, reachable, worker, CHAT_PAUSE_S)


async def _settle_bucket(verdicts: Sequence[Verdict], tx: Tx) -> None:
    hush_s = max((verdict.hush_s for verdict in verdicts), default=0.0)
    if hush_s > 0:
        await tx.execute(HUSH, hush_s)
    elif unspent := sum(not verdict.spoke for verdict in verdicts):
        await tx.execute(RETURN_TOKENS, float(unspent))


OPEN = """
select kind, count(*) as deliveries
from deliveries
where state in ('waiting', 'claimed')
group by kind
"""


async def open_deliveries(database: Database) -> dict[str, int]:
    """How many messages of each kind are on their way."""
    return {row["kind"]: row["deliveries"] for row in await database.fetch(OPEN)}


DELIVERIES = """
select id as delivery, person, kind, cause, state, reason, tries, not_before, written_at, settled_at
from deliveries
where person = any($1::uuid[]) and cause = any($2::text[])
order by written_at, rank, kind
limit $3
"""


async def deliveries_of(people: Sequence[UUID], causes: Sequence[str], most: int, database: Database) -> list[Row]:
    """The messages that these people were to get because of these causes."""
    return await database.fetch(DELIVERIES, list(people), list(causes), most)
