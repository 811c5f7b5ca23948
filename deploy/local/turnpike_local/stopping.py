"""Work that ends in order when a signal asks for it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


async def until_stopped(
    work: Coroutine[Any, Any, Result], on_signal: Callable[[], None]
) -> Result | None:
    """The result of the work, or None when a signal cancelled it.

    It has ended in both cases. `on_signal` is called at the signal. A failure that the cancellation
    causes, such as a query that is cut off, is no error.
    """
    stopping = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    working = asyncio.create_task(work)
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if stopping.is_set():
        on_signal()
        working.cancel()
        await asyncio.wait((working,))
        if working.cancelled() or working.exception() is not None:
            return None
    return working.result()
