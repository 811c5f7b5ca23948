"""What happens to updates after they were taken in: three lanes, so that money and pre-checkouts wait for no chat."""

import asyncio
from collections.abc import Iterable

from bot_gateway.updates import Lane
from shared.waiting import happens

POLL_S = 0.5


class Bells:
    """Wakes the lanes of this process when something was taken in; other replicas find it by looking."""

    def __init__(self) -> None:
        self._rung: dict[Lane, asyncio.Event] = {
            "chat": asyncio.Event(),
            "money": asyncio.Event(),
            "checkout": asyncio.Event(),
        }

    def ring(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._rung[lane].set()

    async def wait(self, lane: Lane) -> None:
        """Until the lane's bell rings, at most half a second."""
        await happens(self._rung[lane], POLL_S)
        self._rung[lane].clear()
