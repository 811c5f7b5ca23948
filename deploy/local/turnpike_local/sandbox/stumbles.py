"""Faults that a test or a demo asks for: calls refused, answers lost, Telegram away, updates gone."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from .rules import Refused, too_many_requests

Answer = Literal["429", "500", "lost"]
_PLANNED_MOST = 10_000


@dataclass(frozen=True)
class Stumble:
    """How one of the coming calls goes wrong: "lost" means done, but the connection is cut before the answer."""

    answer: Answer
    method: str | None = None  # Lower case; None is any.
    retry_after_s: int = 1


class Stumbles:
    def __init__(self) -> None:
        self._planned: deque[Stumble] = deque(maxlen=_PLANNED_MOST)
        self._down_until_s = 0.0

    def plan(self, stumble: Stumble, calls: int) -> None:
        self._planned.extend([stumble] * min(calls, _PLANNED_MOST))

    def go_down(self, for_s: float) -> None:
        """From now on no connection is answered, for so many seconds; 0 comes back at once."""
        self._down_until_s = asyncio.get_running_loop().time() + for_s

    def clear(self) -> None:
        self._planned.clear()
        self._down_until_s = 0.0

    @property
    def is_down(self) -> bool:
        return asyncio.get_running_loop().time() < self._down_until_s

    @property
    def down_for_s(self) -> float:
        return max(0.0, self._down_until_s - asyncio.get_running_loop().time())

    @property
    def planned(self) -> int:
        return len(self._planned)

    def next(self, method: str) -> Stumble | None:
        """The fault of this call, used up."""
        for stumble in self._planned:
            if stumble.method in (None, method):
                self._planned.remove(stumble)
                return stumble
        return None


def refuse(stumble: Stumble) -> None:
    if stumble.answer == "429":
        raise too_many_requests(stumble.retry_after_s)
    if stumble.answer == "500":
        raise Refused(500, "Internal Server Error")
