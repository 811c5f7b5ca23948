"""Small values that people read."""

import pytest

from shared.money import Money, converted, shown


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (14900, "RUB", "149\u00a0₽"),
        (1490, "RUB", "14.90\u00a0₽"),
        (139900, "RUB", "1\u202f399\u00a0₽"),
        (-5, "RUB", "−0.05\u00a0₽"),
        (1529, "XTR", "1\u202f529\u00a0⭐"),
    ],
)
def test_money_is_shown_as_people_write_it(amount: int, currency: str, text: str) -> None:
    assert shown(amount, currency) == text


def test_each_language_has_its_decimal_mark_and_a_plus_is_written_where_it_is_wanted() -> None:
    assert Money(1490).shown("ru") == "14,90\u00a0₽"
    assert Money(1490, signed=True).shown("en") == "+14.90\u00a0₽"
    assert Money(-1490, signed=True).shown("en") == "−14.90\u00a0₽"


def test_conversion_floors_and_never_meets_a_float() -> None:
    """M-20: 29 kopecks of a hundred stay 29, and a third is cut, not rounded."""
    assert converted(29, 100, 100) == 29
    assert converted(100, 1, 3) == 33
