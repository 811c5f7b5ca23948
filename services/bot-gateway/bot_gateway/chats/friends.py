"""Invite friends: the link, and what came of it."""

from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway import screens
from bot_gateway.buttons import Go
from bot_gateway.chats.visit import Visit
from shared.questions import AskInvitations


def routes() -> Router:
    router = Router(name="friends")
    router.callback_query.register(show_friends, Go.filter(F.to == "friends"))
    return router


async def show_friends(_: CallbackQuery, visit: Visit) -> None:
    standing = await visit.ask(AskInvitations(person=visit.person.person))
    me = await visit.shop.bot.me()
    link = f"https://t.me/{me.username}?start=r_{visit.person.code}"
    await visit.show(screens.friends(standing, link, visit.say))
