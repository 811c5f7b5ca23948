"""The grammar of what travels between services: facts, questions, commands, and refusals."""

import hashlib
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic import BaseModel, ConfigDict, PrivateAttr

# Everything that is derived (facts, transfers, deliveries …) hangs below this one random namespace.
NAMESPACE = UUID("6f0c1d3a-52f5-4d0e-9a3b-0f7f6f5b9a41")
_ROOT = NAMESPACE.bytes


def derived_id(*parts: object) -> UUID:
    """An id that the same cause always gives again, so that a repeat meets the row of the first time.

    `uuid5(NAMESPACE, "part|part|…")` as asyncpg's UUID, which is one in C: a payment derives some twenty of them.
    """
    digest = bytearray(hashlib.sha1(_ROOT + "|".join(map(str, parts)).encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # Version 5 …
    digest[8] = digest[8] & 0x3F | 0x80  # … of RFC 9562.
    id_: UUID = pgproto.UUID(bytes(digest))
    return id_


def digest_of(*fields: object) -> int:
    """63 bits over what a row says, to tell a repeat from a contradiction. Rows keep them, so the way never changes."""
    return derived_id(*fields).int % 2**63


def _digest(body: str) -> int:
    """64 signed bits over a message's fields, as PostgreSQL's bigint holds them."""
    return int.from_bytes(hashlib.sha256(body.encode()).digest()[:8], "big", signed=True)


class Value(BaseModel):
    """A frozen piece of a message. Unknown fields are ignored: an owner may add one before its listeners know it."""

    # Built when first used: a process knows two hundred of them and speaks with a dozen.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Fact(Value):
    """Something that happened, told by its owner after the transaction that made it true.

    `id` is derived from the cause, the topic and whom it is about; `at` is the owner's database clock (UTC).
    Neither is a business field: the digest covers the rest, but `circumstances`, which are others when an owner that
    was restored from a backup does the same again.
    """

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    circumstances: ClassVar[frozenset[str]] = frozenset()

    id: UUID
    cause: str
    about: UUID
    at: datetime

    _trace: str | None = PrivateAttr(default=None)

    @classmethod
    def because(cls, cause: object, *, about: UUID, at: datetime, trace: str | None = None, **fields: Any) -> Self:
        """The fact that this cause makes true about this person or thing, at this moment of the owner's database.

        `trace` is the story that it continues; without one it continues the span in which it is told.
        """
        fact = cls(id=derived_id(cause, cls.topic, about), cause=str(cause), about=about, at=at, **fields)
        fact._trace = trace
        return fact

    @property
    def trace(self) -> str | None:
        """The W3C `traceparent` of the story; it rides in headers, never in the body."""
        return self._trace

    def continuing(self, trace: str | None) -> Self:
        self._trace = trace
        return self

    @classmethod
    def subject(cls) -> str:
        return f"evt.{cls.topic}.v{cls.version}"

    def digest(self) -> int:
        """64 signed bits over the business fields; the same id with another digest is an alarm."""
        return _digest(self.model_dump_json(exclude={"id", "cause", "at", *self.circumstances}))


Answer = TypeVar("Answer", bound=Value)


class Question(Value, Generic[Answer]):
    """Asks the owner; never changes anything."""

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    answer: ClassVar[type[Value]]

    @classmethod
    def subject(cls) -> str:
        return f"ask.{cls.topic}.v{cls.version}"


class Command(Value, Generic[Answer]):
    """Asks the owner to act, once however often it arrives.

    `id` is drawn with the screen that offers the act, `actor` is who wants it (`person:<id>`, `operator:<id>`),
    `reason` is written where an operator acts, and after `deadline_at` the owner refuses to begin.
    """

    topic: ClassVar[str]
    version: ClassVar[int] = 1
    answer: ClassVar[type[Value]]

    id: UUID
    actor: str
    reason: str | None = None
    deadline_at: datetime

    @classmethod
    def subject(cls) -> str:
        return f"do.{cls.topic}.v{cls.version}"

    def digest(self) -> int:
        """64 signed bits over what is wanted; the deadline is not part of it, a repeat may carry a later one."""
        return _digest(self.model_dump_json(exclude={"id", "deadline_at"}))


class Refused(Value):
    """A named no. `reason` is one of the owner's literals; `detail` holds what a screen may show."""

    reason: str
    detail: str | None = None
