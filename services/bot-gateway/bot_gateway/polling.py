"""Long polling, by one process at a time: the offset that confirms updates is said only after they are committed."""

import asyncio
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramConflictError

from bot_gateway.lanes import Bells
from bot_gateway.receiving import take_in
from bot_gateway.store import intake
from bot_gateway.telegram import fetch_updates, retry_after_of, said, stop_webhook
from bot_gateway.waiting import unless
from shared import crash
from shared.db import Database, Tx
from shared.waiting import happens

log = structlog.get_logger()

WAIT_FOR_THE_LOCK_S = 1.0
PAUSE_AFTER_CONFLICT_S = 3.0
PAUSE_AFTER_FAILURE_S = 1.0
TOGETHER_S = 0.1  # So far apart do we ask, at least: what comes meanwhile is one answer and one transaction.
FULL_ANSWER = 100  # As many does Telegram hand over at once; then there are more.


class Poller:
    """Holds a session lock and writes over the very connection that holds it: who lost the lock cannot write."""

    def __init__(self, database: Database, bot: Bot, bells: Bells) -> None:
        self.database = database
        self.bot = bot
        self.bells = bells

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until `stopping`; whatever is away is waited for, and nothing is dropped meanwhile."""
        while not stopping.is_set():
            try:
                async with self.database.held() as connection:
                    if await intake.take_polling_lock(self.bot.id, connection):
                        await self._poll(connection, stopping)
                await happens(stopping, WAIT_FOR_THE_LOCK_S)
            except Exception as error:  # The loop lives on: Telegram keeps what was not confirmed.
                log.warning("polling failed", error=said(error))
                await happens(stopping, _patience_with(error))

    async def _poll(self, connection: Any, stopping: asyncio.Event) -> None:
        await stop_webhook(self.bot)
        log.info("polling", bot=self.bot.id)
        offset: int | None = None
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            asked_at = loop.time()
            updates = await unless(stopping, fetch_updates(self.bot, offset))
            if not updates:
                if stopping.is_set():
                    return
                # What lay before the offset is confirmed. Without one it also holds when ids begin anew below it.
                offset = None
                await intake.check_polling_lock(connection)
                continue
            async with connection.transaction():
                tx = Tx(connection)
                await take_in(self.bot.id, updates, self.bells, tx)
                crash.passing("update_written", "polling")
            tx.committed()
            crash.passing("update_committed", "polling")
            offset = updates[-1]["update_id"] + 1
            if len(updates) < FULL_ANSWER:
                await asyncio.sleep(asked_at + TOGETHER_S - loop.time())


def _patience_with(error: Exception) -> float:
    """Seconds. A conflict means that another process polls, or that somebody set a webhook: it passes."""
    if isinstance(error, TelegramConflictError):
        return PAUSE_AFTER_CONFLICT_S
    asked = retry_after_of(error)
    return asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S
