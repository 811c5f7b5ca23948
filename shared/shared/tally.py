"""The second net: owner and listener hold against each other what was told and what was heard, hour by hour.

ask the owner's tallies of closed hours ─▶ has the handler passed them? ─▶ our tallies ─┬─ agree ─▶ done
   differ ─▶ ask the owner's ids ─┬─ missing here ─▶ do.<owner>.tell_again, three times at most, then an alert
                                  ├─ here, but of another hour or digest ─▶ as the owner has it; a digest is an alarm
                                  └─ only here ─▶ a stranger: a finding for a person to decide

An hour is the owner's database clock when the fact was told: the header carries it, the inbox row keeps it. A letter
that waits or lies buried has its row too, so it counts; it is not told again, it is replayed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from shared import contradictions, telemetry
from shared.bus import Bus, UnansweredError
from shared.commands import TellAgain, ToldAgain
from shared.contract import Refused, derived_id
from shared.contradictions import Contradiction
from shared.db import NOW, Database, Tx, columns
from shared.outbox import Relay
from shared.questions import AskTold, AskToldIds, Tally, Told, ToldIds
from shared.streams import Listening

log = structlog.get_logger()

# Both are longer than the broker's duplicate window of 10 minutes, in which it would swallow a fact that is told again.
CLOSED_AFTER = timedelta(minutes=15)
TRY_AGAIN_AFTER = timedelta(minutes=15)
MOST_TRIES = 3

COMPARE_EVERY = timedelta(hours=1)
WHOLE_EVERY = timedelta(days=1)
LEASED_FOR = timedelta(minutes=30)
RECENT_HOURS = 72
WHOLE_HOURS = 30 * 24
KEPT_FOR = timedelta(days=30)
DROPPED_MEANWHILE = timedelta(hours=2)  # The oldest hours are dropped row by row: they are no longer whole.

HOURS_PER_QUESTION = 3  # A statement may take 10 s: at 100 facts a second three hours take about three.
IDS_PER_QUESTION = 4_000  # Some 250 kB; a message may have 1 MB.
IDS_PER_COMMAND = 4_000
MOST_AGAIN_PER_ROUND = 100_000  # Some 80 MB in a stream that has to stay below its half.
ASK_TIMEOUT_S = 12.0

HOUR = timedelta(hours=1)
LOWEST_ID = UUID(int=0)


# The owner's side

TOLD = """
with waiting as (
  select distinct date_trunc('hour', f.told_at, 'UTC') as hour
  from untold u
  join facts f using (seq)
  where f.topic = $1 and f.told_at >= $2 and f.told_at < $3
), told as (
  select
    date_trunc('hour', told_at, 'UTC') as hour,
    count(*) as count,
    bit_xor(('x' || right(translate(id::text, '-', ''), 16))::bit(64)::bigint # digest) as bits
  from facts
  where topic = $1 and told_at >= $2 and told_at < $3
  group by 1
)
select t.hour, t.count, t.bits, w.hour is not null as waiting
from told t
left join waiting w using (hour)
order by t.hour
"""


async def answer_told(asked: AskTold, database: Database) -> Told | Refused:
    """Count and bits of closed hours, in which nothing can be added any more. An hour without facts is not listed."""
    if asked.fact.split(".")[0] != asked.topic.split(".")[0]:
        return Refused(reason="not_mine")
    now = await database.fetchval(NOW)
    from_at, until_at = hours_asked_for(asked, now)
    rows = await database.fetch(TOLD, asked.fact, from_at, until_at)
    return Told(
        at=now,
        from_at=from_at,
        until_at=until_at,
        tallies=tuple(Tally(hour=row["hour"], count=row["count"], bits=row["bits"]) for row in rows),
        waiting=tuple(row["hour"] for row in rows if row["waiting"]),
    )


def hours_asked_for(asked: AskTold, now: datetime) -> tuple[datetime, datetime]:
    """From and until; empty when there are no more. Only what is closed, and whole."""
    until_at = start_of_hour(now - CLOSED_AFTER)
    if asked.before is not None:
        until_at = min(until_at, start_of_hour(asked.before))
    oldest_at = start_of_hour(now - KEPT_FOR + DROPPED_MEANWHILE)
    return min(until_at, max(until_at - asked.hours * HOUR, oldest_at)), until_at


def start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


TOLD_IDS = """
select id, digest
from facts
where topic = $1 and told_at >= $2 and told_at < $2 + interval '1 hour' and id > $3
order by id
limit $4
"""


async def answer_told_ids(asked: AskToldIds, database: Database) -> ToldIds:
    after = asked.after or LOWEST_ID
    rows = await database.fetch(TOLD_IDS, asked.fact, asked.hour, after, IDS_PER_QUESTION)
    return ToldIds(
        ids=tuple(row["id"] for row in rows),
        digests=tuple(row["digest"] for row in rows),
        more=len(rows) == IDS_PER_QUESTION,
    )


PUT_BACK = """
insert into untold (retold, seq)
select true, seq
from facts
where id = any($1::uuid[])
order by seq
on conflict do nothing
"""


async def tell_again(command: TellAgain, tx: Tx) -> ToldAgain:
    """Put facts back into the outbox, behind the live ones. An id that is not known (any more) is left out."""
    tag = await tx.execute(PUT_BACK, list(command.facts))
    again = int(tag.split()[-1])
    tx.after_commit(partial(telemetry.FACTS_RETOLD.labels(command.topic.split(".")[0]).inc, again))
    tx.after_commit(Relay.wake_all)
    return ToldAgain(facts=again)


# The listener's side

ENLIST = "insert into comparisons (handler) select unnest($1::text[]) on conflict do nothing"

LEASE = """
update comparisons
set due_at = now() + $2::interval
where handler = $1 and due_at <= now()
returning whole_due_at <= now() as whole
"""

COMPARED = """
update comparisons
set
  compared_at = now(),
  due_at = now() + $2::interval * (1 + random() / 5),
  whole_due_at = case when $3 then now() + $4::interval else whole_due_at end
where handler = $1
"""

STATE = """
select
  c.handler,
  extract(epoch from now() - c.compared_at)::float8 as age_s,
  (select count(*) from differences d where d.handler = c.handler and d.given_up_at is not null) as given_up,
  (select count(*) from strangers s where s.handler = c.handler) as strangers
from comparisons c
"""


@dataclass
class Compared:
    """What one round came to."""

    hours: int = 0
    differing: int = 0
    told_again: int = 0
    strangers: int = 0
    cut_short: bool = False


async def compare_due(listenings: Sequence[Listening], database: Database, bus: Bus) -> None:
    """Compare every handler that is due and that no other replica compares.

    The last 72 closed hours each hour, all 30 days each day; after something was told again, in a quarter of an hour.
    What could not be compared is due again when its lease ends.
    """
    await database.execute(ENLIST, [listening.handler for listening in listenings])
    for listening in listenings:
        leased = await database.fetchrow(LEASE, listening.handler, LEASED_FOR)
        if leased is None:
            continue
        try:
            hours = WHOLE_HOURS if leased["whole"] else RECENT_HOURS
            compared = await compare(listening, database, bus, hours=hours)
        except UnansweredError as error:
            log.warning("hours not compared", handler=listening.handler, unanswered=str(error))
            continue
        if compared is None:
            log.info("handler has yet to pass its closed hours", handler=listening.handler)
            continue
        at_rest = not compared.told_again and not compared.cut_short
        again_after = COMPARE_EVERY if at_rest else TRY_AGAIN_AFTER
        await database.execute(COMPARED, listening.handler, again_after, leased["whole"] and at_rest, WHOLE_EVERY)
        log.info("hours compared", handler=listening.handler, **vars(compared))


async def compare(listening: Listening, database: Database, bus: Bus, *, hours: int) -> Compared | None:
    """Hold the last so many closed hours against the owner's. None while the handler has not passed them.

    The order is what makes it right: the owner answers for facts that the broker has acknowledged; then the handler
    must have acknowledged all that stood in the stream after that; then our own rows are counted.
    Raises UnansweredError.
    """
    pages = await _told(listening, bus, hours)
    standing = await bus.standing(listening)
    if not standing.passed:
        return None
    compared = Compared()
    for told in pages:
        own = await _own_tallies(listening, told, database)
        apart = differing(told, own, listening.since_at)
        compared.hours += len({tally.hour for tally in told.tallies} | own.keys())
        compared.differing += len(apart)
        await _settle(listening, told, apart, database)
        for hour in apart:
            if compared.told_again >= MOST_AGAIN_PER_ROUND or not standing.room:
                log.warning("too much to tell again at once", handler=listening.handler, room=standing.room)
                compared.cut_short = True
                return compared
            await _examine(listening, hour, told, compared, database, bus)
    return compared


async def _told(listening: Listening, bus: Bus, hours: int) -> list[Told]:
    """The owner's closed hours, the newest page first, none from before the handler listened."""
    pages: list[Told] = []
    while hours > 0:
        before = pages[-1].from_at if pages else None
        asked = AskTold.of(listening.owner)(
            fact=listening.fact.topic, before=before, hours=min(hours, HOURS_PER_QUESTION)
        )
        told = await bus.ask(asked, timeout_s=ASK_TIMEOUT_S)
        if isinstance(told, Refused):
            raise UnansweredError(f"{asked.topic} refuses: {told.reason}")
        if told.from_at >= told.until_at:
            break
        pages.append(told)
        if told.from_at <= listening.since_at:
            break
        hours -= HOURS_PER_QUESTION
    return pages


OWN = """
select
  date_trunc('hour', i.hour, 'UTC') as hour,
  count(*) as count,
  bit_xor(('x' || right(translate(i.fact_id::text, '-', ''), 16))::bit(64)::bigint # i.digest) as bits
from inbox i
where i.handler = $1
  and i.hour >= $2
  and i.hour < $3
  and not exists (select from strangers s where s.handler = i.handler and s.fact_id = i.fact_id)
group by 1
"""


async def _own_tallies(listening: Listening, told: Told, database: Database) -> dict[datetime, Tally]:
    rows = await database.fetch(OWN, listening.handler, told.from_at, told.until_at)
    return {row["hour"]: Tally(hour=row["hour"], count=row["count"], bits=row["bits"]) for row in rows}


def differing(told: Told, own: Mapping[datetime, Tally], since_at: datetime) -> list[datetime]:
    """The hours that differ; of an hour that is not told to its end, or from before our time, nothing can be said."""
    theirs = {tally.hour: tally for tally in told.tallies}
    return [
        hour
        for hour in sorted(theirs.keys() | own.keys())
        if hour >= since_at and hour not in told.waiting and theirs.get(hour) != own.get(hour)
    ]


SETTLE = """
delete from differences
where handler = $1 and hour >= $2 and hour < $3 and hour <> all($4::timestamptz[])
returning hour, tries
"""


async def _settle(listening: Listening, told: Told, apart: Sequence[datetime], database: Database) -> None:
    still = [*apart, *told.waiting]
    for row in await database.fetch(SETTLE, listening.handler, told.from_at, told.until_at, still):
        log.info("hour agrees again", handler=listening.handler, hour=row["hour"].isoformat(), tries=row["tries"])


DIFFERENCE = """
select tries, given_up_at is not null as given_up, tried_at > now() - $3::interval as lately
from differences
where handler = $1 and hour = $2
"""

TRIED = """
insert into differences (handler, hour, missing, tries)
values ($1, $2, $3, $4)
on conflict (handler, hour) do update
  set missing = excluded.missing, tries = excluded.tries, tried_at = now()
"""

GIVE_UP = "update differences set missing = $3, given_up_at = now() where handler = $1 and hour = $2"


async def _examine(
    listening: Listening, hour: datetime, told: Told, compared: Compared, database: Database, bus: Bus
) -> None:
    """Find out what differs in this hour, and have told again what we lack."""
    known = await database.fetchrow(DIFFERENCE, listening.handler, hour, TRY_AGAIN_AFTER)
    if known is not None and (known["given_up"] or known["lately"]):
        return
    tries = 0 if known is None else known["tries"]
    missing = await _missing(listening, hour, compared, database, bus)
    if not missing:
        return
    if tries >= MOST_TRIES:
        await database.execute(GIVE_UP, listening.handler, hour, len(missing))
        log.critical(
            "facts are not heard however often they are told",
            handler=listening.handler,
            hour=hour.isoformat(),
            missing=len(missing),
            examples=[str(one) for one in missing[:5]],
        )
        return
    await _have_told_again(listening, hour, tries + 1, missing, told, bus)
    await database.execute(TRIED, listening.handler, hour, len(missing), tries + 1)
    compared.told_again += len(missing)


async def _missing(
    listening: Listening, hour: datetime, compared: Compared, database: Database, bus: Bus
) -> list[UUID]:
    missing: list[UUID] = []
    after: UUID | None = None
    while True:
        asked = AskToldIds.of(listening.owner)(fact=listening.fact.topic, hour=hour, after=after)
        page = await bus.ask(asked, timeout_s=ASK_TIMEOUT_S)
        if isinstance(page, Refused):
            raise UnansweredError(f"{asked.topic} refuses: {page.reason}")
        async with database.transaction() as tx:
            missing += await _hold_against(listening, hour, page, tx)
            strangers = await _note_strangers(listening, hour, after, page, tx)
        compared.strangers += strangers
        if not page.more:
            return missing
        after = page.ids[-1]


UNLIKE = """
select t.id, t.digest as told, i.digest as known
from unnest($2::uuid[], $3::bigint[]) as t (id, digest)
left join inbox i on i.handler = $1 and i.fact_id = t.id
where i.fact_id is null or i.digest <> t.digest or i.hour <> $4
"""

AS_THE_OWNER_HAS_IT = """
update inbox i
set hour = $4, digest = t.digest
from unnest($2::uuid[], $3::bigint[]) as t (id, digest)
where i.handler = $1 and i.fact_id = t.id
"""

NO_STRANGERS = "delete from strangers where handler = $1 and fact_id = any($2::uuid[])"


async def _hold_against(listening: Listening, hour: datetime, page: ToldIds, tx: Tx) -> list[UUID]:
    """The ids that we never heard. A row of another hour (its owner was restored and told anew) is set right."""
    await tx.execute(NO_STRANGERS, listening.handler, list(page.ids))
    unlike = await tx.fetch(UNLIKE, listening.handler, list(page.ids), list(page.digests), hour)
    heard = [Contradiction(row["id"], row["known"], row["told"]) for row in unlike if row["known"] is not None]
    await contradictions.note(listening.handler, [one for one in heard if one.known != one.heard], tx)
    if heard:
        ids, _, digests = columns(heard, 3)
        await tx.execute(AS_THE_OWNER_HAS_IT, listening.handler, ids, digests, hour)
    return [row["id"] for row in unlike if row["known"] is None]


NOTE_STRANGERS = """
insert into strangers (handler, fact_id, hour)
select i.handler, i.fact_id, i.hour
from inbox i
where i.handler = $1
  and i.hour >= $2
  and i.hour < $2 + interval '1 hour'
  and i.fact_id > $3
  and ($4::uuid is null or i.fact_id <= $4)
  and not exists (select from unnest($5::uuid[]) as t (id) where t.id = i.fact_id)
order by i.fact_id
on conflict do nothing
returning fact_id
"""


async def _note_strangers(listening: Listening, hour: datetime, after: UUID | None, page: ToldIds, tx: Tx) -> int:
    up_to = page.ids[-1] if page.more else None
    noted = await tx.fetch(NOTE_STRANGERS, listening.handler, hour, after or LOWEST_ID, up_to, list(page.ids))
    if noted:
        examples = [str(row["fact_id"]) for row in noted[:5]]
        strange: dict[str, Any] = {"hour": hour.isoformat(), "facts": len(noted), "examples": examples}
        log.error("heard what its owner does not know", handler=listening.handler, **strange)
    return len(noted)


async def _have_told_again(
    listening: Listening, hour: datetime, trying: int, missing: Sequence[UUID], told: Told, bus: Bus
) -> None:
    """One command per page, its id derived from handler, hour and try: whoever repeats it gets the stored answer.

    `id_reused` means that this try was made before, and that some arrived meanwhile: it was made all the same.
    """
    for place in range(0, len(missing), IDS_PER_COMMAND):
        wish = TellAgain.of(listening.owner)(
            id=derived_id("tell_again", listening.handler, hour.isoformat(), trying, place),
            actor=f"service:{listening.service}",
            reason=f"{listening.handler} lacks them",
            deadline_at=told.at + LEASED_FOR,
            facts=tuple(missing[place : place + IDS_PER_COMMAND]),
        )
        answer = await bus.do(wish, timeout_s=ASK_TIMEOUT_S)
        if isinstance(answer, Refused) and answer.reason != "id_reused":
            raise UnansweredError(f"{wish.topic} refuses: {answer.reason}")


ALL_ARE_DUE = "update comparisons set due_at = now() + interval '1 minute', whole_due_at = now()"

NO_DIFFERENCES = "delete from differences"


async def compare_anew(tx: Tx) -> None:
    """After a restore: forget what was tried, and look at all 30 days as soon as the handlers have passed them."""
    await tx.execute(ALL_ARE_DUE)
    await tx.execute(NO_DIFFERENCES)
