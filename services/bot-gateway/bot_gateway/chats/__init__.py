"""The entry point for messages and taps: one router per screen, fed by the chat lane."""

from datetime import datetime
from functools import cache
from typing import Any

from aiogram import Dispatcher
from aiogram.methods import EditMessageText, Response, SendMessage
from aiogram.types import Update

from bot_gateway.chats import (
    access,
    anything,
    balance,
    buy,
    friends,
    pay,
    receipts,
    start,
    support,
    topup,
)
from bot_gateway.chats.visit import Admission, Shop
from bot_gateway.domain.updates import ALLOWED
from bot_gateway.workers.chat_lane import Run

COMMANDS = ("start", "support", "paysupport", "terms", "privacy")


@cache
def build_models() -> tuple[type[Any], ...]:
    """Build what every screen needs of aiogram: half a second of a processor, once a process.

    On a slow machine that is longer than an update may run. The answers' models are generic, and
    pydantic forgets such a model that nobody keeps.
    """
    answer: Any = Response  # Its parameter is known at run time only.
    answers = (answer[method.__returning__] for method in (SendMessage, EditMessageText))
    models: tuple[type[Any], ...] = (Update, SendMessage, EditMessageText, *answers)
    for model in models:
        model.model_rebuild()
    return models


def open_chats(shop: Shop) -> Run:
    """The function that runs one raw update.

    It keeps no state: that is in buttons and in the database (W-09).
    """
    dispatcher = Dispatcher(disable_fsm=True)
    admission = Admission(shop)
    dispatcher.message.middleware(admission)
    dispatcher.callback_query.middleware(admission)
    routers = (start, support, buy, pay, access, balance, topup, receipts, friends, anything)
    for screen in routers:
        dispatcher.include_router(screen.routes())

    async def run(raw: dict[str, Any], received_at: datetime) -> None:
        if raw.keys().isdisjoint(ALLOWED):  # A kind that was not requested.
            return
        update = Update.model_validate(raw, context={"bot": shop.bot})
        cause = f"telegram:{shop.bot.id}:{update.update_id}"
        await dispatcher.feed_update(
            shop.bot, update, shop=shop, cause=cause, received_at=received_at
        )

    return run
