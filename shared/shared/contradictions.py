"""The same id with other fields: whoever meets it says so here, and nothing is done a second time (I12)."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog

from shared import telemetry
from shared.db import Tx, columns

log = structlog.get_logger()


class Contradiction(NamedTuple):
    """What came again under an id, by the digest that is known and the one that was heard."""

    id: UUID
    known: int
    heard: int


NOTE = """
insert into contradictions (where_seen, fact_id, digest_known, digest_heard)
select $1, fact_id, digest_known, digest_heard
from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as c (fact_id, digest_known, digest_heard)
order by fact_id, digest_heard
on conflict do nothing
returning fact_id
"""


async def note(where: str, contradictions: Iterable[Contradiction], tx: Tx) -> None:
    """Keep each as a row that the audit finds. One that was noted before is neither logged nor counted again."""
    rows = list(contradictions)
    if not rows:
        return
    new = [str(row["fact_id"]) for row in await tx.fetch(NOTE, where, *columns(rows, 3))]
    if new:
        log.error("the same id came with other fields", where=where, ids=new)
        tx.after_commit(partial(telemetry.CONTRADICTIONS.labels(where).inc, len(new)))
