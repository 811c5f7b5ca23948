"""YooKassa's messages by recorded answers: each becomes one value, and none is guessed."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from payments.domain.provider import (
    Finding,
    Forged,
    Hint,
    Ignored,
    Malformed,
    Opened,
    Payment,
    Refund,
    Refusal,
    SlowDown,
    Sum,
    Unknown,
    Unreadable,
)
from payments.providers.caller import Answer
from payments.providers.reading import readable
from payments.providers.yookassa.client import NOTICE_BYTES, Yookassa
from payments.providers.yookassa.messages import (
    PAUSE_S,
    findings_from,
    object_by,
    opened_by,
    payment_body,
    payment_from,
    refund_from,
    refunded_by,
    window_query,
)
from tests.kit.providers import SAMPLES, asked_by, sample
from turnpike_local.yookassa.asked import asked_payment
from turnpike_local.yookassa.shop import Shop

AT = datetime(2026, 10, 1, 14, 30, 45, 129_000, UTC)
PAYLOAD = sample("yookassa/payment_pending")["metadata"]["payload"]
CARD = "22e12f66-000f-5000-8000-18db351245c7"


def payment(name: str, **changes: Any) -> Payment | Unreadable:
    return readable(payment_from, sample(f"yookassa/{name}") | changes, "the reference")


def test_a_create_asks_for_the_whole_payment() -> None:
    """The money is taken at once, and our text travels in the metadata."""
    asked = asked_by("sbp", AT, amount_minor=5, description="d" * 200)
    body = payment_body(asked)
    assert body["amount"] == {"value": "0.05", "currency": "RUB"}
    assert body["capture"] is True
    assert len(body["description"]) == 128
    assert body["metadata"] == {"payload": asked.payload}
    assert asked_payment(body | {"amount": {"value": "149.00", "currency": "RUB"}}, Shop())


def test_a_link_comes_with_its_reference() -> None:
    opened = opened_by(sample("yookassa/payment_pending"))
    assert isinstance(opened, Opened)
    assert opened.reference == "23d93cac-000f-5000-8000-126628f15141"
    assert opened.pay_url == (
        "https://yoomoney.ru/checkout/payments/v2/contract?orderId=" + opened.reference
    )


def test_a_create_that_ended_meanwhile_says_how() -> None:
    """A repeat with the same key answers with the payment as it is now."""
    assert opened_by(sample("yookassa/payment_succeeded")) == Opened(CARD, None)
    canceled = opened_by(sample("yookassa/payment_canceled"))
    assert isinstance(canceled, Refusal)
    assert canceled.code == "insufficient_funds"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"status": "invented"},
        {"confirmation": None},
        {"confirmation": {"type": "redirect"}},
        {"confirmation": {"confirmation_url": "javascript:alert(1)"}},
    ],
)
def test_a_create_without_a_link_is_unknown(changes: dict[str, Any]) -> None:
    """R-56: the payment may exist, so it is no refusal."""
    assert isinstance(opened_by(sample("yookassa/payment_pending") | changes), Unknown)


def test_a_paid_payment_has_all_its_money() -> None:
    """R-58: the arrival and the fee are sums with a currency."""
    assert payment("payment_succeeded") == Payment(
        reference=CARD,
        state="succeeded",
        currency="RUB",
        amount_minor=14900,
        payload=PAYLOAD,
        created_at=AT,
        way="card",
        paid_at=datetime(2026, 10, 1, 14, 33, 20, 705_000, UTC),
        arrived=Sum("RUB", 14263),
        fee=Sum("RUB", 637),
        refunded_minor=4900,
    )


@pytest.mark.parametrize(
    ("name", "state", "payload", "reason"),
    [
        ("payment_pending", "pending", PAYLOAD, None),
        ("payment_held", "held", None, None),
        ("payment_canceled", "canceled", PAYLOAD, "insufficient_funds"),
    ],
)
def test_other_states_have_no_money(
    name: str, state: str, payload: str | None, reason: str | None
) -> None:
    read = payment(name)
    assert isinstance(read, Payment)
    assert (read.state, read.payload, read.cancel_reason) == (state, payload, reason)
    assert (read.paid_at, read.arrived, read.fee) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": {"value": "149.001", "currency": "RUB"}}, "more_digits"),
        ({"amount": {"value": "9" * 30, "currency": "RUB"}}, "out_of_range"),
        ({"amount": {"value": "149.00", "currency": "ABC"}}, "currency_unknown"),
        ({"amount": {"value": "-149.00", "currency": "RUB"}}, "malformed"),
        ({"amount": {"value": 149.0, "currency": "RUB"}}, "malformed"),
        ({"amount": "149.00"}, "malformed"),
        ({"income_amount": {"value": "149.01", "currency": "RUB"}}, "malformed"),
        ({"income_amount": {"value": "1.00", "currency": "USDT"}}, "malformed"),
        ({"income_amount": {"value": "142.635", "currency": "RUB"}}, "more_digits"),
        ({"refunded_amount": {"value": "0.001", "currency": "RUB"}}, "more_digits"),
        ({"status": "invented"}, "malformed"),
        ({"created_at": "yesterday"}, "malformed"),
        ({"created_at": "2026-10-01T14:30:45"}, "malformed"),
        ({"id": "\ud800"}, "malformed"),
    ],
)
def test_money_is_exact_or_named(changes: dict[str, Any], reason: str) -> None:
    """R-57, R-58: one odd payment is an alarm, and never a rounded amount."""
    read = payment("payment_succeeded", **changes)
    assert isinstance(read, Unreadable)
    assert (read.reference, read.reason) == ("the reference", reason)
    assert read.sentence.isprintable()


@pytest.mark.parametrize("metadata", [None, {}, [], {"payload": 7}, {"payload": "x" * 257}, "x"])
def test_foreign_metadata_names_no_payload(metadata: object) -> None:
    """The shop at YooKassa may be shared: a payment of others is read, without a text of ours."""
    read = payment("payment_succeeded", metadata=metadata)
    assert isinstance(read, Payment)
    assert read.payload is None


def test_refunds_are_values_by_their_state() -> None:
    read = readable(refund_from, sample("yookassa/refund_succeeded"), "")
    assert isinstance(read, Refund)
    assert (read.payment, read.amount_minor, read.state) == (CARD, 4900, "succeeded")
    canceled = refunded_by(sample("yookassa/refund_canceled"))
    assert isinstance(canceled, Refusal)
    assert canceled.code == "insufficient_funds"
    assert isinstance(refunded_by({}), Unknown)


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (400, "error", Refusal("invalid_request", "YooKassa refuses: Idempotence key duplicated.")),
        (405, None, Refusal("http_405", "YooKassa answers HTTP 405.")),
        (415, None, Refusal("http_415", "YooKassa answers HTTP 415.")),
        (202, "processing", Unknown("HTTP 202", retry_after_s=1.8)),
        (429, "error", SlowDown(PAUSE_S)),
        (429, "processing", SlowDown(1.8)),
        (500, "error", Unknown("HTTP 500")),
        (503, None, Unknown("HTTP 503")),
        (404, None, Unknown("HTTP 404")),
        (403, "processing", Unknown("HTTP 403", retry_after_s=1.8)),
        (200, None, Unknown("HTTP 200")),
    ],
)
def test_each_status_has_one_outcome(status: int, name: str | None, expected: object) -> None:
    body = None if name is None else sample(f"yookassa/{name}")
    assert object_by(Answer(status, body)) == expected


@pytest.mark.parametrize("told", [True, -1, "1800", Decimal("1.5"), None])
def test_an_odd_pause_is_not_believed(told: object) -> None:
    body = sample("yookassa/processing") | {"retry_after": told}
    assert object_by(Answer(429, body)) == SlowDown(PAUSE_S)


def test_a_pause_has_a_bound() -> None:
    body = sample("yookassa/processing") | {"retry_after": 10**12}
    assert object_by(Answer(429, body)) == SlowDown(3600.0)


def test_a_window_is_written_in_utc() -> None:
    assert window_query("captured_at", AT, None) == {"captured_at.gte": "2026-10-01T14:30:45.129Z"}


# Notices


def notice(name: str, peer: str | None = None) -> object:
    body = (SAMPLES / f"yookassa/{name}.json").read_bytes()
    return Yookassa("1", "k", "http://localhost").parse_notice({}, body, peer)


def test_notices_name_the_payment_to_read() -> None:
    assert notice("notice_payment") == Hint(CARD)
    assert notice("notice_refund") == Hint(CARD, "refund", "216749f7-0016-50be-b000-078d43a63ae4")
    assert notice("notice_method") == Ignored("payment_method.active")


@pytest.mark.parametrize(
    "peer",
    [
        *("77.75.153.1", "77.75.154.200", "77.75.156.35", "185.71.76.31", "185.71.77.1"),
        *("2a02:5180:0:1509::7", "::ffff:77.75.156.11"),
    ],
)
def test_their_addresses_are_believed(peer: str) -> None:
    assert notice("notice_payment", peer) == Hint(CARD)


@pytest.mark.parametrize(
    "peer",
    [
        *("77.75.152.255", "77.75.154.1", "77.75.156.12", "185.71.76.32", "10.0.0.1", "::1", ""),
        *("2a02:5180:0:1510::7", "::ffff:10.0.0.1", "77.75.153.1, 1.1.1.1", "yookassa.ru"),
    ],
)
def test_another_address_is_a_forgery(peer: str) -> None:
    """R-59: also one that cannot be read."""
    assert isinstance(notice("notice_payment", peer), Forged)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"event": "payment.succeeded", "object": {"id": "1"}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": 7}}',
        b'{"type": "notification", "event": "refund.succeeded", "object": {"id": "1"}}',
        b'{"type": "notification", "event": 7, "object": {"id": "1"}}',
        (SAMPLES / "yookassa/notice_payment.json").read_bytes() + b" " * NOTICE_BYTES,
    ],
)
def test_an_unreadable_notice_is_named(body: bytes) -> None:
    """R-59: it is kept and alerted, not taken for a forgery and not thrown away."""
    assert isinstance(Yookassa("1", "k", "http://x").parse_notice({}, body, None), Malformed)


# The start


@pytest.mark.parametrize(
    ("changes", "sentence", "blocks"),
    [
        ({"test": True}, "The shop at YooKassa is a test shop.", False),
        ({"status": "disabled"}, "YooKassa has disabled the shop.", True),
        ({"account_id": "7"}, "The secret key of YooKassa belongs to another shop.", True),
        (
            {"payment_methods": ["bank_card"]},
            "The shop at YooKassa cannot take payments by sbp.",
            False,
        ),
        ({"payment_methods": []}, "The shop at YooKassa can take neither SBP nor cards.", True),
        (
            {"fiscalization": {"enabled": True, "provider": "avanpost"}},
            "The shop at YooKassa sends receipts, and takes no payment without one:"
            " set TURNPIKE_RECEIPTS.",
            True,
        ),
    ],
)
def test_each_fault_of_a_shop_is_a_sentence(
    changes: dict[str, Any], sentence: str, blocks: bool
) -> None:
    """R-10."""
    me = sample("yookassa/me")
    assert findings_from(me, "100500") == ()
    assert findings_from(me | changes, "100500") == (Finding(sentence, blocks),)
