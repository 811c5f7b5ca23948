"""Decides about refunds that operators ask for: may it begin, and what ends it.

    held ──a worker claims it──▶ calling ──the money left──▶ settled
                                    │ ├──the acquirer refused──▶ released
                                    │ └──accepted──▶ pending ──read back──▶ settled | released
                                    └──nobody can know──▶ pending_review ──an operator, or the
                                                          listing──▶ settled | released

A refund of its receipt that is booked from anywhere may be this one, or take what it was for.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from payments.domain.provider import (
    Refund,
    RefundDone,
    RefundPending,
    Refusal,
    Returning,
    SlowDown,
    Unavailable,
    Unknown,
    Unreadable,
    Unsupported,
)

REPEATED_FOR_S = 20 * 3_600.0
"""Providers keep a key for a day. After it the same call would be another refund."""

TELEGRAM: dict[str, Returning | Unsupported] = {
    "telegram_stars": Returning(in_parts=False, keyed=True),
    "telegram_card": Unsupported(
        "Telegram returns no card payments: return it in the cabinet of its provider, or credit "
        "the wallet (turnpike balance add)."
    ),
}
"""The ways out that every shop has. A charge of Stars is returned once, which is a key."""


@dataclass(frozen=True)
class Outgoing:
    """A refund under way. `asked`: the money may have left."""

    id: UUID
    receipt: UUID
    acquirer: str
    person: UUID | None
    amount_minor: int
    held_minor: int
    reference: str | None
    asked: bool

    @property
    def cause(self) -> str:
        return f"outgoing:{self.id}"


End = Literal["settled", "released"]


def end_by(
    outgoing: Outgoing, reference: str, amount_minor: int, returned_minor: int, paid_minor: int
) -> End | None:
    """How a booked refund of the same receipt ends one under way. None: it does not.

    The reference decides, or the amount where the answer with the reference may be lost. A refund
    that was not asked for yet is released if too little is left of the payment.
    """
    if outgoing.reference is not None:
        return "settled" if outgoing.reference == reference else None
    if outgoing.asked:
        return "settled" if outgoing.amount_minor == amount_minor else None
    return "released" if paid_minor - returned_minor < outgoing.amount_minor else None


RefusedBecause = Literal["returned_already", "more_than_left", "only_whole"]


def may_return(
    amount_minor: int | None, left_minor: int, paid_minor: int, *, in_parts: bool
) -> int | RefusedBecause:
    """The amount to return: all that is left, unless another is asked for."""
    if left_minor <= 0:
        return "returned_already"
    wanted_minor = left_minor if amount_minor is None else amount_minor
    if wanted_minor > left_minor:
        return "more_than_left"
    if wanted_minor != paid_minor and not in_parts:
        return "only_whole"
    return wanted_minor


Answer = (
    RefundDone
    | RefundPending
    | Refund
    | Unreadable
    | Refusal
    | SlowDown
    | Unavailable
    | Unknown
    | Unsupported
    | None
)
"""Of a call, or of a look at a refund that was accepted. None: the acquirer does not know it."""


@dataclass(frozen=True, slots=True)
class Settled:
    reference: str


@dataclass(frozen=True, slots=True)
class Released:
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """It is read back later."""

    reference: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Nothing happened. The acquirer is paused, and the refund is as it was."""

    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AskAgain:
    """With the same key, or the same look."""

    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Review:
    """Nobody can know the outcome: an operator looks at the acquirer."""

    reason: str


Outcome = Settled | Released | Accepted | NotAsked | AskAgain | Review


def outcome_of(answer: Answer, *, lost: bool, keyed: bool, asked_for_s: float) -> Outcome:
    """`lost`: an earlier answer may be lost, `asked_for_s` after the first call.

    A refusal after a lost answer may be that of the repeat only, so nothing is released by it.
    """
    match answer:
        case RefundDone(reference):
            return Settled(reference)
        case RefundPending(reference):
            return Accepted(reference)
        case Refund():
            return of_read_back(answer)
        case SlowDown(retry_after_s):
            return NotAsked("too many calls", retry_after_s)
        case Unavailable(reason):
            return NotAsked(reason)
        case Refusal(code, sentence):
            said = f"{code}: {sentence}"
            return Review(said) if lost else Released(said)
        case Unsupported(sentence):
            return Released(sentence)
        case Unreadable(_, reason, sentence):
            return Review(f"{reason}: {sentence}")
        case Unknown(reason, then, retry_after_s):
            if keyed and then == "repeat" and asked_for_s < REPEATED_FOR_S:
                return AskAgain(reason, retry_after_s or 0.0)
            return Review(reason)
        case None:
            return Review("the acquirer does not know the refund that it accepted")


def of_read_back(refund: Refund) -> Outcome:
    if refund.state == "succeeded":
        return Settled(refund.reference)
    if refund.state == "canceled":
        return Released(refund.cancel_reason or "canceled")
    return Accepted(refund.reference)
