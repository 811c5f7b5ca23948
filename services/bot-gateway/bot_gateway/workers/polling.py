"""Long polling, by one process at a time: updates are confirmed only after they are committed."""

import asyncio
from functools import partial
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramConflictError

from bot_gateway.receiving import take_in
from bot_gateway.store import intake
from bot_gateway.telegram import fetch_updates, redacted, retry_after_of, stop_webhook
from bot_gateway.workers.bells import Bells
from shared.platform import iterations
from shared.platform.db import Database, Tx
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever, set_within, unless

log = structlog.get_logger()

WAIT_FOR_THE_LOCK_S = 1.0
PAUSE_AFTER_CONFLICT_S = 3.0
PAUSE_AFTER_FAILURE_S = 1.0
BATCHING_WINDOW_S = 0.1
"""The least time between two polls: updates that arrive meanwhile share an answer and a commit."""
FULL_ANSWER = 100  # Telegram hands over so many at once; after a full answer there are more.


class Poller:
    """Holds a session lock, and writes over the connection that holds it.

    A process that lost the lock has lost the connection too, and cannot write.
    """

    def __init__(self, database: Database, bot: Bot, bells: Bells) -> None:
        self.database = database
        self.bot = bot
        self.bells = bells

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until `stopping`. Telegram keeps every update that was not confirmed."""
        turn = partial(self._take_turn, stopping)
        await forever("bot_polling", turn, stopping, failed=_failed)

    async def _take_turn(self, stopping: asyncio.Event) -> None:
        async with self.database.held() as connection:
            if await intake.take_polling_lock(self.bot.id, connection):
                await self._poll(connection, stopping)
        await set_within(stopping, WAIT_FOR_THE_LOCK_S)

    async def _poll(self, connection: Any, stopping: asyncio.Event) -> None:
        await stop_webhook(self.bot)
        log.info("polling started", bot=self.bot.id)
        offset: int | None = None
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            iterations.begins()
            asked_at = loop.time()
            updates = await unless(stopping, fetch_updates(self.bot, offset))
            if not updates:
                if stopping.is_set():
                    return
                # Everything before the offset is confirmed. No offset also works when Telegram
                # restarts the ids below it.
                offset = None
                await intake.check_polling_lock(connection)
                continue
            async with connection.transaction():
                tx = Tx(connection)
                await take_in(self.bot.id, updates, self.bells, tx)
                failpoint("update_written", "polling")
            tx.committed()
            iterations.handled(len(updates))
            failpoint("update_committed", "polling")
            offset = updates[-1]["update_id"] + 1
            if len(updates) < FULL_ANSWER:
                await asyncio.sleep(asked_at + BATCHING_WINDOW_S - loop.time())


def _failed(error: Exception) -> float:
    """The pause in seconds. A conflict passes: another process polls, or a webhook was set."""
    log.warning("polling failed", error=redacted(error))
    if isinstance(error, TelegramConflictError):
        return PAUSE_AFTER_CONFLICT_S
    asked = retry_after_of(error)
    return asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S
