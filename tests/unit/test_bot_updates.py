"""What a raw update is to us: whatever the bytes say, somebody takes it or it is no update."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot_gateway.updates import place_of, report_from, update_from
from tests.kit.bot import checkout_update, message_update, paid_update, user

ORDER, INVOICE, SPAN = "0af7651916cd43dd8448eb211c80319c", "1" * 32, "b7ad6b7169203331"

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["chat", "from", "id", "message"]), inner, max_size=2),
    max_leaves=5,
)
KINDS = st.sampled_from(["update_id", "message", "callback_query", "my_chat_member"])


@pytest.mark.parametrize(
    ("raw", "lane", "chat"),
    [
        (message_update(5, text="/start"), "chat", 5),
        (paid_update(5, "charge"), "money", 5),
        (checkout_update(5), "checkout", 5),
        ({"update_id": 1, "callback_query": {"id": "1", "from": user(6), "data": "go:menu"}}, "chat", 6),
        ({"update_id": 1, "my_chat_member": {"chat": {"id": 7, "type": "private"}}}, "chat", 7),
        ({"update_id": 1, "kind_of_next_year": {}}, "chat", 0),
    ],
)
def test_money_and_pre_checkouts_have_lanes_of_their_own(raw: dict[str, Any], lane: str, chat: int) -> None:
    """R-03: and what nobody knows yet is kept all the same."""
    update = update_from(raw)
    assert (update.lane, update.chat) == (lane, chat)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KINDS, ANYTHING, max_size=3))
def test_any_json_is_an_update_that_the_database_can_keep_or_none(raw: dict[str, Any]) -> None:
    try:
        update = update_from(raw)
    except ValueError:
        assert type(raw.get("update_id")) is not int or not fits(raw["update_id"])
    else:
        assert fits(update.update_id)
        assert fits(update.chat)


def fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def test_a_report_holds_what_the_book_needs() -> None:
    report = report_from(paid_update(5, "charge", payload="p", is_recurring=True))
    assert (report.acquirer, report.charge, report.payer, report.payload) == ("telegram_stars", "charge", 5, "p")
    assert (report.currency, report.amount_minor, report.recurring) == ("XTR", 99, True)
    assert report.paid_at == datetime.fromtimestamp(1_790_000_000, UTC)


def test_stars_and_a_cards_money_have_acquirers_of_their_own() -> None:
    """M-24: a charge is unique within its acquirer, and Stars are never taken for roubles."""
    assert report_from(paid_update(5, "c", currency="RUB", total_amount=14900)).acquirer == "telegram_card"


@pytest.mark.parametrize("name", ["telegram_payment_charge_id", "currency", "total_amount"])
@pytest.mark.parametrize("value", [None, "", 1.5, True])
def test_a_report_without_charge_currency_or_amount_is_unreadable(name: str, value: Any) -> None:
    """M-20, R-17: no default stands in for what was not said."""
    with pytest.raises(ValueError):
        report_from(paid_update(5, "charge", **{name: value}))


def test_the_payload_of_an_invoice_continues_its_story() -> None:
    assert place_of(f"{ORDER}.{INVOICE}.{SPAN}") == (UUID(hex=ORDER), SPAN)


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
def test_any_other_payload_names_no_story(payload: str) -> None:
    """R-20, S-08: the payload came back from outside."""
    assert place_of(payload) is None
