"""What may happen to a message on its way, and what each answer makes of it.

waiting ──▶ claimed ──▶ sent
   ▲           ├──▶ unreachable  the person shut the door
   │           ├──▶ failed       Telegram will not have it, or was away for a day
   │           ├──▶ unknown      each time cut off before the answer
   │           ├──▶ superseded   no longer true, or a later message of its story says more
   └───────────┘                 the key is not there yet, Telegram is away or asks for patience, the person is back
"""

from dataclasses import dataclass
from typing import Literal, assert_never

# About a day at the longest pause: what Telegram did not take until then is a person's to look after.
MOST_TRIES = 300
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 300.0
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 30.0

State = Literal["waiting", "sent", "unreachable", "failed", "unknown", "superseded"]


@dataclass(frozen=True)
class Said:
    """Telegram has it. `note` says why it is a second message where an edit was wanted."""

    message_id: int
    note: str | None = None


@dataclass(frozen=True)
class Blocked:
    """The person shut the door; `asked` tells whether Telegram said so just now or is known to have said so."""

    reason: str
    asked: bool = True


@dataclass(frozen=True)
class SlowDown:
    """Too many messages: nothing more for so many seconds."""

    retry_after_s: float


@dataclass(frozen=True)
class Rejected:
    """Telegram will never take this message."""

    reason: str


@dataclass(frozen=True)
class Away:
    """Nothing was done, by a fault that may pass; `asked` as above."""

    reason: str
    asked: bool = True


@dataclass(frozen=True)
class Unclear:
    """Cut off before the answer: the message may have arrived."""

    reason: str


@dataclass(frozen=True)
class NotYet:
    """What the message needs from another service is not there; nothing was said."""

    reason: str


@dataclass(frozen=True)
class Outdated:
    """What the message would say is no longer so."""

    reason: str


Answer = Said | Blocked | SlowDown | Rejected | Away | Unclear | NotYet | Outdated


@dataclass(frozen=True)
class Verdict:
    """What becomes of a delivery; `pause_s` is for the waiting, `hush_s` for everybody who talks with this token."""

    state: State
    reason: str | None = None
    message_id: int | None = None
    pause_s: float = 0.0
    hush_s: float = 0.0
    tries: int = 0
    waits: int = 0
    spoke: bool = True
    """Whether Telegram was called; where not, the token goes back into the bucket."""
    reachable: bool | None = None
    """What was learned of the person's door."""


def verdict(answer: Answer, *, tries: int, waits: int) -> Verdict:
    """What becomes of a delivery that failed `tries` times before, and waited `waits` times for another service."""
    match answer:
        case Said(message_id, note):
            return Verdict("sent", note, message_id, tries=tries, waits=waits, reachable=True)
        case Blocked(reason, asked):
            return Verdict("unreachable", reason, tries=tries, waits=waits, spoke=asked, reachable=False)
        case Rejected(reason):
            return Verdict("failed", reason, tries=tries, waits=waits)
        case Outdated(reason):
            return Verdict("superseded", reason, tries=tries, waits=waits, spoke=False)
        case SlowDown(retry_after_s):
            return Verdict(
                "waiting", "slow_down", pause_s=retry_after_s, hush_s=retry_after_s, tries=tries, waits=waits
            )
        case NotYet(reason):
            pause_s = doubled(FIRST_WAIT_S, waits, LONGEST_WAIT_S)
            return Verdict("waiting", reason, pause_s=pause_s, tries=tries, waits=waits + 1, spoke=False)
        case Away(reason, asked):
            return _again("failed", reason, tries, waits, spoke=asked)
        case Unclear(reason):
            return _again("unknown", reason, tries, waits)
        case _:
            assert_never(answer)


def _again(at_last: State, reason: str, tries: int, waits: int, *, spoke: bool = True) -> Verdict:
    if tries + 1 >= MOST_TRIES:
        return Verdict(at_last, reason, tries=tries + 1, waits=waits, spoke=spoke)
    pause_s = doubled(FIRST_PAUSE_S, tries, LONGEST_PAUSE_S)
    return Verdict("waiting", reason, pause_s=pause_s, tries=tries + 1, waits=waits, spoke=spoke)


def doubled(first_s: float, times: int, longest_s: float) -> float:
    return min(first_s * 2.0 ** min(times, 16), longest_s)
