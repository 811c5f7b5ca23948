"""Rate limits, shared by all replicas: of outgoing messages, and of the updates of one person."""

import asyncio
from collections import deque
from datetime import timedelta

from bot_gateway.store import token_buckets
from bot_gateway.telegram import TooBusyError
from shared.platform.db import Database
from shared.platform.loops import set_within

MESSAGES = "messages"
BURST_S = 1.0
LONGEST_WAIT_S = 3.0

FLOOD_PER_S = 1.0
FLOOD_BURST = 20.0
FLOOD_ANSWERS_PER_S = 1 / 30


class Pace:
    """A token bucket of messages. Callers wait for a token; a long wait is refused."""

    def __init__(self, database: Database, per_s: float) -> None:
        self.database = database
        self.per_s = per_s
        self._waiting: deque[asyncio.Event] = deque()

    async def __call__(self) -> None:
        """Return when a message may go.

        Raises TooBusyError instead of waiting more than 3 s, and while the bucket is paused.
        """
        tokens = await token_buckets.take_token(
            MESSAGES,
            self.database,
            per_s=self.per_s,
            burst=max(1.0, self.per_s * BURST_S),
            least=-self.per_s * LONGEST_WAIT_S,
        )
        if tokens is None:
            paused_s = await token_buckets.paused_for_s(MESSAGES, self.database)
            raise TooBusyError(max(LONGEST_WAIT_S, paused_s))
        if tokens < 0:
            await self._earn(-tokens / self.per_s)

    async def _earn(self, wait_s: float) -> None:
        """Wait until the borrowed token is earned, or until another call gives its token back."""
        given = asyncio.Event()
        self._waiting.append(given)
        try:
            await set_within(given, wait_s)
        finally:
            if not given.is_set():
                self._waiting.remove(given)

    @property
    def waiting(self) -> int:
        """How many callers wait for a token in this process."""
        return len(self._waiting)

    async def give_back(self) -> None:
        """Return the token of a message that Telegram refused because of its chat.

        The first caller that waits here may go at once: five hundred people who blocked the bot
        delay a newcomer by five hundred calls, and not by the pace of as many messages.
        """
        await token_buckets.give_back(MESSAGES, self.database)
        if self._waiting:
            self._waiting.popleft().set()

    async def refused(self, chat: int, retry_after: timedelta) -> None:
        """Record a 429. It does not say whether it limits the chat or the whole bot.

        One refused chat is treated as the limit of that chat, so a busy person delays no others.
        When Telegram refuses another chat before `retry_after` of the first is over, the limit is
        the bot's, and all messages are paused.
        """
        await token_buckets.record_refusal(MESSAGES, chat, retry_after, self.database)


async def is_flooding(telegram_id: int, database: Database) -> bool:
    """More than 20 updates at once, or more than one a second for long."""
    bucket = f"from {telegram_id}"
    per_s, burst = FLOOD_PER_S, FLOOD_BURST
    return await token_buckets.take_token(bucket, database, per_s=per_s, burst=burst) is None


async def answers_flood(telegram_id: int, database: Database) -> bool:
    """Whether a person who floods gets a sentence now: one in half a minute."""
    bucket, per_s = f"flood answer {telegram_id}", FLOOD_ANSWERS_PER_S
    return await token_buckets.take_token(bucket, database, per_s=per_s, burst=1.0) is not None
