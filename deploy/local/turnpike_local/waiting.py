"""Waiting: for something to come true, with a bound, and for several things at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

POLL_S = 0.1


async def until(true: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float, poll_s: float = POLL_S) -> None:
    """Return once it is true, which is asked at least once. Raises TimeoutError that says what was waited for."""
    gives_up_at = time.monotonic() + timeout_s
    while not await true():
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"waited {timeout_s:g} s until {what}")
        await asyncio.sleep(poll_s)


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """All at the same time; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
