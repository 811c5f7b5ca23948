"""W-69: the counted line of a trace is a proof only when nothing is missing or too much."""

from dataclasses import replace
from typing import Any

import pytest

from shared.platform.telemetry import BOOKED, GRANTED, REPORTED
from turnpike_local.sandbox.counted import Counted, counted
from turnpike_local.sandbox.purchases import Purchase
from turnpike_local.sandbox.spans import Span

BOUGHT = Purchase(1, "a" * 32, 0.0, 7, "Basic", 99, "XTR", "none", charges=1, refunds=0)


def span(name: str, status: str = "unset", **attributes: Any) -> Span:
    return Span("a", "b", None, [], name, "consumer", "payments", 0, 1, attributes, status, "")


def reported(what: str = "payment") -> Span:
    return span("report payment", **{REPORTED: what})


def booked(outcome: str = "bought", status: str = "unset") -> Span:
    return span("payments_confirms_reported", status, **{BOOKED: outcome})


REPEATED = span("payments_confirms_reported")
GRANT = span("vpn_grants_confirmed", **{GRANTED: "period"})
KEY = span("deliver", message="access_ready", outcome="sent")
REWARD = span("deliver", message="reward_earned", outcome="sent")
WHOLE = [reported(), booked(), GRANT, KEY]


def of(*spans: Span, purchase: Purchase = BOUGHT, missing: int = 0, cut: bool = False) -> Counted:
    return counted(purchase, spans, missing=missing, is_cut=cut)


def line(found: Counted) -> str:
    """The parts in one line; wrong ones are marked."""
    return " → ".join(f"{part.text}{'!' * part.is_wrong}" for part in found.parts)


def test_four_reports_of_one_charge_are_proved() -> None:
    """W-69. A repeat that booked nothing, a refund's report and the partner's message are none."""
    found = of(*WHOLE, *[reported()] * 3, REPEATED, reported("refund"), REWARD)
    assert found.verdict == "proved"
    assert line(found) == "4 reports → 1 booking → 1 access → 1 message"


@pytest.mark.parametrize(
    ("extra", "seen", "reason"),
    [
        (
            booked("wallet"),
            "1 report → 2 bookings! → 1 access → 1 message",
            "2 bookings for 1 charge",
        ),
        (GRANT, "1 report → 1 booking → 2 accesses! → 1 message", "2 accesses for one order"),
        (KEY, "1 report → 1 booking → 1 access → 2 messages!", "2 messages about one key"),
    ],
)
def test_an_excess_is_wrong(extra: Span, seen: str, reason: str) -> None:
    """W-69. Also in a trace of which something is missing."""
    for missing in (0, 3):
        found = of(*WHOLE, extra, missing=missing)
        assert (found.verdict, line(found), found.reasons) == ("wrong", seen, [reason])


def test_a_booking_without_a_charge_is_wrong() -> None:
    """W-69."""
    found = of(booked(), purchase=replace(BOUGHT, charges=0))
    assert (found.verdict, found.reasons) == ("wrong", ["1 booking for 0 charges"])
    assert line(found) == "0 charges → 0 reports → 1 booking! → 0 accesses → 0 messages"


def test_one_order_bought_twice_is_wrong() -> None:
    """W-69. Two charges may be booked, and the second one belongs in the wallet."""
    twice = replace(BOUGHT, charges=2)
    fine = of(*WHOLE, reported(), booked("wallet"), purchase=twice)
    assert fine.verdict == "proved"
    assert line(fine) == "2 charges → 2 reports → 2 bookings → 1 access → 1 message"
    found = of(*WHOLE, reported(), booked(), purchase=twice)
    assert (found.verdict, found.reasons) == ("wrong", ["the order was bought 2 times"])


@pytest.mark.parametrize(
    ("absent", "reason"),
    [(0, "no report yet"), (1, "no booking yet"), (2, "no access yet"), (3, "no message yet")],
)
def test_a_missing_step_is_no_proof(absent: int, reason: str) -> None:
    """W-69. Its service died before the export, or works on it."""
    found = of(*[step for at, step in enumerate(WHOLE) if at != absent])
    assert (found.verdict, found.reasons) == ("incomplete", [reason])


def test_missing_spans_are_no_proof() -> None:
    """W-69. Every step is there, and still a repeat may be in what is missing."""
    found = of(*WHOLE, missing=1)
    assert (found.verdict, found.reasons) == ("incomplete", ["1 span of this trace did not arrive"])
    assert of(*WHOLE, cut=True).verdict == "incomplete"


def test_what_was_rolled_back_is_not_counted() -> None:
    """W-69. A try that failed noted its booking before the rollback."""
    assert of(*WHOLE, booked(status="error")).verdict == "proved"
    assert of(reported(), booked(status="error")).reasons == ["no booking yet"]


def test_money_in_the_wallet_grants_nothing() -> None:
    """W-69."""
    found = of(reported(), booked("wallet"))
    assert (found.verdict, line(found)) == ("proved", "1 report → 1 booking in the wallet")


def test_an_unpaid_order_counts_nothing() -> None:
    """W-69."""
    found = of(purchase=replace(BOUGHT, charges=0))
    assert (found.verdict, found.parts, found.reasons) == ("unpaid", [], [])
