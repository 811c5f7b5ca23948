"""The client of Telegram's Bot API: every call has a time-out, a span, and a pace."""

import time
import traceback
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.session.middlewares.base import BaseRequestMiddleware, NextRequestMiddlewareType
from aiogram.client.telegram import TelegramAPIServer
from aiogram.enums import ParseMode
from aiogram.exceptions import (
    ClientDecodeError,
    RestartingTelegram,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import Response, TelegramMethod
from aiogram.methods.base import TelegramType
from aiogram.types import BotCommand
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from bot_gateway.domain.star_transactions import NANOSTARS, PAGE
from bot_gateway.domain.updates import ALLOWED, read_json
from shared.platform import telemetry

CALL_TIMEOUT_S = 5.0
POLL_TIMEOUT_S = 25
WEBHOOK_CONNECTIONS = 40
MAX_FRAMES = 10
# The longest wait that a 429 may ask for. After it, Telegram is asked again.
LONGEST_RETRY_AFTER = timedelta(minutes=15)

# Methods that show something to a person and so count against Telegram's limit of messages.
PACED = frozenset({"sendMessage", "sendPhoto", "editMessageText"})


# Descriptions of a 400 that mean the chat and not the message: nothing is shown in this chat,
# whatever the screen is. Every 403 means it too. Sources: `fail_query_with_error` and
# `check_chat_access` in Client.cpp of tdlib/telegram-bot-api, and reports of users. Compared in
# lower case, without "Bad Request: ", by their beginning. notifier has the same table.
UNREACHABLE = (
    "chat not found",
    "private chat not found",
    "user not found",
    "peer_id_invalid",
    "chat_id_invalid",
    "user_id_invalid",
    "input_user_deactivated",
    "user is deactivated",
    "user_is_blocked",
    "bot was blocked by the user",
    "group chat was upgraded to a supergroup chat",
    "group chat was deactivated",
    "have no rights to send a message",
    "have no write access to the chat",
    "not enough rights to send",
    "need administrator rights in the",
    "chat_write_forbidden",
    "chat_send_plain_forbidden",
    "chat_restricted",
    "chat_forbidden",
    "channel_private",
    "channel_invalid",
    "you_blocked_user",
    "privacy_premium_required",
)


class Paced(Protocol):
    """Paces messages: waits until one may go, and receives Telegram's refusals."""

    async def __call__(self) -> None: ...

    async def give_back(self) -> None: ...

    async def refused(self, chat: int, retry_after: timedelta) -> None: ...


class TooBusyError(Exception):
    """Too many messages wait: this one would be shown too late. Retry after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"more messages wait than go out in {retry_after_s} s")
        self.retry_after_s = retry_after_s


def open_bot(token: str, api_url: str, pace: Paced) -> Bot:
    """A bot whose messages wait for `pace`. The caller closes its session."""
    session = AiohttpSession(
        api=TelegramAPIServer.from_base(api_url), timeout=CALL_TIMEOUT_S, json_loads=read_json
    )
    session.middleware(_Outgoing(pace, urlsplit(api_url).hostname or ""))
    defaults = DefaultBotProperties(parse_mode=ParseMode.HTML)
    return Bot(token, session=session, default=defaults)


class _Outgoing(BaseRequestMiddleware):
    """Wraps every call: pace, span, metric.

    The HTTP client's own instrumentation is suppressed: its spans would hold the token (S-07).
    """

    def __init__(self, pace: Paced, host: str) -> None:
        self._pace = pace
        self._host = host

    async def __call__(
        self,
        make_request: NextRequestMiddlewareType[TelegramType],
        bot: Bot,
        method: TelegramMethod[TelegramType],
    ) -> Response[TelegramType]:
        name = method.__api_method__
        if name in PACED:
            await self._pace()
        with suppress_http_instrumentation():
            if name == FetchUpdates.__api_method__:  # It waits for people: no span, no latency.
                return await make_request(bot, method)
            try:
                return await self._measured(name, make_request(bot, method))
            except TelegramAPIError as error:
                if name in PACED:
                    await self._refused(int(getattr(method, "chat_id", 0)), error)
                raise

    async def _refused(self, chat: int, error: TelegramAPIError) -> None:
        if isinstance(error, TelegramRetryAfter):
            await self._pace.refused(chat, bounded(error.retry_after))
        elif is_unreachable(error):
            await self._pace.give_back()

    async def _measured(
        self, name: str, call: Awaitable[Response[TelegramType]]
    ) -> Response[TelegramType]:
        attributes = {"http.request.method": "POST", "server.address": self._host}
        with telemetry.span(f"telegram {name}", kind=SpanKind.CLIENT, **attributes):
            began = time.perf_counter()
            try:
                return await call
            finally:
                telemetry.OUTSIDE_SECONDS.labels("telegram", name).observe(
                    time.perf_counter() - began
                )


def telegram_is_unavailable(error: BaseException) -> bool:
    """True for errors that pass by themselves: the network, a 5xx of Telegram, too many messages.

    The call may have taken effect all the same.
    """
    return isinstance(
        error,
        TelegramNetworkError
        | TelegramServerError
        | RestartingTelegram
        | TelegramRetryAfter
        | ClientDecodeError  # A proxy in between answered in HTML.
        | TooBusyError,
    )


def redacted(error: BaseException) -> str:
    """The text of an error for logs and rows.

    It holds no token (URLs hold it) and nothing that a person typed (S-14).
    """
    if isinstance(error, ValidationError):
        return f"ValidationError: {error.errors(include_url=False, include_input=False)[0]['loc']}"
    if isinstance(error, TelegramNetworkError | ClientDecodeError):
        return f"{type(error).__name__} by {type(error.__cause__).__name__}"
    if isinstance(error, asyncpg.PostgresError):  # Its own text shows the refused row or value.
        constraint = getattr(error, "constraint_name", None) or ""
        return f"{type(error).__name__} {error.sqlstate} {constraint}".rstrip()
    return f"{type(error).__name__}: {error}"[:1000]


def frames_of(error: BaseException) -> list[str]:
    """The traceback without the error's text, the innermost frame last."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]


def retry_after_of(error: BaseException) -> timedelta | None:
    """The wait that Telegram, or our own queue of messages, asks for."""
    if isinstance(error, TelegramRetryAfter):
        return bounded(error.retry_after)
    return timedelta(seconds=error.retry_after_s) if isinstance(error, TooBusyError) else None


def bounded(retry_after_s: float) -> timedelta:
    return min(timedelta(seconds=retry_after_s), LONGEST_RETRY_AFTER)


def is_unreachable(error: BaseException) -> bool:
    """Whether this refusal holds for every message to the chat, until the person comes back."""
    if isinstance(error, TelegramForbiddenError | TelegramMigrateToChat):
        return True
    meant = str(getattr(error, "message", "")).lower().removeprefix("bad request: ")
    return isinstance(error, TelegramBadRequest) and meant.startswith(UNREACHABLE)


# These errors differ only in their text (tdlib/telegram-bot-api, Client.cpp).


def is_not_modified(error: TelegramBadRequest) -> bool:
    """The message shows this already, which is a success."""
    return "message is not modified" in error.message


def is_query_too_old(error: TelegramBadRequest) -> bool:
    """The tap or the pre-checkout was answered before, or Telegram no longer waits for it."""
    return "query is too old" in error.message or "query ID is invalid" in error.message


def is_refunded_already(error: TelegramAPIError) -> bool:
    """The Stars of this charge are back, which is a success."""
    return isinstance(error, TelegramBadRequest) and "CHARGE_ALREADY_REFUNDED" in error.message


class FetchUpdates(TelegramMethod[list[dict[str, Any]]]):
    """getUpdates without parsing: an update of an unknown kind must not block the others."""

    __returning__ = list[dict[str, Any]]
    __api_method__ = "getUpdates"

    offset: int | None
    timeout: int
    allowed_updates: list[str]


async def fetch_updates(bot: Bot, offset: int | None) -> list[dict[str, Any]]:
    """Confirm the updates before `offset`, then wait for new ones, at most 25 s."""
    method = FetchUpdates(offset=offset, timeout=POLL_TIMEOUT_S, allowed_updates=list(ALLOWED))
    return await bot(method, request_timeout=POLL_TIMEOUT_S + int(CALL_TIMEOUT_S))


class ListStarTransactions(TelegramMethod[dict[str, Any]]):
    """getStarTransactions without parsing: one of an unknown kind must not hide its page."""

    __returning__ = dict[str, Any]
    __api_method__ = "getStarTransactions"

    offset: int
    limit: int


class StarListing:
    """Telegram's listing of the bot's Stars, and the balance that it should add up to."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def page(self, offset: int) -> list[object]:
        """At most 100 transactions from this place on, the oldest first."""
        answer = await self._bot(ListStarTransactions(offset=offset, limit=PAGE))
        page = answer.get("transactions")
        if not isinstance(page, list):
            raise ValueError("a listing of Stars has transactions")
        return page

    async def balance_nanostars(self) -> int:
        amount = await self._bot.get_my_star_balance()
        return amount.amount * NANOSTARS + (amount.nanostar_amount or 0)


class RefundStarPayment(TelegramMethod[bool]):
    """aiogram's own builds a model of the whole Bot API at its first use."""

    __returning__ = bool
    __api_method__ = "refundStarPayment"

    user_id: int
    telegram_payment_charge_id: str


class StarReturns:
    """Returns Stars to their payers."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def return_stars(self, telegram_id: int, charge: str) -> None:
        method = RefundStarPayment(user_id=telegram_id, telegram_payment_charge_id=charge)
        await self._bot(method)


async def stop_webhook(bot: Bot) -> None:
    """Delete the webhook, which would prevent polling.

    Pending updates are kept: some of them are payments (R-14).
    """
    await bot.delete_webhook(drop_pending_updates=False)


async def set_webhook(bot: Bot, url: str, secret: str) -> None:
    """Have updates posted to `url`, pending ones too."""
    await bot.set_webhook(
        url,
        secret_token=secret,
        max_connections=WEBHOOK_CONNECTIONS,
        allowed_updates=list(ALLOWED),
        drop_pending_updates=False,
    )


async def list_commands(
    bot: Bot, commands: Iterable[tuple[str, str]], language: str | None
) -> None:
    """Set the menu of commands for one language. None sets the default menu."""
    listed = [BotCommand(command=name, description=description) for name, description in commands]
    await bot.set_my_commands(listed, language_code=language)
