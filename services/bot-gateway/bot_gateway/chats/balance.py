"""Balance: a person's accounts in the ledger, why they changed, and the saved methods.

A saved method is forgotten here, after a question.
"""

from datetime import timedelta

from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway.chats import balance_screens
from bot_gateway.chats.buttons import AskForget, Forget, Go, History
from bot_gateway.chats.visit import Visit
from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import BalanceQuery, ForgetMethod
from shared.messaging.rpc import UnansweredError

# A tap that waited longer changes nothing: the person may want something else by now.
ACT_WITHIN = timedelta(minutes=5)


def routes() -> Router:
    router = Router(name="balance")
    router.callback_query.register(show_balance, Go.filter(F.to == "balance"))
    router.callback_query.register(show_history, History.filter())
    router.callback_query.register(ask_to_forget, AskForget.filter())
    router.callback_query.register(forget, Forget.filter())
    return router


async def show_balance(_: CallbackQuery, visit: Visit) -> None:
    await show(visit)


async def show(visit: Visit, *, toast: str | None = None) -> None:
    held = await visit.query(BalanceQuery(person=visit.person.person))
    await visit.show(balance_screens.balance(held, visit.say), toast=toast)


async def show_history(_: CallbackQuery, callback_data: History, visit: Visit) -> None:
    """The newest page is the screen of the balance itself."""
    page = {callback_data.page: callback_data.transfer}
    held = await visit.query(BalanceQuery(person=visit.person.person, **page))
    if held.later is None:
        return await visit.show(balance_screens.balance(held, visit.say))
    return await visit.show(balance_screens.history(held, visit.say))


async def ask_to_forget(_: CallbackQuery, callback_data: AskForget, visit: Visit) -> None:
    held = await visit.query(BalanceQuery(person=visit.person.person))
    for method in held.saved:
        if method.name == callback_data.method:
            return await visit.show(balance_screens.forgetting(method, visit.say))
    shown = balance_screens.balance(held, visit.say)
    return await visit.show(shown, toast=visit.say("toast-method-unknown"))


async def forget(_: CallbackQuery, callback_data: Forget, visit: Visit) -> None:
    """Two taps are one act: its id is derived from the person and the method."""
    person, method = visit.person.person, callback_data.method
    wanted = ForgetMethod(
        id=derived_id("forget method", person, method),
        actor=f"person:{person}",
        deadline_at=visit.received_at + ACT_WITHIN,
        person=person,
        method=method,
    )
    answer = await visit.shop.bus.execute(wanted)
    if not isinstance(answer, Refused):
        return await show(visit, toast=visit.say("toast-method-forgotten"))
    if answer.reason == "too_late":
        raise UnansweredError("a wish to forget a method that came too late")
    await visit.refuse("method", answer.reason)
    return await show(visit, toast=visit.say("toast-method-unknown"))
