"""Beginning: /start, the language, the offer, the menu. It works while every other service is down."""

from aiogram import F, Router
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import CallbackQuery, ChatMemberUpdated, Message

from bot_gateway import screens
from bot_gateway.buttons import Accept, Go, Speak
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, Shop, Visit
from bot_gateway.people import OFFER_VERSION, Arrival, invitation_in, language_of, name_of, payload_of
from bot_gateway.store import people


def routes() -> Router:
    router = Router(name="start")
    router.message.register(start, CommandStart(), flags=ANYBODY | BEFORE_OFFER)
    router.message.register(show_terms, Command("terms"), flags=BEFORE_OFFER)
    router.message.register(show_privacy, Command("privacy"), flags=BEFORE_OFFER)
    router.callback_query.register(accept_offer, Accept.filter(), flags=BEFORE_OFFER)
    router.callback_query.register(choose_language, Speak.filter(), flags=BEFORE_OFFER)
    router.callback_query.register(show_terms, Go.filter(F.to == "terms"), flags=BEFORE_OFFER)
    router.callback_query.register(show_privacy, Go.filter(F.to == "privacy"), flags=BEFORE_OFFER)
    router.callback_query.register(show_languages, Go.filter(F.to == "language"))
    router.callback_query.register(show_menu, Go.filter(F.to == "menu"), flags=BEFORE_OFFER)
    router.my_chat_member.register(note_reach, F.chat.type == "private")
    return router


async def start(_: Message, command: CommandObject, visit: Visit) -> None:
    """The first of a life is told with the code it came with; every other one only shows the way in."""
    arrival = Arrival(
        telegram_id=visit.user.id,
        first_name=name_of(visit.user.first_name),
        username=visit.user.username,
        language=language_of(visit.user.language_code),
        payload=payload_of(command.args),
    )
    async with visit.shop.database.transaction() as tx:
        if visit.known is None:
            await people.start_person(arrival, invitation_in(arrival.payload), tx)
        else:
            await people.know_again(arrival, tx)
    await visit.look_again()
    await show_way_in(visit)


async def show_way_in(visit: Visit) -> None:
    await visit.show(screens.menu(visit.say) if visit.person.may_shop else screens.welcome(visit.say))


async def accept_offer(_: CallbackQuery, callback_data: Accept, visit: Visit) -> None:
    if callback_data.version != OFFER_VERSION:
        await visit.refuse("offer", "another_version")
        return await visit.show(screens.welcome(visit.say), toast=visit.say("toast-stale"))
    async with visit.shop.database.transaction() as tx:
        await people.accept_offer(visit.user.id, OFFER_VERSION, tx)
    return await visit.show(screens.menu(visit.say))


async def choose_language(_: CallbackQuery, callback_data: Speak, visit: Visit) -> None:
    async with visit.shop.database.transaction() as tx:
        await people.speak(visit.user.id, callback_data.language, visit.cause, tx)
    await visit.look_again()
    await show_way_in(visit)


async def show_languages(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.language(visit.say))


async def show_menu(_: CallbackQuery, visit: Visit) -> None:
    """Also the way back from the terms for somebody who has not accepted them: it leads to where he came from."""
    await show_way_in(visit)


async def show_terms(_: Message | CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.terms(visit.say, accepted=visit.person.may_shop))


async def show_privacy(_: Message | CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.privacy(visit.say))


async def note_reach(event: ChatMemberUpdated, shop: Shop, cause: str) -> None:
    """Blocked, or let in again (N-15)."""
    async with shop.database.transaction() as tx:
        await people.reach(event.from_user.id, cause, tx, reachable=event.new_chat_member.status != "kicked")
