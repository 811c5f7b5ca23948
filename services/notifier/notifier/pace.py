"""How fast the bot may speak: a bucket that fills by time and is empty while Telegram asks for patience."""

from dataclasses import dataclass
from datetime import datetime

# How much silence may be made up for at once. Telegram allows a bot about 30 messages a second; 20 and 10 are shared
# out to the two voices of the token, so what is saved up must stay small.
SAVED_S = 0.25


@dataclass(frozen=True)
class Bucket:
    tokens: float
    refilled_at: datetime
    paused_until: datetime

    def filled(self, at: datetime, per_s: float) -> "Bucket":
        """The bucket at a later moment; a clock that goes back fills nothing."""
        passed_s = max(0.0, (at - self.refilled_at).total_seconds())
        most = max(1.0, per_s * SAVED_S)
        return Bucket(min(most, self.tokens + passed_s * per_s), max(at, self.refilled_at), self.paused_until)

    def messages(self, at: datetime) -> int:
        """How many messages may leave now."""
        return 0 if at < self.paused_until else int(self.tokens)

    def wait_s(self, at: datetime, per_s: float) -> float:
        """Seconds until one message may leave."""
        paused_s = (self.paused_until - at).total_seconds()
        return max(0.0, paused_s, (1.0 - self.tokens) / per_s)

    def without(self, messages: int) -> "Bucket":
        return Bucket(self.tokens - messages, self.refilled_at, self.paused_until)
