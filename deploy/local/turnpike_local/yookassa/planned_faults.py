"""Faults that a test plans: unclear answers, notices that are late or never come, refunds."""

from dataclasses import dataclass, field
from typing import Literal

from turnpike_local.standin.plan import Plan

Answer = Literal["500", "500_before", "202", "429", "lost"]


@dataclass(frozen=True)
class PlannedAnswer:
    """The answer of one later call.

    "500", "202" and "lost" (an aborted connection) come after the call took effect; "500_before"
    and "429" without it. A client cannot tell these cases apart: it repeats with the same key.
    """

    answer: Answer
    call: str | None = None
    """As in `POST /v3/payments/{id}/capture`; None is any call."""
    retry_after_ms: int = 1800


@dataclass(frozen=True)
class PlannedNotice:
    event: str | None = None
    late_s: float = 0.0
    never: bool = False


@dataclass(frozen=True)
class PlannedRefund:
    """A refund that stays pending, or is canceled for this reason."""

    reason: str | None


@dataclass(frozen=True)
class PlannedCharge:
    """A charge of a saved method that stays pending, until it is paid or declined."""


@dataclass(frozen=True)
class PlannedRegistration:
    """The tax office does not take the next receipt: not yet, or not at all."""

    status: Literal["pending", "canceled"]


@dataclass(frozen=True)
class PlannedFaults:
    answers: Plan[PlannedAnswer] = field(default_factory=Plan)
    notices: Plan[PlannedNotice] = field(default_factory=Plan)
    refunds: Plan[PlannedRefund] = field(default_factory=Plan)
    charges: Plan[PlannedCharge] = field(default_factory=Plan)
    registrations: Plan[PlannedRegistration] = field(default_factory=Plan)

    def of_call(self, call: str) -> PlannedAnswer | None:
        return self.answers.take(lambda fault: fault.call in (None, call))

    def of_notice(self, event: str) -> PlannedNotice | None:
        return self.notices.take(lambda fault: fault.event in (None, event))
