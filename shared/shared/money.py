"""Integer money: minor units with a currency, and the one way to turn an amount into another by a ratio."""

from dataclasses import dataclass

# How many digits stand behind the point. Telegram's Stars are whole.
MINOR_DIGITS = {"RUB": 2, "XTR": 0}


@dataclass(frozen=True)
class Money:
    amount_minor: int
    currency: str

    def __str__(self) -> str:
        return shown(self.amount_minor, self.currency)


def shown(amount_minor: int, currency: str = "RUB") -> str:
    """For people: `399 ₽`, `1 399.50 ₽`, `250 ⭐`. Thousands are parted by a thin no-break space."""
    digits = MINOR_DIGITS[currency]
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "−" if amount_minor < 0 else ""
    grouped = f"{whole:,}".replace(",", "\u202f")
    tail = f".{part:0{digits}d}" if part else ""
    return f"{sign}{grouped}{tail}\u00a0{ {'RUB': '₽', 'XTR': '⭐'}[currency] }"


def converted(amount_minor: int, times: int, per: int) -> int:
    """Times `times`, divided by `per`, floor: what a conversion cannot express stays with the exchange account."""
    return amount_minor * times // per
