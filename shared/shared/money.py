"""Integer money: minor units with a currency, and the one way to turn an amount into another by a ratio."""

from dataclasses import dataclass

# How many digits stand behind the point. Telegram's Stars are whole.
MINOR_DIGITS = {"RUB": 2, "XTR": 0}
SIGNS = {"RUB": "₽", "XTR": "⭐"}
DECIMAL_MARKS = {"ru": ",", "en": "."}


@dataclass(frozen=True)
class Money:
    """An amount on its way to a person; the catalogue writes it in the person's language."""

    amount_minor: int
    currency: str = "RUB"
    signed: bool = False
    """Write a plus before what came in."""

    def shown(self, language: str) -> str:
        plus = "+" if self.signed and self.amount_minor > 0 else ""
        return plus + shown(self.amount_minor, self.currency, language)


def shown(amount_minor: int, currency: str = "RUB", language: str = "en") -> str:
    """For people: `399 ₽`, `1 399.50 ₽` (`1 399,50 ₽`), `250 ⭐`. Thousands are parted by a thin no-break space."""
    digits = MINOR_DIGITS[currency]
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "−" if amount_minor < 0 else ""
    grouped = f"{whole:,}".replace(",", "\u202f")
    tail = f"{DECIMAL_MARKS[language]}{part:0{digits}d}" if part else ""
    return f"{sign}{grouped}{tail}\u00a0{SIGNS[currency]}"


def converted(amount_minor: int, times: int, per: int) -> int:
    """Times `times`, divided by `per`, floor: what a conversion cannot express stays with the exchange account."""
    return amount_minor * times // per
