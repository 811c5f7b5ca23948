"""Conflicts: the same id with other fields. Each is recorded for the audit (I12)."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog

from shared.platform import telemetry
from shared.platform.db import Tx, columns

log = structlog.get_logger()


class Conflict(NamedTuple):
    """An id that came again, with the digest that is known and the one that was received."""

    id: UUID
    known: int
    received: int


RECORD = """
insert into conflicts (where_seen, event_id, digest_known, digest_received)
select $1, event_id, digest_known, digest_received
from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as c (event_id, digest_known, digest_received)
order by event_id, digest_received
on conflict do nothing
returning event_id
"""

# After a year nobody can find out which one was right.
DROP_OLD = """
delete from conflicts
where id in (
  select id
  from conflicts
  where seen_at < shop_now() - interval '1 year'
  order by seen_at
  limit $1
)
"""


async def record(where: str, found: Iterable[Conflict], tx: Tx) -> None:
    """Write each conflict as a row. A conflict that is recorded already is not counted again."""
    rows = list(found)
    if not rows:
        return
    new = [str(row["event_id"]) for row in await tx.fetch(RECORD, where, *columns(rows, 3))]
    if new:
        log.error("the same id came with other fields", where=where, ids=new)
        tx.after_commit(partial(telemetry.CONFLICTS.labels(where).inc, len(new)))
