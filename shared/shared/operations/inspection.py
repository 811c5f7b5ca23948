"""What every service answers from its own records of events: published, handled, dead-lettered."""

import json
from collections.abc import Collection
from typing import Literal

from shared.contracts.message import Refused
from shared.contracts.operations import (
    DeadLetter,
    DeadLetterContent,
    DeadLetteredEvent,
    DeadLetterQuery,
    DeadLetters,
    DeadLettersQuery,
    EventRecords,
    EventsQuery,
    FailingEvent,
    HandledEvent,
    PublishedEvent,
)
from shared.platform.db import Database, Row

DEAD_LETTERS_PER_PAGE = 200
MAX_BYTES_SHOWN = 64 * 1024

DEAD_LETTERS = """
select id, handler, event_id, subject, headers::text as headers, length(body) as size_bytes,
  reason, dead_lettered_at, replayed_at
from dead_letters
where id > $1 and (replayed_at is null or $2)
order by id
limit $3
"""


async def answer_dead_letters(query: DeadLettersQuery, database: Database) -> DeadLetters:
    most = DEAD_LETTERS_PER_PAGE
    rows = await database.fetch(DEAD_LETTERS, query.after, query.replayed, most + 1)
    page = tuple(dead_letter_from(row) for row in rows[:most])
    return DeadLetters(dead_letters=page, more=len(rows) > most)


DEAD_LETTER = """
select id, handler, event_id, subject, headers::text as headers, length(body) as size_bytes,
  reason, dead_lettered_at, replayed_at, substr(body, 1, $2) as body
from dead_letters
where id = $1
"""


async def answer_dead_letter(
    query: DeadLetterQuery, database: Database
) -> DeadLetterContent | Refused:
    row = await database.fetchrow(DEAD_LETTER, query.dead_letter, MAX_BYTES_SHOWN)
    if row is None:
        return Refused(reason="dead_letter_unknown")
    whole = row["size_bytes"] <= MAX_BYTES_SHOWN
    body, encoding = readable(bytes(row["body"]), whole=whole)
    return DeadLetterContent(dead_letter=dead_letter_from(row), body=body, encoding=encoding)


def dead_letter_from(row: Row) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        handler=row["handler"],
        event=row["event_id"],
        subject=row["subject"],
        reason=row["reason"],
        size_bytes=row["size_bytes"],
        dead_lettered_at=row["dead_lettered_at"],
        replayed_at=row["replayed_at"],
        trace=trace_id_in(json.loads(row["headers"])),
    )


def trace_id_in(headers: dict[str, str]) -> str | None:
    """The trace id in the headers of a message; they may hold anything."""
    parts = headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else None


def readable(body: bytes, *, whole: bool) -> tuple[str, Literal["utf-8", "hex"]]:
    """As text where it is UTF-8, else in hexadecimal. The cut may split the last character."""
    for cut in range(1 if whole else 4):
        try:
            return body[: len(body) - cut].decode(), "utf-8"
        except UnicodeDecodeError:
            continue
    return body.hex(), "hex"


PUBLISHED = """
select e.id as event, e.topic, e.recorded_at,
  extract(epoch from shop_now() - e.recorded_at)::float8 as age_s,
  exists (select from outbox o where o.seq = e.seq) as pending
from events e
where e.id = any($1::uuid[])
order by e.seq
"""

HANDLED = """
select event_id as event, handler, outcome, handled_at
from inbox
where handler = any($2::text[]) and event_id = any($1::uuid[]) and outcome <> 'waiting'
order by handled_at, handler
"""

FAILING = """
select event_id as event, handler, tries, reason
from failed_attempts
where handler = any($2::text[]) and event_id = any($1::uuid[])
order by handler
"""

DEAD_LETTERED = """
select event_id as event, handler, id as dead_letter, reason, dead_lettered_at, replayed_at
from dead_letters
where handler = any($2::text[]) and event_id = any($1::uuid[])
order by id
"""


async def answer_events(
    query: EventsQuery, handlers: Collection[str], database: Database
) -> EventRecords:
    """`handlers` are those of this service: other services keep records of theirs."""
    ids, names = list(query.events), sorted(handlers)
    published = await database.fetch(PUBLISHED, ids)
    handled = await database.fetch(HANDLED, ids, names)
    failing = await database.fetch(FAILING, ids, names)
    dead_lettered = await database.fetch(DEAD_LETTERED, ids, names)
    return EventRecords(
        published=tuple(PublishedEvent(**row) for row in published),
        handled=tuple(HandledEvent(**row) for row in handled),
        failing=tuple(FailingEvent(**row) for row in failing),
        dead_lettered=tuple(DeadLetteredEvent(**row) for row in dead_lettered),
    )
