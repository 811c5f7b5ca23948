"""Notices of providers by webhook: check the sender, bound the body, store a row, then answer 200.

A notice is a hint. A worker reads the payment back, so nothing in a notice is believed.
"""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import structlog
from faststream.asgi import AsgiResponse

from payments.domain.provider import Forged, Ignored, Malformed
from payments.metrics import NOTICES
from payments.providers.protocol import Provider
from payments.settings import Networks
from payments.store import notices
from shared.platform.db import Database, database_is_to_blame
from shared.platform.requests import read_body

log = structlog.get_logger()

MAX_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
MAX_UNKNOWN_WAITING = 500
"""Notices of references that no invoice has: read back within a minute at ten a second."""


class ProviderWebhook:
    """The ASGI endpoint of one provider, which repeats a notice until it gets a 2xx."""

    def __init__(
        self,
        provider: Provider,
        database: Database,
        ring: Callable[[], None],
        *,
        trusted: Networks = (),
    ) -> None:
        self.provider = provider
        self.database = database
        self.ring = ring
        self.trusted = trusted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, outcome = await self._received(scope, receive)
        NOTICES.labels(self.provider.name, outcome).inc()
        await AsgiResponse(f"{outcome}\n".encode(), status)(scope, receive, send)

    async def _received(self, scope: Any, receive: Any) -> tuple[int, str]:
        if scope["method"] != "POST":
            return 405, "only POST"
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await read_body(receive, MAX_BYTES)
        except TimeoutError:
            return 408, "too slow"
        if body is None:
            return 413, "too large"
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        peer = peer_of(scope.get("client"), headers.get("x-forwarded-for"), self.trusted)
        return await self._kept(headers, body, peer)

    async def _kept(
        self, headers: dict[str, str], body: bytes, peer: str | None
    ) -> tuple[int, str]:
        notice = self.provider.parse_notice(headers, body, peer)
        if isinstance(notice, Forged):
            log.warning("notice is forged", acquirer=self.provider.name, reason=notice.reason)
            return 401, "forged"
        if isinstance(notice, Malformed):
            log.error("notice cannot be read", acquirer=self.provider.name, reason=notice.reason)
            return 400, "malformed"
        if isinstance(notice, Ignored):
            return 200, "ignored"
        try:
            state = await notices.insert(
                self.provider.name,
                notice.reference,
                notice.kind,
                body,
                MAX_UNKNOWN_WAITING,
                self.database,
            )
        except Exception as error:
            if not database_is_to_blame(error):
                raise
            log.warning("notice could not be stored", error=repr(error))
            return 503, "the database is unavailable"
        if state is None:
            return 503, "too many unknown"
        if state == "waiting":
            self.ring()
        return 200, "received" if state == "waiting" else "repeated"


def peer_of(
    client: tuple[str, int] | None, forwarded_for: str | None, trusted: Networks
) -> str | None:
    """The address of the sender, where a trusted proxy tells it. None: nobody knows.

    A proxy appends the address that it saw, so the last one that is no proxy of ours counts.
    """
    if not trusted or client is None or not _is_in(client[0], trusted):
        return None
    for told in reversed((forwarded_for or "").split(",")):
        if not _is_in(told.strip(), trusted):
            return told.strip() or None
    return None


def _is_in(address: str, networks: Networks) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
