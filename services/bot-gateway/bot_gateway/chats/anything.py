"""Whatever no other screen understood: a stale or forged button, a sentence typed. The current screen answers."""

from aiogram import Router
from aiogram.types import CallbackQuery, Message

from bot_gateway import screens
from bot_gateway.chats.visit import Visit


def routes() -> Router:
    router = Router(name="anything")
    router.callback_query.register(stale_button)
    router.message.register(typed)
    return router


async def stale_button(_: CallbackQuery, visit: Visit) -> None:
    """The bytes of a forged button may be anything; they are not trusted even as a log field (S-08)."""
    await visit.refuse("button", "stale_or_forged")
    await visit.show(screens.menu(visit.say), toast=visit.say("toast-stale"))


async def typed(_: Message, visit: Visit) -> None:
    await visit.show(screens.menu(visit.say))
