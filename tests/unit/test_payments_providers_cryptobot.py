"""Crypto Pay's messages by recorded answers: each becomes one value, and none is guessed."""

import hashlib
import hmac
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from payments.domain.provider import (
    Balances,
    Finding,
    Forged,
    Hint,
    Ignored,
    Malformed,
    Opened,
    Payment,
    Refusal,
    SlowDown,
    Sum,
    Unknown,
    Unreadable,
)
from payments.providers.caller import Answer
from payments.providers.cryptobot.client import NOTICE_BYTES, Cryptobot
from payments.providers.cryptobot.messages import (
    PAUSE_S,
    SIGNATURE,
    balances_from,
    findings_from,
    invoice_body,
    is_oldest_first,
    opened_by,
    payment_from,
    result_by,
)
from payments.providers.reading import readable
from tests.kit.providers import SAMPLES, TOKEN, asked_by, sample

AT = datetime(2026, 10, 1, 14, 30, 45, 129_000, UTC)
PAYLOAD = sample("cryptobot/invoice_active")["payload"]


def payment(name: str, **changes: Any) -> Payment | Unreadable:
    return readable(payment_from, sample(f"cryptobot/{name}") | changes, "the reference")


def test_a_create_asks_for_a_price_in_rubles() -> None:
    """R-58: the provider converts at its own rate, and we store the price."""
    asked = asked_by("crypto", AT, amount_minor=14905, expires_in_s=1800)
    body = invoice_body(asked)
    assert (body["currency_type"], body["fiat"], body["amount"]) == ("fiat", "RUB", "149.05")
    assert body["payload"] == asked.payload
    assert body["expires_in"] == 1800
    assert "asset" not in body


def test_a_link_comes_with_its_end() -> None:
    assert opened_by(sample("cryptobot/invoice_active")) == Opened(
        "41000001",
        "https://t.me/CryptoBot?start=IVkQh3pXsR2m",
        datetime(2026, 10, 1, 15, 0, 45, 126_000, UTC),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"invoice_id": True},
        {"invoice_id": "41000001"},
        {"status": "invented"},
        {"bot_invoice_url": None},
        {"bot_invoice_url": "javascript:alert(1)"},
        {"expiration_date": "soon"},
    ],
)
def test_a_create_without_a_link_is_unknown(changes: dict[str, Any]) -> None:
    """R-56: the invoice may exist, so it is no refusal."""
    assert isinstance(opened_by(sample("cryptobot/invoice_active") | changes), Unknown)


def test_a_paid_invoice_has_all_its_money() -> None:
    """R-58: the price in rubles, the arrival in the asset of the payer's choice."""
    assert payment("invoice_paid") == Payment(
        reference="41000001",
        state="succeeded",
        currency="RUB",
        amount_minor=14900,
        payload=PAYLOAD,
        created_at=AT,
        way="crypto",
        paid_at=datetime(2026, 10, 1, 14, 35, 31, 568_000, UTC),
        arrived=Sum("USDT", 1_781_515_870),
        fee=Sum("USDT", 55_098_420),
    )


def test_a_fee_may_be_a_number() -> None:
    """R-58: read by `Decimal` from the digits that were sent."""
    assert sample("cryptobot/invoice_in_asset")["fee_amount"] == Decimal("0.045")
    read = payment("invoice_in_asset")
    assert isinstance(read, Payment)
    assert (read.currency, read.amount_minor) == ("USDT", 1_500_000_000)
    assert read.payload is None
    assert (read.arrived, read.fee) == (Sum("USDT", 1_455_000_000), Sum("USDT", 45_000_000))


def test_a_price_in_an_asset_was_paid() -> None:
    read = payment("invoice_in_asset", paid_amount=None, paid_asset=None)
    assert isinstance(read, Payment)
    assert read.arrived == Sum("USDT", 1_455_000_000)


def test_money_that_was_swapped_is_not_told() -> None:
    read = payment("invoice_paid", is_swapped=True, swapped_to="TON")
    assert isinstance(read, Payment)
    assert read.amount_minor == 14900
    assert read.arrived is read.fee is None


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [("invoice_active", "pending", None), ("invoice_expired", "canceled", "expired")],
)
def test_other_states_have_no_money(name: str, state: str, reason: str | None) -> None:
    read = payment(name)
    assert isinstance(read, Payment)
    assert (read.state, read.cancel_reason) == (state, reason)
    assert (read.paid_at, read.arrived, read.fee) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paid_amount": "1.8366142911"}, "more_digits"),
        ({"fee_amount": "0.0000000001"}, "more_digits"),
        ({"paid_amount": "9223372036.854775808"}, "out_of_range"),
        ({"paid_asset": "NEW"}, "currency_unknown"),
        ({"amount": "149.001"}, "more_digits"),
        ({"fee_asset": "TON"}, "malformed"),
        ({"fee_amount": "2"}, "malformed"),
        ({"paid_amount": None}, "malformed"),
        ({"paid_amount": "NaN"}, "malformed"),
        ({"paid_amount": 1.5}, "malformed"),
        ({"paid_at": None}, "malformed"),
        ({"status": "invented"}, "malformed"),
    ],
)
def test_money_is_exact_or_named(changes: dict[str, Any], reason: str) -> None:
    """R-57, R-58: one odd invoice is an alarm, and never a rounded amount."""
    read = payment("invoice_paid", **changes)
    assert isinstance(read, Unreadable)
    assert (read.reference, read.reason) == ("the reference", reason)


def test_the_greatest_amount_fits() -> None:
    read = payment("invoice_paid", paid_amount="9223372036.854775807", fee_amount="0")
    assert isinstance(read, Payment)
    assert read.arrived == Sum("USDT", 2**63 - 1)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "unauthorized", Refusal("UNAUTHORIZED", "Crypto Pay refuses: UNAUTHORIZED.")),
        (429, {"ok": False, "error": {"code": 429, "name": "TOO_MANY"}}, SlowDown(PAUSE_S)),
        (429, None, SlowDown(PAUSE_S)),
        (500, {"ok": False, "error": {"code": 500, "name": "APP_ERROR"}}, Unknown("500 APP_ERROR")),
        (400, {"ok": False, "error": "AMOUNT"}, "HTTP 400"),
        (400, None, "HTTP 400"),
        (200, {"ok": True}, "HTTP 200"),
        (200, {"ok": "yes", "result": {}}, "HTTP 200"),
    ],
)
def test_each_answer_has_one_outcome(status: int, body: Any, expected: object) -> None:
    read = sample(f"cryptobot/{body}") if isinstance(body, str) else body
    outcome = result_by(Answer(status, read))
    if isinstance(expected, str):
        assert isinstance(outcome, Unknown)
        assert outcome.reason.startswith(expected)
    else:
        assert outcome == expected


def test_another_order_ends_no_walk() -> None:
    """R-56: a walk that ends at the first old invoice would miss the newer ones behind it."""
    old = sample("cryptobot/invoice_in_asset")
    new = sample("cryptobot/invoice_paid")
    assert is_oldest_first([old, new])
    assert not is_oldest_first([new, old])
    assert not is_oldest_first([new])
    late = old | {"paid_at": "2026-10-02T00:00:00.000Z"}  # Ordered by payment: still newest first.
    assert not is_oldest_first([late, new])


# Notices


def signed(body: bytes, name: str = SIGNATURE) -> dict[str, str]:
    key = hashlib.sha256(TOKEN.encode()).digest()
    return {name: hmac.new(key, body, hashlib.sha256).hexdigest()}


def notice(body: bytes, headers: dict[str, str]) -> object:
    return Cryptobot(TOKEN, "http://localhost").parse_notice(headers, body, None)


UPDATE = (SAMPLES / "cryptobot/update_paid.json").read_bytes()


@pytest.mark.parametrize("name", [SIGNATURE, SIGNATURE.title(), SIGNATURE.upper()])
def test_a_signed_notice_names_its_invoice(name: str) -> None:
    assert notice(UPDATE, signed(UPDATE, name)) == Hint("41000001")


def test_a_known_signature_is_computed() -> None:
    """Against a figure that OpenSSL made, so that both sides cannot be wrong alike."""
    known = "6687324b7486a082621a917a6e9f2063f191fea5684cd478acf40022116b6c4a"
    assert TOKEN == "4242:AAcrypto-test-token"
    body = b'{"update_id":1}'
    assert isinstance(notice(body, {SIGNATURE: known}), Malformed)


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "x" * 10_000])
def test_a_wrong_signature_is_a_forgery(signature: str) -> None:
    """R-59."""
    assert isinstance(notice(UPDATE, {SIGNATURE: signature}), Forged)
    assert isinstance(notice(UPDATE, {}), Forged)
    assert isinstance(notice(UPDATE + b"\n", signed(UPDATE)), Forged)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"update_type": "invoice_paid"}',
        b'{"update_type": "invoice_paid", "payload": {}}',
        b'{"update_type": "invoice_paid", "payload": {"invoice_id": -1}}',
        b'{"update_type": 7}',
        (SAMPLES / "cryptobot/update_paid.json").read_bytes() + b" " * NOTICE_BYTES,
    ],
)
def test_an_unreadable_notice_is_named(body: bytes) -> None:
    """R-59: signed, and yet of a form that we do not know."""
    assert isinstance(notice(body, signed(body)), Malformed)


def test_other_updates_are_ignored() -> None:
    body = b'{"update_type": "invoice_expired", "payload": {}}'
    assert notice(body, signed(body)) == Ignored("invoice_expired")


# The start


def test_each_fault_of_an_app_is_a_sentence() -> None:
    """R-10."""
    me = sample("cryptobot/me")["result"]
    assert findings_from(me) == ()
    test = me | {"payment_processing_bot_username": "CryptoTestnetBot"}
    assert findings_from(test) == (
        Finding("The app of Crypto Pay is in the test network.", blocks=False),
    )
    refused = result_by(Answer(401, sample("cryptobot/unauthorized")))
    (finding,) = findings_from(refused)
    assert finding.blocks


# The balance


def held(code: object, available: object, on_hold: object = "0") -> Any:
    return {"currency_code": code, "available": available, "onhold": on_hold}


def test_a_balance_counts_what_is_on_hold() -> None:
    """R-118: exact, as text or as a number; an unknown asset counts where there is any."""
    told = balances_from(
        [
            held("USDT", "1.5", "0.25"),
            held("TON", Decimal("2")),
            held("BTC", "0"),
            held("DOGS", "0.000000"),
        ]
    )
    assert told == Balances((Sum("USDT", 1_750_000_000), Sum("TON", 2_000_000_000)))


@pytest.mark.parametrize(
    ("one", "reference", "reason"),
    [
        (held("ETH", "0.000000000000000001"), "ETH", "more_digits"),
        (held("DOGS", "7"), "DOGS", "currency_unknown"),
        (held("USDT", None), "USDT", "malformed"),
        (held(None, "1"), "unnamed", "currency_unknown"),
        ("USDT", "unnamed", "malformed"),
    ],
)
def test_an_unreadable_asset_hides_no_other(one: Any, reference: str, reason: str) -> None:
    """R-118: nothing is rounded."""
    told = balances_from([one, held("TON", "1")])
    assert isinstance(told, Balances)
    assert told.sums == (Sum("TON", 1_000_000_000),)
    assert [(bad.reference, bad.reason) for bad in told.unreadable] == [(reference, reason)]


@pytest.mark.parametrize("answer", [None, {}, "0", 7])
def test_a_malformed_balance_is_asked_again(answer: Any) -> None:
    assert isinstance(balances_from(answer), Unknown)
