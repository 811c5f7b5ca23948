"""How answers are written for people: columns that fit, moments, and nothing that moves the cursor."""

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from shared.money import MINOR_DIGITS

WIDTH = 100


def moment(at: datetime | None) -> str:
    """UTC to the millisecond, 23 letters, as every log has it."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def money(amount_minor: int, currency: str) -> str:
    """`149.00 RUB`, `99 XTR`: letters only, so that columns stand."""
    digits = MINOR_DIGITS.get(currency, 2)
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole}{f'.{part:0{digits}d}' if digits else ''} {currency}"


def plain(text: str) -> str:
    """What came from outside as it can be printed: control characters are shown, not obeyed."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def first_line(text: str | None, most: int = 120) -> str:
    """A reason may be a whole report: its beginning, and a sign that there is more."""
    whole = (text or "").strip()
    line = whole.partition("\n")[0][:most].rstrip()
    return line if line == whole else f"{line} …"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need; the last one takes the rest of the line and goes on below itself."""
    cells = [head, *[[plain(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    return [line for row in cells for line in _lines(row, widths)]


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
    return wrapped(first, row[-1])


def wrapped(first: str, text: str) -> list[str]:
    """`first` and the text, which goes on below its own beginning."""
    room = max(20, WIDTH - len(first))
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [(first + lines[0]).rstrip(), *[" " * len(first) + line for line in lines[1:]]]
