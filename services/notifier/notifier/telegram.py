"""The client of the Bot API: it sends a message or edits one, and names the answer.

It has two methods over aiohttp. A library for the whole Bot API costs memory and start-up time;
only bot-gateway needs the rest of it.
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

from notifier.domain.deliveries import (
    Answer,
    Rejected,
    Sent,
    SlowDown,
    Unavailable,
    Unclear,
    Unreachable,
)
from notifier.domain.wording import Words
from shared.platform import telemetry

CALL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 100
REASON_CHARACTERS = 200
NOT_MODIFIED = "message is not modified"

# Descriptions of a 400 that mean the chat and not the message: nothing is delivered to this chat,
# whatever the message says. Every 403 means it too. Sources: `fail_query_with_error` and
# `check_chat_access` in Client.cpp of tdlib/telegram-bot-api, and reports of users. Compared in
# lower case, without "Bad Request: ", by their beginning. bot-gateway has the same table.
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

Json = dict[str, Any]


class Telegram:
    """Sends as the bot. A call ends within `CALL_TIMEOUT_S`; its answer is never an exception."""

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

    async def send(self, chat_id: int, words: Words, *, instead_of: int | None = None) -> Answer:
        """Edit the message `instead_of`; send a new one if there is none or the edit is rejected.

        An edit may be repeated.
        """
        if instead_of is None:
            return await self._call("sendMessage", parameters(chat_id, words))
        answer = await self._call(
            "editMessageText", parameters(chat_id, words) | {"message_id": instead_of}
        )
        if not isinstance(answer, Rejected):
            return answer
        if NOT_MODIFIED in answer.reason:
            return Sent(instead_of)
        sent = await self._call("sendMessage", parameters(chat_id, words))
        return replace(sent, note=answer.reason) if isinstance(sent, Sent) else sent

    async def _call(self, method: str, body: Json) -> Answer:
        """In a span of our own: the instrumentation of the HTTP client would record the token."""
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
        """An error is named by its type only: its text may contain the token."""
        assert self._session is not None, "the client is used before it is open"
        try:
            async with self._session.post(f"{self._base}/{method}", json=body) as response:
                return answer_of(response.status, await response.json(content_type=None))
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            return Unavailable(type(error).__name__)
        except (ClientError, TimeoutError, ValueError) as error:
            return Unclear(type(error).__name__)


def parameters(chat_id: int, words: Words) -> Json:
    """The parameters of `sendMessage`; with a `message_id`, those of `editMessageText`.

    Source: core.telegram.org/bots/api.
    """
    body: Json = {"chat_id": chat_id, "text": words.text, "parse_mode": "HTML"}
    if words.rows:
        body["reply_markup"] = {
            "inline_keyboard": [
                [{"text": button.text, "callback_data": button.callback_data} for button in row]
                for row in words.rows
            ]
        }
    return body


def answer_of(status: int, body: object) -> Answer:
    """The answer of the Bot API. A wrong token (401, 404) is not the message's fault."""
    match body:
        case {"ok": True, "result": {"message_id": int(message_id)}}:
            return Sent(message_id)
        case {"ok": False, "parameters": {"retry_after": int(retry_after_s)}}:
            return SlowDown(float(retry_after_s))
        case {"ok": False, "error_code": int(code), "description": str(description)}:
            return _refusal(code, description)
        case _:
            return Unclear(f"HTTP {status} without an answer of the Bot API")


def _refusal(code: int, description: str) -> Answer:
    reason = description[:REASON_CHARACTERS]
    if is_unreachable(code, description):
        return Unreachable(reason)
    if code in (400, 413):
        return Rejected(reason)
    return Unclear(reason) if code >= 500 else Unavailable(reason)


def is_unreachable(code: int, description: str) -> bool:
    """Whether this refusal holds for every message to the chat, until the person comes back."""
    meant = description.lower().removeprefix("bad request: ")
    return code == 403 or (code == 400 and meant.startswith(UNREACHABLE))
