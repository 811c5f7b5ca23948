"""The kinds of message between services (events, queries, commands) and named refusals."""

import hashlib
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

# Every derived id (event, transfer, delivery …) is made in this one random namespace.
NAMESPACE = UUID("6f0c1d3a-52f5-4d0e-9a3b-0f7f6f5b9a41")
_ROOT = NAMESPACE.bytes


def derived_id(*parts: object) -> UUID:
    """The id of an effect, made from its cause: a repeat gets the same id and meets the first row.

    `uuid5(NAMESPACE, "part|part|…")` as asyncpg's UUID, which is written in C: a payment derives
    about twenty ids.
    """
    name = "|".join(map(str, parts)).encode()
    digest = bytearray(hashlib.sha1(_ROOT + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # Version 5 …
    digest[8] = digest[8] & 0x3F | 0x80  # … of RFC 9562.
    id_: UUID = pgproto.UUID(bytes(digest))
    return id_


def digest_of(*fields: object) -> int:
    """63 bits over the fields of a row, to tell a repeat from a conflict.

    Rows store the digest, so this function must never change.
    """
    return derived_id(*fields).int % 2**63


def _digest(body: str) -> int:
    """64 signed bits over a message's fields: they fit PostgreSQL's bigint."""
    return int.from_bytes(hashlib.sha256(body.encode()).digest()[:8], "big", signed=True)


# Texts of events, queries and commands have a length that every index holds: a row of a B-tree has
# 2 704 bytes, and a character up to 4.
MAX_CHARGE_CHARACTERS = 256
MAX_PAYLOAD_CHARACTERS = 256
MAX_REASON_CHARACTERS = 1_000

Word = Annotated[str, Field(max_length=64)]
"""A name of ours: a plan, a currency, a kind, a reason."""
Charge = Annotated[str, Field(max_length=MAX_CHARGE_CHARACTERS)]
"""The id that an acquirer gave to a payment."""
Payload = Annotated[str, Field(max_length=MAX_PAYLOAD_CHARACTERS)]
"""What came back with the money. Ours have 82 characters, and Telegram allows 128."""
Line = Annotated[str, Field(max_length=300)]
"""A cause, a key of an owner, what an operator typed, or the reason of a failure."""


class Value(BaseModel):
    """A frozen part of a message.

    Unknown fields are ignored: an owner may add a field before its subscribers know it.
    """

    # Validators are built on first use: a process imports two hundred models and uses a dozen.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


def added(default: Any) -> Any:
    """A field that was added later.

    It is left out of the body while it holds `default`, so older events keep bytes and digest.
    """
    return Field(default=default, exclude_if=lambda value: bool(value == default))


class Event(Value):
    """Something that happened, published by its owner after the transaction that made it true.

    `id` is derived from the cause, the topic and `about` (the person or thing it concerns). `at`
    is the time of the owner's database (UTC). The digest covers the other fields, except those
    in `undigested`: they differ when an owner restored from a backup repeats the same change.
    """

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    undigested: ClassVar[frozenset[str]] = frozenset()

    id: UUID
    cause: Line
    about: UUID
    at: datetime

    _trace: str | None = PrivateAttr(default=None)

    @classmethod
    def caused_by(
        cls, cause: object, *, about: UUID, at: datetime, trace: str | None = None, **fields: Any
    ) -> Self:
        """The event that this cause makes true, at this time of the owner's database.

        `trace` is the `traceparent` to continue. Without it the event continues the span in
        which it is published.
        """
        id_ = derived_id(cause, cls.topic, about)
        event = cls(id=id_, cause=str(cause), about=about, at=at, **fields)
        event._trace = trace
        return event

    @property
    def trace(self) -> str | None:
        """The W3C `traceparent`. It travels in a header, never in the body."""
        return self._trace

    def continuing(self, trace: str | None) -> Self:
        self._trace = trace
        return self

    @classmethod
    def subject(cls) -> str:
        return f"evt.{cls.topic}.v{cls.version}"

    def digest(self) -> int:
        """64 signed bits over the business fields. Same id, other digest: a conflict."""
        return _digest(self.model_dump_json(exclude={"id", "cause", "at", *self.undigested}))


Answer = TypeVar("Answer", bound=Value)


class Query(Value, Generic[Answer]):
    """A question to the owner of some data. It never changes anything."""

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    answer: ClassVar[type[Value]]

    @classmethod
    def subject(cls) -> str:
        return f"qry.{cls.topic}.v{cls.version}"


class Command(Value, Generic[Answer]):
    """A request to act. The owner acts once, however often the command arrives.

    `id` is derived from the person and the id drawn with the screen that offers the act, and is
    unique per topic; the command line draws its own. `actor` is `person:<id>` or
    `operator:<id>`. `reason` is written by an operator. The owner does not begin after
    `deadline_at`.
    """

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    answer: ClassVar[type[Value]]
    unstored: ClassVar[frozenset[str]] = frozenset()
    """Fields with data of a person: the row of the command does not hold them."""

    id: UUID
    actor: Line
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)] | None = None
    deadline_at: datetime

    @classmethod
    def subject(cls) -> str:
        return f"cmd.{cls.topic}.v{cls.version}"

    def digest(self) -> int:
        """64 signed bits over the request. A repeat may carry a later deadline: it is left out."""
        return _digest(self.model_dump_json(exclude={"id", "deadline_at"}))


class Refused(Value):
    """A named refusal. `reason` is a literal of the owner; `detail` may be shown on a screen."""

    reason: str
    detail: str | None = None
