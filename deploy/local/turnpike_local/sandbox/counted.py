"""Counts the spans of a purchase: how many reports led to how many bookings and messages.

Counts come from attributes that the services set on fresh effects only: a span alone may be a
repeat. An excess is wrong whatever else is missing. Without an excess, a trace of which something
is missing proves nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.platform import telemetry

from .purchases import Purchase
from .spans import Span
from .steps import is_sent, is_step

Verdict = Literal["unpaid", "proved", "incomplete", "wrong"]

_PLURALS = {"access": "accesses"}
_PLACES = {"wallet": "the wallet"}


@dataclass(frozen=True)
class Part:
    """A count in words, `2 bookings`. It is wrong when it is more than there was a cause for."""

    text: str
    is_wrong: bool = False


@dataclass(frozen=True)
class Counted:
    """`reasons` say why the verdict is not "proved"."""

    verdict: Verdict
    parts: list[Part]
    reasons: list[str]


@dataclass(frozen=True)
class _Counts:
    charges: int
    paid_at: str
    """"paid at YooKassa" where no report of Telegram comes; else empty."""
    reports: int
    bookings: list[str]
    """The outcome of each: bought, wallet or suspense."""
    accesses: int
    messages: int

    @property
    def bought(self) -> int:
        return self.bookings.count("bought")


def counted(purchase: Purchase, spans: Sequence[Span], *, missing: int, is_cut: bool) -> Counted:
    """`spans` are those of the purchase's own trace.

    `missing` of them are named by others and have not arrived. `is_cut` means that there were too
    many to keep.
    """
    counts = _counts(purchase, spans)
    parts = list(_parts(counts))
    excess = list(_excess(counts))
    if excess:
        return Counted("wrong", parts, excess)
    if not purchase.charges:
        return Counted("unpaid", [], [])
    lacking = list(_lacking(counts, missing, is_cut=is_cut))
    return Counted("incomplete" if lacking else "proved", parts, lacking)


def _counts(purchase: Purchase, spans: Sequence[Span]) -> _Counts:
    """The work of a failed span was rolled back."""
    done = [span for span in spans if span.status != "error"]
    noted = [span.attributes for span in done]
    return _Counts(
        charges=purchase.charges,
        paid_at=f"paid at {purchase.provider}" if purchase.provider else "",
        reports=sum(one.get(telemetry.REPORTED) == "payment" for one in noted),
        bookings=[str(one[telemetry.BOOKED]) for one in noted if telemetry.BOOKED in one],
        accesses=sum(telemetry.GRANTED in one for one in noted),
        messages=sum(is_step(span) and is_sent(span) for span in done),
    )


def _parts(counts: _Counts) -> Iterator[Part]:
    """Money that bought nothing waits in the wallet or in suspense, and nothing follows."""
    if counts.charges != 1:
        yield Part(_number(counts.charges, "charge"))
    yield Part(counts.paid_at or _number(counts.reports, "report"))
    bookings = _number(len(counts.bookings), "booking")
    held = sorted(set(counts.bookings) - {"bought"})
    if held and not counts.bought:
        bookings += f" in {' and '.join(_PLACES.get(place, place) for place in held)}"
    yield Part(bookings, len(counts.bookings) > counts.charges or counts.bought > 1)
    if not held or counts.bought or counts.accesses or counts.messages:
        yield Part(_number(counts.accesses, "access"), counts.accesses > 1)
        yield Part(_number(counts.messages, "message"), counts.messages > 1)


def _excess(counts: _Counts) -> Iterator[str]:
    if len(counts.bookings) > counts.charges:
        booked, charged = _number(len(counts.bookings), "booking"), counts.charges
        yield f"{booked} for {_number(charged, 'charge')}"
    if counts.bought > 1:
        yield f"the order was bought {counts.bought} times"
    if counts.accesses > 1:
        yield f"{counts.accesses} accesses for one order"
    if counts.messages > 1:
        yield f"{counts.messages} messages about one key"


def _lacking(counts: _Counts, missing: int, *, is_cut: bool) -> Iterator[str]:
    if missing:
        yield f"{_number(missing, 'span')} of this trace did not arrive"
    if is_cut:
        yield "the trace is too long, and its end was not kept"
    if counts.reports < counts.charges and not counts.paid_at:
        yield _absence(counts.reports, "report")
    if len(counts.bookings) < counts.charges:
        yield _absence(len(counts.bookings), "booking")
    if counts.bought and not counts.accesses:
        yield "no access yet"
    if counts.accesses and not counts.messages:
        yield "no message yet"


def _absence(count: int, noun: str) -> str:
    return f"only {_number(count, noun)} yet" if count else f"no {noun} yet"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"
