"""Invariants as data: a sentence and a query for what breaks it; and lists that two owners hold against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contract import Refused
from shared.db import Database, Row
from shared.inspection import AskKeys, AskLacking, Keys, Lacking
from shared.questions import Audit, Finding

EXAMPLES = 5
STATEMENT_TIMEOUT_S = 60.0
KEYS_PER_PAGE = 2_000

# An audit may take longer than what waits for a person.
ALLOW_LONGER = "set local statement_timeout = '60s'"


@dataclass(frozen=True)
class Check:
    """`sql` answers one row per violation, its text in `example`; with a `$1` it looks at the last so many hours."""

    invariant: str
    truth: str
    sql: str

    def arguments(self, hours: float | None) -> list[float]:
        """Without a bound all hours that there were."""
        return [EVER_H if hours is None else hours] if "$1" in self.sql else []


EVER_H = 1_000_000.0

CONTRADICTIONS = "select format('%s %s', where_seen, fact_id) as example from contradictions"

UNTOLD = """
select format('%s waits since %s', f.topic, f.told_at) as example
from untold u
join facts f using (seq)
where f.told_at < now() - interval '5 seconds'
"""

STUMBLING = "select format('%s fails on %s: %s', handler, fact_id, reason) as example from stumbles"

BURIED = """
select format('letter %s of %s: %s', id, handler, reason) as example
from dead_letters
where replayed_at is null
"""

UNHEARD = """
select format('%s lacks %s of %s, told again %s times', handler, missing, hour, tries) as example
from differences
"""

STRANGERS = "select format('%s heard %s in %s', handler, fact_id, hour) as example from strangers"

STREET_CHECKS = (
    Check("I6", "what was told in a closed hour was heard", UNHEARD),
    Check("I6", "nothing was heard that its owner does not know", STRANGERS),
    Check("I12", "the same id never came with other fields", CONTRADICTIONS),
    Check("I13", "no fact is waiting to be told", UNTOLD),
    Check("I13", "no handler is failing on a fact", STUMBLING),
    Check("I13", "no letter lies buried", BURIED),
)


async def audited(database: Database, checks: Sequence[Check], counts_sql: str, *, hours: float | None = None) -> Audit:
    """Ask every check of the service and of the street; without a bound also how much there is."""
    findings = []
    for check in (*checks, *STREET_CHECKS):
        rows = await _patiently(database, check.sql, *check.arguments(hours))
        examples = tuple(row["example"] for row in rows[:EXAMPLES])
        findings.append(Finding(invariant=check.invariant, truth=check.truth, violations=len(rows), examples=examples))
    counted = await _patiently(database, counts_sql) if hours is None else []
    counts = {name: int(value) for row in counted for name, value in row.items()}
    return Audit(findings=tuple(findings), counts=counts)


async def _patiently(database: Database, sql: str, *args: object) -> list[Row]:
    """In a transaction of its own: each check sees one moment."""
    async with database.transaction() as tx:
        await tx.execute(ALLOW_LONGER)
        rows: list[Row] = await tx.connection.fetch(sql, *args, timeout=STATEMENT_TIMEOUT_S)
        return rows


@dataclass(frozen=True)
class Kind:
    """A list that another owner must agree with. A row has a `key`, and a `place` by which the list is in order.

    `listed`: after the place $1, at most $2 hours old, at least $3 seconds old, at most $4 rows.
    `lacking`: those of the keys $1 that are not there.
    """

    listed: str
    lacking: str


async def answer_keys(question: AskKeys, kinds: Mapping[str, Kind], database: Database) -> Keys | Refused:
    kind = kinds.get(question.kind)
    if kind is None:
        return Refused(reason="kind_unknown")
    hours = EVER_H if question.hours is None else question.hours
    rows = await _patiently(database, kind.listed, question.after, hours, question.settled_s, KEYS_PER_PAGE)
    after = str(rows[-1]["place"]) if len(rows) == KEYS_PER_PAGE else None
    return Keys(keys=tuple(row["key"] for row in rows), after=after)


async def answer_lacking(question: AskLacking, kinds: Mapping[str, Kind], database: Database) -> Lacking | Refused:
    kind = kinds.get(question.kind)
    if kind is None:
        return Refused(reason="kind_unknown")
    rows = await _patiently(database, kind.lacking, list(question.keys))
    return Lacking(keys=tuple(row["key"] for row in rows))
