"""One bell per lane: a stored update wakes the lane of this process. Other replicas poll."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

from bot_gateway.domain.updates import Lane
from shared.platform.loops import Bell, set_within

POLL_S = 0.5

Wait = Callable[[], Awaitable[None]]


class Bells:
    def __init__(self) -> None:
        self._bells: dict[Lane, Bell] = {lane: Bell() for lane in get_args(Lane)}

    def ring(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._bells[lane].ring()

    @contextmanager
    def listening(self, lane: Lane) -> Iterator[Wait]:
        """Yields a function that waits until the lane's bell rings, at most half a second."""
        with self._bells[lane].listening() as rung:

            async def wait() -> None:
                await set_within(rung, POLL_S)
                rung.clear()

            yield wait
