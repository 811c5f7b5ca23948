"""Formats answers for people: columns that fit, UTC times, and no control characters."""

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from shared.contracts.money import MINOR_DIGITS, USUAL_DIGITS

WIDTH = 100


def moment(at: datetime | None) -> str:
    """UTC to the millisecond in 23 characters, as in the logs."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def money(amount_minor: int, currency: str) -> str:
    """`149.00 RUB`, `99 XTR`: the currency as its code, so that columns align."""
    digits = MINOR_DIGITS.get(currency, USUAL_DIGITS)
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole}{f'.{part:0{digits}d}' if digits else ''} {currency}"


def printable(text: str) -> str:
    """Text from outside, with its control characters escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def first_line(text: str | None, most: int = 120) -> str:
    """The beginning of a reason, which may be a whole report; `…` shows that there is more."""
    whole = (text or "").strip()
    line = whole.partition("\n")[0][:most].rstrip()
    return line if line == whole else f"{line} …"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their cells. The last column takes the rest of the line and wraps."""
    cells = [head, *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    return [line for row in cells for line in _lines(row, widths)]


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
    return wrapped(first, row[-1])


def wrapped(first: str, text: str) -> list[str]:
    """`first` and the text. The text wraps and is indented by the width of `first`."""
    room = max(20, WIDTH - len(first))
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [(first + lines[0]).rstrip(), *[" " * len(first) + line for line in lines[1:]]]
