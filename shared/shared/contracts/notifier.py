"""What notifier publishes and answers."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.message import Event, Line, Query, Value, Word


class DeliveryFailed(Event):
    """A message that matters could not be delivered. `about` is the person."""

    topic = "notifier.delivery.failed"

    kind: Word
    reason: Line


class RecipientRefused(Event):
    """Telegram refused a message because of its chat. `about` is the person.

    They blocked the bot, or the chat is gone. The cause is random: a message may be refused again.
    """

    topic = "notifier.recipient.refused"

    reason: Line


EVENTS: tuple[type[Event], ...] = (DeliveryFailed, RecipientRefused)


# Queries of operators


class DeliveryRecord(Value):
    delivery: UUID
    person: UUID
    kind: str
    cause: str
    state: Literal[
        "waiting",
        "claimed",
        "sent",
        "unreachable",
        "failed",
        "unknown",
        "superseded",
    ]
    reason: str | None
    tries: int
    not_before: datetime
    written_at: datetime
    settled_at: datetime | None
    event: UUID | None
    """The event that was published about a lost message."""


class Deliveries(Value):
    deliveries: tuple[DeliveryRecord, ...]


class DeliveriesQuery(Query[Deliveries]):
    """The messages to these people for these causes (orders and receipts), in their order."""

    topic = "notifier.deliveries"
    answer = Deliveries

    people: tuple[UUID, ...] = Field(max_length=100)
    causes: tuple[Line, ...] = Field(max_length=200)
