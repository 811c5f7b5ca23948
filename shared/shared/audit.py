"""Invariants as data: a sentence, a query for what breaks it, and the checks that every service shares."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db import Database
from shared.questions import Audit, Finding

EXAMPLES = 5


@dataclass(frozen=True)
class Check:
    """`sql` answers one row per violation, its text in `example`."""

    invariant: str
    truth: str
    sql: str


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


async def audited(database: Database, checks: Sequence[Check], counts_sql: str) -> Audit:
    """Ask every check of the service and of the street, and what the other owners must agree with."""
    findings = []
    for check in (*checks, *STREET_CHECKS):
        rows = await database.fetch(check.sql)
        examples = tuple(row["example"] for row in rows[:EXAMPLES])
        findings.append(Finding(invariant=check.invariant, truth=check.truth, violations=len(rows), examples=examples))
    counts = await database.fetchrow(counts_sql)
    assert counts is not None
    return Audit(findings=tuple(findings), counts={name: int(value) for name, value in counts.items()})
