"""The states of a delivery, and the verdict about each answer.

waiting ──▶ claimed ──▶ sent
   ▲           ├──▶ unreachable  the person blocked the bot, or the chat is gone
   │           ├──▶ failed       Telegram rejects it, or was unavailable for a day
   │           ├──▶ unknown      a call had no clear answer; for a key or a receipt, five had none;
   │           │                 or a reminder's sender died
   │           ├──▶ superseded   no longer true, or a later message of its thread says more
   └───────────┘  the key is not ready, Telegram is unavailable or answers 429, or the person
                  unblocked the bot
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, assert_never
from uuid import UUID

from notifier.domain.messages import ANSWERS_A_PAYMENT, Kind
from shared.contracts.bot import Recipient
from shared.contracts.vpn import Access
from shared.platform.backoff import backoff

# About a day at the longest pause. Then a person has to look at the message.
MAX_TRIES = 300
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 300.0
# Five tries, within 20 minutes: each of them may have arrived, and Telegram knows no repeat.
UNCLEAR_PAUSES_S = (1.0, 10.0, 100.0, 1000.0)
# The longest pause that a 429 may ask for. After it, Telegram is asked again.
LONGEST_RETRY_AFTER_S = 900.0
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 30.0

State = Literal["waiting", "sent", "unreachable", "failed", "unknown", "superseded"]


# Answers


@dataclass(frozen=True)
class Sent:
    """Telegram has the message. `note` says why an edit became a second message."""

    message_id: int
    note: str | None = None


@dataclass(frozen=True)
class Unreachable:
    """Telegram delivers nothing to this chat: the person blocked the bot, or the chat is gone.

    `called` is False if that was known without a call.
    """

    reason: str
    called: bool = True


@dataclass(frozen=True)
class SlowDown:
    """A 429: nothing may be sent for so many seconds, in this chat or by the whole bot."""

    retry_after_s: float


@dataclass(frozen=True)
class Rejected:
    """Telegram will never accept this message."""

    reason: str


@dataclass(frozen=True)
class Unavailable:
    """Nothing was sent, because of a temporary fault. `called`: whether Telegram was called."""

    reason: str
    called: bool = True


@dataclass(frozen=True)
class Unclear:
    """The answer was cut off, or is a 5xx: the message may have arrived."""

    reason: str


@dataclass(frozen=True)
class NotYet:
    """Another service does not have the data of the message yet. Nothing was sent."""

    reason: str


REMINDED_TOO_LATE = "the access has ended"
END_MOVED = "the end has moved"
NEARER_STEP = "a nearer reminder holds"

ACCESS_GONE = "the access is gone"
"""Why a key is not sent: a refund, or its end, was faster."""


@dataclass(frozen=True)
class Outdated:
    """The message is no longer true."""

    reason: str


def outdated_reminder(details: Mapping[str, Any], access: Access) -> Outdated | None:
    """Why a reminder no longer holds, if so: one of another end, or of a step that is over.

    An answer without a step comes from a release that knows none: the end decides.
    """
    if access.state not in ("up", "issuing"):
        return Outdated(REMINDED_TOO_LATE)
    if access.ends_at != datetime.fromisoformat(details["ends_at"]):
        return Outdated(END_MOVED)
    if access.ends_within_h is not None and access.ends_within_h < details["hours"]:
        return Outdated(NEARER_STEP)
    return None


Answer = Sent | Unreachable | SlowDown | Rejected | Unavailable | Unclear | NotYet | Outdated


# Verdicts


@dataclass(frozen=True)
class Counts:
    """The failures of a delivery so far, its waits for other services, and its unclear answers."""

    tries: int = 0
    waits: int = 0
    unclear: int = 0


@dataclass(frozen=True)
class Verdict:
    """The next state of a delivery.

    `pause_s` delays a waiting delivery, `chat_pause_s` all deliveries of its chat.
    """

    state: State
    reason: str | None = None
    message_id: int | None = None
    pause_s: float = 0.0
    chat_pause_s: float = 0.0
    counts: Counts = Counts()
    called: bool = True
    """Whether Telegram was called."""
    reachable: bool | None = None
    """Whether the person can be reached. None if nothing was learned."""

    @property
    def spent(self) -> bool:
        """Whether the token is spent. It returns if Telegram was not called or refused the chat."""
        return self.called and self.state != "unreachable"


def verdict(answer: Answer, kind: Kind, counts: Counts) -> Verdict:
    """The verdict about a delivery that was attempted before as `counts` says."""
    match answer:
        case Sent(message_id, note):
            return Verdict("sent", note, message_id, counts=counts, reachable=True)
        case Unreachable(reason, called):
            return Verdict("unreachable", reason, counts=counts, called=called, reachable=False)
        case Rejected(reason):
            return Verdict("failed", reason, counts=counts)
        case Outdated(reason):
            return Verdict("superseded", reason, counts=counts, called=False)
        case SlowDown(retry_after_s):
            pause_s = min(retry_after_s, LONGEST_RETRY_AFTER_S)
            return Verdict("waiting", "slow_down", chat_pause_s=pause_s, counts=counts)
        case NotYet(reason):
            pause_s = backoff(counts.waits, first_s=FIRST_WAIT_S, longest_s=LONGEST_WAIT_S)
            counts = replace(counts, waits=counts.waits + 1)
            return Verdict("waiting", reason, pause_s=pause_s, counts=counts, called=False)
        case Unavailable(reason, called):
            return _unavailable(reason, counts, called=called)
        case Unclear(reason):
            return _unclear(reason, counts, again=kind in ANSWERS_A_PAYMENT)
        case _:
            assert_never(answer)


def _unavailable(reason: str, counts: Counts, *, called: bool) -> Verdict:
    pause_s = backoff(counts.tries, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    counts = replace(counts, tries=counts.tries + 1)
    if counts.tries >= MAX_TRIES:
        return Verdict("failed", reason, counts=counts, called=called)
    return Verdict("waiting", reason, pause_s=pause_s, counts=counts, called=called)


def _unclear(reason: str, counts: Counts, *, again: bool) -> Verdict:
    """A key or a receipt may arrive twice. A message of another kind is not sent again."""
    before = counts.unclear
    counts = replace(counts, tries=counts.tries + 1, unclear=before + 1)
    if not again or before >= len(UNCLEAR_PAUSES_S):
        return Verdict("unknown", reason, counts=counts)
    return Verdict("waiting", reason, pause_s=UNCLEAR_PAUSES_S[before], counts=counts)


# Claimed and settled deliveries


@dataclass(frozen=True)
class Claimed:
    """A delivery that this process has claimed, with the known data of its recipient."""

    id: UUID
    person: UUID
    kind: Kind
    details: Mapping[str, Any]
    trace: str | None
    thread: UUID | None
    counts: Counts
    recipient: Recipient | None
    instead_of: int | None
    """The id of the thread's earlier message: this one is edited into it."""
    changed_at: datetime | None
    """The time of the recipient's last change that was known at the claim."""


@dataclass(frozen=True)
class Settled:
    """The verdict about a claimed delivery. `learned` is the recipient that was queried for it."""

    claimed: Claimed
    verdict: Verdict
    learned: Recipient | None = None


@dataclass(frozen=True)
class Reachability:
    """The known state of a recipient at the time of the verdict."""

    reachable: bool
    changed_at: datetime | None


def revised(settled: Settled, known: Reachability) -> Settled:
    """The person unblocked the bot while this was in flight: retry instead."""
    unblocked = known.reachable and known.changed_at != settled.claimed.changed_at
    if settled.verdict.state != "unreachable" or not unblocked:
        return settled
    retried = replace(settled.verdict, state="waiting", reason="unblocked", reachable=None)
    return replace(settled, verdict=retried)
