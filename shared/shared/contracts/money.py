"""Integer money: minor units with a currency, decimals of outside, conversion by a ratio."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

CRYPTO_DIGITS = 9
"""Of every asset, although blockchains differ: docs/decisions/0045 says why."""
CRYPTO_ASSETS = (
    *("USDT", "TON", "BTC", "ETH", "LTC", "BNB", "TRX", "USDC"),
    *("SOL", "XAUT", "SEND", "JET"),
)
# Digits after the decimal point. Telegram's Stars are whole.
MINOR_DIGITS = {"RUB": 2, "XTR": 0, "JPY": 0, "KRW": 0, "VND": 0, "CLP": 0}
MINOR_DIGITS |= dict.fromkeys(CRYPTO_ASSETS, CRYPTO_DIGITS)
USUAL_DIGITS = 2  # Money in a currency that the shop does not ask for is shown all the same.
MAX_MINOR = 2**63 - 1  # A bigint of PostgreSQL.
SIGNS = {"RUB": "₽", "XTR": "⭐"}
DECIMAL_MARKS = {"ru": ",", "en": "."}


@dataclass(frozen=True)
class Money:
    """An amount to show to a person, in their language."""

    amount_minor: int
    currency: str = "RUB"
    signed: bool = False
    """Write a plus before a positive amount."""

    def shown(self, language: str) -> str:
        plus = "+" if self.signed and self.amount_minor > 0 else ""
        return plus + shown(self.amount_minor, self.currency, language)


def shown(amount_minor: int, currency: str = "RUB", language: str = "en") -> str:
    """For people: `399 ₽`, `1 399.50 ₽` (`1 399,50 ₽`), `250 ⭐`, `5 USD`, `1.5327 TON`.

    A thin no-break space separates thousands.
    """
    digits = MINOR_DIGITS.get(currency, USUAL_DIGITS)
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "−" if amount_minor < 0 else ""
    grouped = f"{whole:,}".replace(",", "\u202f")
    decimals = f"{part:0{digits}d}"
    if digits > USUAL_DIGITS:
        decimals = decimals.rstrip("0")
    tail = f"{DECIMAL_MARKS[language]}{decimals}" if part else ""
    return f"{sign}{grouped}{tail}\u00a0{SIGNS.get(currency, currency)}"


def converted(amount_minor: int, times: int, per: int) -> int:
    """`amount_minor` times `times`, divided by `per`, rounded down.

    The rest stays with the exchange account.
    """
    return amount_minor * times // per


def stars_for(missing_minor: int, price_minor: int, price_stars: int) -> int:
    """The Stars to ask for the missing kopecks, by the order's prices: the nearest, at least 1.

    The parts before were rounded down to kopecks: rounded up, the rest would ask for a Star more
    than was left. Paid in full it is worth the missing kopecks, which is the new invoice's ratio.
    """
    return max(1, (2 * missing_minor * price_stars + price_minor) // (2 * price_minor))


def stars_of(amount_minor: int, kopecks: int, per_minor: int) -> int:
    """The price of a top-up in Stars by the rate of the day, rounded up: it is worth its amount."""
    return -(-amount_minor * per_minor // kopecks)


MoneyFault = Literal["more_digits", "out_of_range", "currency_unknown", "malformed"]
_DECIMAL = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")


def minor_of(amount: object, currency: str) -> int | MoneyFault:
    """The minor units of a decimal of outside, as text or as a number that JSON was read into.

    It is exact or a named fault: nothing is rounded, and a float is malformed.
    """
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        return "currency_unknown"
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        return "malformed"
    text = str(amount)
    if not _DECIMAL.fullmatch(text):
        return "malformed"
    return _scaled(Decimal(text), digits)


def _scaled(amount: Decimal, digits: int) -> int | MoneyFault:
    """In integers, since arithmetic of `Decimal` rounds to 28 digits."""
    _, figures, exponent = amount.as_tuple()
    assert isinstance(exponent, int)  # Neither infinite nor a NaN: the text has digits only.
    whole, shift = int("".join(map(str, figures))), exponent + digits
    minor, lost = divmod(whole, 10**-shift) if shift < 0 else (whole * 10**shift, 0)
    if lost:
        return "more_digits"
    return minor if minor <= MAX_MINOR else "out_of_range"


def decimal_of(amount_minor: int, currency: str) -> str:
    """The reverse of `minor_of`, with all digits of the currency: `149.00`."""
    assert amount_minor >= 0, "providers are asked for positive amounts"
    digits = MINOR_DIGITS[currency]
    whole, part = divmod(amount_minor, 10**digits)
    return f"{whole}.{part:0{digits}d}" if digits else str(whole)
