"""Loops that live on, the bell that wakes them, and waits with a bound."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import structlog

from shared.platform import iterations, telemetry

log = structlog.get_logger()

Result = TypeVar("Result")

PAUSE_AFTER_FAILURE_S = 0.25


async def forever(
    name: str,
    turn: Callable[[], Awaitable[object]],
    stopping: asyncio.Event,
    *,
    failed: Callable[[Exception], float] | None = None,
    limit_s: float | None = None,
) -> None:
    """Call `turn` until `stopping`. A failure is counted and logged, and the loop goes on.

    `failed` takes the place of the log entry and returns the pause in seconds: for errors whose
    text could hold what a person typed, and for pauses that the error names. A turn that gives no
    sign of life for `limit_s` fails; its leases end by themselves.
    """
    with iterations.working(name, limit_s) as worker:
        while not stopping.is_set():
            try:
                async with asyncio.timeout(limit_s) as bound:
                    with worker.bounded(bound):
                        await turn()
            except Exception as error:  # The loop must go on; the failure is recorded.
                telemetry.LOOP_FAILURES.labels(name).inc()
                known = worker.why_failed(error)
                pause_s = PAUSE_AFTER_FAILURE_S
                if failed is None:
                    log.warning("loop failed", loop=name, error=repr(known))
                else:
                    pause_s = failed(known)
                is_late = isinstance(known, iterations.IterationTooLongError)
                worker.ends("timed_out" if is_late else "failed")
                worker.rests(pause_s)
                await set_within(stopping, pause_s)


class Bell:
    """Wakes every loop of this process that listens: work was written for it.

    A bell that rings while a loop works is not lost: the next wait returns at once.
    """

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that each ring sets; the listener clears it."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    def ring(self) -> None:
        for event in self._listeners:
            event.set()


async def set_within(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event for at most so many seconds; returns whether it is set.

    Not by `wait_for`: before Python 3.12 it may swallow a cancellation during a wake-up.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`, or None when it was cancelled because the service stops."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def at_each_ring(
    name: str,
    bell: Bell,
    turn: Callable[[], Awaitable[object]],
    due_in_s: Callable[[], Awaitable[float | None]],
    stopping: asyncio.Event,
    *,
    every_s: float,
) -> None:
    """Call `turn` until `stopping`, whenever work is due; again at once while it had work.

    `due_in_s` tells after how many seconds work is due; None where there is none. The wait ends
    then, at a ring, at a stop, and after `every_s` at the latest. Work that is due and that a turn
    does not get is another's: it is looked for after the whole wait.
    """
    with bell.listening() as rung:

        async def again() -> None:
            rung.clear()
            due_s = await due_in_s()
            is_due = due_s is not None and due_s <= 0
            if is_due and await turn():
                return
            wait_s = every_s if due_s is None or is_due else min(due_s, every_s)
            iterations.rests(wait_s)
            await unless(stopping, set_within(rung, wait_s))

        await forever(name, again, stopping, limit_s=iterations.LIMIT_S)
