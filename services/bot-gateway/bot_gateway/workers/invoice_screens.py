"""Edits the screens of invoices of outside providers, when they are opened or refused.

    event handled ─▶ commit ─▶ noted in memory ─▶ does the screen still offer that order? ─▶ edited

An edit that is lost, because the process ends or Telegram does not answer, is mended by the button
of the screen that looks again.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from math import inf

import structlog
from aiogram.types import User

from bot_gateway.chats import pay
from bot_gateway.chats.visit import Shop, Visit
from bot_gateway.store import people
from bot_gateway.telegram import redacted
from shared.contracts.payments import InvoiceOpened, InvoiceRefused
from shared.platform import iterations
from shared.platform.loops import forever, unless

log = structlog.get_logger()

WORKERS = 4
MAX_NOTED = 1_000
PAUSE_AFTER_FAILURE_S = 0.25

Ended = InvoiceOpened | InvoiceRefused


class InvoiceScreens:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.noted: asyncio.Queue[Ended] = asyncio.Queue(MAX_NOTED)

    def note(self, events: Sequence[Ended]) -> None:
        """Call this after the commit. Events beyond the bound of the queue are dropped."""
        for event in events:
            try:
                self.noted.put_nowait(event)
            except asyncio.QueueFull:
                log.warning("screen of an invoice is not edited: too many are")

    async def run(self, stopping: asyncio.Event) -> None:
        turn = partial(self._turn, stopping)
        loops = (
            forever("bot_invoice_screens", turn, stopping, failed=_failed) for _ in range(WORKERS)
        )
        await asyncio.gather(*loops)

    async def _turn(self, stopping: asyncio.Event) -> None:
        iterations.rests(inf)
        event = await unless(stopping, self.noted.get())
        if event is not None:
            iterations.begins()
            await self._edit(event)
            iterations.handled(1)

    async def _edit(self, event: Ended) -> None:
        known = await people.person_of_screen(event.about, event.order, self.shop.database)
        if known is None:
            return
        user = User(id=known.telegram_id, is_bot=False, first_name="")
        visit = Visit(self.shop, user, str(event.id), event.at, known)
        canceled = isinstance(event, InvoiceRefused) and event.reason == "canceled"
        await pay.edit_screen(event.invoice, event.order, visit, was_canceled=canceled)


def _failed(error: Exception) -> float:
    log.warning("screen of an invoice is not edited", error=redacted(error))
    return PAUSE_AFTER_FAILURE_S
