"""Admission of requests: few are answered at once, the newest first."""

import asyncio
from typing import Literal

Admitted = Literal["admitted", "expired", "crowded_out"]


class Admission:
    """At most `size` are inside at once, and at most `waiting` wait.

    Under overload the oldest is the closest to its end: served first, it would make each answer
    late. So the newest enters first, and the oldest is crowded out.
    """

    def __init__(self, size: int, waiting: int) -> None:
        self._free = size
        self._most_waiting = waiting
        self._waiting: dict[asyncio.Future[Admitted], None] = {}

    async def enter(self, expires_at: float | None) -> Admitted:
        """Wait for a place, until `expires_at` of the loop's clock. `leave` follows "admitted"."""
        if self._free:
            self._free -= 1
            return "admitted"
        if len(self._waiting) >= self._most_waiting:
            self._end(next(iter(self._waiting)), "crowded_out")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Admitted] = loop.create_future()
        self._waiting[place] = None
        expiry = loop.call_at(expires_at, self._end, place, "expired") if expires_at else None
        try:
            return await place
        finally:
            self._waiting.pop(place, None)
            if expiry:
                expiry.cancel()

    def leave(self) -> None:
        """Give the place to the newest that waits."""
        while self._waiting:
            place = next(reversed(self._waiting))
            if self._end(place, "admitted"):
                return
        self._free += 1

    def _end(self, place: "asyncio.Future[Admitted]", how: Admitted) -> bool:
        self._waiting.pop(place, None)
        if place.done():
            return False
        place.set_result(how)
        return True
