"""Support: the contact, and the ids of the last payments.

Telegram requires /paysupport of every bot that takes Stars.
"""

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from bot_gateway.chats import screens
from bot_gateway.chats.buttons import Go
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, Visit
from shared.contracts.payments import Receipts, ReceiptsQuery
from shared.messaging.rpc import UnansweredError


def routes() -> Router:
    router = Router(name="support")
    router.message.register(
        show_support, Command("support", "paysupport"), flags=ANYBODY | BEFORE_OFFER
    )
    router.callback_query.register(show_support, Go.filter(F.to == "support"), flags=BEFORE_OFFER)
    return router


async def show_support(_: Message | CallbackQuery, visit: Visit) -> None:
    """Works while payments is down: a request for help must not end in "try again later"."""
    contact, paid = visit.shop.support_contact, await last_payments(visit)
    await visit.show(screens.support(contact, paid, visit.say))


async def last_payments(visit: Visit) -> Receipts | None:
    """None where payments does not answer."""
    if visit.known is None:
        return Receipts(lines=())
    try:
        return await visit.query(ReceiptsQuery(person=visit.known.person))
    except UnansweredError:
        return None
