"""Who earns what of a receipt: one decision per receipt, a batch is a fold over the partners' counts.

          ┌─ the payer has no partner ───────────────────────────▶ no_partner
receipt ──┼─ the partner has no row any more ────────────────────▶ partner_gone
          └─ the payer counted first, then the level's percent ──┬▶ rewarded
                                          floor is 0 kopecks ────┴▶ below_a_kopeck
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from shared.contract import digest_of

Outcome = Literal["rewarded", "below_a_kopeck", "no_partner", "partner_gone"]


@dataclass(frozen=True)
class Payment:
    """Money that came from outside, and whom its payer is bound to."""

    fact: UUID
    receipt: UUID
    payer: UUID
    partner: UUID | None
    value_minor: int
    booked_at: datetime
    trace: str | None = field(default=None, compare=False)

    @property
    def business(self) -> "Business":
        return Business(self.payer, self.value_minor)


class Business(NamedTuple):
    """What a receipt says; one that comes again and says something else is an alarm."""

    payer: UUID
    value_minor: int

    @property
    def digest(self) -> int:
        return digest_of(*self)


@dataclass(frozen=True)
class Level:
    paying_from: int
    percent: int


@dataclass(frozen=True)
class Scale:
    """One version of the levels, lowest first."""

    id: int
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        begins = [level.paying_from for level in self.levels]
        assert begins == sorted(set(begins)), "levels rise"
        assert begins[:1] == [0], "a scale begins with nobody paying"


@dataclass(frozen=True)
class Partner:
    """A partner's row under its lock. A fixed percent wins over every level."""

    person: UUID
    paying: int = 0
    fixed_percent: int | None = None


@dataclass(frozen=True)
class Terms:
    """What a partner earns at a count. `scale` and `next_level` are None where the percent is fixed."""

    percent: int
    scale: int | None
    next_level: Level | None


def terms_of(partner: Partner, scale: Scale) -> Terms:
    if partner.fixed_percent is not None:
        return Terms(partner.fixed_percent, None, None)
    reached = [level for level in scale.levels if level.paying_from <= partner.paying]
    ahead = scale.levels[len(reached) :]
    return Terms(reached[-1].percent, scale.id, ahead[0] if ahead else None)


@dataclass(frozen=True)
class Reward:
    """What was decided about one receipt; `paying` and `terms` are those of its moment, for ever."""

    payment: Payment
    outcome: Outcome
    paying: int | None = None
    terms: Terms | None = None
    reward_minor: int = 0
    activates: bool = False
    """This receipt made its payer a paying invitee."""


@dataclass
class Tally:
    """The locked state that a batch folds over, and what it has added so far."""

    scale: Scale
    partners: dict[UUID, Partner]
    """Rows that are locked; a partner who is missing here is gone."""
    paying: set[UUID]
    """Invitees among the payers who are counted already."""
    decided: dict[UUID, Business]
    """Receipts that need no decision any more, and what they said."""
    rewards: list[Reward] = field(default_factory=list)
    contradicted: list[tuple[Payment, Business]] = field(default_factory=list)
    """Receipts that came again as others, with what they said when they were decided."""

    def count(self, payer: UUID, partner: Partner) -> Partner:
        self.paying.add(payer)
        self.partners[partner.person] = replace(partner, paying=partner.paying + 1)
        return self.partners[partner.person]


def decide(payments: Sequence[Payment], tally: Tally) -> None:
    """Decide every receipt once, in the order of the book."""
    for payment in sorted(payments, key=lambda payment: (payment.booked_at, payment.fact)):
        known = tally.decided.get(payment.receipt)
        if known is None:
            tally.decided[payment.receipt] = payment.business
            tally.rewards.append(reward(payment, tally))
        elif known != payment.business:
            tally.contradicted.append((payment, known))


def reward(payment: Payment, tally: Tally) -> Reward:
    if payment.partner is None:
        return Reward(payment, "no_partner")
    partner = tally.partners.get(payment.partner)
    if partner is None:
        return Reward(payment, "partner_gone")
    # Somebody pays as long as something is paid: money worth no kopeck lifts nobody to a level.
    activates = payment.value_minor > 0 and payment.payer not in tally.paying
    if activates:
        partner = tally.count(payment.payer, partner)
    terms = terms_of(partner, tally.scale)
    reward_minor = payment.value_minor * terms.percent // 100
    outcome: Outcome = "rewarded" if reward_minor else "below_a_kopeck"
    return Reward(payment, outcome, partner.paying, terms, reward_minor, activates)
