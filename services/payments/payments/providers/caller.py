"""The thin caller of every provider: one HTTP session, a total time-out, a bounded answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from opentelemetry.trace import SpanKind

from payments.domain.provider import Unavailable, Unknown
from payments.providers.reading import Json
from shared.platform import telemetry

CALL_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 20
ANSWER_BYTES = 16 * 1024 * 1024  # A thousand invoices with texts of their greatest length.


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the provider. `body` is None if it is no JSON object."""

    status: int
    body: Json | None


class Caller:
    """Calls one provider. The credentials are in `headers`, which no log and no error shows."""

    def __init__(
        self,
        system: str,
        base_url: str,
        headers: Mapping[str, str],
        *,
        proxy: str | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        answer_bytes: int = ANSWER_BYTES,
    ) -> None:
        self._system = system
        self._base_url = base_url.rstrip("/")
        self._host = urlsplit(base_url).hostname or ""
        # Not compressed: a small answer cannot unfold into a large one.
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._proxy = proxy
        self._timeout = ClientTimeout(total=call_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._answer_bytes = answer_bytes
        self._session: ClientSession | None = None

    async def start(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=CONNECTIONS),
            headers=self._headers,
            timeout=self._timeout,
            cookie_jar=DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        call: str,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> Answer | Unavailable | Unknown:
        """One call, which `call` names in traces and metrics.

        A failure is named by its type only: its text may hold the address of the proxy.
        """
        attributes = {"http.request.method": method, "server.address": self._host}
        with (
            telemetry.span(f"{self._system} {call}", kind=SpanKind.CLIENT, **attributes) as span,
            telemetry.OUTSIDE_SECONDS.labels(self._system, call).time(),
        ):
            answer = await self._ask(method, path, headers, query, body)
            if isinstance(answer, Answer):
                span.set_attribute("http.response.status_code", answer.status)
            else:
                span.set_attribute("error.type", answer.reason)
            return answer

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        body: Json | None,
    ) -> Answer | Unavailable | Unknown:
        assert self._session is not None, "the provider is used before its start"
        try:
            async with self._session.request(
                method,
                f"{self._base_url}/{path}",
                params=query,
                json=body,
                headers=headers,
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                read = await self._read(response)
        except (ClientConnectorError, ClientHttpProxyError, ConnectionTimeoutError) as error:
            return Unavailable(type(error).__name__)  # No byte of the request was sent.
        except (ClientError, OSError, TimeoutError) as error:
            return Unknown(type(error).__name__)
        if read is None:
            return Unknown(f"an answer of more than {self._answer_bytes} bytes")
        return Answer(response.status, json_object(read))

    async def _read(self, response: ClientResponse) -> bytes | None:
        """The body, or None as soon as it is too large."""
        read = bytearray()
        async for part in response.content.iter_any():
            read += part
            if len(read) > self._answer_bytes:
                response.close()
                return None
        return bytes(read)


def json_object(body: bytes) -> Json | None:
    """The object of a body. Its decimals are exact: `float` never sees them."""
    try:
        read = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
