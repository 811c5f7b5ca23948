"""How fast the bot may send: a token bucket that refills with time and pauses after a 429."""

from dataclasses import dataclass
from datetime import datetime

# How much unused capacity may be spent at once. Telegram allows a bot about 30 messages a second.
# notifier takes 20 and bot-gateway 10 of them, so the burst must stay small.
BURST_S = 0.25


def burst(per_s: float) -> float:
    """The capacity of the bucket, in messages."""
    return max(1.0, per_s * BURST_S)


@dataclass(frozen=True)
class Bucket:
    """The bucket as it is now: filled up to this moment."""

    tokens: float
    paused_until: datetime

    def messages(self, at: datetime) -> int:
        """How many messages may be sent now."""
        return 0 if at < self.paused_until else int(self.tokens)

    def wait_s(self, at: datetime, per_s: float) -> float:
        """Seconds until one message may be sent."""
        paused_s = (self.paused_until - at).total_seconds()
        return max(0.0, paused_s, (1.0 - self.tokens) / per_s)


@dataclass(frozen=True)
class Allowance:
    """How many messages may be sent now. If none, `wait_s` is the time until the next look."""

    messages: int = 0
    wait_s: float = 0.0


def allowance(
    bucket: Bucket, at: datetime, *, per_s: float, most: int, next_due_s: float
) -> Allowance:
    """How many messages, at most `most`, may be sent at this time.

    `next_due_s` are the seconds until the first chat is due; not above zero if one is due now.
    """
    if next_due_s > 0:
        return Allowance(wait_s=next_due_s)
    messages = min(most, bucket.messages(at))
    return Allowance(messages, 0.0 if messages else bucket.wait_s(at, per_s))
