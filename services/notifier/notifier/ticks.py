"""What notifier does by time: tell the metrics how much waits."""

from typing import get_args

from prometheus_client import Gauge

from notifier import store
from notifier.messages import Kind
from shared.db import Database

GAUGES_EVERY_S = 5.0

DELIVERIES_OPEN = Gauge("turnpike_deliveries_open", "Messages on their way", ["kind"])


async def set_gauges(database: Database) -> None:
    waiting = await store.open_deliveries(database)
    for kind in get_args(Kind):
        DELIVERIES_OPEN.labels(kind).set(waiting.get(kind, 0))
