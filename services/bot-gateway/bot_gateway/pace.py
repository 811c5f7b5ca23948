"""How fast we speak to everybody, and how fast one person may speak to us; both shared by all replicas."""

import asyncio
from datetime import timedelta

from bot_gateway.store import buckets
from bot_gateway.telegram import TooBusyError
from shared.db import Database

MESSAGES = "messages"
BURST_S = 1.0
LONGEST_WAIT_S = 3.0

FLOOD_PER_S = 1.0
FLOOD_BURST = 20.0


class Pace:
    """A bucket of messages. Who finds it empty waits his turn, and is sent away when that were too long."""

    def __init__(self, database: Database, per_s: float) -> None:
        self.database = database
        self.per_s = per_s

    async def __call__(self) -> None:
        """Returns when a message may go. Raises TooBusyError instead of waiting for more than 3 s, or while we rest."""
        tokens = await buckets.take_token(
            MESSAGES,
            self.database,
            per_s=self.per_s,
            burst=max(1.0, self.per_s * BURST_S),
            least=-self.per_s * LONGEST_WAIT_S,
        )
        if tokens is None:
            raise TooBusyError(max(LONGEST_WAIT_S, await buckets.rests_for_s(MESSAGES, self.database)))
        if tokens < 0:
            await asyncio.sleep(-tokens / self.per_s)

    async def refused(self, chat: int, retry_after: timedelta) -> None:
        """Telegram said 429, and not for whom: it limits each chat and the whole bot.

        One chat's is that chat's, so that one busy person silences nobody. When Telegram refuses another chat before
        the first may be written to again, it is the bot that must rest.
        """
        await buckets.note_refusal(MESSAGES, chat, retry_after, self.database)


async def is_flooding(telegram_id: int, database: Database) -> bool:
    """More than 20 taps at once, or one a second for long."""
    bucket = f"from {telegram_id}"
    return await buckets.take_token(bucket, database, per_s=FLOOD_PER_S, burst=FLOOD_BURST) is None
