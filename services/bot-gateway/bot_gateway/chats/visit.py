"""A visit: one message or tap of a person, and the answers to it. Admission comes first."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from aiogram import BaseMiddleware, Bot
from aiogram.dispatcher.flags import get_flag
from aiogram.exceptions import TelegramAPIError, TelegramBadRequest
from aiogram.types import (
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    TelegramObject,
    User,
)
from pydantic import SecretStr

from bot_gateway.chats import screens
from bot_gateway.chats.buttons import leaves_its_message
from bot_gateway.chats.screens import Screen
from bot_gateway.domain.people import Awaited, Language, Person, Shown, language_of
from bot_gateway.metrics import REFUSALS
from bot_gateway.pace import answers_flood, is_flooding
from bot_gateway.store import people
from bot_gateway.telegram import is_not_modified, is_query_too_old, is_unreachable, redacted
from shared.contracts.message import Answer, Query, Refused
from shared.messaging.rpc import Bus, UnansweredError
from shared.platform.db import Database
from shared.platform.texts import Texts

log = structlog.get_logger()

QUERY_TIMEOUT_S = 2.5

# Flags of handlers that also serve people who never started, or have not accepted the offer.
ANYBODY = {"anybody": True}
BEFORE_OFFER = {"before_offer": True}


@dataclass(frozen=True)
class Shop:
    """The resources of the handlers."""

    bot: Bot
    database: Database
    bus: Bus
    texts: Texts
    support_contact: str | None = None
    provider_token: SecretStr | None = None
    """With it Telegram charges cards."""

    @property
    def takes_cards(self) -> bool:
        return self.provider_token is not None


@dataclass
class Visit:
    shop: Shop
    user: User
    cause: str
    """Names the update: it is the cause of the changes."""
    received_at: datetime
    """The time when the update was stored, by the clock of the database: the time of this visit."""
    known: Person | None
    screen_id: int | None = None
    """The message that is edited in place. None shows the next screen in a new message."""
    tap_id: str | None = None
    tapped: str | None = None

    @property
    def person(self) -> Person:
        assert self.known is not None, "admission requires a start"
        return self.known

    @property
    def language(self) -> Language:
        return self.known.language if self.known else language_of(self.user.language_code)

    def say(self, key: str, /, **arguments: Any) -> str:
        return self.shop.texts(self.language, key, **arguments)

    async def reload(self) -> None:
        """Read the person again, after a change."""
        self.known = await people.person_by_telegram(self.user.id, self.shop.database)

    async def query(self, query: Query[Answer]) -> Answer:
        """The answer to show. Raises UnansweredError, for which there is a screen."""
        answer = await self.shop.bus.query(query, timeout_s=QUERY_TIMEOUT_S)
        if isinstance(answer, Refused):
            raise UnansweredError(f"{query.topic} was refused: {answer.reason}")
        return answer

    async def show(
        self,
        screen: Screen,
        *,
        toast: str | None = None,
        order: UUID | None = None,
        awaits: Awaited | None = None,
    ) -> None:
        """Show a screen in place of the one that was tapped, or else in a new message.

        A new message replaces the old screen: a chat has one screen. `order` is the order that the
        screen offers to pay, and `awaits` the answer that the person types.
        """
        await self.answer_tap(toast)
        if self.screen_id is not None:
            # Stored before it is shown: it may be paid at once.
            await self._store_screen(Shown(self.screen_id, order, awaits))
            if await self.edit(self.screen_id, screen):
                return
        sent = await self.shop.bot.send_message(
            self.user.id, screen.text, reply_markup=keyboard(screen)
        )
        before = self.known.screen_id if self.known else None
        await self._store_screen(Shown(sent.message_id, order, awaits))
        if before is not None:
            await self._delete(before)

    def leave_message(self) -> None:
        """Show the next screen below the tapped message: in the chat's screen, if it is there."""
        below = self.known.screen_id if self.known else None
        if below is None or self.screen_id is None or below < self.screen_id:
            below = None
        self.screen_id = below

    async def _store_screen(self, shown: Shown) -> None:
        if self.known is None or self.known.shown == shown:
            return
        async with self.shop.database.transaction() as tx:
            await people.set_screen(self.user.id, shown, tx)
        self.known = replace(
            self.known,
            screen_id=shown.screen_id,
            screen_order=shown.order,
            screen_awaits=shown.awaits,
        )

    async def _delete(self, message_id: int) -> None:
        """Telegram lets a bot delete messages younger than two days; an older screen stays."""
        try:
            await self.shop.bot.delete_message(self.user.id, message_id)
        except TelegramAPIError as error:
            log.info("old screen could not be deleted", error=redacted(error))

    async def edit(self, message_id: int, screen: Screen) -> bool:
        """Show the screen in this message. False when the message can no longer be edited."""
        try:
            await self.shop.bot.edit_message_text(
                screen.text,
                chat_id=self.user.id,
                message_id=message_id,
                reply_markup=keyboard(screen),
            )
        except TelegramBadRequest as error:
            if is_unreachable(error):
                raise
            if not is_not_modified(error):
                log.info("screen could not be edited", reason=error.message)
                return False
        return True

    async def answer_tap(self, toast: str | None = None) -> None:
        """End the waiting of the button, once, with an optional toast. Late is no error."""
        if self.tap_id is None:
            return
        tap_id, self.tap_id = self.tap_id, None
        try:
            await self.shop.bot.answer_callback_query(tap_id, text=toast)
        except TelegramBadRequest as error:
            if not is_query_too_old(error):
                raise

    async def refuse(self, what: str, reason: str) -> None:
        """Record that a request was refused, and why."""
        REFUSALS.labels(what, reason).inc()
        log.info("request refused", what=what, reason=reason)
        async with self.shop.database.transaction() as tx:
            person = self.known.person if self.known else None
            await people.record_refusal(person, what, reason, tx)


def keyboard(screen: Screen) -> InlineKeyboardMarkup | None:
    rows = [
        [
            InlineKeyboardButton(text=button.text, callback_data=button.data, url=button.url)
            for button in row
        ]
        for row in screen.rows
    ]
    return InlineKeyboardMarkup(inline_keyboard=rows) if rows else None


Handler = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


class Admission(BaseMiddleware):
    """Admits private chats, without floods, of people who started and accepted the offer.

    A query that stays unanswered shows a screen of its own.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, handler: Handler, event: TelegramObject, data: dict[str, Any]) -> None:
        visit = await self._visit(event, data["cause"], data["received_at"])
        if visit is None:
            return
        if await is_flooding(visit.user.id, self.shop.database):
            await self._refuse_flood(visit)
        elif visit.known is None and not get_flag(data, "anybody"):
            await visit.show(screens.hello(visit.say))
        elif visit.known is not None and not (
            visit.known.may_shop or get_flag(data, "before_offer")
        ):
            await visit.show(screens.welcome(visit.say), toast=visit.say("toast-offer-first"))
        else:
            await self._serve(handler, event, data, visit)

    async def _refuse_flood(self, visit: Visit) -> None:
        """A tap gets a toast. Of messages, one in half a minute gets an answer."""
        REFUSALS.labels("visit", "flood").inc()
        if visit.tap_id is not None:
            await visit.answer_tap(visit.say("toast-slowly"))
        elif await answers_flood(visit.user.id, self.shop.database):
            await visit.show(screens.slowly(visit.say))

    async def _visit(
        self, event: TelegramObject, cause: str, received_at: datetime
    ) -> Visit | None:
        """None outside private chats. A person who writes to the bot is reachable again (N-15)."""
        assert isinstance(event, CallbackQuery | Message)
        message = event.message if isinstance(event, CallbackQuery) else event
        if event.from_user is None or (message is not None and message.chat.type != "private"):
            return None
        known = await people.person_by_telegram(event.from_user.id, self.shop.database)
        if known is not None and not known.reachable:
            async with self.shop.database.transaction() as tx:
                await people.set_reachable(known.telegram_id, cause, tx, reachable=True)
        visit = Visit(self.shop, event.from_user, cause, received_at, known)
        if isinstance(event, CallbackQuery):
            visit.tap_id, visit.tapped = event.id, event.data
            visit.screen_id = message.message_id if message else None
            if leaves_its_message(event.data or ""):
                visit.leave_message()
        return visit

    async def _serve(
        self, handler: Handler, event: TelegramObject, data: dict[str, Any], visit: Visit
    ) -> None:
        try:
            await handler(event, {**data, "visit": visit})
            await visit.answer_tap()
        except UnansweredError as error:
            log.warning("query of a visit unanswered", error=str(error))
            await visit.show(screens.trouble(visit.tapped, visit.say))
