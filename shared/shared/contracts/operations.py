"""What every owner answers and executes: status, audits, dead letters, events, and checks.

Each message exists once per owner: `AuditQuery.of("payments")` has the topic `payments.audit`.
Answers are rows with ids and times (of the owner's database). They hold no name, key or text of
a person.
"""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Literal, Self, TypeVar
from uuid import UUID

from pydantic import Field

from shared.contracts.message import Command, Line, Query, Value, Word
from shared.contracts.operators import Act
from shared.contracts.owners import OWNERS
from shared.contracts.vpn import Replayed


class PerOwner:
    """A message that every owner has under a topic of its own."""

    by_owner: ClassVar[dict[str, type]] = {}

    @classmethod
    def of(cls, owner: str) -> type[Self]:
        return cls.by_owner[owner]


Message = TypeVar("Message", bound=type[PerOwner])


def per_owner(name: str) -> Callable[[Message], Message]:
    """Make a class of the message for each owner, with the topic `<owner>.<name>`."""

    def make(message: Message) -> Message:
        message.by_owner = {
            owner: type(
                f"{owner.capitalize()}{message.__name__}",
                (message,),
                {
                    "topic": f"{owner}.{name}",
                    "__doc__": message.__doc__,
                    "__module__": message.__module__,
                },
            )
            for owner in OWNERS
        }
        return message

    return make


# The status


class DatabaseStatus(Value):
    """The owner's database as a replica sees it."""

    version: str
    """Of PostgreSQL."""
    address: str
    """Host, port and database, without credentials."""
    pending: int
    """Events that the broker has not acknowledged, counted up to 100 000."""
    oldest_s: float
    """The age of the oldest pending event; 0 without one."""
    waiting: int
    """Messages that failed and wait for their next try, up to 10 000 of each handler."""
    dead_letters: int
    """Dead letters that were not replayed, counted up to 10 000."""


class LastAudit(Value):
    """The last audit that a replica made by itself since its start."""

    at: datetime
    violations: int
    invariants: tuple[str, ...]
    """Those that are violated."""


class LastIteration(Value):
    """The last turn of a worker that found work."""

    ended_s: float
    """How many seconds ago."""
    took_s: float
    items: int
    outcomes: dict[str, int]
    """What became of the items, by name. Empty for a fast lane, which only counts them."""
    result: str
    """`done`, `failed`, or `timed_out` when its limit ended it."""


class WorkerStatus(Value):
    """The loops with one name in a replica, since its start."""

    loop: str
    """As in the logs and the metrics."""
    copies: int
    """How many there are: a loop for each node, or for each provider."""
    turned_s: float
    """How many seconds ago the loop that is silent for longest gave a sign of life."""
    stuck: bool
    """It is silent for longer than it may be, and for longer than it said that it would wait."""
    turns: int
    iterations: int
    """Turns that found work."""
    failures: int
    last: LastIteration | None


class ReplicaStatus(Value):
    replica: str
    """Its host and process."""
    version: str
    not_ready: str | None
    """The reason in one sentence, as `/readyz` says it. None when the replica can work."""
    database: DatabaseStatus | None
    """None when the database did not answer in time."""
    last_audit: LastAudit | None
    workers: tuple[WorkerStatus, ...] | None = None
    """By the name of the loop. None from a release that did not tell."""


@per_owner("status")
class StatusQuery(PerOwner, Query[ReplicaStatus]):
    """How a replica is, and what waits at its owner. Every replica answers."""

    answer = ReplicaStatus


# The audit


class Finding(Value):
    """One invariant as its owner sees it."""

    invariant: str
    truth: str
    violations: int
    """Counted up to 10 000 in a page of rows."""
    examples: tuple[str, ...] = ()
    checked: bool = True
    """False when the check failed or took too long: then that is one of the violations."""


class Audit(Value):
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    """How many rows there are, up to 10 000. Empty when only some hours were audited."""
    after: str | None = None
    """Where the next part begins. None after the last part."""


@per_owner("audit")
class AuditQuery(PerOwner, Query[Audit]):
    """The owner's invariants, checked on its tables now."""

    answer = Audit

    hours: float | None = Field(default=None, gt=0, le=1_000_000)
    """Only the last so many hours, where a check can tell. None means everything."""
    after: Line | None = None
    """Answer a part of some seconds: empty for the first, then the `after` of the part before.

    None means all in one answer.
    """


class Keys(Value):
    keys: tuple[str, ...]
    after: str | None
    """Where the next page begins. None after the last page."""


@per_owner("keys")
class KeysQuery(PerOwner, Query[Keys]):
    """A page of the owner's keys of one kind. Refused: `kind_unknown`.

    A key holds all that another owner must have as well: ids, and amounts in minor units,
    separated by spaces.
    """

    answer = Keys

    kind: Word
    after: Line | None = None
    hours: float | None = Field(default=None, gt=0, le=1_000_000)
    """Only what is younger."""
    settled_s: float = Field(default=0.0, ge=0, le=86_400)
    """Only what is older, by the owner's clock: younger rows may still be on their way."""


class MissingKeys(Value):
    keys: tuple[str, ...]


@per_owner("missing_keys")
class MissingKeysQuery(PerOwner, Query[MissingKeys]):
    """Which of these keys of one kind the owner does not have. Refused: `kind_unknown`."""

    answer = MissingKeys

    kind: Word
    keys: tuple[Line, ...] = Field(max_length=5000)


# Dead letters


class DeadLetter(Value):
    id: int
    handler: str
    event: UUID
    subject: str
    reason: str
    size_bytes: int
    dead_lettered_at: datetime
    replayed_at: datetime | None
    trace: str | None
    """The trace id, where the headers hold one."""


class DeadLetters(Value):
    dead_letters: tuple[DeadLetter, ...]
    more: bool


@per_owner("dead_letters")
class DeadLettersQuery(PerOwner, Query[DeadLetters]):
    """The owner's dead letters, the oldest first, a page at a time."""

    answer = DeadLetters

    after: int = Field(default=0, ge=0, lt=2**63)
    """The id of the last dead letter of the page before."""
    replayed: bool = False
    """Include dead letters that were replayed."""


class DeadLetterContent(Value):
    dead_letter: DeadLetter
    body: str
    """The bytes as text where they are UTF-8, else in hexadecimal; at most the first 64 KiB."""
    encoding: Literal["utf-8", "hex"]


@per_owner("dead_letter")
class DeadLetterQuery(PerOwner, Query[DeadLetterContent]):
    """One dead letter with its bytes. Refused: `dead_letter_unknown`."""

    answer = DeadLetterContent

    dead_letter: int = Field(ge=0, lt=2**63)


@per_owner("replay_dead_letter")
class ReplayDeadLetter(PerOwner, Act[Replayed]):
    """Pass a dead letter to its handler again. Refused: `dead_letter_unknown`, `still_failing`."""

    answer = Replayed

    dead_letter: int = Field(ge=0, lt=2**63)


# Events


class PublishedEvent(Value):
    event: UUID
    topic: str
    recorded_at: datetime
    age_s: float
    pending: bool
    """The broker has not acknowledged it yet."""


class HandledEvent(Value):
    event: UUID
    handler: str
    outcome: Literal["done", "dead_lettered"]
    handled_at: datetime


class FailingEvent(Value):
    """A handler failed on it and will try again by itself."""

    event: UUID
    handler: str
    tries: int
    reason: str


class DeadLetteredEvent(Value):
    event: UUID
    handler: str
    dead_letter: int
    reason: str
    dead_lettered_at: datetime
    replayed_at: datetime | None


class EventRecords(Value):
    published: tuple[PublishedEvent, ...]
    handled: tuple[HandledEvent, ...]
    failing: tuple[FailingEvent, ...]
    dead_lettered: tuple[DeadLetteredEvent, ...]


@per_owner("events")
class EventsQuery(PerOwner, Query[EventRecords]):
    """What the owner published and handled of these events. It keeps them for 30 days."""

    answer = EventRecords

    events: tuple[UUID, ...] = Field(max_length=500)


# The anti-entropy check


class HourlyChecksum(Value):
    """An hour in two numbers: the count of events, and a checksum.

    The checksum is the exclusive or of the low 64 bits of the ids and of the digests. Two sides
    with the same events have the same checksum, in whatever order the events came.
    """

    hour: datetime
    count: int
    bits: int


class HourlyChecksums(Value):
    at: datetime
    """The owner's time of the answer."""
    from_at: datetime
    until_at: datetime
    checksums: tuple[HourlyChecksum, ...]
    """Hours with events, from `from_at` until before `until_at`; others are left out."""
    pending: tuple[datetime, ...]
    """Hours with events that the broker has not acknowledged: they cannot be compared yet."""


@per_owner("hourly_checksums")
class HourlyChecksumsQuery(PerOwner, Query[HourlyChecksums]):
    """Checksums of the owner's closed hours, the newest first. Refused: `not_mine`.

    `before` is the `from_at` of the page before. A page without hours is the last one.
    """

    answer = HourlyChecksums

    event: Word
    """The topic of the event."""
    before: datetime | None = None
    hours: int = Field(ge=1, le=24)


class PublishedIds(Value):
    ids: tuple[UUID, ...]
    digests: tuple[int, ...]
    more: bool


@per_owner("published_ids")
class PublishedIdsQuery(PerOwner, Query[PublishedIds]):
    """The events that the owner published in an hour, by id, in pages."""

    answer = PublishedIds

    event: Word
    hour: datetime
    after: UUID | None = None


class Republished(Value):
    events: int
    """How many were put back. Pending and unknown events do not count."""


@per_owner("republish")
class Republish(PerOwner, Command[Republished]):
    """Publish these events again, because a subscriber lacks them."""

    answer = Republished

    events: tuple[UUID, ...] = Field(max_length=4_000)
