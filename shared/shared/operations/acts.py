"""The acts of operators in every service: the audit log, from its commands."""

import json

from shared.contracts.acts import ActRecord, ActRecords, ActsQuery
from shared.contracts.operators import Act
from shared.platform.db import Database, Row

ACTS_PER_PAGE = 50
LAST = 2**63 - 1

ACTS = """
select seq, id, topic, actor, role, reason, executed_at, outcome, request::text as request,
  answer ->> 'reason' as refusal, before::text as before, after::text as after
from commands
where role is not null and seq < $1
order by seq desc
limit $2
"""

ACTS_ABOUT = """
select seq, id, topic, actor, role, reason, executed_at, outcome, request::text as request,
  answer ->> 'reason' as refusal, before::text as before, after::text as after
from commands
where role is not null and request ->> 'person' = $3 and seq < $1
order by seq desc
limit $2
"""


async def answer_acts(query: ActsQuery, database: Database) -> ActRecords:
    before = LAST if query.before is None else query.before
    page = before, ACTS_PER_PAGE + 1
    rows = (
        await database.fetch(ACTS, *page)
        if query.person is None
        else await database.fetch(ACTS_ABOUT, *page, str(query.person))
    )
    found = tuple(act_from(row) for row in rows[:ACTS_PER_PAGE])
    return ActRecords(acts=found, more=len(rows) > ACTS_PER_PAGE)


def act_from(row: Row) -> ActRecord:
    wanted = json.loads(row["request"])
    return ActRecord(
        number=row["seq"],
        act=row["id"],
        topic=row["topic"],
        actor=row["actor"],
        role=row["role"],
        reason=row["reason"],
        executed_at=row["executed_at"],
        outcome=row["outcome"],
        refusal=row["refusal"] if row["outcome"] == "refused" else None,
        wanted={name: value for name, value in wanted.items() if name not in Act.model_fields},
        before=json.loads(row["before"]) if row["before"] else None,
        after=json.loads(row["after"]) if row["after"] else None,
    )
