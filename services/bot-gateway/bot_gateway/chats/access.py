"""My access: plan, end and key. The key is queried when it is shown, and stored nowhere here."""

import asyncio
from io import BytesIO

import segno
from aiogram import F, Router
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import BufferedInputFile, CallbackQuery

from bot_gateway.chats import screens
from bot_gateway.chats.buttons import Go, Hide
from bot_gateway.chats.visit import QUERY_TIMEOUT_S, Visit, keyboard
from shared.contracts.message import Refused
from shared.contracts.vpn import AccessQuery, Key, KeyQuery

PIXELS_PER_MODULE = 6


def routes() -> Router:
    router = Router(name="access")
    router.callback_query.register(show_access, Go.filter(F.to.in_({"my_access", "access"})))
    router.callback_query.register(show_key, Go.filter(F.to == "key"))
    router.callback_query.register(send_qr, Go.filter(F.to == "qr"))
    router.callback_query.register(show_connect, Go.filter(F.to == "connect"))
    router.callback_query.register(hide, Hide.filter())
    return router


async def show_access(_: CallbackQuery, visit: Visit, *, toast: str | None = None) -> None:
    held = await visit.query(AccessQuery(person=visit.person.person))
    await visit.show(screens.access(held, visit.received_at, visit.say), toast=toast)


async def show_key(tap: CallbackQuery, visit: Visit) -> None:
    key = await query_key(visit)
    if key is None:
        return await show_access(tap, visit, toast=visit.say("toast-no-key"))
    return await visit.show(screens.key(key, visit.say))


async def show_connect(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.connect(visit.say))


async def send_qr(tap: CallbackQuery, visit: Visit) -> None:
    """A picture is a message of its own, with a button that deletes it.

    The screen would stay above it, and so would every later one: the key is shown below instead.
    """
    key = await query_key(visit)
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
    visit.screen_id = None
    return await visit.show(screens.key(key, visit.say))


async def hide(_: CallbackQuery, visit: Visit) -> None:
    if visit.screen_id is not None:
        try:
            await visit.shop.bot.delete_message(visit.user.id, visit.screen_id)
        except TelegramBadRequest as error:
            await visit.refuse("hide", error.message)


async def query_key(visit: Visit) -> Key | None:
    """None when there is no key to show. Raises UnansweredError."""
    query = KeyQuery(person=visit.person.person)
    answer = await visit.shop.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
    return None if isinstance(answer, Refused) else answer


def qr_png(link: str) -> bytes:
    """Pure Python, and too slow for the event loop: call it in a thread."""
    picture = BytesIO()
    segno.make(link, error="m", micro=False).save(picture, kind="png", scale=PIXELS_PER_MODULE)
    return picture.getvalue()
