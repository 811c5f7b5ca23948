"""The doors that people come through: one router per screen, fed by the chat lane."""

from datetime import datetime
from typing import Any

from aiogram import Dispatcher
from aiogram.types import Update

from bot_gateway.chats import access, anything, balance, buy, friends, start, support
from bot_gateway.chats.visit import Admission, Shop
from bot_gateway.lanes.chat import Run
from bot_gateway.updates import ALLOWED

COMMANDS = ("start", "support", "paysupport", "terms", "privacy")


def open_chats(shop: Shop) -> Run:
    """What runs one raw update. State lives in buttons and in the database; there is none here (W-09)."""
    dispatcher = Dispatcher(disable_fsm=True)
    admission = Admission(shop)
    dispatcher.message.middleware(admission)
    dispatcher.callback_query.middleware(admission)
    for screen in (start, support, buy, access, balance, friends, anything):
        dispatcher.include_router(screen.routes())

    async def run(raw: dict[str, Any], received_at: datetime) -> None:
        if raw.keys().isdisjoint(ALLOWED):  # Of a kind that we did not ask for.
            return
        update = Update.model_validate(raw, context={"bot": shop.bot})
        cause = f"telegram:{shop.bot.id}:{update.update_id}"
        await dispatcher.feed_update(shop.bot, update, shop=shop, cause=cause, received_at=received_at)

    return run
