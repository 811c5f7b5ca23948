"""Telegram's rate limits and time limits for a bot."""

import math
from collections import OrderedDict
from dataclasses import dataclass

from .rules import too_many_requests

_CHATS_REMEMBERED = 10_000


@dataclass(frozen=True)
class Limits:
    """Telegram's figures (core.telegram.org/bots/faq). Tests change them."""

    messages_per_s: float = 30.0
    messages_burst: int = 30
    chat_messages_per_s: float = 1.0
    chat_messages_burst: int = 5
    pre_checkout_s: float = 10.0
    # Telegram gives no figure. It refuses an answer that is a minute late.
    callback_s: float = 60.0
    update_kept_s: float = 24 * 3600.0
    deletable_s: float = 48 * 3600.0
    webhook_timeout_s: float = 30.0
    webhook_retry_first_s: float = 1.0
    webhook_retry_most_s: float = 60.0


@dataclass
class Bucket:
    """A token bucket."""

    per_s: float
    burst: int
    tokens: float
    at_s: float

    def wait_s(self, now_s: float) -> float:
        """Seconds until one message may be sent; 0 means now."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.per_s


class FloodControl:
    """One bucket for the bot and one for each chat. A refused message takes from neither."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = Bucket(limits.messages_per_s, limits.messages_burst, limits.messages_burst, 0.0)
        self._chats: OrderedDict[int, Bucket] = OrderedDict()

    def take(self, chat_id: int, now_s: float) -> None:
        """Take one token from both. Raises `Refused` with the whole seconds to wait."""
        chat = self._chat(chat_id)
        wait_s = max(self._all.wait_s(now_s), chat.wait_s(now_s))
        if wait_s > 0:
            raise too_many_requests(max(1, math.ceil(wait_s)))
        self._all.tokens -= 1
        chat.tokens -= 1

    def _chat(self, chat_id: int) -> Bucket:
        burst = self._limits.chat_messages_burst
        bucket = self._chats.setdefault(
            chat_id, Bucket(self._limits.chat_messages_per_s, burst, burst, 0.0)
        )
        self._chats.move_to_end(chat_id)
        if len(self._chats) > _CHATS_REMEMBERED:
            self._chats.popitem(last=False)
        return bucket
