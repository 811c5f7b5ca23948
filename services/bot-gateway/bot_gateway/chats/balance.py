"""Balance: the accounts of a person in the ledger, and why they changed, page by page."""

from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway.chats import balance_screens
from bot_gateway.chats.buttons import Go, History
from bot_gateway.chats.visit import Visit
from shared.contracts.payments import BalanceQuery


def routes() -> Router:
    router = Router(name="balance")
    router.callback_query.register(show_balance, Go.filter(F.to == "balance"))
    router.callback_query.register(show_history, History.filter())
    return router


async def show_balance(_: CallbackQuery, visit: Visit) -> None:
    held = await visit.query(BalanceQuery(person=visit.person.person))
    await visit.show(balance_screens.balance(held, visit.say))


async def show_history(_: CallbackQuery, callback_data: History, visit: Visit) -> None:
    """The newest page is the screen of the balance itself."""
    page = {callback_data.page: callback_data.transfer}
    held = await visit.query(BalanceQuery(person=visit.person.person, **page))
    if held.later is None:
        return await visit.show(balance_screens.balance(held, visit.say))
    return await visit.show(balance_screens.history(held, visit.say))
