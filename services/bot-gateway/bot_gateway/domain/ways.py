"""The amount of each way to pay, before an invoice is opened: prices shown are prices charged."""

import re
from collections.abc import Sequence
from typing import TypeVar

from shared.contracts.money import Money, stars_of
from shared.contracts.payments import AskedByWay, WayToPay

Offered = TypeVar("Offered", WayToPay, AskedByWay)

_LAST_DIGITS = re.compile(r"\*([0-9]{4})$")
_NAMES_OF_SBP = frozenset({"сбп", "sbp"})


def offered(ways: Sequence[Offered], *, cards: bool) -> tuple[Offered, ...]:
    """`cards`: the bot has a provider token. Without it Telegram makes no invoice for a card."""
    return tuple(one for one in ways if cards or one.way != "telegram")


def asked_by_ways(
    ways: Sequence[WayToPay], amount_minor: int, stars: int | None
) -> tuple[AskedByWay, ...]:
    """The amount of each way, in the order of the screen.

    `stars` is the price in Stars; None takes the rate of the day. A way that never asks for so
    much is left out.
    """
    asked = ((way, asked_by(way, amount_minor, stars)) for way in ways)
    return tuple(
        AskedByWay(way=way.way, asked_minor=asked_minor, currency=way.currency)
        for way, asked_minor in asked
        if asked_minor <= way.most_minor
    )


def asked_by(way: WayToPay, amount_minor: int, stars: int | None) -> int:
    """In the smallest unit of the way's currency. Ways in another currency than RUB take Stars."""
    if way.currency == "RUB":
        return max(amount_minor, way.least_minor)
    return stars_of(amount_minor, way.kopecks, way.per_minor) if stars is None else stars


def shown_price(ways: Sequence[WayToPay], amount_minor: int, stars: int) -> Money:
    """A price above all ways: in Stars where nothing else is on sale."""
    only_stars = all(way.currency == "XTR" for way in ways)
    return Money(stars, "XTR") if only_stars else Money(amount_minor)


def least_above(asked: Sequence[AskedByWay], amount_minor: int) -> list[AskedByWay]:
    """The ways that ask for more than the amount in rubles, because they take no less."""
    return [one for one in asked if one.currency == "RUB" and one.asked_minor > amount_minor]


def last_digits(title: str) -> str:
    """Of a card that a provider names "Bank card *4444". Empty where its title shows none."""
    found = _LAST_DIGITS.search(title)
    return found[1] if found else ""


def other_title(title: str) -> str:
    """A provider's title that says more than the way. Empty where it does not."""
    return "" if title.casefold() in _NAMES_OF_SBP else title
