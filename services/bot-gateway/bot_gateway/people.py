"""Who somebody is to us before we know them: the language we begin in, the code that invites, what a /start says."""

import hashlib
import re
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Literal
from uuid import UUID

Language = Literal["ru", "en"]

OFFER_VERSION = 2
"""Raised when the offer's text changes; whoever accepted an older one is asked again before anything else."""

CODE_LETTERS = 12
_BASE62 = digits + ascii_letters
_START_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_LETTERS = 128


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

    @property
    def may_shop(self) -> bool:
        return self.offer_version == OFFER_VERSION


@dataclass(frozen=True)
class Arrival:
    """Somebody pressed /start."""

    telegram_id: int
    first_name: str
    username: str | None
    language: Language
    payload: str | None


def code_of(person: UUID) -> str:
    """The invitation code: 71 bits that only the random person id gives, so nobody counts through them (S-11, D-13)."""
    number = int.from_bytes(hashlib.sha256(b"invitation|" + person.bytes).digest(), "big")
    letters = []
    for _ in range(CODE_LETTERS):
        number, place = divmod(number, len(_BASE62))
        letters.append(_BASE62[place])
    return "".join(letters)


def language_of(language_code: str | None) -> Language:
    """Telegram's language tag (`ru`, `ru-RU`, `en-GB` …) as one of ours."""
    return "ru" if (language_code or "").lower().split("-")[0] == "ru" else "en"


def payload_of(typed: str | None) -> str | None:
    """The payload of a /start; what Telegram would not put into a link is none."""
    return typed if typed and _START_PAYLOAD.fullmatch(typed) else None


def invitation_in(payload: str | None) -> str | None:
    """The code of an invitation link, `r_<code>`."""
    code = (payload or "").removeprefix("r_")
    return code if payload and payload.startswith("r_") and len(code) == CODE_LETTERS and code.isalnum() else None


def name_of(typed: str) -> str:
    """A name as PostgreSQL can keep it."""
    return typed.replace("\x00", "")[:_NAME_LETTERS]
