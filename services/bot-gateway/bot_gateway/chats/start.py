"""/start, the language, the offer and the menu. They work while every other service is down."""

from aiogram import F, Router
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import CallbackQuery, ChatMemberUpdated, Message

from bot_gateway.chats import screens
from bot_gateway.chats.buttons import Accept, Go, PickLanguage
from bot_gateway.chats.visit import ANYBODY, BEFORE_OFFER, Shop, Visit
from bot_gateway.domain.people import (
    OFFER_VERSION,
    Arrival,
    invitation_in,
    language_of,
    name_of,
    payload_of,
)
from bot_gateway.store import people


def routes() -> Router:
    router = Router(name="start")
    router.message.register(start, CommandStart(), flags=ANYBODY | BEFORE_OFFER)
    router.message.register(show_terms, Command("terms"), flags=BEFORE_OFFER)
    router.message.register(show_privacy, Command("privacy"), flags=BEFORE_OFFER)
    router.callback_query.register(accept_offer, Accept.filter(), flags=BEFORE_OFFER)
    router.callback_query.register(choose_language, PickLanguage.filter(), flags=BEFORE_OFFER)
    router.callback_query.register(show_terms, Go.filter(F.to == "terms"), flags=BEFORE_OFFER)
    router.callback_query.register(show_privacy, Go.filter(F.to == "privacy"), flags=BEFORE_OFFER)
    router.callback_query.register(show_languages, Go.filter(F.to == "language"))
    router.callback_query.register(show_menu, Go.filter(F.to == "menu"), flags=BEFORE_OFFER)
    router.my_chat_member.register(record_reachability, F.chat.type == "private")
    return router


async def start(_: Message, command: CommandObject, visit: Visit) -> None:
    """The first /start is published with its code. Later ones only show the first screen."""
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
            await people.set_names(arrival, tx)
    await visit.reload()
    await show_first_screen(visit)


async def show_first_screen(visit: Visit) -> None:
    await visit.show(
        screens.menu(visit.say) if visit.person.may_shop else screens.welcome(visit.say)
    )


async def accept_offer(_: CallbackQuery, callback_data: Accept, visit: Visit) -> None:
    if callback_data.version != OFFER_VERSION:
        await visit.refuse("offer", "another_version")
        return await visit.show(screens.welcome(visit.say), toast=visit.say("toast-stale"))
    async with visit.shop.database.transaction() as tx:
        await people.accept_offer(visit.user.id, OFFER_VERSION, tx)
    return await visit.show(screens.menu(visit.say))


async def choose_language(_: CallbackQuery, callback_data: PickLanguage, visit: Visit) -> None:
    async with visit.shop.database.transaction() as tx:
        await people.set_language(visit.user.id, callback_data.language, visit.cause, tx)
    await visit.reload()
    await show_first_screen(visit)


async def show_languages(_: CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.language(visit.say))


async def show_menu(_: CallbackQuery, visit: Visit) -> None:
    """Also the button back from the terms: without an accepted offer it leads to the welcome."""
    await show_first_screen(visit)


async def show_terms(_: Message | CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.terms(visit.say, accepted=visit.person.may_shop))


async def show_privacy(_: Message | CallbackQuery, visit: Visit) -> None:
    await visit.show(screens.privacy(visit.say))


async def record_reachability(event: ChatMemberUpdated, shop: Shop, cause: str) -> None:
    """The person blocked or unblocked the bot (N-15)."""
    reachable = event.new_chat_member.status != "kicked"
    async with shop.database.transaction() as tx:
        await people.set_reachable(event.from_user.id, cause, tx, reachable=reachable)
