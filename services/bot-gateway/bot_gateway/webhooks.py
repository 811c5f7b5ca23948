"""Telegram's posts: the secret first, then a bounded body, then the row, and only then "received"."""

import asyncio
import hmac
import json
from typing import Any

import structlog
from aiogram import Bot
from faststream.asgi import AsgiResponse

from bot_gateway.lanes import Bells
from bot_gateway.metrics import WEBHOOKS_REFUSED
from bot_gateway.receiving import take_in
from bot_gateway.telegram import point_webhook, retry_after_of, said
from shared import crash
from shared.db import Database, database_is_to_blame
from shared.waiting import happens

log = structlog.get_logger()

MOST_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
SECRET_HEADER = b"x-telegram-bot-api-secret-token"
PAUSE_AFTER_FAILURE_S = 2.0


class TelegramWebhook:
    """The ASGI door at `/telegram`. Any 2xx ends an update for Telegram, anything else makes it ask again."""

    def __init__(self, database: Database, bot: Bot, bells: Bells, *, url: str, secret: str) -> None:
        self.database = database
        self.bot = bot
        self.bells = bells
        self.url = url
        self._secret = secret

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, sentence = await self._received(scope, receive)
        if status != 200:
            WEBHOOKS_REFUSED.labels(str(status)).inc()
        await AsgiResponse(f"{sentence}\n".encode(), status)(scope, receive, send)

    async def _received(self, scope: Any, receive: Any) -> tuple[int, str]:
        if scope["method"] != "POST":
            return 405, "only POST"
        shown = dict(scope["headers"]).get(SECRET_HEADER, b"")
        if not hmac.compare_digest(shown, self._secret.encode()):
            return 401, "the secret is missing or another one"
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _body(receive)
        except TimeoutError:
            return 408, "the body did not come in time"
        if body is None:
            return 413, "the body is too large"
        try:
            update = json.loads(body)
        except ValueError:
            return 400, "the body is not JSON"
        try:
            async with self.database.transaction() as tx:
                await take_in(self.bot.id, [update], self.bells, tx)
                crash.passing("update_written", "webhook")
            crash.passing("update_committed", "webhook")
        except Exception as error:
            if not database_is_to_blame(error):
                raise
            log.warning("an update could not be kept", error=said(error))
            return 503, "the database is away"
        return 200, "received"

    async def point(self, stopping: asyncio.Event) -> None:
        """Tell Telegram where we are, as often as it takes; then there is nothing more to do."""
        while not stopping.is_set():
            try:
                await point_webhook(self.bot, self.url, self._secret)
                log.info("webhook set", url=self.url)
                await stopping.wait()
            except Exception as error:  # The loop lives on: Telegram comes back, and keeps the updates meanwhile.
                log.warning("webhook not set", error=said(error))
                asked = retry_after_of(error)
                await happens(stopping, asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S)


async def _body(receive: Any) -> bytes | None:
    """The whole body, None when it is larger than a mebibyte."""
    chunks, size, more = [], 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            break
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > MOST_BYTES:
            return None
        more = event.get("more_body", False)
    return b"".join(chunks)
