"""The steps of a purchase, found in the spans of its trace, and the state that they add up to."""

from collections.abc import Sequence
from typing import Literal

from .purchases import Purchase
from .spans import Span

State = Literal[
    "waiting",
    "refused",
    "unanswered",
    "paid",
    "issued",
    "sent",
    "failed",
    "refunded",
    "charged_back",
]

REPORTED = "report payment"
BOOKED = "payments_confirms_reported"
GRANTED = "vpn_grants_confirmed"
AGREED = "vpn.agree"
ISSUED = "notifier_notifies_granted"
DELIVERED = "deliver"
STEPS = frozenset({REPORTED, BOOKED, GRANTED, AGREED, ISSUED, DELIVERED})
KEY_MESSAGE = "access_ready"
"""The kind of the message that ends a purchase: paid, until when, and the key."""
LOST = frozenset({"failed", "unreachable", "unknown"})
"""The ends of a delivery that reached nobody."""


def state_of(purchase: Purchase, steps: Sequence[Span]) -> State:
    """How far the purchase came, by its charges and by the steps in its trace."""
    if purchase.refunds:
        return "refunded"
    if purchase.charged_back:
        return "charged_back"
    if not purchase.charges:
        early: dict[str, State] = {"refused": "refused", "expired": "unanswered"}
        return early.get(purchase.attempt, "waiting")
    if any(is_sent(step) for step in steps):
        return "sent"
    if _has_failed(steps):
        return "failed"
    return "issued" if any(step.name == ISSUED for step in steps) else "paid"


def is_step(span: Span) -> bool:
    """Of the messages only the one with the key: the others may go to the partner."""
    is_key = span.attributes.get("message") == KEY_MESSAGE
    return span.name in STEPS and (span.name != DELIVERED or is_key)


def is_sent(step: Span) -> bool:
    """The message with the key, accepted by Telegram."""
    return step.name == DELIVERED and step.attributes.get("outcome") == "sent"


def _has_failed(steps: Sequence[Span]) -> bool:
    """The newest try of a step failed. A failure that a later try mended does not count."""
    newest = {step.name: step for step in sorted(steps, key=lambda step: step.end_ns)}
    return any(
        step.status == "error" or step.attributes.get("outcome") in LOST for step in newest.values()
    )
