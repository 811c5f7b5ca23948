"""Faults that a test or a person plans: refused calls, lost answers, notices gone astray."""

from dataclasses import dataclass, field
from typing import Literal

from turnpike_local.standin.plan import Plan

Answer = Literal["429", "500", "500_after", "lost"]
Fate = Literal["late", "never", "twice"]


@dataclass(frozen=True)
class CallFault:
    """The fault of one later call.

    "429" and "500" execute nothing. "500_after" is an error after success. "lost" means that the
    call is executed and the connection is aborted before the answer.
    """

    answer: Answer
    method: str | None  # None is any method.


@dataclass(frozen=True)
class NoticeFault:
    """What happens to the notice of one later payment. `late_s` counts for "late"."""

    fate: Fate
    late_s: int


@dataclass(frozen=True)
class PlannedFaults:
    calls: Plan[CallFault] = field(default_factory=Plan)
    notices: Plan[NoticeFault] = field(default_factory=Plan)

    def of_call(self, method: str) -> CallFault | None:
        return self.calls.take(lambda fault: fault.method in (None, method))
