"""Faults that a test or a person plans, each for one later event."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

PLANNED_MOST = 10_000

Fault = TypeVar("Fault")


class Plan(Generic[Fault]):
    """The faults of one kind, in the order of planning. A restart forgets them."""

    def __init__(self) -> None:
        self._planned: deque[Fault] = deque(maxlen=PLANNED_MOST)

    def __len__(self) -> int:
        return len(self._planned)

    def add(self, fault: Fault, times: int = 1) -> None:
        self._planned.extend([fault] * min(times, PLANNED_MOST))

    def take(self, applies: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        """The first fault that applies, which is removed from the plan."""
        for fault in self._planned:
            if applies(fault):
                self._planned.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        self._planned.clear()
