"""The amount of each way to pay, and amounts that people type."""

import pytest

from bot_gateway.domain.amounts import topup_in
from bot_gateway.domain.ways import asked_by_ways, least_above, offered, shown_price
from shared.contracts.money import Money
from tests.kit.bot_payments import CARD, RUBLES, SBP, STARS, TELEGRAM


@pytest.mark.parametrize(
    ("typed", "rubles"),
    [
        ("100", 100),
        ("100000", 100_000),
        ("1 000", 1_000),
        ("1\u00a0000\u00a0₽", 1_000),
        ("1\u202f000", 1_000),
        ("1,000", 1_000),
        ("100.000", 100_000),
        ("1000 ₽", 1_000),
        ("250р.", 250),
        ("300 Рублей", 300),
        ("500 RUB", 500),
        (" 00500 ", 500),
        ("0", None),
        ("99", None),
        ("100001", None),
        ("5oo", None),
        ("123456789012", None),
        ("12 34", None),
        ("1 0000", None),
        ("500.50", None),
        ("-500", None),
        ("٥٠٠", None),
        ("🦊", None),
        ("", None),
        ("5" * 4_000, None),
        ("500 USD", None),
    ],
)
def test_a_typed_amount_is_whole_rubles(typed: str, rubles: int | None) -> None:
    """R-82: from 100 to 100 000, as people write it; nothing is guessed."""
    assert topup_in(typed) == rubles


def test_a_way_asks_for_its_least_amount() -> None:
    """R-81: and one that never asks for so much is left out."""
    asked = asked_by_ways((STARS, *RUBLES), 4_900, 33)
    assert [(one.way, one.asked_minor) for one in asked] == [
        ("stars", 33),
        ("sbp", 4_900),
        ("card", 6_400),
        ("crypto", 4_900),
    ]
    assert [one.way for one in least_above(asked, 4_900)] == ["card"]
    assert [one.way for one in asked_by_ways(RUBLES, 40_000_000, None)] == ["sbp"]


@pytest.mark.parametrize(("amount_minor", "stars"), [(10_000, 67), (15_000, 100), (15_001, 101)])
def test_a_topup_in_stars_is_rounded_up(amount_minor: int, stars: int) -> None:
    """R-81: by the rate of the day, so that it is worth its amount."""
    [asked] = asked_by_ways((STARS,), amount_minor, None)
    assert asked.asked_minor == stars


def test_cards_in_telegram_need_a_provider_token() -> None:
    """R-137."""
    assert offered((STARS, TELEGRAM, CARD), cards=False) == (STARS, CARD)
    assert offered((STARS, TELEGRAM, CARD), cards=True) == (STARS, TELEGRAM, CARD)


def test_a_card_in_telegram_tells_its_least_amount() -> None:
    """R-137: 64 rubles, before it is chosen."""
    asked = asked_by_ways((STARS, TELEGRAM), 4_900, 33)
    assert [(one.way, one.asked_minor) for one in least_above(asked, 4_900)] == [
        ("telegram", 6_400)
    ]


def test_prices_are_in_stars_for_stars_alone() -> None:
    """R-46."""
    assert shown_price((STARS,), 14_900, 99) == Money(99, "XTR")
    assert shown_price((STARS, SBP), 14_900, 99) == Money(14_900)
    assert shown_price((CARD,), 14_900, 99) == Money(14_900)
