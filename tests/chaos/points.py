"""The failpoints of rows 1-6, from the lists that make up the services themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.contracts.catalogue import COMMANDS
from shared.contracts.owners import OWNERS
from shared.contracts.payments import PlaceOrder
from shared.contracts.streams import SUBSCRIPTIONS

STEPS_OF_ROW = {
    "1": ("update_written", "handler_done", "command_done", "access_recorded"),
    "2": ("update_committed", "command_committed"),
    "3": ("relay_published",),
    "4": ("handler_remembered", "report_published"),
    "5": ("handler_committed",),
    "6": (
        *("panel_written", "message_sent", "screen_shown", "checkout_answered"),
        *("invoice_asked", "payment_read"),
    ),
}
NOT_IN_A_ROW = ("refund_asked", "stars_returned", "receipt_asked")
"""Reached by an operator's refund, and with receipts for the tax office: no row has them. What is
lost there is lost in `tests/store/test_payments_refunding.py`,
`tests/store/test_bot_star_refunds.py` and `tests/store/test_payments_registering.py`."""


@dataclass(frozen=True)
class Point:
    """A failpoint of one service."""

    step: str
    who: str
    service: str

    def __str__(self) -> str:
        return self.step if self.who == "-" else f"{self.step} of {self.who}"


def points_of(step: str) -> Iterator[Point]:
    """Every point at which a process reaches this step."""
    match step.split("_")[0]:
        case "handler":
            yield from (
                Point(step, subscription.handler, subscription.service)
                for subscription in SUBSCRIPTIONS
            )
        case "relay":
            yield from (Point(step, owner, owner) for owner in OWNERS)
        case "command":
            yield from (
                Point(step, command.topic, command.topic.split(".")[0]) for command in COMMANDS
            )
        case "update":
            yield from (Point(step, way, "bot") for way in ("polling", "webhook"))
        case "report" | "screen" | "checkout" | "stars":
            yield Point(step, "-", "bot")
        case "panel" | "access":
            yield Point(step, "-", "vpn")
        case "invoice" | "refund" | "receipt":
            yield Point(step, "-", "payments")
        case "payment":
            yield from (Point(step, lane, "payments") for lane in ("notice", "watch"))
        case "message":
            yield Point(step, "-", "notifier")
        case _:
            raise KeyError(f"no service is known to reach {step}")


def sampled(points: list[Point]) -> list[Point]:
    """The points of the short form: every step, every service, one command.

    Each handler dies at one of its steps.
    """
    steps = sorted({point.step for point in points if point.step.startswith("handler")})
    turn = {subscription.handler: place for place, subscription in enumerate(SUBSCRIPTIONS)}
    return [
        point
        for point in points
        if (point.who not in turn or point.step == steps[turn[point.who] % len(steps)])
        and (not point.step.startswith("command") or point.who == PlaceOrder.topic)
    ]
