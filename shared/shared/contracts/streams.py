"""The streams, and the subscriptions of every service: the one declaration of both."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.bot import PaymentReported, PersonChanged, PersonStarted, RefundReported
from shared.contracts.message import Event
from shared.contracts.notifier import RecipientRefused
from shared.contracts.payments import (
    InvoiceOpened,
    InvoiceRefused,
    PaymentConfirmed,
    PaymentRefunded,
)
from shared.contracts.referrals import InvitationRegistered, RewardEarned, RewardReversed
from shared.contracts.vpn import AccessEnded, AccessExpiring, AccessGranted

KEPT_FOR = timedelta(days=3)
DUPLICATE_WINDOW = timedelta(minutes=10)
# Short, so that the messages of a killed process come back soon. A living process extends it.
ACK_WAIT_S = 5.0
MAX_ACK_PENDING = 5_000
STREAM_MAX_BYTES = 2 * 1024**3  # Three times the volume of 3 days at 10 payments a second.


def stream_of(owner: str) -> str:
    return f"EVT_{owner.upper()}"


def stream_config(owner: str, *, replicas: int = 1) -> dict[str, Any]:
    """The configuration of a missing stream. A service never changes a stream that exists."""
    return {
        "name": stream_of(owner),
        "subjects": [f"evt.{owner}.>"],
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "max_age": int(KEPT_FOR.total_seconds() * 1e9),
        "max_bytes": STREAM_MAX_BYTES,
        "max_msg_size": 1024 * 1024,
        "duplicate_window": int(DUPLICATE_WINDOW.total_seconds() * 1e9),
        "num_replicas": replicas,
        "allow_atomic": True,
        "allow_direct": True,
    }


@dataclass(frozen=True)
class Subscription:
    """One handler of one event type.

    The handler's name is also the durable consumer, the span attribute, the log field and the
    handler of a dead letter. It never changes: a renamed handler would receive three days again.
    `since` is the day on which it was added.
    """

    handler: str
    service: str
    event: type[Event]
    since: str

    @property
    def owner(self) -> str:
        return self.event.topic.split(".")[0]

    @property
    def since_at(self) -> datetime:
        return datetime.fromisoformat(self.since).replace(tzinfo=UTC)

    @property
    def stream(self) -> str:
        return stream_of(self.owner)

    @property
    def filter_subject(self) -> str:
        return f"evt.{self.event.topic}.*"

    def consumer_config(self, *, replicas: int = 1) -> dict[str, Any]:
        return {
            "durable_name": self.handler,
            "filter_subject": self.filter_subject,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * 1e9),
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
            "replay_policy": "instant",
            "num_replicas": replicas,
        }


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription("payments_confirms_reported", "payments", PaymentReported, "2026-11-22"),
    Subscription("payments_records_refunds", "payments", RefundReported, "2026-11-29"),
    Subscription("payments_books_rewards", "payments", RewardEarned, "2026-11-22"),
    Subscription("payments_books_reversals", "payments", RewardReversed, "2026-11-30"),
    Subscription("referrals_registers_started", "referrals", PersonStarted, "2026-11-22"),
    Subscription("referrals_rewards_confirmed", "referrals", PaymentConfirmed, "2026-11-22"),
    Subscription("referrals_reverses_refunded", "referrals", PaymentRefunded, "2026-11-30"),
    Subscription("vpn_grants_confirmed", "vpn", PaymentConfirmed, "2026-11-22"),
    Subscription("vpn_shortens_refunded", "vpn", PaymentRefunded, "2026-11-30"),
    Subscription("notifier_notifies_confirmed", "notifier", PaymentConfirmed, "2026-11-22"),
    Subscription("notifier_notifies_refunded", "notifier", PaymentRefunded, "2026-11-30"),
    Subscription("notifier_notifies_granted", "notifier", AccessGranted, "2026-11-22"),
    Subscription("notifier_notifies_ended", "notifier", AccessEnded, "2026-11-22"),
    Subscription("notifier_notifies_expiring", "notifier", AccessExpiring, "2026-12-01"),
    Subscription("notifier_notifies_registered", "notifier", InvitationRegistered, "2026-11-22"),
    Subscription("notifier_notifies_rewards", "notifier", RewardEarned, "2026-11-22"),
    Subscription("notifier_follows_people", "notifier", PersonChanged, "2026-11-22"),
    Subscription("bot_follows_refusals", "bot", RecipientRefused, "2026-11-29"),
    Subscription("bot_shows_opened", "bot", InvoiceOpened, "2026-11-30"),
    Subscription("bot_shows_refused", "bot", InvoiceRefused, "2026-11-30"),
)
