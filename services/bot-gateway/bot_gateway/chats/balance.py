"""Balance: what the book holds for a person, and why it changed."""

from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway import screens
from bot_gateway.buttons import Go
from bot_gateway.chats.visit import Visit
from shared.questions import AskBalance


def routes() -> Router:
    router = Router(name="balance")
    router.callback_query.register(show_balance, Go.filter(F.to == "balance"))
    return router


async def show_balance(_: CallbackQuery, visit: Visit) -> None:
    held = await visit.ask(AskBalance(person=visit.person.person))
    await visit.show(screens.balance(held, visit.say))
