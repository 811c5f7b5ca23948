"""The anti-entropy check: owner and subscriber compare hourly checksums of their events.

the owner's checksums of closed hours
 ─▶ has the handler acknowledged them? ─▶ ours ─┬─ equal ─▶ done
   different ─▶ the owner's ids ─┬─ missing here ─▶ cmd.<owner>.republish, at most 3 times, then
                                 │                  an alert
                                 ├─ another hour or digest here ─▶ the owner's is taken; another
                                 │                                 digest is a conflict
                                 └─ only here ─▶ an unknown event: a finding for an operator

The hour of an event is the time of the owner's database when it was recorded. The header carries
it and the inbox row keeps it. A message that waits for its next try or is dead-lettered has an
inbox row as well, so it counts: it is retried or replayed, not republished.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from shared.contracts.message import Refused, derived_id
from shared.contracts.operations import (
    HourlyChecksum,
    HourlyChecksums,
    HourlyChecksumsQuery,
    PublishedIds,
    PublishedIdsQuery,
    Republish,
    Republished,
)
from shared.contracts.streams import Subscription
from shared.messaging import conflicts, jetstream, outbox
from shared.messaging.conflicts import Conflict
from shared.messaging.jetstream import BrokerError
from shared.messaging.rpc import Bus, UnansweredError
from shared.platform import iterations, telemetry
from shared.platform.db import NOW, Database, Tx, columns
from shared.platform.waits import SKEW, Wait

log = structlog.get_logger()

# Both are longer than the broker's duplicate window of 10 minutes: within it the broker would
# drop a republished event.
CLOSED_AFTER = timedelta(minutes=15)
TRY_AGAIN_AFTER = timedelta(minutes=15)
MAX_TRIES = 3

COMPARE_EVERY = timedelta(hours=1)
LONGEST_PAUSE = COMPARE_EVERY * 1.2
WHOLE_EVERY = timedelta(days=1)
LEASED_FOR = timedelta(minutes=30)
RECENT_HOURS = 72
WHOLE_HOURS = 30 * 24
KEPT_FOR = timedelta(days=30)
# Housekeeping deletes the oldest hours row by row, so they may be incomplete.
DROPPED_MEANWHILE = timedelta(hours=2)

# Statements time out after 10 s; three hours at 100 events/s take about 3 s.
HOURS_PER_QUERY = 3
IDS_PER_QUERY = 4_000  # About 250 kB; a message may have 1 MB.
IDS_PER_COMMAND = 4_000
# About 80 MB; the stream must stay below half of its limit.
MAX_REPUBLISHED_PER_ROUND = 100_000
QUERY_TIMEOUT_S = 12.0

HOUR = timedelta(hours=1)
LOWEST_ID = UUID(int=0)


# The owner's side

CHECKSUMS = """
with pending as (
  select distinct date_trunc('hour', e.recorded_at, 'UTC') as hour
  from outbox o
  join events e using (seq)
  where e.topic = $1 and e.recorded_at >= $2 and e.recorded_at < $3
), recorded as (
  select
    date_trunc('hour', recorded_at, 'UTC') as hour,
    count(*) as count,
    bit_xor(('x' || right(translate(id::text, '-', ''), 16))::bit(64)::bigint # digest) as bits
  from events
  where topic = $1 and recorded_at >= $2 and recorded_at < $3
  group by 1
)
select r.hour, r.count, r.bits, p.hour is not null as pending
from recorded r
left join pending p using (hour)
order by r.hour
"""


async def answer_hourly_checksums(
    query: HourlyChecksumsQuery, database: Database
) -> HourlyChecksums | Refused:
    """Checksums of closed hours: nothing can be added to them. Empty hours are left out."""
    if query.event.split(".")[0] != query.topic.split(".")[0]:
        return Refused(reason="not_mine")
    now = await database.fetchval(NOW)
    from_at, until_at = hours_to_answer(query, now)
    rows = await database.fetch(CHECKSUMS, query.event, from_at, until_at)
    return HourlyChecksums(
        at=now,
        from_at=from_at,
        until_at=until_at,
        checksums=tuple(checksum_from(row) for row in rows),
        pending=tuple(row["hour"] for row in rows if row["pending"]),
    )


def checksum_from(row: Any) -> HourlyChecksum:
    return HourlyChecksum(hour=row["hour"], count=row["count"], bits=row["bits"])


def hours_to_answer(query: HourlyChecksumsQuery, now: datetime) -> tuple[datetime, datetime]:
    """The range [from, until) of closed hours that are complete here; empty when none is left."""
    until_at = start_of_hour(now - CLOSED_AFTER)
    if query.before is not None:
        until_at = min(until_at, start_of_hour(query.before))
    oldest_at = start_of_hour(now - KEPT_FOR + DROPPED_MEANWHILE)
    return min(until_at, max(until_at - query.hours * HOUR, oldest_at)), until_at


def start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


PUBLISHED_IDS = """
select id, digest
from events
where topic = $1
  and recorded_at >= $2
  and recorded_at < $2 + interval '1 hour'
  and id > $3
order by id
limit $4
"""


async def answer_published_ids(query: PublishedIdsQuery, database: Database) -> PublishedIds:
    wanted = (query.event, query.hour, query.after or LOWEST_ID, IDS_PER_QUERY)
    rows = await database.fetch(PUBLISHED_IDS, *wanted)
    return PublishedIds(
        ids=tuple(row["id"] for row in rows),
        digests=tuple(row["digest"] for row in rows),
        more=len(rows) == IDS_PER_QUERY,
    )


async def republish(command: Republish, tx: Tx) -> Republished:
    """Put events back into the outbox, behind the live ones. Unknown ids are left out."""
    count = await outbox.republish(command.events, tx)
    owner = command.topic.split(".")[0]
    tx.after_commit(partial(telemetry.EVENTS_REPUBLISHED.labels(owner).inc, count))
    return Republished(events=count)


# The subscriber's side

ENLIST = "insert into comparisons (handler) select unnest($1::text[]) on conflict do nothing"

LEASE = """
update comparisons
set due_at = shop_now() + $2::interval
where handler = $1 and due_at <= shop_now()
returning whole_due_at <= shop_now() as whole
"""

COMPARED = """
update comparisons
set
  compared_at = shop_now(),
  due_at = shop_now() + $2::interval * (1 + random() / 5), -- At most LONGEST_PAUSE.
  whole_due_at = case when $3 then shop_now() + $4::interval else whole_due_at end
where handler = $1
"""

STATE = """
select
  c.handler,
  extract(epoch from shop_now() - c.compared_at)::float8 as age_s,
  (
    select count(*)
    from differences d
    where d.handler = c.handler and d.given_up_at is not null
  ) as given_up,
  (
    select count(*)
    from (select from unknown_events u where u.handler = c.handler limit 10000) as u
  ) as unknown_events
from comparisons c
"""


@dataclass
class Compared:
    """The result of one round."""

    hours: int = 0
    differing: int = 0
    republished: int = 0
    unknown_events: int = 0
    cut_short: bool = False


async def compare_due(subscriptions: Sequence[Subscription], database: Database, bus: Bus) -> None:
    """Compare every handler that is due and that no other replica compares.

    The last 72 closed hours each hour, all 30 days each day, and again 15 minutes after
    something was republished. A failed comparison is due again when its lease ends.
    """
    await database.execute(ENLIST, [one.handler for one in subscriptions])
    for subscription in subscriptions:
        handler = subscription.handler
        leased = await database.fetchrow(LEASE, handler, LEASED_FOR)
        if leased is None:
            continue
        iterations.found(1)
        try:
            hours = WHOLE_HOURS if leased["whole"] else RECENT_HOURS
            compared = await compare(subscription, database, bus, hours=hours)
        except (UnansweredError, BrokerError) as error:
            log.warning("hours not compared", handler=handler, unanswered=str(error))
            iterations.outcome("unanswered")
            continue
        if compared is None:
            log.info("handler has not acknowledged its closed hours yet", handler=handler)
            iterations.outcome("put_off")
            continue
        iterations.outcome("compared")
        finished = not compared.republished and not compared.cut_short
        again_after = COMPARE_EVERY if finished else TRY_AGAIN_AFTER
        whole = leased["whole"] and finished
        await database.execute(COMPARED, handler, again_after, whole, WHOLE_EVERY)
        log.info("hours compared", handler=handler, **vars(compared))


async def compare(
    subscription: Subscription, database: Database, bus: Bus, *, hours: int
) -> Compared | None:
    """Compare the last `hours` closed hours.

    Returns None while the handler has not acknowledged everything in the stream. The order of the
    steps matters: the owner reports only events that the broker acknowledged; then the handler
    must have acknowledged all that the stream holds; only then are our own rows counted. Raises
    UnansweredError or BrokerError.
    """
    pages = await _checksums(subscription, bus, hours)
    progress = await jetstream.caught_up(bus.client, subscription)
    if not progress.passed:
        return None
    compared = Compared()
    for theirs in pages:
        own = await _own_checksums(subscription, theirs, database)
        different = differing(theirs, own, subscription.since_at)
        compared.hours += len({one.hour for one in theirs.checksums} | own.keys())
        compared.differing += len(different)
        await _settle(subscription, theirs, different, database)
        for hour in different:
            full = compared.republished >= MAX_REPUBLISHED_PER_ROUND
            if full or not progress.room:
                log.warning(
                    "republishing stopped until the next round",
                    handler=subscription.handler,
                    round_limit_reached=full,
                    stream_has_room=progress.room,
                )
                compared.cut_short = True
                return compared
            await _examine(subscription, hour, theirs, compared, database, bus)
    return compared


async def _checksums(subscription: Subscription, bus: Bus, hours: int) -> list[HourlyChecksums]:
    """The owner's closed hours, the newest page first, none from before the subscription."""
    pages: list[HourlyChecksums] = []
    while hours > 0:
        query = HourlyChecksumsQuery.of(subscription.owner)(
            event=subscription.event.topic,
            before=pages[-1].from_at if pages else None,
            hours=min(hours, HOURS_PER_QUERY),
        )
        page = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        if isinstance(page, Refused):
            raise UnansweredError(f"{query.topic} refuses: {page.reason}")
        if page.from_at >= page.until_at:
            break
        pages.append(page)
        if page.from_at <= subscription.since_at:
            break
        hours -= HOURS_PER_QUERY
    return pages


OWN = """
select
  date_trunc('hour', i.hour, 'UTC') as hour,
  count(*) as count,
  bit_xor(
    ('x' || right(translate(i.event_id::text, '-', ''), 16))::bit(64)::bigint # i.digest
  ) as bits
from inbox i
where i.handler = $1
  and i.hour >= $2
  and i.hour < $3
  and not exists (
    select from unknown_events u where u.handler = i.handler and u.event_id = i.event_id
  )
group by 1
"""


async def _own_checksums(
    subscription: Subscription, theirs: HourlyChecksums, database: Database
) -> dict[datetime, HourlyChecksum]:
    hours = (theirs.from_at, theirs.until_at)
    rows = await database.fetch(OWN, subscription.handler, *hours)
    return {row["hour"]: checksum_from(row) for row in rows}


def differing(
    theirs: HourlyChecksums, own: Mapping[datetime, HourlyChecksum], since_at: datetime
) -> list[datetime]:
    """The hours that differ.

    An hour with pending events, or from before the subscription, cannot be compared.
    """
    by_hour = {one.hour: one for one in theirs.checksums}
    return [
        hour
        for hour in sorted(by_hour.keys() | own.keys())
        if hour >= since_at and hour not in theirs.pending and by_hour.get(hour) != own.get(hour)
    ]


SETTLE = """
delete from differences
where handler = $1 and hour >= $2 and hour < $3 and hour <> all($4::timestamptz[])
returning hour, tries
"""


async def _settle(
    subscription: Subscription,
    theirs: HourlyChecksums,
    different: Sequence[datetime],
    database: Database,
) -> None:
    still = [*different, *theirs.pending]
    within = (theirs.from_at, theirs.until_at)
    for row in await database.fetch(SETTLE, subscription.handler, *within, still):
        fields = {"hour": row["hour"].isoformat(), "tries": row["tries"]}
        log.info("hour agrees again", handler=subscription.handler, **fields)


DIFFERENCE = """
select tries, given_up_at is not null as given_up, tried_at > shop_now() - $3::interval as lately
from differences
where handler = $1 and hour = $2
"""

TRIED = """
insert into differences (handler, hour, missing, tries)
values ($1, $2, $3, $4)
on conflict (handler, hour) do update
  set missing = excluded.missing, tries = excluded.tries, tried_at = shop_now()
"""

GIVE_UP = """
update differences
set missing = $3, given_up_at = shop_now()
where handler = $1 and hour = $2
"""


async def _examine(
    subscription: Subscription,
    hour: datetime,
    theirs: HourlyChecksums,
    compared: Compared,
    database: Database,
    bus: Bus,
) -> None:
    """Find out what differs in this hour, and have the owner republish what is missing here."""
    handler = subscription.handler
    known = await database.fetchrow(DIFFERENCE, handler, hour, TRY_AGAIN_AFTER)
    if known is not None and (known["given_up"] or known["lately"]):
        return
    tries = 0 if known is None else known["tries"]
    missing = await _missing(subscription, hour, compared, database, bus)
    if not missing:
        return
    if tries >= MAX_TRIES:
        await database.execute(GIVE_UP, handler, hour, len(missing))
        log.critical(
            "events still missing after 3 republish attempts",
            handler=handler,
            hour=hour.isoformat(),
            missing=len(missing),
            examples=[str(one) for one in missing[:5]],
        )
        return
    await _request_republish(subscription, hour, tries + 1, missing, theirs, bus)
    await database.execute(TRIED, handler, hour, len(missing), tries + 1)
    compared.republished += len(missing)


async def _missing(
    subscription: Subscription,
    hour: datetime,
    compared: Compared,
    database: Database,
    bus: Bus,
) -> list[UUID]:
    missing: list[UUID] = []
    after: UUID | None = None
    query_of_owner = PublishedIdsQuery.of(subscription.owner)
    while True:
        query = query_of_owner(event=subscription.event.topic, hour=hour, after=after)
        page = await bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        if isinstance(page, Refused):
            raise UnansweredError(f"{query.topic} refuses: {page.reason}")
        async with database.transaction() as tx:
            missing += await _compare_ids(subscription, hour, page, tx)
            unknown = await _record_unknown_events(subscription, hour, after, page, tx)
        compared.unknown_events += unknown
        if not page.more:
            return missing
        after = page.ids[-1]


UNLIKE = """
select t.id, t.digest as published, i.digest as known
from unnest($2::uuid[], $3::bigint[]) as t (id, digest)
left join inbox i on i.handler = $1 and i.event_id = t.id
where i.event_id is null or i.digest <> t.digest or i.hour <> $4
"""

AS_THE_OWNER_HAS_IT = """
update inbox i
set hour = $4, digest = t.digest
from unnest($2::uuid[], $3::bigint[]) as t (id, digest)
where i.handler = $1 and i.event_id = t.id
"""

KNOWN_TO_THE_OWNER = """
delete from unknown_events
where handler = $1 and event_id = any($2::uuid[])
"""


async def _compare_ids(
    subscription: Subscription, hour: datetime, page: PublishedIds, tx: Tx
) -> list[UUID]:
    """The ids that are missing here.

    A row with another hour or digest is corrected: its owner was restored and recorded the event
    again. Another digest is also recorded as a conflict.
    """
    handler = subscription.handler
    await tx.execute(KNOWN_TO_THE_OWNER, handler, list(page.ids))
    unlike = await tx.fetch(UNLIKE, handler, list(page.ids), list(page.digests), hour)
    met = [
        Conflict(row["id"], row["known"], row["published"])
        for row in unlike
        if row["known"] is not None
    ]
    differing_digests = [one for one in met if one.known != one.received]
    await conflicts.record(handler, differing_digests, tx)
    if met:
        ids, _, digests = columns(met, 3)
        await tx.execute(AS_THE_OWNER_HAS_IT, handler, ids, digests, hour)
    return [row["id"] for row in unlike if row["known"] is None]


RECORD_UNKNOWN_EVENTS = """
insert into unknown_events (handler, event_id, hour)
select i.handler, i.event_id, i.hour
from inbox i
where i.handler = $1
  and i.hour >= $2
  and i.hour < $2 + interval '1 hour'
  and i.event_id > $3
  and ($4::uuid is null or i.event_id <= $4)
  and not exists (select from unnest($5::uuid[]) as t (id) where t.id = i.event_id)
order by i.event_id
on conflict do nothing
returning event_id
"""


async def _record_unknown_events(
    subscription: Subscription, hour: datetime, after: UUID | None, page: PublishedIds, tx: Tx
) -> int:
    up_to = page.ids[-1] if page.more else None
    ids = (after or LOWEST_ID, up_to, list(page.ids))
    found = await tx.fetch(RECORD_UNKNOWN_EVENTS, subscription.handler, hour, *ids)
    if found:
        examples = [str(row["event_id"]) for row in found[:5]]
        fields = {"hour": hour.isoformat(), "events": len(found), "examples": examples}
        log.error("events unknown to their owner", handler=subscription.handler, **fields)
    return len(found)


async def _request_republish(
    subscription: Subscription,
    hour: datetime,
    trying: int,
    missing: Sequence[UUID],
    theirs: HourlyChecksums,
    bus: Bus,
) -> None:
    """One command per page.

    Its id is derived from handler, hour and try, so a repeat gets the stored answer. `id_reused`
    means that this try was already made, with a different list of missing events.
    """
    handler = subscription.handler
    for first in range(0, len(missing), IDS_PER_COMMAND):
        command = Republish.of(subscription.owner)(
            id=derived_id("republish", handler, hour.isoformat(), trying, first),
            actor=f"service:{subscription.service}",
            reason=f"missing in {handler}",
            deadline_at=theirs.at + LEASED_FOR,
            events=tuple(missing[first : first + IDS_PER_COMMAND]),
        )
        answer = await bus.execute(command, timeout_s=QUERY_TIMEOUT_S)
        if isinstance(answer, Refused) and answer.reason != "id_reused":
            raise UnansweredError(f"{command.topic} refuses: {answer.reason}")


PULL_BACK_COMPARISONS = """
update comparisons
set due_at = shop_now()
where handler in (
  select handler from comparisons where due_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_WHOLE_COMPARISONS = """
update comparisons
set whole_due_at = shop_now()
where handler in (
  select handler from comparisons where whole_due_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

PULL_BACK_DIFFERENCES = """
update differences
set tried_at = shop_now()
where (handler, hour) in (
  select handler, hour from differences where tried_at > shop_now() + $1::interval
  for update skip locked limit $2
)
"""

# Events are kept for 30 days. An older hour is never compared again.
DROP_DIFFERENCES = """
delete from differences
where (handler, hour) in (
  select handler, hour
  from differences
  where hour < shop_now() - interval '90 days'
  order by hour
  limit $1
)
"""

DROP_UNKNOWN_EVENTS = """
delete from unknown_events
where (handler, event_id) in (
  select handler, event_id
  from unknown_events
  where noted_at < shop_now() - interval '1 year'
  order by noted_at
  limit $1
)
"""

WAITS = (
    Wait(("comparisons.due_at",), LONGEST_PAUSE, PULL_BACK_COMPARISONS),
    Wait(("comparisons.whole_due_at",), WHOLE_EVERY, PULL_BACK_WHOLE_COMPARISONS),
    Wait(("differences.tried_at",), SKEW, PULL_BACK_DIFFERENCES),
)

ALL_ARE_DUE = """
update comparisons
set due_at = shop_now() + interval '1 minute', whole_due_at = shop_now()
"""

NO_DIFFERENCES = "delete from differences"


async def compare_anew(tx: Tx) -> None:
    """After a restore: forget the tries.

    All 30 days are compared once the handlers have caught up.
    """
    await tx.execute(ALL_ARE_DUE)
    await tx.execute(NO_DIFFERENCES)
