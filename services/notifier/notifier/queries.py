"""The queries that notifier answers: the messages that a payment caused."""

from notifier.store import deliveries
from shared.contracts.message import derived_id
from shared.contracts.notifier import Deliveries, DeliveriesQuery, DeliveryFailed, DeliveryRecord
from shared.platform.db import Database, Row

MAX_LISTED = 200


async def answer_deliveries(query: DeliveriesQuery, database: Database) -> Deliveries:
    rows = await deliveries.deliveries_of(query.people, query.causes, MAX_LISTED, database)
    return Deliveries(deliveries=tuple(_record_from(row) for row in rows))


def _record_from(row: Row) -> DeliveryRecord:
    lost = row["state"] in ("failed", "unknown")
    event = derived_id(row["delivery"], DeliveryFailed.topic, row["person"]) if lost else None
    return DeliveryRecord(**dict(row), event=event)
