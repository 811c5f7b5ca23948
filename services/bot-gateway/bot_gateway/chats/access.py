"""My access: what one has and until when, and the key, asked for at the moment it is shown and kept nowhere here."""

import asyncio
from io import BytesIO

import segno
from aiogram import F, Router
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import BufferedInputFile, CallbackQuery

from bot_gateway import screens
from bot_gateway.buttons import Go, Hide
from bot_gateway.chats.visit import ASK_TIMEOUT_S, Visit, keyboard
from shared.contract import Refused
from shared.questions import AskAccess, AskKey, Key

PIXELS_PER_MODULE = 6


def routes() -> Router:
    router = Router(name="access")
    router.callback_query.register(show_access, Go.filter(F.to == "my_access"))
    router.callback_query.register(show_access_below, Go.filter(F.to == "access"))
    router.callback_query.register(show_key, Go.filter(F.to == "key"))
    router.callback_query.register(send_qr, Go.filter(F.to == "qr"))
    router.callback_query.register(hide, Hide.filter())
    return router


async def show_access(_: CallbackQuery, visit: Visit, *, toast: str | None = None) -> None:
    held = await visit.ask(AskAccess(person=visit.person.person))
    await visit.show(screens.access(held, visit.received_at, visit.say), toast=toast)


async def show_access_below(tap: CallbackQuery, visit: Visit) -> None:
    """The button stands under a receipt, which stays; the screen below it, if there is one, is the one that changes."""
    receipt, below = visit.screen_id, visit.person.screen_id
    visit.screen_id = below if receipt and below and below > receipt else None
    await show_access(tap, visit)


async def show_key(tap: CallbackQuery, visit: Visit) -> None:
    key = await ask_key(visit)
    if key is None:
        return await show_access(tap, visit, toast=visit.say("toast-no-key"))
    return await visit.show(screens.key(key, visit.say))


async def send_qr(tap: CallbackQuery, visit: Visit) -> None:
    """A picture is a message of its own; it can be taken away again."""
    key = await ask_key(visit)
    if key is None:
        return await show_access(tap, visit, toast=visit.say("toast-no-key"))
    picture = await asyncio.to_thread(qr_png, key.link)
    caption = screens.qr_caption(key, visit.say)
    await visit.shop.bot.send_photo(
        visit.user.id,
        BufferedInputFile(picture, "key.png"),
        caption=caption.text,
        reply_markup=keyboard(caption),
    )
    return await visit.answer_tap()


async def hide(_: CallbackQuery, visit: Visit) -> None:
    if visit.screen_id is not None:
        try:
            await visit.shop.bot.delete_message(visit.user.id, visit.screen_id)
        except TelegramBadRequest as error:
            await visit.refuse("hide", error.message)


async def ask_key(visit: Visit) -> Key | None:
    """None when there is none to show. Raises UnansweredError."""
    answer = await visit.shop.bus.ask(AskKey(person=visit.person.person), timeout_s=ASK_TIMEOUT_S)
    return None if isinstance(answer, Refused) else answer


def qr_png(link: str) -> bytes:
    """Pure Python and slow for an event loop: call it in a thread."""
    picture = BytesIO()
    segno.make(link, error="m", micro=False).save(picture, kind="png", scale=PIXELS_PER_MODULE)
    return picture.getvalue()
