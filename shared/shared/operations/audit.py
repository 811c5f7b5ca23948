"""Invariants as data: a sentence and a query for its violations; and keys that owners compare.

A check looks at rows in pages, in the order of an index, so no statement grows with the shop. An
hourly audit begins a few hours back, a full one at the first row.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog

from shared.contracts.message import Refused
from shared.contracts.operations import (
    Audit,
    Finding,
    Keys,
    KeysQuery,
    MissingKeys,
    MissingKeysQuery,
)
from shared.platform.db import NOW, Database, Row, Tx

log = structlog.get_logger()

EXAMPLES = 5
ROWS_PER_PAGE = 500
PART_S = 2.0
KEYS_PER_PAGE = 2_000

# One snapshot for the end of a page and its check. Pages are read by index, whatever the statistics
# say of a table that was empty an hour ago.
BEGIN_PAGE = """
set transaction isolation level repeatable read, read only;
set local enable_hashjoin = off;
set local enable_mergejoin = off
"""

# Around the query of a check, which is a constant of the module of its checks.
COUNTING = (
    "select example, count(*) over () as violations from (select example from (",
    ") as every limit 10000) as counted limit 5",
)

Cursor = tuple[datetime | UUID | int, ...]

LOWEST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LOWEST_ID = UUID(int=0)
EVER_H = 1_000_000.0


@dataclass(frozen=True)
class Walk:
    """The rows of a table in the order of an index.

    `page` answers the last row of the page after a cursor: the columns of the cursor are its first
    parameters, the number of rows its last. `first` is the cursor before all rows. A walk whose
    cursor begins with a time can begin some hours back.
    """

    page: str
    first: Cursor = (LOWEST_TIME, LOWEST_ID)
    rows: int = ROWS_PER_PAGE

    @property
    def by_time(self) -> bool:
        return isinstance(self.first[0], datetime)


Look = Callable[[Tx, Cursor, Cursor], Awaitable[list[str]]]


@dataclass(frozen=True)
class Check:
    """One invariant. `sql` answers one row per violation, with its text in `example`.

    With a walk, its parameters are the cursors before the page and at its end; `look` does the
    same in Python. Without a walk, a partial index must bound it. `days` is how far back the rows
    have what they are compared with.
    """

    invariant: str
    truth: str
    sql: str = ""
    walk: Walk | None = None
    when: Literal["always", "hourly", "full"] = "always"
    days: float | None = None
    look: Look | None = None

    @property
    def counting(self) -> str:
        """The query around the query: five examples, each with the number of violations."""
        return COUNTING[0] + self.sql + COUNTING[1]

    def runs(self, hours: float | None) -> bool:
        if hours is None:
            return self.when != "hourly"
        return self.when != "full" and (self.walk is None or self.walk.by_time)

    def begins(self, hours: float | None, now: datetime) -> Cursor:
        """The cursor before the first page; None means all hours."""
        if self.walk is None:
            return ()
        back_h = [one for one in (hours, self.days and self.days * 24) if one is not None]
        if not back_h or not self.walk.by_time:
            return self.walk.first
        since_at = max(now - timedelta(hours=min(*back_h, EVER_H)), LOWEST_TIME)
        return (since_at, *self.walk.first[1:])


CONFLICTS = "select format('%s %s', where_seen, event_id) as example from conflicts"

PENDING = """
select format('%s is pending since %s', e.topic, e.recorded_at) as example
from outbox o
join events e using (seq)
where e.recorded_at < shop_now() - interval '5 seconds'
"""

FAILING = """
select format('%s fails on %s: %s', handler, event_id, reason) as example
from failed_attempts
"""

DEAD_LETTERED = """
select format('dead letter %s of %s: %s', id, handler, reason) as example
from dead_letters
where replayed_at is null
"""

MISSING = """
select
  format(
    '%s lacks %s of %s after %s republish attempt(s)', handler, missing, hour, tries
  ) as example
from differences
"""

UNKNOWN_EVENTS = """
select format('%s handled %s in %s', handler, event_id, hour) as example
from unknown_events
"""

COMMON_CHECKS = (
    Check("I6", "every event published in a closed hour was handled", MISSING),
    Check("I6", "every handled event is known to its owner", UNKNOWN_EVENTS),
    Check("I12", "the same id never came with other fields", CONFLICTS),
    Check("I13", "no event is pending in the outbox", PENDING),
    Check("I13", "no handler is failing on an event", FAILING),
    Check("I13", "there is no dead letter", DEAD_LETTERED),
)


async def audited(
    database: Database,
    checks: Sequence[Check],
    counts_sql: str,
    *,
    hours: float | None = None,
    after: str | None = None,
) -> Audit:
    """Run the service's checks and the common ones; without `hours` also count the rows.

    With `after` (empty for the first part) the answer is a part of about two seconds, and its
    `after` is where the next one begins.
    """
    every = [*checks, *COMMON_CHECKS]
    number, cursor = _read_position(after, every)
    ends_at = float("inf") if after is None else time.monotonic() + PART_S
    now = await database.fetchval(NOW)
    findings = list[Finding]()
    # At least one page: else a database that is slower than a part would never be audited.
    while number < len(every) and (not findings or time.monotonic() < ends_at):
        check = every[number]
        if check.runs(hours):
            begin = cursor or check.begins(hours, now)
            finding, cursor = await _checked(check, begin, ends_at, database)
            findings.append(finding)
        if cursor is None:
            number += 1
    found = merged(findings)
    if number < len(every):
        return Audit(findings=found, counts={}, after=_position(number, cursor))
    counted = await database.fetch(counts_sql) if hours is None else []
    counts = {name: int(value) for row in counted for name, value in row.items()}
    return Audit(findings=found, counts=counts)


async def _checked(
    check: Check, after: Cursor, ends_at: float, database: Database
) -> tuple[Finding, Cursor | None]:
    """The finding of a page and all until `ends_at`, and where the next one begins, if any."""
    violations, examples, checked = 0, list[str](), True
    cursor: Cursor | None = after
    try:
        while cursor is not None:
            count, found, cursor = await _page(check, cursor, database)
            violations += count
            examples += found[: EXAMPLES - len(examples)]
            if time.monotonic() >= ends_at:
                break
    except Exception as error:  # A check that fails hides no other: it is a finding itself.
        log.warning("check failed", truth=check.truth, error=repr(error))
        text = f"not checked: {type(error).__name__}: {error}"[:300]
        violations, examples = violations + 1, [text, *examples][:EXAMPLES]
        checked, cursor = False, None
    finding = Finding(
        invariant=check.invariant,
        truth=check.truth,
        violations=violations,
        examples=tuple(examples),
        checked=checked,
    )
    return finding, cursor


async def _page(
    check: Check, after: Cursor, database: Database
) -> tuple[int, list[str], Cursor | None]:
    """The violations of one page with examples, and the next cursor, if any."""
    async with database.transaction() as tx:
        await tx.execute(BEGIN_PAGE)
        if check.walk is None:
            return (*await _counted(check, (), tx), None)
        end = await tx.fetchrow(check.walk.page, *after, check.walk.rows)
        if end is None:
            return 0, [], None
        until: Cursor = tuple(end)
        if check.look is not None:
            found = await check.look(tx, after, until)
            return len(found), found[:EXAMPLES], until
        return (*await _counted(check, (*after, *until), tx), until)


async def _counted(check: Check, arguments: Cursor, tx: Tx) -> tuple[int, list[str]]:
    """PostgreSQL counts the violations, up to a bound; only the examples are fetched."""
    rows = await tx.fetch(check.counting, *arguments)
    return (rows[0]["violations"] if rows else 0), [row["example"] for row in rows]


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per invariant and truth, from pages, parts, and checks of the same truth."""
    found: dict[tuple[str, str], Finding] = {}
    for one in findings:
        known = found.get((one.invariant, one.truth))
        found[one.invariant, one.truth] = one if known is None else _sum_of(known, one)
    return tuple(found.values())


def _sum_of(one: Finding, other: Finding) -> Finding:
    return Finding(
        invariant=one.invariant,
        truth=one.truth,
        violations=one.violations + other.violations,
        examples=(*one.examples, *other.examples)[:EXAMPLES],
        checked=one.checked and other.checked,
    )


def _position(number: int, cursor: Cursor | None) -> str:
    """Where the next part begins: the number of the check, and its cursor."""
    return "|".join([str(number), *(_text(one) for one in cursor or ())])


def _read_position(after: str | None, checks: Sequence[Check]) -> tuple[int, Cursor | None]:
    if not after:
        return 0, None
    number, *parts = after.split("|")
    walk = checks[int(number)].walk
    if not parts or walk is None:
        return int(number), None
    return int(number), _cursor(parts, walk.first)


def _text(one: datetime | UUID | int) -> str:
    return one.isoformat() if isinstance(one, datetime) else str(one)


def _cursor(parts: Sequence[str], first: Cursor) -> Cursor:
    """Texts as a cursor of the types of `first`."""
    return tuple(
        datetime.fromisoformat(part) if isinstance(kind, datetime) else type(kind)(part)
        for part, kind in zip(parts, first, strict=True)
    )


@dataclass(frozen=True)
class Kind:
    """Keys that another owner must have as well, by time and id (both in `page_at`, `page_id`).

    `listed`: the next $5 rows after the time $1 and the id $2, at most $3 hours old, at least $4
    seconds old; a row of another kind has no key. `missing`: those of the keys $1 that do not
    exist here.
    """

    listed: str
    missing: str
    lowest_id: UUID | int = LOWEST_ID


async def answer_keys(
    query: KeysQuery, kinds: Mapping[str, Kind], database: Database
) -> Keys | Refused:
    kind = kinds.get(query.kind)
    if kind is None:
        return Refused(reason="kind_unknown")
    first: Cursor = (LOWEST_TIME, kind.lowest_id)
    cursor = _cursor(query.after.split("|"), first) if query.after else first
    hours = EVER_H if query.hours is None else query.hours
    page = (*cursor, hours, query.settled_s, KEYS_PER_PAGE)
    rows = await _by_index(database, kind.listed, *page)
    full = len(rows) == KEYS_PER_PAGE
    after = f"{_text(rows[-1]['page_at'])}|{rows[-1]['page_id']}" if full else None
    return Keys(keys=tuple(row["key"] for row in rows if row["key"] is not None), after=after)


async def answer_missing_keys(
    query: MissingKeysQuery, kinds: Mapping[str, Kind], database: Database
) -> MissingKeys | Refused:
    kind = kinds.get(query.kind)
    if kind is None:
        return Refused(reason="kind_unknown")
    rows = await _by_index(database, kind.missing, list(query.keys))
    return MissingKeys(keys=tuple(row["key"] for row in rows))


async def _by_index(database: Database, sql: str, *arguments: object) -> list[Row]:
    async with database.transaction() as tx:
        await tx.execute(BEGIN_PAGE)
        return await tx.fetch(sql, *arguments)
