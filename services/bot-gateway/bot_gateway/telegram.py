"""The window on Telegram's Bot API: every call has a time-out, a span without the token, and a place in the queue."""

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
    TelegramBadRequest,
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

from bot_gateway.updates import ALLOWED
from shared import telemetry

CALL_TIMEOUT_S = 5.0
POLL_TIMEOUT_S = 25
WEBHOOK_CONNECTIONS = 40
MOST_FRAMES = 10

# What puts something before a person's eyes and so counts against Telegram's limit of messages.
PACED = frozenset({"sendMessage", "sendPhoto", "editMessageText"})


class Paced(Protocol):
    """Whoever says when a message may go, and hears of those that Telegram would not have yet."""

    async def __call__(self) -> None: ...

    async def refused(self, chat: int, retry_after: timedelta) -> None: ...


class TooBusyError(Exception):
    """The queue of messages is so long that this one would be shown too late; try again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"more messages wait than go out in {retry_after_s} s")
        self.retry_after_s = retry_after_s


def open_bot(token: str, api_url: str, pace: Paced) -> Bot:
    """A bot whose messages wait for `pace`; the caller closes its session."""
    session = AiohttpSession(api=TelegramAPIServer.from_base(api_url), timeout=CALL_TIMEOUT_S)
    session.middleware(_Outgoing(pace, urlsplit(api_url).hostname or ""))
    defaults = DefaultBotProperties(parse_mode=ParseMode.HTML)
    return Bot(token, session=session, default=defaults)


class _Outgoing(BaseRequestMiddleware):
    """Around every call. The HTTP client's own instrumentation is kept out: its spans would hold the token (S-07)."""

    def __init__(self, pace: Paced, host: str) -> None:
        self._pace = pace
        self._host = host

    async def __call__(
        self, make_request: NextRequestMiddlewareType[TelegramType], bot: Bot, method: TelegramMethod[TelegramType]
    ) -> Response[TelegramType]:
        name = method.__api_method__
        if name in PACED:
            await self._pace()
        with suppress_http_instrumentation():
            if name == FetchUpdates.__api_method__:  # It waits for people; there is no story to tell yet.
                return await make_request(bot, method)
            try:
                return await self._measured(name, make_request(bot, method))
            except TelegramRetryAfter as error:
                if name in PACED:
                    await self._pace.refused(int(getattr(method, "chat_id", 0)), timedelta(seconds=error.retry_after))
                raise

    async def _measured(self, name: str, call: Awaitable[Response[TelegramType]]) -> Response[TelegramType]:
        attributes = {"http.request.method": "POST", "server.address": self._host}
        with telemetry.span(f"telegram {name}", kind=SpanKind.CLIENT, **attributes):
            began = time.perf_counter()
            try:
                return await call
            finally:
                telemetry.OUTSIDE_SECONDS.labels("telegram", name).observe(time.perf_counter() - began)


def telegram_is_away(error: BaseException) -> bool:
    """True for what passes by itself: the network, their 5xx, too many messages. The act may have happened."""
    return isinstance(
        error,
        TelegramNetworkError
        | TelegramServerError
        | RestartingTelegram
        | TelegramRetryAfter
        | ClientDecodeError  # A proxy on the way answers in HTML.
        | TooBusyError,
    )


def said(error: BaseException) -> str:
    """An error for logs and rows: without the token, which addresses hold, and without what a person typed (S-14)."""
    if isinstance(error, ValidationError):
        return f"ValidationError: {error.errors(include_url=False, include_input=False)[0]['loc']}"
    if isinstance(error, TelegramNetworkError | ClientDecodeError):
        return f"{type(error).__name__} by {type(error.__cause__).__name__}"
    if isinstance(error, asyncpg.PostgresError):  # Its text shows the row, or the value, that was refused.
        return f"{type(error).__name__} {error.sqlstate} {getattr(error, 'constraint_name', None) or ''}".rstrip()
    return f"{type(error).__name__}: {error}"[:1000]


def frames_of(error: BaseException) -> list[str]:
    """Where it came from, the innermost last: a traceback without the error's text."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]


def retry_after_of(error: BaseException) -> timedelta | None:
    """How long Telegram, or our own queue, asks us to wait."""
    if isinstance(error, TelegramRetryAfter):
        return timedelta(seconds=error.retry_after)
    return timedelta(seconds=error.retry_after_s) if isinstance(error, TooBusyError) else None


# Telegram tells these apart by words only (tdlib/telegram-bot-api, Client.cpp).


def is_not_modified(error: TelegramBadRequest) -> bool:
    """The message already shows this: success."""
    return "message is not modified" in error.message


def is_query_too_old(error: TelegramBadRequest) -> bool:
    """The tap or the pre-checkout was answered before, or Telegram stopped waiting for it."""
    return "query is too old" in error.message or "query ID is invalid" in error.message


class FetchUpdates(TelegramMethod[list[dict[str, Any]]]):
    """getUpdates as it came: an update of a kind that nobody here knows must not hold back the others."""

    __returning__ = list[dict[str, Any]]
    __api_method__ = "getUpdates"

    offset: int | None
    timeout: int
    allowed_updates: list[str]


async def fetch_updates(bot: Bot, offset: int | None) -> list[dict[str, Any]]:
    """Confirm what lies before `offset`, then wait for new ones, for at most 25 s."""
    method = FetchUpdates(offset=offset, timeout=POLL_TIMEOUT_S, allowed_updates=list(ALLOWED))
    return await bot(method, request_timeout=POLL_TIMEOUT_S + int(CALL_TIMEOUT_S))


async def stop_webhook(bot: Bot) -> None:
    """Polling needs that there is no webhook. Pending updates are kept: some of them are payments (R-14)."""
    await bot.delete_webhook(drop_pending_updates=False)


async def point_webhook(bot: Bot, url: str, secret: str) -> None:
    """Have updates posted to us; pending ones come too."""
    await bot.set_webhook(
        url,
        secret_token=secret,
        max_connections=WEBHOOK_CONNECTIONS,
        allowed_updates=list(ALLOWED),
        drop_pending_updates=False,
    )


async def list_commands(bot: Bot, commands: Iterable[tuple[str, str]], language: str | None) -> None:
    """Fill the menu of commands, for one language or for everybody else."""
    listed = [BotCommand(command=name, description=description) for name, description in commands]
    await bot.set_my_commands(listed, language_code=language)
