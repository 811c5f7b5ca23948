"""Amounts of money as people read them, and their conversion."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.money import MAX_MINOR, Money, converted, decimal_of, minor_of, shown


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (14900, "RUB", "149\u00a0₽"),
        (1490, "RUB", "14.90\u00a0₽"),
        (139900, "RUB", "1\u202f399\u00a0₽"),
        (-5, "RUB", "−0.05\u00a0₽"),
        (1529, "XTR", "1\u202f529\u00a0⭐"),
        (1_781_515_870, "USDT", "1.78151587\u00a0USDT"),
        (5_000_000_000, "TON", "5\u00a0TON"),
    ],
)
def test_amounts_are_written_as_people_write_them(amount: int, currency: str, text: str) -> None:
    assert shown(amount, currency) == text


def test_language_sets_the_mark_and_signed_the_plus() -> None:
    assert Money(1490).shown("ru") == "14,90\u00a0₽"
    assert Money(1490, signed=True).shown("en") == "+14.90\u00a0₽"
    assert Money(-1490, signed=True).shown("en") == "−14.90\u00a0₽"


def test_conversion_rounds_down_and_uses_no_float() -> None:
    """M-20: 29 kopecks of a hundred stay 29, and a third is rounded down."""
    assert converted(29, 100, 100) == 29
    assert converted(100, 1, 3) == 33


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("149.00", "RUB", 14900),
        ("149", "RUB", 14900),
        ("149.000", "RUB", 14900),
        (149, "RUB", 14900),
        (Decimal("0.29"), "RUB", 29),
        ("1.8366142", "USDT", 1_836_614_200),
        ("0.000000001", "TON", 1),
        ("1e-8", "BTC", 10),
        ("0", "ETH", 0),
        ("9223372036.854775807", "ETH", MAX_MINOR),
        ("9223372036.854775808", "ETH", "out_of_range"),
        ("0.0000000001", "ETH", "more_digits"),
        ("1.0000000000000000000000000000000000001", "TON", "more_digits"),
        ("0.001", "RUB", "more_digits"),
        ("1.5", "XTR", "more_digits"),
        ("1", "ABC", "currency_unknown"),
        (0.29, "RUB", "malformed"),
        (True, "RUB", "malformed"),
        (None, "RUB", "malformed"),
        *((text, "RUB", "malformed") for text in ("", " 1", "-1", "1_0", "NaN", "1e999", "١")),
    ],
)
def test_a_decimal_is_exact_or_named(amount: object, currency: str, minor: object) -> None:
    """R-57, R-58, M-20: no float is taken, and nothing is rounded, however long the decimal."""
    assert minor_of(amount, currency) == minor


@given(st.integers(0, MAX_MINOR), st.sampled_from(["RUB", "XTR", "USDT", "BTC"]))
def test_a_decimal_comes_back_as_it_was(amount: int, currency: str) -> None:
    """R-57."""
    assert minor_of(decimal_of(amount, currency), currency) == amount
