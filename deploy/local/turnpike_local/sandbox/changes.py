"""Notifications inside one process: a signal for long polls, a bounded stream per open page."""

import asyncio
from collections.abc import AsyncIterator

from .rules import Json

_EVENTS_QUEUED = 256


class Signal:
    """Wakes all waiters. It has no memory: check the state first, then wait."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """True when woken, False after `timeout_s`."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout_s):
                await waiting
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiting)
        return True


class Hub:
    """Events for the open pages. A page that falls behind gets one event: read everything again."""

    def __init__(self) -> None:
        self._pages: set[asyncio.Queue[Json | None]] = set()
        self._closed = False

    def publish(self, event: Json) -> None:
        for page in self._pages:
            if page.full():
                while not page.empty():
                    page.get_nowait()
                page.put_nowait({"kind": "everything"})
            else:
                page.put_nowait(event)

    async def events(self, idle_s: float) -> AsyncIterator[Json | None]:
        """Yield events until the hub closes, and None after `idle_s` without one."""
        page: asyncio.Queue[Json | None] = asyncio.Queue(_EVENTS_QUEUED)
        self._pages.add(page)
        try:
            while not self._closed:
                try:
                    async with asyncio.timeout(idle_s):  # `wait_for` may swallow a cancellation.
                        event = await page.get()
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._pages.discard(page)

    def close(self) -> None:
        self._closed = True
        for page in self._pages:
            if page.full():
                page.get_nowait()
            page.put_nowait(None)
