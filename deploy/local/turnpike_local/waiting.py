"""Waiting for a condition, with a time limit, and for several steps at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

POLL_S = 0.1


async def until(
    condition: Callable[[], Awaitable[bool]],
    description: str,
    *,
    timeout_s: float,
    poll_s: float = POLL_S,
) -> None:
    """Return once the condition holds. It is checked at least once.

    Raises TimeoutError with the description.
    """
    gives_up_at = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"waited {timeout_s:g} s until {description}")
        await asyncio.sleep(poll_s)


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """Run all steps at the same time. The first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
