"""Bindings to partners: once, at the first /start; never to oneself, never in a circle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

# Deep links of other kinds (`g_` gifts, `p_` promo codes, `c_` campaigns) bind nobody, and are not
# refused either.
INVITATION = "r_"

Refusal = Literal["code_unknown", "oneself", "loop", "started_before"]


@dataclass(frozen=True)
class Start:
    """A first /start: the code as typed, and its owner if bot-gateway knows them."""

    event: UUID
    person: UUID
    invited_by: UUID | None
    code: str | None
    started_at: datetime
    trace: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Binding:
    """A person who started, and their partner if they have one."""

    person: UUID
    partner: UUID | None


@dataclass(frozen=True)
class StartOutcome:
    """The decision about a start. `binding` is None if the person had started before."""

    start: Start
    binding: Binding | None
    refusal: Refusal | None


class Tree:
    """The bindings that a batch of starts needs: of the starters, their inviters and all above."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self._partner = {binding.person: binding.partner for binding in bindings}
        self._above = {
            person: partner for person, partner in self._partner.items() if partner is not None
        }

    def __contains__(self, person: UUID) -> bool:
        return person in self._partner

    def partner_of(self, person: UUID) -> UUID | None:
        return self._partner[person]

    def add(self, binding: Binding) -> None:
        self._partner[binding.person] = binding.partner
        if binding.partner is not None:
            self._above[binding.person] = binding.partner

    def root_of(self, person: UUID) -> UUID:
        """The end of the chain: a person without a partner, or one whose start is not known yet."""
        passed = []
        while (above := self._above.get(person)) is not None:
            passed.append(person)
            assert len(passed) <= len(self._above), "every chain of the tree has an end"
            person = above
        # The next walk is one step: a batch below a long chain stays linear.
        for below in passed:
            self._above[below] = person
        return person


def bind(starts: Sequence[Start], tree: Tree) -> list[StartOutcome]:
    """Decide the starts in the order of their times. The tree gets every new binding."""
    return [
        decide(start, tree)
        for start in sorted(starts, key=lambda start: (start.started_at, start.event))
    ]


def decide(start: Start, tree: Tree) -> StartOutcome:
    if start.person in tree:
        other = start.invited_by not in (None, tree.partner_of(start.person))
        return StartOutcome(start, None, "started_before" if other else None)
    refusal = refusal_of(start, tree)
    binding = Binding(start.person, None if refusal else start.invited_by)
    tree.add(binding)
    return StartOutcome(start, binding, refusal)


def refusal_of(start: Start, tree: Tree) -> Refusal | None:
    """Why a new person is not bound. None if they are, or if they name no partner."""
    if start.invited_by is None:
        return "code_unknown" if (start.code or "").startswith(INVITATION) else None
    if start.invited_by == start.person:
        return "oneself"
    # A new person has no partner yet: a circle closes only where the inviter's chain ends at them.
    if tree.root_of(start.invited_by) == start.person:
        return "loop"
    return None
