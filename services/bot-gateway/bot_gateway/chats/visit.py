"""One visit: somebody typed or tapped, and may be shown something. Admission is the same for everybody."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from aiogram import BaseMiddleware, Bot
from aiogram.dispatcher.flags import get_flag
from aiogram.exceptions import TelegramAPIError, TelegramBadRequest
from aiogram.types import CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message, TelegramObject, User

from bot_gateway import screens
from bot_gateway.metrics import REFUSALS
from bot_gateway.pace import is_flooding
from bot_gateway.people import Language, Person, language_of
from bot_gateway.screens import Screen
from bot_gateway.store import people
from bot_gateway.telegram import is_not_modified, is_query_too_old, said
from shared.bus import Bus, UnansweredError
from shared.contract import Answer, Question, Refused
from shared.db import Database
from shared.texts import Texts

log = structlog.get_logger()

ASK_TIMEOUT_S = 2.5

# Flags of handlers: who is let in without having started, and without having accepted the offer.
ANYBODY = {"anybody": True}
BEFORE_OFFER = {"before_offer": True}


@dataclass(frozen=True)
class Shop:
    """What a handler may use."""

    bot: Bot
    database: Database
    bus: Bus
    texts: Texts
    support_contact: str | None = None


@dataclass
class Visit:
    shop: Shop
    user: User
    cause: str
    """Names the update: the cause of what it changes."""
    received_at: datetime
    """When the update became a row, by the database's clock: the moment that this visit is about."""
    known: Person | None
    screen_id: int | None = None
    """The message that is edited in place; None shows the next screen in a message of its own."""
    tap_id: str | None = None
    tapped: str | None = None

    @property
    def person(self) -> Person:
        assert self.known is not None, "admission lets only people in who started"
        return self.known

    @property
    def language(self) -> Language:
        return self.known.language if self.known else language_of(self.user.language_code)

    def say(self, key: str, /, **arguments: Any) -> str:
        return self.shop.texts(self.language, key, **arguments)

    async def look_again(self) -> None:
        """Read the person anew, after a change."""
        self.known = await people.person_by_telegram(self.user.id, self.shop.database)

    async def ask(self, question: Question[Answer]) -> Answer:
        """An answer that can be shown. Raises UnansweredError, for which a screen of its own is shown."""
        answer = await self.shop.bus.ask(question, timeout_s=ASK_TIMEOUT_S)
        if isinstance(answer, Refused):
            raise UnansweredError(f"{question.topic} was refused: {answer.reason}")
        return answer

    async def show(self, screen: Screen, *, toast: str | None = None, order: UUID | None = None) -> None:
        """In place of the screen that was tapped; where that cannot be, below, and the old one goes: a chat has one.

        `order` is the one that the screen offers to pay.
        """
        await self.answer_tap(toast)
        if self.screen_id is not None:
            await self._keep(self.screen_id, order)  # Before it is shown: who sees it may pay at once.
            if await self.edit(self.screen_id, screen):
                return
        sent = await self.shop.bot.send_message(self.user.id, screen.text, reply_markup=keyboard(screen))
        before = self.known.screen_id if self.known else None
        await self._keep(sent.message_id, order)
        if before is not None:
            await self._take_away(before)

    async def _keep(self, screen_id: int, order: UUID | None) -> None:
        if self.known is None or (self.known.screen_id, self.known.screen_order) == (screen_id, order):
            return
        async with self.shop.database.transaction() as tx:
            await people.keep_screen(self.user.id, screen_id, order, tx)
        self.known = replace(self.known, screen_id=screen_id, screen_order=order)

    async def _take_away(self, message_id: int) -> None:
        """Telegram lets a bot delete what is younger than two days; an older screen stays where it is."""
        try:
            await self.shop.bot.delete_message(self.user.id, message_id)
        except TelegramAPIError as error:
            log.info("an old screen stays", error=said(error))

    async def edit(self, message_id: int, screen: Screen) -> bool:
        """Show it in this very message; False when the message cannot be edited any more."""
        try:
            await self.shop.bot.edit_message_text(
                screen.text, chat_id=self.user.id, message_id=message_id, reply_markup=keyboard(screen)
            )
        except TelegramBadRequest as error:
            if not is_not_modified(error):
                log.info("a screen could not be edited", reason=error.message)
                return False
        return True

    async def answer_tap(self, toast: str | None = None) -> None:
        """End the button's waiting, with a sentence over the chat if there is one; once, and late is fine too."""
        if self.tap_id is None:
            return
        tap_id, self.tap_id = self.tap_id, None
        try:
            await self.shop.bot.answer_callback_query(tap_id, text=toast)
        except TelegramBadRequest as error:
            if not is_query_too_old(error):
                raise

    async def refuse(self, what: str, reason: str) -> None:
        """Nothing was done, and a row says why."""
        REFUSALS.labels(what, reason).inc()
        log.info("refused in a chat", what=what, reason=reason)
        async with self.shop.database.transaction() as tx:
            await people.refuse(self.known.person if self.known else None, what, reason, tx)


def keyboard(screen: Screen) -> InlineKeyboardMarkup | None:
    rows = [
        [InlineKeyboardButton(text=button.text, callback_data=button.data, url=button.url) for button in row]
        for row in screen.rows
    ]
    return InlineKeyboardMarkup(inline_keyboard=rows) if rows else None


Handler = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


class Admission(BaseMiddleware):
    """Private chats only, no floods, known people, the offer accepted; and what nobody answers is said kindly."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, handler: Handler, event: TelegramObject, data: dict[str, Any]) -> None:
        visit = await self._visit(event, data["cause"], data["received_at"])
        if visit is None:
            return
        if await is_flooding(visit.user.id, self.shop.database):
            REFUSALS.labels("visit", "flood").inc()
            await visit.answer_tap(visit.say("toast-slowly"))
        elif visit.known is None and not get_flag(data, "anybody"):
            await visit.show(screens.hello(visit.say))
        elif visit.known is not None and not (visit.known.may_shop or get_flag(data, "before_offer")):
            await visit.show(screens.welcome(visit.say), toast=visit.say("toast-offer-first"))
        else:
            await self._serve(handler, event, data, visit)

    async def _visit(self, event: TelegramObject, cause: str, received_at: datetime) -> Visit | None:
        """None for what is said where others listen. Whoever speaks to us can be spoken to again (N-15)."""
        assert isinstance(event, CallbackQuery | Message)
        message = event.message if isinstance(event, CallbackQuery) else event
        if event.from_user is None or (message is not None and message.chat.type != "private"):
            return None
        known = await people.person_by_telegram(event.from_user.id, self.shop.database)
        if known is not None and not known.reachable:
            async with self.shop.database.transaction() as tx:
                await people.reach(known.telegram_id, cause, tx, reachable=True)
        visit = Visit(self.shop, event.from_user, cause, received_at, known)
        if isinstance(event, CallbackQuery):
            visit.tap_id, visit.tapped = event.id, event.data
            visit.screen_id = message.message_id if message else None
        return visit

    async def _serve(self, handler: Handler, event: TelegramObject, data: dict[str, Any], visit: Visit) -> None:
        try:
            await handler(event, {**data, "visit": visit})
            await visit.answer_tap()
        except UnansweredError as error:
            log.warning("nobody answers a visit", error=str(error))
            await visit.show(screens.trouble(visit.tapped, visit.say))
