"""Support: whom to write to, and the ids of the last payments to name. Telegram asks /paysupport of who takes Stars."""

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from bot_gateway import screens
from bot_gateway.buttons import Go
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, Visit
from shared.bus import UnansweredError
from shared.questions import AskReceipts, Receipts


def routes() -> Router:
    router = Router(name="support")
    router.message.register(show_support, Command("support", "paysupport"), flags=ANYBODY | BEFORE_OFFER)
    router.callback_query.register(show_support, Go.filter(F.to == "support"), flags=BEFORE_OFFER)
    return router


async def show_support(_: Message | CallbackQuery, visit: Visit) -> None:
    """Also while payments is down: whoever asks for help is not told to come back later."""
    await visit.show(screens.support(visit.shop.support_contact, await paid_lately(visit), visit.say))


async def paid_lately(visit: Visit) -> Receipts | None:
    """None where nobody can say."""
    if visit.known is None:
        return Receipts(lines=())
    try:
        return await visit.ask(AskReceipts(person=visit.known.person))
    except UnansweredError:
        return None
