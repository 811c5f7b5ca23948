"""What happens by time: old rows go, and gauges say what waits."""

from bot_gateway.metrics import UPDATES_AGE, UPDATES_KEPT
from bot_gateway.store import buckets, intake, people, yeses
from shared.db import Database

DROP_OLD_ROWS_EVERY_S = 600.0
LOOK_EVERY_S = 5.0
MOST_ROWS_AT_ONCE = 10_000

KINDS = tuple((lane, state) for lane in ("chat", "money", "checkout") for state in ("waiting", "failed"))


async def drop_old_rows(database: Database) -> None:
    await intake.drop_ended_updates(MOST_ROWS_AT_ONCE, database)
    await buckets.drop_full_buckets(database)
    await people.drop_old_refusals(database)
    await yeses.drop_old_yeses(database)


async def set_gauges(database: Database) -> None:
    rows = {(row["lane"], row["state"]): row for row in await intake.state_of_intake(database)}
    for kind in KINDS:
        row = rows.get(kind)
        UPDATES_KEPT.labels(*kind).set(row["updates"] if row else 0)
        UPDATES_AGE.labels(*kind).set(row["oldest_s"] if row else 0)
