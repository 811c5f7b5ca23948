"""The e-mail for receipts of the tax office: asked once before an invoice, changed on the balance.

The wait for what is typed is a row of the chat, with the order and the way to pay that it is for:
it survives a restart, and any other screen ends it.
"""

from datetime import timedelta
from typing import get_args
from uuid import UUID

from aiogram import F, Router
from aiogram.types import CallbackQuery, Message

from bot_gateway.chats import balance_screens, pay
from bot_gateway.chats.buttons import Go, SkipEmail
from bot_gateway.chats.visit import Visit
from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import (
    MAX_EMAIL_CHARACTERS,
    ReceiptEmailQuery,
    SavedName,
    SetReceiptEmail,
    Way,
)
from shared.messaging.rpc import UnansweredError

ACT_WITHIN = timedelta(minutes=5)


def routes() -> Router:
    router = Router(name="receipts")
    router.callback_query.register(show_email, Go.filter(F.to == "email"))
    router.callback_query.register(remove_email, Go.filter(F.to == "no_email"))
    router.callback_query.register(skip_email, SkipEmail.filter())
    return router


async def show_email(_: CallbackQuery, visit: Visit) -> None:
    held = await visit.query(ReceiptEmailQuery(person=visit.person.person))
    await visit.show(balance_screens.receipt_email(held.email, visit.say), awaits="email")


async def remove_email(_: CallbackQuery, visit: Visit) -> None:
    await set_email(None, visit)
    await visit.show(balance_screens.receipt_email(None, visit.say), awaits="email")


async def skip_email(_: CallbackQuery, callback_data: SkipEmail, visit: Visit) -> None:
    await set_email(None, visit)
    order, way = callback_data.order, callback_data.way
    await go_on(order, way, visit, from_balance=callback_data.from_balance)


async def typed(message: Message, visit: Visit) -> None:
    """The message after the question. Anything but an e-mail is asked for again."""
    email, order = (message.text or "").strip(), visit.person.screen_order
    _, _, waits = (visit.person.screen_awaits or "").partition(":")
    way = waits.partition(":")[0]
    from_balance = waits.endswith(":rest")
    if len(email) > MAX_EMAIL_CHARACTERS or not await set_email(email, visit):
        return await ask_again(order, way, visit, from_balance=from_balance)
    if order is not None and way:
        return await go_on(order, way, visit, from_balance=from_balance)
    return await visit.show(balance_screens.receipt_email(email, visit.say), awaits="email")


async def go_on(order: UUID, way: Way | SavedName, visit: Visit, *, from_balance: bool) -> None:
    """The invoice that waited. A saved method is charged by a tap that sees the amount of today."""
    if way in get_args(Way):
        return await pay.open_invoice(order, way, visit, from_balance=from_balance)
    return await pay.show_rest(order, visit, from_balance=from_balance)


async def ask_again(
    order: UUID | None, way: Way | SavedName, visit: Visit, *, from_balance: bool
) -> None:
    if order is not None and way:
        return await pay.ask_email(order, way, visit, from_balance=from_balance, again=True)
    return await visit.show(balance_screens.not_an_email(visit.say), awaits="email")


async def set_email(email: str | None, visit: Visit) -> bool:
    """False where payments finds that it is no e-mail."""
    wanted = SetReceiptEmail(
        id=derived_id("receipt email", visit.cause),
        actor=f"person:{visit.person.person}",
        deadline_at=visit.received_at + ACT_WITHIN,
        person=visit.person.person,
        email=email,
    )
    answer = await visit.shop.bus.execute(wanted)
    if isinstance(answer, Refused) and answer.reason != "email_invalid":
        raise UnansweredError(f"an e-mail was refused: {answer.reason}")
    return not isinstance(answer, Refused)
