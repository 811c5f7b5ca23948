"""Waiting in tests for what other tasks or processes do."""

import asyncio
import time
from collections.abc import Awaitable, Callable

HANG_S = 30.0
"""Ten times what the slowest step of a test takes on a busy machine."""


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    within_s: float = HANG_S,
    every_s: float = 0.01,
) -> None:
    """Return once the condition holds. Raises AssertionError after `within_s` seconds."""
    ends_at = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() > ends_at:
            raise AssertionError(f"the condition did not hold within {within_s} s")
        await asyncio.sleep(every_s)
