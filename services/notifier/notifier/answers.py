"""The door for questions: which messages a payment gave."""

from notifier import store
from shared.contract import derived_id
from shared.db import Database, Row
from shared.facts import DeliveryFailed
from shared.inspection import AskDeliveries, Deliveries, DeliverySeen

MOST_LISTED = 200


async def answer_deliveries(question: AskDeliveries, database: Database) -> Deliveries:
    rows = await store.deliveries_of(question.people, question.causes, MOST_LISTED, database)
    return Deliveries(deliveries=tuple(delivery_from(row) for row in rows))


def delivery_from(row: Row) -> DeliverySeen:
    lost = row["state"] in ("failed", "unknown")
    fact = derived_id(row["delivery"], DeliveryFailed.topic, row["person"]) if lost else None
    return DeliverySeen(**dict(row), fact=fact)
