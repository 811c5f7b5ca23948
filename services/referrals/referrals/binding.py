"""Who is bound to whom: once, at the first /start of a life, never to oneself and never in a circle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

# Deep links of other kinds (`g_` gifts, `p_` promo codes, `c_` campaigns) invite nobody and are refused nothing here.
INVITATION = "r_"

Refusal = Literal["code_unknown", "oneself", "loop", "started_before"]


@dataclass(frozen=True)
class Start:
    """What a first /start said: the code as typed, and whose it is where bot-gateway knows it."""

    fact: UUID
    person: UUID
    invited_by: UUID | None
    code: str | None
    started_at: datetime
    trace: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Line:
    """One line of the roll: somebody who started, and the partner whom he is bound to."""

    person: UUID
    partner: UUID | None


@dataclass(frozen=True)
class Welcome:
    """What became of a start. `line` is None when the person had started before."""

    start: Start
    line: Line | None
    refusal: Refusal | None


class Roll:
    """The lines that a batch of starts can meet: the starters', their inviters' and all those above them."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._partner = {line.person: line.partner for line in lines}
        self._above = {person: partner for person, partner in self._partner.items() if partner is not None}

    def __contains__(self, person: UUID) -> bool:
        return person in self._partner

    def partner_of(self, person: UUID) -> UUID | None:
        return self._partner[person]

    def enter(self, line: Line) -> None:
        self._partner[line.person] = line.partner
        if line.partner is not None:
            self._above[line.person] = line.partner

    def top_above(self, person: UUID) -> UUID:
        """Where the chain ends: at somebody without a partner, or whose own start is not known yet."""
        passed = []
        while (above := self._above.get(person)) is not None:
            passed.append(person)
            assert len(passed) <= len(self._above), "the chains of the roll have ends"
            person = above
        for below in passed:  # The next walk is one step: a batch below a long chain stays linear.
            self._above[below] = person
        return person


def bind(starts: Sequence[Start], roll: Roll) -> list[Welcome]:
    """Decide each start in the order in which they happened; the roll takes every line in."""
    return [welcome(start, roll) for start in sorted(starts, key=lambda start: (start.started_at, start.fact))]


def welcome(start: Start, roll: Roll) -> Welcome:
    if start.person in roll:
        other = start.invited_by not in (None, roll.partner_of(start.person))
        return Welcome(start, None, "started_before" if other else None)
    refusal = why_not(start, roll)
    line = Line(start.person, None if refusal else start.invited_by)
    roll.enter(line)
    return Welcome(start, line, refusal)


def why_not(start: Start, roll: Roll) -> Refusal | None:
    """Why a newcomer is not bound to whom he names; None when he is, or names nobody."""
    if start.invited_by is None:
        return "code_unknown" if (start.code or "").startswith(INVITATION) else None
    if start.invited_by == start.person:
        return "oneself"
    # A newcomer has no partner yet, so a circle closes exactly where the inviter's chain ends at him.
    if roll.top_above(start.invited_by) == start.person:
        return "loop"
    return None
