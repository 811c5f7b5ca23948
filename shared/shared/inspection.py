"""Every question that operators ask, by `turnpike …`: what lies buried. No name, key or text of a person travels."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contract import Question, Value
from shared.owners import OWNERS


def _each(question: type[Question[Any]], what: str) -> dict[str, Any]:
    """The same question to every owner, each with its own topic."""
    name = question.__name__.removeprefix("Ask")
    return {
        owner: type(
            f"Ask{owner.capitalize()}{name}",
            (question,),
            {"topic": f"{owner}.{what}", "__doc__": question.__doc__, "__module__": question.__module__},
        )
        for owner in OWNERS
    }


class DeadLetter(Value):
    letter: int
    handler: str
    fact: UUID
    subject: str
    reason: str
    size_bytes: int
    buried_at: datetime
    replayed_at: datetime | None
    trace: str | None
    """The trace id of its story, where its headers tell it."""


class DeadLetters(Value):
    letters: tuple[DeadLetter, ...]
    more: bool


class AskDeadLetters(Question[DeadLetters]):
    """What lies buried with the owner, the oldest first, a page at a time: `AskDeadLetters.of("payments")(…)`."""

    answer = DeadLetters

    after: int = Field(default=0, ge=0, lt=2**63)
    """The last letter of the page before."""
    replayed: bool = False
    """Those that were replayed too."""

    @staticmethod
    def of(owner: str) -> "type[AskDeadLetters]":
        return _DEAD_LETTERS[owner]


_DEAD_LETTERS: dict[str, type[AskDeadLetters]] = _each(AskDeadLetters, "dead_letters")


class OpenedLetter(Value):
    letter: DeadLetter
    body: str
    """The bytes as text where they are UTF-8, else as hexadecimal digits; at most the first 64 KiB of them."""
    encoding: Literal["utf-8", "hex"]


class AskDeadLetter(Question[OpenedLetter]):
    """One dead letter with its bytes. Refused: `letter_unknown`."""

    answer = OpenedLetter

    letter: int = Field(ge=0, lt=2**63)

    @staticmethod
    def of(owner: str) -> "type[AskDeadLetter]":
        return _DEAD_LETTER[owner]


_DEAD_LETTER: dict[str, type[AskDeadLetter]] = _each(AskDeadLetter, "dead_letter")


class DeadJob(Value):
    person: UUID
    node: str
    present: bool
    """Whether the node was to let the person in, or to shut him out."""
    tries: int
    error: str | None
    died_at: datetime
    trace: str | None


class DeadJobs(Value):
    jobs: tuple[DeadJob, ...]
    more: bool


class AskDeadJobs(Question[DeadJobs]):
    """Access jobs that were given up, the oldest first, at most 200; of one person where one is named."""

    topic = "vpn.dead_jobs"
    answer = DeadJobs

    person: UUID | None = None


INSPECTIONS: tuple[type[Question[Any]], ...] = (
    *_DEAD_LETTERS.values(),
    *_DEAD_LETTER.values(),
    AskDeadJobs,
)
