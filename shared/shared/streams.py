"""Which streams exist and who listens to what: the one declaration of both."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import facts
from shared.contract import Fact

KEPT_FOR = timedelta(days=3)
DUPLICATE_WINDOW = timedelta(minutes=10)
ACK_WAIT_S = 5.0  # Short, so that what a killed process held comes back at once; living holders say they still work.
MAX_ACK_PENDING = 5_000
STREAM_MAX_BYTES = 2 * 1024**3  # Three times what three days hold at a steady 10 payments a second.


def stream_of(owner: str) -> str:
    return f"EVT_{owner.upper()}"


def stream_config(owner: str, *, replicas: int = 1) -> dict[str, Any]:
    """What JetStream is asked for when the stream is missing; a stream that exists is never changed by a service."""
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
class Listening:
    """One handler's ear: its name is the durable, the span attribute, the log field and the dead letter's handler.

    A name in this list is for ever: a renamed handler would hear three days again. `since` is the day it was added.
    """

    handler: str
    service: str
    fact: type[Fact]
    since: str

    @property
    def owner(self) -> str:
        return self.fact.topic.split(".")[0]

    @property
    def since_at(self) -> datetime:
        return datetime.fromisoformat(self.since).replace(tzinfo=UTC)

    @property
    def stream(self) -> str:
        return stream_of(self.owner)

    @property
    def filter_subject(self) -> str:
        return f"evt.{self.fact.topic}.*"

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


LISTENING: tuple[Listening, ...] = (
    Listening("payments_confirms_reported", "payments", facts.PaymentReported, "2026-11-22"),
    Listening("payments_books_rewards", "payments", facts.RewardEarned, "2026-11-22"),
    Listening("referrals_registers_started", "referrals", facts.PersonStarted, "2026-11-22"),
    Listening("referrals_rewards_confirmed", "referrals", facts.PaymentConfirmed, "2026-11-22"),
    Listening("vpn_grants_confirmed", "vpn", facts.PaymentConfirmed, "2026-11-22"),
    Listening("notifier_tells_confirmed", "notifier", facts.PaymentConfirmed, "2026-11-22"),
    Listening("notifier_tells_granted", "notifier", facts.AccessGranted, "2026-11-22"),
    Listening("notifier_tells_ended", "notifier", facts.AccessEnded, "2026-11-22"),
    Listening("notifier_tells_registered", "notifier", facts.InvitationRegistered, "2026-11-22"),
    Listening("notifier_tells_rewards", "notifier", facts.RewardEarned, "2026-11-22"),
    Listening("notifier_follows_people", "notifier", facts.PersonChanged, "2026-11-22"),
)
