"""Invite friends: the invitation link, and its results."""

from aiogram import F, Router
from aiogram.types import CallbackQuery

from bot_gateway.chats import screens
from bot_gateway.chats.buttons import Go
from bot_gateway.chats.visit import Visit
from shared.contracts.referrals import InvitationsQuery


def routes() -> Router:
    router = Router(name="friends")
    router.callback_query.register(show_friends, Go.filter(F.to == "friends"))
    return router


async def show_friends(_: CallbackQuery, visit: Visit) -> None:
    invited = await visit.query(InvitationsQuery(person=visit.person.person))
    me = await visit.shop.bot.me()
    link = f"https://t.me/{me.username}?start=r_{visit.person.code}"
    await visit.show(screens.friends(invited, link, visit.say))
