"""Waiting with a bound."""

import asyncio
from contextlib import suppress


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event, so many seconds at most; says whether it is set.

    Not by `wait_for`: before Python 3.12 it may swallow a cancellation that comes in the moment of a wake-up.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()
