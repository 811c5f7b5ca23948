"""Faults that a test or a demo plans: refused calls, lost answers, an absent Telegram."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from turnpike_local.standin.plan import Plan

from .rules import BLOCKED, Refused, too_many_requests

Answer = Literal["403", "429", "500", "lost"]


@dataclass(frozen=True)
class PlannedFault:
    """The fault of one later call.

    "403" is a refusal without a block. "lost" means that the call is executed and the connection is
    aborted before the answer.
    """

    answer: Answer
    method: str | None = None  # Lower case; None is any method.
    retry_after_s: int = 1


class PlannedFaults:
    def __init__(self) -> None:
        self.calls: Plan[PlannedFault] = Plan()
        self._down_until_s = 0.0

    def go_down(self, for_s: float) -> None:
        """Answer no connection for so many seconds. 0 ends an earlier call."""
        self._down_until_s = asyncio.get_running_loop().time() + for_s

    def clear(self) -> None:
        self.calls.clear()
        self._down_until_s = 0.0

    @property
    def is_down(self) -> bool:
        return asyncio.get_running_loop().time() < self._down_until_s

    @property
    def down_for_s(self) -> float:
        return max(0.0, self._down_until_s - asyncio.get_running_loop().time())

    def of_call(self, method: str) -> PlannedFault | None:
        return self.calls.take(lambda fault: fault.method in (None, method))


def refuse(fault: PlannedFault) -> None:
    """Raises `Refused` for the answers 403, 429 and 500."""
    if fault.answer == "403":
        raise Refused(403, BLOCKED)
    if fault.answer == "429":
        raise too_many_requests(fault.retry_after_s)
    if fault.answer == "500":
        raise Refused(500, "Internal Server Error")
