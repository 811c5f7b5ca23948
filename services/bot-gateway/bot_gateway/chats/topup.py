"""Adding money to the balance: an amount, from a button or typed, and a way to pay.

The wait for a typed amount is a row of the chat: it survives a restart, and any other screen ends
it.
"""

from uuid import uuid4

from aiogram import F, Router
from aiogram.types import CallbackQuery, Message

from bot_gateway.chats import balance_screens
from bot_gateway.chats.buttons import Go, TopUp
from bot_gateway.chats.buy import plans_of
from bot_gateway.chats.visit import Visit
from bot_gateway.domain.amounts import topup_in


def routes() -> Router:
    router = Router(name="topup")
    router.callback_query.register(show_amounts, Go.filter(F.to == "topup"))
    router.callback_query.register(ask_amount, Go.filter(F.to == "amount"))
    router.callback_query.register(show_ways, TopUp.filter())
    return router


async def show_amounts(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(balance_screens.topup(visit.say))


async def ask_amount(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(balance_screens.amount(visit.say), awaits="amount")


async def typed(message: Message, visit: Visit) -> None:
    """The message after the question. Anything but an amount is asked for again."""
    rubles = topup_in(message.text or "")
    if rubles is None:
        return await visit.show(balance_screens.not_an_amount(visit.say), awaits="amount")
    visit.tapped = TopUp(rubles=rubles).pack()  # "Try again" need not be typed again.
    return await offer(rubles, visit)


async def show_ways(_: CallbackQuery, callback_data: TopUp, visit: Visit) -> None:
    await offer(callback_data.rubles, visit)


async def offer(rubles: int, visit: Visit) -> None:
    """The id that the order's is derived from is drawn here."""
    sold = await plans_of(visit)
    await visit.show(balance_screens.topup_ways(rubles, sold, uuid4(), visit.say))
