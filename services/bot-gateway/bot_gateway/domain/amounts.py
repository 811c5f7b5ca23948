"""Reads an amount of money that a person typed."""

import re

from shared.contracts.payments import LEAST_TOPUP_MINOR, MOST_TOPUP_MINOR

# Whole rubles: digits, in groups of three or without, and perhaps the currency after them.
_SPACES = "[ \u00a0\u2009\u202f]"
_AMOUNT = re.compile(
    rf"(?:[0-9]{{1,9}}|[0-9]{{1,3}}(?:(?:{_SPACES}|[.,'])[0-9]{{3}}){{1,2}}){_SPACES}*"
    r"(?:₽|р\.?|руб\.?|рубл(?:ь|я|ей)|rub|roubles?|rubles?)?",
    re.IGNORECASE,
)
_MAX_CHARACTERS = 32


def topup_in(typed: str) -> int | None:
    """The rubles of a top-up. None for anything but a whole number within its limits."""
    text = typed.strip()
    if len(text) > _MAX_CHARACTERS or _AMOUNT.fullmatch(text) is None:
        return None
    rubles = int(re.sub("[^0-9]", "", text))
    return rubles if LEAST_TOPUP_MINOR <= 100 * rubles <= MOST_TOPUP_MINOR else None
