"""Amounts: decimal strings outside, Decimal inside, whole units of 10^-8 in the state."""

import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_UP, Decimal

PLACES = 8
_UNIT = Decimal(1).scaleb(-PLACES)
_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,18}))?")


def parsed(text: str, places: int) -> Decimal | None:
    """The amount, or None: no number, not above zero, or more than `places` decimals."""
    found = _AMOUNT.fullmatch(text)
    if found is None or len(found.group(2) or "") > places:
        return None
    amount = Decimal(text)
    return amount if amount > 0 else None


def written(amount: Decimal) -> str:
    """As the API writes it: without an exponent and without zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def units_of(amount: Decimal) -> int:
    return int(amount / _UNIT)


def from_units(units: int) -> Decimal:
    return units * _UNIT


def at_rate(amount: Decimal, rate: Decimal, places: int) -> Decimal:
    """What to pay for `amount` at `rate`. It is rounded up: nobody pays less than the price."""
    return (amount / rate).quantize(Decimal(1).scaleb(-places), ROUND_UP)


def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    return (amount * percent / 100).quantize(_UNIT, ROUND_DOWN)


def rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_UNIT, ROUND_HALF_EVEN)
