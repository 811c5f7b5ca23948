"""Stars are returned at Telegram: a charge once, however often Telegram is asked.

    claimed (one statement) ──▶ refundStarPayment (no transaction) ──▶ done | refused │ asked again

A worker may be killed at any point. Its lease ends, and the next one asks again: Telegram says
that the charge was returned already, which is done. Telegram reports the refund by itself, too.
"""

import asyncio
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

import structlog
from aiogram.exceptions import TelegramAPIError

from bot_gateway.metrics import STAR_REFUNDS
from bot_gateway.store import star_refunds
from bot_gateway.store.star_refunds import Claimed
from bot_gateway.telegram import (
    is_refunded_already,
    redacted,
    retry_after_of,
    telegram_is_unavailable,
)
from shared.platform import iterations
from shared.platform.backoff import backoff
from shared.platform.db import Database
from shared.platform.failpoints import failpoint
from shared.platform.loops import Bell, at_each_ring

log = structlog.get_logger()

POLL_S = 5.0
"""The command rings a bell in its own process."""
LEASE = timedelta(seconds=30)
"""Longer than the longest call."""
LONGEST_PAUSE_S = 300.0


class Returns(Protocol):
    """Telegram's side of a refund."""

    async def return_stars(self, telegram_id: int, charge: str) -> None:
        """Raises what aiogram raises."""


class StarRefunds:
    """Returns Stars, one charge at a time."""

    def __init__(self, database: Database, telegram: Returns, bell: Bell) -> None:
        self.database = database
        self.telegram = telegram
        self.bell = bell
        self.holder = uuid4()

    async def run(self, stopping: asyncio.Event) -> None:
        await at_each_ring(
            "bot_star_refunds", self.bell, self.round, self.due_in_s, stopping, every_s=POLL_S
        )

    async def due_in_s(self) -> float | None:
        return await star_refunds.due_in_s(self.database)

    async def round(self) -> bool:
        """Ask Telegram about the one that waits longest; False when none does."""
        job = await star_refunds.claim(self.holder, LEASE, self.database)
        if job is not None:
            iterations.found(1)
            await self._work(job)
        return job is not None

    async def _work(self, job: Claimed) -> None:
        payer = await star_refunds.telegram_id_of(job.payer, job.charge, self.database)
        if payer is None:
            await self._end(job, "refused", "payer_unknown")
            return
        try:
            await self.telegram.return_stars(payer, job.charge)
        except TelegramAPIError as error:
            await self._failed(job, error)
            return
        failpoint("stars_returned")
        await self._end(job, "done", None)

    async def _failed(self, job: Claimed, error: TelegramAPIError) -> None:
        if is_refunded_already(error):
            await self._end(job, "done", None)
        elif telegram_is_unavailable(error):
            STAR_REFUNDS.labels("put_off").inc()
            iterations.outcome("put_off")
            asked = retry_after_of(error)
            own_s = backoff(job.tries, first_s=1.0, longest_s=LONGEST_PAUSE_S)
            pause = max(asked or timedelta(0), timedelta(seconds=own_s))
            await star_refunds.put_off(job.id, self.holder, pause, redacted(error), self.database)
        else:
            log.error("Telegram refused to return Stars", error=redacted(error))
            await self._end(job, "refused", redacted(error))

    async def _end(self, job: Claimed, state: str, reason: str | None) -> None:
        STAR_REFUNDS.labels(state).inc()
        iterations.outcome(state)
        await star_refunds.end(job.id, self.holder, state, reason, self.database)
