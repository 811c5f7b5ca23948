"""Saved methods of YooKassa by recorded answers: requests, answers, and refusals of charges."""

from datetime import UTC, datetime
from typing import Any

import pytest

from payments.domain.provider import Method, Opened, Payment, Refusal, Unknown
from payments.domain.saved_methods import is_gone, reason_of_charge
from payments.providers.caller import Answer
from payments.providers.reading import readable
from payments.providers.yookassa.messages import (
    charged_from,
    object_by,
    opened_by,
    payment_body,
    payment_from,
)
from tests.kit.providers import asked_by, sample
from turnpike_local.yookassa.asked import asked_payment
from turnpike_local.yookassa.shop import Shop

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
SAVED_ID = "24e89cb0-000f-5000-9000-1de77fa0d6df"


def read(name: str, **method: Any) -> Payment:
    told = sample(f"yookassa/{name}")
    told["payment_method"] |= method
    payment = readable(payment_from, told, "the reference")
    assert isinstance(payment, Payment), payment
    return payment


def test_consent_is_a_part_of_the_request() -> None:
    """R-131: without it the field is absent, which YooKassa takes for a no."""
    assert "save_payment_method" not in payment_body(asked_by("card", AT))
    body = payment_body(asked_by("card", AT, saves_method=True))
    assert body["save_payment_method"] is True
    assert asked_payment(body, Shop()).save


def test_a_saved_method_needs_no_page() -> None:
    """R-135: its request has neither the data of a method nor a confirmation."""
    asked = asked_by("card", AT, charges=True, saved_method=SAVED_ID)
    body = payment_body(asked)
    assert body["payment_method_id"] == SAVED_ID
    assert not {"payment_method_data", "confirmation", "save_payment_method"} & body.keys()
    assert asked_payment(body, Shop()).method_id == SAVED_ID
    assert SAVED_ID not in repr(asked)


def test_a_saved_method_is_read_with_its_title() -> None:
    payment = read("payment_saved")
    assert payment.method == Method(SAVED_ID, "card", "Bank card *4444")
    assert read("payment_succeeded").method is None


@pytest.mark.parametrize(
    ("told", "title"),
    [
        ({"title": "x" * 500}, "x" * 40),
        ({"title": "a\nb\u202ec"}, "a b c"),
        ({"title": ["no", "text"]}, ""),
        ({"title": None}, ""),
    ],
)
def test_a_title_is_a_short_line(told: dict[str, Any], title: str) -> None:
    method = read("payment_saved", **told).method
    assert method is not None
    assert method.title == title


@pytest.mark.parametrize(
    "told",
    [
        {"id": "x" * 65},
        {"id": "a b"},
        {"id": 7},
        {"id": ""},
        {"type": "sberbank"},
        {"saved": "yes"},
    ],
)
def test_an_odd_method_costs_no_payment(told: dict[str, Any]) -> None:
    """R-134: it is not saved, and the money is booked."""
    payment = read("payment_saved", **told)
    assert (payment.state, payment.method) == ("succeeded", None)


def test_a_pending_charge_has_no_link() -> None:
    """R-135: for a page the same answer would be malformed."""
    told = sample("yookassa/payment_by_saved_method")
    assert opened_by(told, by_saved_method=True) == Opened(told["id"], None)
    assert charged_from(told) == Opened(told["id"], None)
    assert isinstance(opened_by(told), Unknown)


def test_a_canceled_charge_says_why() -> None:
    """R-136."""
    refused = opened_by(sample("yookassa/payment_permission_revoked"), by_saved_method=True)
    assert isinstance(refused, Refusal)
    assert refused.code == "permission_revoked"


def test_an_unknown_method_is_told_from_our_mistakes() -> None:
    """R-136: YooKassa names the parameter; any other invalid request forgets nothing."""
    for parameter, code in (("payment_method_id", "method_unknown"), ("x", "invalid_request")):
        body = {"type": "error", "code": "invalid_request", "parameter": parameter}
        refused = object_by(Answer(400, body))
        assert isinstance(refused, Refusal)
        assert refused.code == code
        assert is_gone(code) == (code == "method_unknown")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("permission_revoked", "method_gone"),
        ("card_expired", "method_gone"),
        ("payment_method_restricted", "method_gone"),
        ("method_forgotten", "method_gone"),
        ("insufficient_funds", "no_funds"),
        ("payment_method_limit_exceeded", "declined"),
        ("general_decline", "declined"),
        ("invalid_request", "refused"),
        ("forbidden", "refused"),
        ("provider_down", "provider_down"),
    ],
)
def test_every_refusal_has_a_reason(code: str, reason: str) -> None:
    """R-136: only one that is for good forgets the method."""
    assert reason_of_charge(code) == reason
    assert is_gone(code) == (reason == "method_gone")
