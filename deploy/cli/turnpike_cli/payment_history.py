"""What each service recorded about one payment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from shared.contracts.bot import Reports
from shared.contracts.notifier import Deliveries
from shared.contracts.operations import (
    DeadLetteredEvent,
    EventRecords,
    FailingEvent,
    HandledEvent,
    PublishedEvent,
)
from shared.contracts.payments import OrderRecord, PaymentRecord, ReceiptRecord, RefundRecord
from shared.contracts.referrals import Rewards
from shared.contracts.streams import SUBSCRIPTIONS, Subscription
from shared.contracts.vpn import Grant

Record = TypeVar("Record", HandledEvent, FailingEvent, DeadLetteredEvent)


@dataclass(frozen=True)
class PaymentHistory:
    """None where an owner does not know the payment, or where it was not worth asking."""

    named: str
    payment: PaymentRecord | None = None
    reports: Reports | None = None
    rewards: Rewards | None = None
    grant: Grant | None = None
    deliveries: Deliveries | None = None
    events: dict[str, EventRecords] = field(default_factory=dict)
    """By the owner that answered."""
    unresponsive: tuple[str, ...] = ()
    """The owners that did not answer."""

    @property
    def order(self) -> OrderRecord | None:
        return self.payment.order if self.payment else None

    @property
    def receipts(self) -> Sequence[ReceiptRecord]:
        return self.payment.receipts if self.payment else ()

    @property
    def refunds(self) -> Sequence[RefundRecord]:
        return self.payment.refunds if self.payment else ()

    @property
    def bought(self) -> ReceiptRecord | None:
        return next((receipt for receipt in self.receipts if receipt.outcome == "bought"), None)

    @property
    def trace_id(self) -> str | None:
        """From the trace context that the order keeps."""
        return self.order.trace.split("-")[1] if self.order and self.order.trace else None

    @property
    def published(self) -> list[PublishedEvent]:
        return sorted(
            (event for records in self.events.values() for event in records.published),
            key=lambda event: event.recorded_at,
        )


def event_ids(history: PaymentHistory) -> list[UUID]:
    """Every event that an owner published about the payment."""
    ids: list[UUID | None] = [
        report.event for report in (history.reports.reports if history.reports else ())
    ]
    ids += [receipt.event for receipt in history.receipts]
    ids += [refund.event for refund in history.refunds]
    ids += [reward.event for reward in (history.rewards.rewards if history.rewards else ())]
    ids += [history.grant.event if history.grant else None]
    ids += [one.event for one in (history.deliveries.deliveries if history.deliveries else ())]
    return sorted({id_ for id_ in ids if id_ is not None})


def subscriptions_to(topic: str) -> list[Subscription]:
    return [subscription for subscription in SUBSCRIPTIONS if subscription.event.topic == topic]


def record_of(records: Sequence[Record], event: UUID, handler: str) -> Record | None:
    """The first record that this handler has of this event."""
    return next((one for one in records if (one.event, one.handler) == (event, handler)), None)
