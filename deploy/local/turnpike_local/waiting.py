"""Waiting for something to come true, with a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.1


async def until(true: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float, poll_s: float = POLL_S) -> None:
    """Return once it is true, which is asked at least once. Raises TimeoutError that says what was waited for."""
    gives_up_at = time.monotonic() + timeout_s
    while not await true():
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"waited {timeout_s:g} s until {what}")
        await asyncio.sleep(poll_s)
