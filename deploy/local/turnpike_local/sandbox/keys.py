"""Tries a key of a chat with a real client, and says in a sentence what is known of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from turnpike_local.processes import StartError
from turnpike_local.xray import NotFetchedError, fetch_through

from .people import Unable

_ANSWER_S = 2.0
_PAGE_S = 6.0
_MOST_AT_ONCE = 4  # Each runs a client of its own.

Outcome = Literal["works", "ended", "rejected", "silent", "unclear"]

_REJECTED = (
    "The node answers, but does not accept this key. It does not say why: the key has expired, was "
    "removed, or was never issued."
)
_ENDED = "The node accepted this key before, and does not any more: it has expired or was removed."
_UNCLEAR = f"The node answers, but no page came through this key within {_PAGE_S:g} s."


@dataclass(frozen=True)
class Trial:
    outcome: Outcome
    sentence: str


class Keys:
    """Trials of keys. `page` is the address of the page that a working key reaches.

    A node tells nobody why it does not accept a key. That a key worked before is known here, as
    long as the sandbox runs.
    """

    def __init__(self, page: Callable[[], str]) -> None:
        self._page = page
        self._tried: set[str] = set()
        self._worked: set[str] = set()

    async def attempt(self, key: str) -> Trial:
        """Fetch the page through the key, within some seconds. One trial at a time per key."""
        if key in self._tried:
            raise Unable("This key is being tried already.")
        if len(self._tried) >= _MOST_AT_ONCE:
            raise Unable("Too many keys are being tried at once.", code=429)
        self._tried.add(key)
        try:
            return await self._attempt(key)
        finally:
            self._tried.discard(key)

    async def _attempt(self, key: str) -> Trial:
        if silent := await _silent(key):
            return silent
        try:
            await fetch_through(key, self._page(), _PAGE_S)
        except NotFetchedError as error:
            if silent := await _silent(key):  # It died meanwhile.
                return silent
            if isinstance(error.__cause__, TimeoutError):
                return Trial("unclear", _UNCLEAR)
            return Trial("ended", _ENDED) if key in self._worked else Trial("rejected", _REJECTED)
        except (KeyError, ValueError):
            raise Unable("The client cannot read this key.", code=400) from None
        except StartError:
            raise Unable("The client did not start, so the key was not tried.", code=503) from None
        self._worked.add(key)
        return Trial("works", "It works: a page came through this key.")


async def _silent(key: str) -> Trial | None:
    """The outcome when no node listens at the key's address."""
    try:
        address = urlsplit(key)
        host, port = address.hostname, address.port
        if host is None or port is None:
            raise ValueError("a key names a host and a port")
    except ValueError:
        raise Unable("The client cannot read this key.", code=400) from None
    try:
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one.
        return Trial("silent", f"The node does not answer at {host}:{port}.")
    writer.close()
    return None
