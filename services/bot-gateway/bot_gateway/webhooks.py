"""Updates by webhook: check the secret, bound the body, store the row, then answer "received"."""

import asyncio
import hmac
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiogram import Bot
from faststream.asgi import AsgiResponse

from bot_gateway.domain.updates import read_json
from bot_gateway.metrics import WEBHOOK_FAILING, WEBHOOKS_REFUSED
from bot_gateway.receiving import take_in
from bot_gateway.telegram import redacted, retry_after_of, set_webhook
from bot_gateway.workers.bells import Bells
from shared.platform import iterations
from shared.platform.db import Database, database_is_to_blame
from shared.platform.failpoints import failpoint
from shared.platform.loops import forever, set_within
from shared.platform.requests import read_body

log = structlog.get_logger()

MAX_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
SECRET_HEADER = b"x-telegram-bot-api-secret-token"
PAUSE_AFTER_FAILURE_S = 2.0
CHECK_EVERY_S = 60.0


class TelegramWebhook:
    """The ASGI endpoint `/telegram`. Telegram repeats an update until it gets a 2xx."""

    def __init__(
        self, database: Database, bot: Bot, bells: Bells, *, url: str, secret: str
    ) -> None:
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
            return 401, "the secret is missing or wrong"
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await read_body(receive, MAX_BYTES)
        except TimeoutError:
            return 408, "the body did not come in time"
        if body is None:
            return 413, "the body is too large"
        try:
            update = read_json(body)
        except ValueError:
            return 400, "the body is not JSON"
        try:
            async with self.database.transaction() as tx:
                await take_in(self.bot.id, [update], self.bells, tx)
                failpoint("update_written", "webhook")
            failpoint("update_committed", "webhook")
        except Exception as error:
            if not database_is_to_blame(error):
                raise
            log.warning("update could not be stored", error=redacted(error))
            return 503, "the database is unavailable"
        return 200, "received"

    async def set_webhook(self, stopping: asyncio.Event) -> None:
        """Set the webhook, with retries until it succeeds, and check it until `stopping`."""
        turn = partial(self._set, stopping)
        await forever("bot_webhook", turn, stopping, failed=_failed)

    async def _set(self, stopping: asyncio.Event) -> None:
        await set_webhook(self.bot, self.url, self._secret)
        log.info("webhook set", url=self.url)
        while await self._is_ours():
            iterations.rests(CHECK_EVERY_S)
            if await set_within(stopping, CHECK_EVERY_S):
                return

    async def _is_ours(self) -> bool:
        """Whether Telegram posts to our URL. Its last error counts while updates wait for it."""
        known = await self.bot.get_webhook_info()
        if known.url != self.url:
            log.error("webhook was set elsewhere", host=urlsplit(known.url).hostname)
            return False
        failing = known.last_error_message if known.pending_update_count else None
        if failing:
            log.error("webhook fails", reason=failing, waiting=known.pending_update_count)
        WEBHOOK_FAILING.set(1 if failing else 0)
        return True


def _failed(error: Exception) -> float:
    """The pause in seconds. Telegram keeps the updates meanwhile."""
    log.warning("webhook not set", error=redacted(error))
    asked = retry_after_of(error)
    return asked.total_seconds() if asked else PAUSE_AFTER_FAILURE_S
