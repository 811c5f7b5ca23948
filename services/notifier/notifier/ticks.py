"""Periodic work of notifier: the gauges of open deliveries."""

from typing import get_args

from notifier.domain.messages import Kind
from notifier.metrics import DELIVERIES_OPEN
from notifier.store import deliveries
from shared.platform.db import Database

GAUGES_EVERY_S = 5.0


async def set_gauges(database: Database) -> None:
    waiting = await deliveries.open_by_kind(database)
    for kind in get_args(Kind):
        DELIVERIES_OPEN.labels(kind).set(waiting.get(kind, 0))
