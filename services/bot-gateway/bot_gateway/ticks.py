"""Periodic work: the gauges of the intake are set."""

from bot_gateway.metrics import UPDATES_AGE, UPDATES_KEPT
from bot_gateway.store import intake
from shared.platform.db import Database

SET_GAUGES_EVERY_S = 5.0

KINDS = tuple(
    (lane, state) for lane in ("chat", "money", "checkout") for state in ("waiting", "failed")
)


async def set_gauges(database: Database) -> None:
    rows = {(row["lane"], row["state"]): row for row in await intake.state_of_intake(database)}
    for kind in KINDS:
        row = rows.get(kind)
        UPDATES_KEPT.labels(*kind).set(row["updates"] if row else 0)
        UPDATES_AGE.labels(*kind).set(row["oldest_s"] if row else 0)
