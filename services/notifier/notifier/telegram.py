"""The window on the Bot API: say something in a chat, or in place of what was said, and name what came of it.

Two methods and their answers, spoken over aiohttp: the memory and start-up of a library for the whole Bot API are for
bot-gateway, which has use for the rest of it.
"""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind

from notifier.deliveries import Answer, Away, Blocked, Rejected, Said, SlowDown, Unclear
from notifier.wording import Words
from shared import telemetry

CALL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 100
REASON_CHARACTERS = 200
NOT_MODIFIED = "message is not modified"

Json = dict[str, Any]


class Telegram:
    """The bot's voice. Every call ends within `CALL_TIMEOUT_S`, and its answer is a value, never an exception."""

    def __init__(self, token: str, api_url: str) -> None:
        self._base = f"{api_url.rstrip('/')}/bot{token}"
        self._host = urlsplit(api_url).hostname or ""
        self._session: ClientSession | None = None

    async def open(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=CONNECTIONS),
            timeout=ClientTimeout(total=CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            cookie_jar=DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def say(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        """Edit the message `instead_of`, which may be repeated; send one where there is none or it cannot be edited."""
        if instead_of is None:
            return await self._call("sendMessage", parameters(chat_id, words))
        answer = await self._call("editMessageText", parameters(chat_id, words) | {"message_id": instead_of})
        if not isinstance(answer, Rejected):
            return answer
        if NOT_MODIFIED in answer.reason:
            return Said(instead_of)
        sent = await self._call("sendMessage", parameters(chat_id, words))
        return replace(sent, note=answer.reason) if isinstance(sent, Said) else sent

    async def _call(self, method: str, body: Json) -> Answer:
        """The instrumentation of the HTTP client is kept out: it would write the token into its spans."""
        attributes = {"http.request.method": "POST", "server.address": self._host}
        with (
            telemetry.span(f"telegram {method}", kind=SpanKind.CLIENT, **attributes) as span,
            suppress_http_instrumentation(),
            telemetry.OUTSIDE_SECONDS.labels("telegram", method).time(),
        ):
            answer = await self._post(method, body)
            span.set_attribute("answer", type(answer).__name__)
            return answer

    async def _post(self, method: str, body: Json) -> Answer:
        """Errors are named by their type alone: their texts may hold the token."""
        assert self._session is not None, "the window is used before it is open"
        try:
            async with self._session.post(f"{self._base}/{method}", json=body) as response:
                return answer_of(response.status, await response.json(content_type=None))
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            return Away(type(error).__name__)
        except (ClientError, TimeoutError, ValueError) as error:
            return Unclear(type(error).__name__)


def parameters(chat_id: int, words: Words) -> Json:
    """Of `sendMessage`, and with a `message_id` of `editMessageText` (core.telegram.org/bots/api)."""
    body: Json = {"chat_id": chat_id, "text": words.text, "parse_mode": "HTML"}
    if words.button is not None:
        button = {"text": words.button.text, "callback_data": words.button.callback_data}
        body["reply_markup"] = {"inline_keyboard": [[button]]}
    return body


def answer_of(status: int, body: object) -> Answer:
    """What the Bot API said. 5xx, and 401 or 404 for a wrong token, are not the message's fault: it waits."""
    match body:
        case {"ok": True, "result": {"message_id": int(message_id)}}:
            return Said(message_id)
        case {"ok": False, "parameters": {"retry_after": int(retry_after_s)}}:
            return SlowDown(float(retry_after_s))
        case {"ok": False, "error_code": 403, "description": str(description)}:
            return Blocked(description[:REASON_CHARACTERS])
        case {"ok": False, "error_code": 400 | 413, "description": str(description)}:
            return Rejected(description[:REASON_CHARACTERS])
        case {"ok": False, "description": str(description)}:
            return Away(description[:REASON_CHARACTERS])
        case _:
            return Unclear(f"HTTP {status} without an answer of the Bot API")
