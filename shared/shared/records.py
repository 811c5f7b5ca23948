"""What every service can say of facts from its own records, for operators: who was told, who heard, what is buried."""

import json
from collections.abc import Collection
from typing import Literal

from shared.contract import Refused
from shared.db import Database, Row
from shared.inspection import (
    AskDeadLetter,
    AskDeadLetters,
    AskFacts,
    DeadLetter,
    DeadLetters,
    FactBuried,
    FactFailing,
    FactHeard,
    FactsSeen,
    FactTold,
    OpenedLetter,
)

LETTERS_PER_PAGE = 200
MOST_BYTES_SHOWN = 64 * 1024

DEAD_LETTERS = """
select id, handler, fact_id, subject, headers::text as headers, length(body) as size_bytes, reason, buried_at,
  replayed_at
from dead_letters
where id > $1 and (replayed_at is null or $2)
order by id
limit $3
"""


async def answer_dead_letters(question: AskDeadLetters, database: Database) -> DeadLetters:
    rows = await database.fetch(DEAD_LETTERS, question.after, question.replayed, LETTERS_PER_PAGE + 1)
    letters = tuple(letter_from(row) for row in rows[:LETTERS_PER_PAGE])
    return DeadLetters(letters=letters, more=len(rows) > LETTERS_PER_PAGE)


DEAD_LETTER = """
select id, handler, fact_id, subject, headers::text as headers, length(body) as size_bytes, reason, buried_at,
  replayed_at, substr(body, 1, $2) as body
from dead_letters
where id = $1
"""


async def answer_dead_letter(question: AskDeadLetter, database: Database) -> OpenedLetter | Refused:
    row = await database.fetchrow(DEAD_LETTER, question.letter, MOST_BYTES_SHOWN)
    if row is None:
        return Refused(reason="letter_unknown")
    body, encoding = readable(bytes(row["body"]), whole=row["size_bytes"] <= MOST_BYTES_SHOWN)
    return OpenedLetter(letter=letter_from(row), body=body, encoding=encoding)


def letter_from(row: Row) -> DeadLetter:
    return DeadLetter(
        letter=row["id"],
        handler=row["handler"],
        fact=row["fact_id"],
        subject=row["subject"],
        reason=row["reason"],
        size_bytes=row["size_bytes"],
        buried_at=row["buried_at"],
        replayed_at=row["replayed_at"],
        trace=story_in(json.loads(row["headers"])),
    )


def story_in(headers: dict[str, str]) -> str | None:
    """The trace id that a letter came with; its headers are whatever somebody sent."""
    parts = headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else None


def readable(body: bytes, *, whole: bool) -> tuple[str, Literal["utf-8", "hex"]]:
    """As text where it is UTF-8, else as hexadecimal digits. A cut may go through the last letter."""
    for cut in range(1 if whole else 4):
        try:
            return body[: len(body) - cut].decode(), "utf-8"
        except UnicodeDecodeError:
            continue
    return body.hex(), "hex"


TOLD = """
select f.id as fact, f.topic, f.told_at, extract(epoch from now() - f.told_at)::float8 as age_s,
  exists (select from untold u where u.seq = f.seq) as waits
from facts f
where f.id = any($1::uuid[])
order by f.seq
"""

HEARD = """
select fact_id as fact, handler, outcome, heard_at
from inbox
where handler = any($2::text[]) and fact_id = any($1::uuid[])
order by heard_at, handler
"""

FAILING = """
select fact_id as fact, handler, tries, reason
from stumbles
where handler = any($2::text[]) and fact_id = any($1::uuid[])
order by handler
"""

BURIED = """
select fact_id as fact, handler, id as letter, reason, buried_at, replayed_at
from dead_letters
where handler = any($2::text[]) and fact_id = any($1::uuid[])
order by id
"""


async def answer_facts(question: AskFacts, handlers: Collection[str], database: Database) -> FactsSeen:
    """`handlers` are those of this service: what is kept of the others is kept elsewhere."""
    facts, names = list(question.facts), sorted(handlers)
    return FactsSeen(
        told=tuple(FactTold(**row) for row in await database.fetch(TOLD, facts)),
        heard=tuple(FactHeard(**row) for row in await database.fetch(HEARD, facts, names)),
        failing=tuple(FactFailing(**row) for row in await database.fetch(FAILING, facts, names)),
        buried=tuple(FactBuried(**row) for row in await database.fetch(BURIED, facts, names)),
    )
