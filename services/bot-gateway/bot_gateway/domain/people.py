"""Decisions about a person before they are stored: language, invitation code, /start payload."""

import hashlib
import re
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Literal
from uuid import UUID

Language = Literal["ru", "en"]
Awaited = str
"""The answer that a screen asks for: the person types it. "amount", or "email", with the way to pay
and "rest" behind it where an invoice waits for it: `email:sbp`, `email:card:rest`."""

OFFER_VERSION = 4
"""Raised when the text of the offer changes. Persons who accepted an older one are asked again."""

CODE_CHARACTERS = 12
_BASE62 = digits + ascii_letters
_START_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_CHARACTERS = 128
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Person:
    person: UUID
    telegram_id: int
    language: Language
    code: str
    offer_version: int | None
    reachable: bool
    screen_id: int | None
    """The message in the chat that is edited in place."""
    screen_order: UUID | None
    """The order that this message offers to pay."""
    screen_awaits: Awaited | None
    """The answer that this message asks for. The next message of the person is read as it."""

    @property
    def shown(self) -> "Shown | None":
        """None for a person without a screen."""
        if self.screen_id is None:
            return None
        return Shown(self.screen_id, self.screen_order, self.screen_awaits)

    @property
    def may_shop(self) -> bool:
        return self.offer_version == OFFER_VERSION


@dataclass(frozen=True)
class Shown:
    """The message that is the screen now, the order that it offers, and the answer it awaits."""

    screen_id: int
    order: UUID | None = None
    awaits: Awaited | None = None


@dataclass(frozen=True)
class Arrival:
    """A /start, with the sender as Telegram describes them."""

    telegram_id: int
    first_name: str
    username: str | None
    language: Language
    payload: str | None


def code_of(person: UUID) -> str:
    """The invitation code: 71 bits of a hash of the random person id, so it cannot be guessed or
    counted through (S-11, D-13).
    """
    number = int.from_bytes(hashlib.sha256(b"invitation|" + person.bytes).digest(), "big")
    characters = []
    for _ in range(CODE_CHARACTERS):
        number, index = divmod(number, len(_BASE62))
        characters.append(_BASE62[index])
    return "".join(characters)


def language_of(language_code: str | None) -> Language:
    """The catalogue's language for a language tag of Telegram (`ru`, `ru-RU`, `en-GB` …)."""
    return "ru" if (language_code or "").lower().split("-")[0] == "ru" else "en"


def payload_of(typed: str | None) -> str | None:
    """The payload of a /start. None for a text that Telegram would not accept in a link."""
    return typed if typed and _START_PAYLOAD.fullmatch(typed) else None


def invitation_in(payload: str | None) -> str | None:
    """The code of an invitation link, `r_<code>`. None for a payload of another form."""
    code = (payload or "").removeprefix("r_")
    return (
        code
        if payload and payload.startswith("r_") and len(code) == CODE_CHARACTERS and code.isalnum()
        else None
    )


def name_of(typed: str) -> str:
    """A name that PostgreSQL can store: no NUL or half of a pair, at most 128 characters."""
    return _UNSTORABLE.sub("", typed)[:_NAME_CHARACTERS]
