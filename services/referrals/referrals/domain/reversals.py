"""What a refund takes back of a reward: a decision per refund, and a batch is a fold.

A reward is the percentage of what remains paid. Its percentage is that of its moment, for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from referrals.domain.rewards import Partner
from shared.contracts.message import digest_of


@dataclass(frozen=True)
class RefundedValue:
    """Money that went back outside, in kopecks."""

    id: UUID
    event: UUID
    receipt: UUID
    payer: UUID
    value_minor: int
    booked_at: datetime
    trace: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Rewarded:
    """The decision about a receipt, and what was returned and taken back since."""

    receipt: UUID
    payer: UUID
    partner: UUID | None
    value_minor: int
    percent: int | None
    reward_minor: int
    returned_minor: int = 0
    reversed_minor: int = 0

    @property
    def kept_minor(self) -> int:
        """The percentage of what remains paid."""
        remaining_minor = max(0, self.value_minor - self.returned_minor)
        return remaining_minor * (self.percent or 0) // 100

    @property
    def left_minor(self) -> int:
        return self.reward_minor - self.reversed_minor


@dataclass(frozen=True)
class Reversal:
    refund: RefundedValue
    partner: UUID | None
    reversed_minor: int


@dataclass(frozen=True)
class RefundConflict:
    """A refund that came again with another value, and the value that was decided."""

    refund: RefundedValue
    known_minor: int

    @property
    def digests(self) -> tuple[int, int]:
        return digest_of(self.known_minor), digest_of(self.refund.value_minor)


@dataclass(frozen=True)
class Reversals:
    decided: tuple[Reversal, ...]
    conflicts: tuple[RefundConflict, ...]


def decide(
    refunds: Sequence[RefundedValue],
    rewarded: Mapping[UUID, Rewarded],
    known: Mapping[UUID, int],
) -> Reversals:
    """Decide every refund once, in the order of booking.

    `rewarded` has the decision of each receipt, `known` the value of each refund decided before.
    """
    rewards, values = dict(rewarded), dict(known)
    decided: list[Reversal] = []
    conflicts: list[RefundConflict] = []
    for refund in sorted(refunds, key=lambda refund: (refund.booked_at, refund.id)):
        if refund.id in values:
            if values[refund.id] != refund.value_minor:
                conflicts.append(RefundConflict(refund, values[refund.id]))
            continue
        values[refund.id] = refund.value_minor
        before = rewards[refund.receipt]
        after = replace(before, returned_minor=before.returned_minor + refund.value_minor)
        reversed_minor = before.left_minor - after.kept_minor
        rewards[refund.receipt] = replace(
            after, reversed_minor=before.reversed_minor + reversed_minor
        )
        decided.append(Reversal(refund, before.partner, reversed_minor))
    return Reversals(tuple(decided), tuple(conflicts))


@dataclass(frozen=True)
class Lapse:
    """A payer who counts no more: nothing of what they paid remains. `paying` is without them."""

    invitee: UUID
    partner: UUID
    paying: int
    refund: UUID


def lapses_of(
    reversals: Sequence[Reversal], lapsed: Sequence[UUID], partners: Mapping[UUID, Partner]
) -> list[Lapse]:
    """One for each payer of whom nothing remains paid, by the last of their refunds."""
    last = {one.refund.payer: one for one in reversals}
    counts = {person: partner.paying for person, partner in partners.items()}
    found = []
    for invitee in lapsed:
        one = last[invitee]
        if one.partner in counts:
            counts[one.partner] -= 1
            found.append(Lapse(invitee, one.partner, counts[one.partner], one.refund.id))
    return found
