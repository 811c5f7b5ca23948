"""Decisions about raw updates: lanes, chats, reports and trace positions."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot_gateway.domain.updates import (
    PaySheet,
    order_in,
    pay_sheet_from,
    report_from,
    trace_position_in,
    update_from,
)
from tests.kit.bot import checkout_update, message_update, paid_update, refunded_update, user

ORDER, INVOICE, SPAN = "0af7651916cd43dd8448eb211c80319c", "1" * 32, "b7ad6b7169203331"

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(["chat", "from", "id", "message"]), inner, max_size=2
    ),
    max_leaves=5,
)
KINDS = st.sampled_from(["update_id", "message", "callback_query", "my_chat_member"])


@pytest.mark.parametrize(
    ("raw", "lane", "chat"),
    [
        (message_update(5, text="/start"), "chat", 5),
        (paid_update(5, "charge"), "money", 5),
        (refunded_update(5, "charge"), "money", 5),
        (checkout_update(5), "checkout", 5),
        (
            {"update_id": 1, "callback_query": {"id": "1", "from": user(6), "data": "go:menu"}},
            "chat",
            6,
        ),
        ({"update_id": 1, "my_chat_member": {"chat": {"id": 7, "type": "private"}}}, "chat", 7),
        ({"update_id": 1, "kind_of_next_year": {}}, "chat", 0),
    ],
)
def test_updates_are_split_into_three_lanes(raw: dict[str, Any], lane: str, chat: int) -> None:
    """R-03: an update of an unknown kind is stored too."""
    update = update_from(raw)
    assert (update.lane, update.chat) == (lane, chat)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KINDS, ANYTHING, max_size=3))
def test_any_json_fits_the_database_or_is_refused(raw: dict[str, Any]) -> None:
    try:
        update = update_from(raw)
    except ValueError:
        assert type(raw.get("update_id")) is not int or not fits(raw["update_id"])
    else:
        assert fits(update.update_id)
        assert fits(update.chat)


def fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def test_a_report_holds_everything_payments_needs() -> None:
    report = report_from(paid_update(5, "charge", payload="p", is_recurring=True))
    assert (report.acquirer, report.charge, report.payer, report.payload) == (
        "telegram_stars",
        "charge",
        5,
        "p",
    )
    assert (report.currency, report.amount_minor, report.recurring) == ("XTR", 99, True)
    assert report.paid_at == datetime.fromtimestamp(1_790_000_000, UTC)


def test_a_refund_is_no_payment() -> None:
    """M-41: the same fields of the same charge, and another cause."""
    paid, refunded = report_from(paid_update(5, "c")), report_from(refunded_update(5, "c"))
    assert (paid.refunded, refunded.refunded) == (False, True)
    assert (refunded.charge, refunded.amount_minor, refunded.currency) == ("c", 99, "XTR")
    assert paid.cause != refunded.cause


def test_stars_and_cards_are_different_acquirers() -> None:
    """M-24: a charge is unique within its acquirer, and Stars are never mistaken for roubles."""
    assert (
        report_from(paid_update(5, "c", currency="RUB", total_amount=14900)).acquirer
        == "telegram_card"
    )


@pytest.mark.parametrize(
    ("told", "kept"), [("2fe3", "2fe3"), (None, None), ("", None), (7, None), ("a\x00", None)]
)
def test_a_card_keeps_its_acquirers_id(told: Any, kept: str | None) -> None:
    """R-138: an odd one is left out, and the money is reported all the same. Stars have none."""
    card = {"currency": "RUB", "total_amount": 14900, "provider_payment_charge_id": told}
    assert report_from(paid_update(5, "c", **card)).provider_charge == kept
    assert report_from(paid_update(5, "c", provider_payment_charge_id=told)).provider_charge is None


@pytest.mark.parametrize("name", ["telegram_payment_charge_id", "currency", "total_amount"])
@pytest.mark.parametrize("value", [None, "", 1.5, True])
def test_an_incomplete_report_is_unreadable(name: str, value: Any) -> None:
    """M-20, R-17: no default replaces a missing charge, currency or amount."""
    with pytest.raises(ValueError):
        report_from(paid_update(5, "charge", **{name: value}))


def test_a_payload_names_order_and_trace() -> None:
    payload = f"{ORDER}.{INVOICE}.{SPAN}"
    assert trace_position_in(payload) == (UUID(hex=ORDER), SPAN)
    assert order_in(payload) == UUID(hex=ORDER)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "purchase:17",
        f"{ORDER}.{INVOICE}",
        f"{ORDER}.{INVOICE}.{'0' * 16}",
        f"{'0' * 32}.{INVOICE}.{SPAN}",
        f"{ORDER.upper()}.{INVOICE}.{SPAN}",
        f"{ORDER}.{INVOICE}.{SPAN}\n",
        f"{ORDER}.{INVOICE}.{SPAN}.x",
        "٣" * 32 + f".{INVOICE}.{SPAN}",
    ],
)
def test_any_other_payload_names_no_trace(payload: str) -> None:
    """R-20, S-08: the payload comes back from outside, and may be anything."""
    assert trace_position_in(payload) is None


def test_malformed_parts_of_a_pay_sheet_match_nothing() -> None:
    """R-31: no payer, payload, currency or amount is 0 or empty, so payments refuses by name."""
    query = {"id": "7", "from": [], "currency": 7, "total_amount": True, "invoice_payload": "\x00"}
    assert pay_sheet_from({"pre_checkout_query": query}) == PaySheet("7", 0, "", "", "", 0)


@pytest.mark.parametrize("query", [None, [], {}, {"id": 7}, {"id": ""}, {"id": "\ud800"}])
def test_pre_checkout_without_an_id_is_unreadable(query: object) -> None:
    """R-31: it cannot be answered."""
    with pytest.raises(ValueError, match="has an id"):
        pay_sheet_from({"pre_checkout_query": query})
