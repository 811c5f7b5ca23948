"""Fields of providers' objects as values: read exactly, or named as unreadable."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from payments.domain.provider import Sum, Unreadable
from shared.contracts.message import MAX_CHARGE_CHARACTERS, MAX_PAYLOAD_CHARACTERS
from shared.contracts.money import minor_of

SENTENCE_CHARACTERS = 300
WORD_CHARACTERS = 64

Json = dict[str, Any]
_Value = TypeVar("_Value")
Reason = Literal["more_digits", "out_of_range", "currency_unknown", "malformed"]


class CannotReadError(Exception):
    """An object of a provider that we cannot keep. `readable` turns it into a value."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason


def readable(read: Callable[[Json], _Value], one: object, reference: str) -> _Value | Unreadable:
    """The value of one object. `reference` names it where it cannot be read."""
    try:
        if not isinstance(one, dict):
            raise CannotReadError("malformed", "It is no object.")
        return read(one)
    except CannotReadError as cannot:
        return Unreadable(reference, cannot.reason, str(cannot))


def apart(
    read: Sequence[_Value | Unreadable],
) -> tuple[list[_Value], list[Unreadable]]:
    """What could be read, and what could not."""
    unreadable = [one for one in read if isinstance(one, Unreadable)]
    return [one for one in read if not isinstance(one, Unreadable)], unreadable


def text_of(fields: Json, name: str) -> str:
    """A text that is an id or a word of the provider."""
    value = fields.get(name)
    if isinstance(value, str) and 0 < len(value) <= MAX_CHARGE_CHARACTERS and _is_plain(value):
        return value
    raise CannotReadError("malformed", f"Its field {name} is no plain text.")


def object_of(fields: Json, name: str) -> Json:
    value = fields.get(name)
    if isinstance(value, dict):
        return value
    raise CannotReadError("malformed", f"Its field {name} is no object.")


def moment_of(fields: Json, name: str) -> datetime:
    """A time in ISO 8601 with its zone."""
    try:
        at = datetime.fromisoformat(text_of(fields, name))
    except ValueError:
        raise CannotReadError("malformed", f"Its field {name} is no time.") from None
    if at.tzinfo is None:
        raise CannotReadError("malformed", f"Its field {name} has no time zone.")
    return at


def optional_moment_of(fields: Json, name: str) -> datetime | None:
    return None if fields.get(name) is None else moment_of(fields, name)


def sum_of(amount: object, currency: object) -> Sum:
    """Exact money. The sentence names the amount: an operator looks for it at the provider."""
    code = currency if isinstance(currency, str) else ""
    minor = minor_of(amount, code)
    if isinstance(minor, int):
        return Sum(code, minor)
    shown = f"{clean(str(amount), WORD_CHARACTERS)} {clean(code, WORD_CHARACTERS)}"
    raise CannotReadError(minor, f"Its amount of {shown} cannot be kept exactly.")


def own_text(value: object) -> str | None:
    """A text that may be our payload. None for anything that we would not have written."""
    if isinstance(value, str) and len(value) <= MAX_PAYLOAD_CHARACTERS and _is_plain(value):
        return value
    return None


def word(value: object) -> str | None:
    """The provider's word for a reason, as short as a name."""
    return clean(value, WORD_CHARACTERS) if isinstance(value, str) and value else None


def clean(text: str, most: int = SENTENCE_CHARACTERS) -> str:
    """Text of outside that any log and column holds: no control characters, a bounded length."""
    return "".join(one if one.isprintable() else " " for one in text[:most]).strip()


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
