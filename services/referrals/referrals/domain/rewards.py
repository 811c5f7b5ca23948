"""The reward of each receipt: one decision per receipt, and a batch is a fold.

          ┌─ the payer has no partner ───────────────────────────▶ no_partner
receipt ──┼─ the partner has no row any more ────────────────────▶ partner_gone
          └─ count the payer, then take the level's percent ─────┬▶ rewarded
                                         less than one kopeck ───┴▶ below_a_kopeck
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from shared.contracts.message import digest_of

Outcome = Literal["rewarded", "below_a_kopeck", "no_partner", "partner_gone"]


class ReceiptFields(NamedTuple):
    """The business fields of a receipt. The same receipt with other fields is a conflict."""

    payer: UUID
    value_minor: int

    @property
    def digest(self) -> int:
        return digest_of(*self)


@dataclass(frozen=True)
class RewardableReceipt:
    """Money that came from outside, and the partner of its payer. `event` confirmed it."""

    event: UUID
    id: UUID
    payer: UUID
    partner: UUID | None
    value_minor: int
    booked_at: datetime
    trace: str | None = field(default=None, compare=False)

    @property
    def fields(self) -> ReceiptFields:
        return ReceiptFields(self.payer, self.value_minor)


# Levels


@dataclass(frozen=True)
class Level:
    paying_from: int
    percent: int


@dataclass(frozen=True)
class Scale:
    """One version of the levels, the lowest first."""

    id: int
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        begins = [level.paying_from for level in self.levels]
        assert begins == sorted(set(begins)), "levels rise"
        assert begins[:1] == [0], "the first level begins at zero"


@dataclass(frozen=True)
class Partner:
    """A partner's row under its lock. A fixed percent takes precedence over every level."""

    person: UUID
    paying: int = 0
    fixed_percent: int | None = None


@dataclass(frozen=True)
class RewardTerms:
    """The terms at a count. `scale` and `next_level` are None if the percent is fixed."""

    percent: int
    scale: int | None
    next_level: Level | None


def terms_of(partner: Partner, scale: Scale) -> RewardTerms:
    if partner.fixed_percent is not None:
        return RewardTerms(partner.fixed_percent, None, None)
    reached = [level for level in scale.levels if level.paying_from <= partner.paying]
    ahead = scale.levels[len(reached) :]
    return RewardTerms(reached[-1].percent, scale.id, ahead[0] if ahead else None)


# Decisions


@dataclass(frozen=True)
class Reward:
    """The decision about one receipt. `paying` and `terms` are those of its moment, for ever."""

    receipt: RewardableReceipt
    outcome: Outcome
    paying: int | None = None
    terms: RewardTerms | None = None
    reward_minor: int = 0
    activates: bool = False
    """This receipt made its payer a paying invitee, or makes them one again."""


@dataclass(frozen=True)
class ReceiptConflict:
    """A receipt that came again with other fields, and the fields that were decided."""

    receipt: RewardableReceipt
    known: ReceiptFields


@dataclass(frozen=True)
class RewardState:
    """The locked state that a batch is decided on."""

    scale: Scale
    partners: Mapping[UUID, Partner]
    """The partners whose rows are locked. A missing partner is gone."""
    paying: Set[UUID] = frozenset()
    """The payers who are counted already."""
    lapsed: Set[UUID] = frozenset()
    """The payers who were counted before. Nothing of what they paid remains."""
    decided: Mapping[UUID, ReceiptFields] = field(default_factory=dict)
    """The receipts that are decided already, with their fields."""


@dataclass(frozen=True)
class Decisions:
    """The decisions about a batch, and the state after them."""

    rewards: tuple[Reward, ...]
    conflicts: tuple[ReceiptConflict, ...]
    state: RewardState

    def without_lost_races(self, known: Mapping[UUID, ReceiptFields]) -> "Decisions":
        """Without the rewards of the `known` receipts: another transaction decided them first.

        The same fields are a repeat. Other fields are a conflict.
        """
        lost = [one.receipt for one in self.rewards if one.receipt.id in known]
        conflicts = [
            ReceiptConflict(one, known[one.id]) for one in lost if known[one.id] != one.fields
        ]
        rewards = tuple(one for one in self.rewards if one.receipt.id not in known)
        return replace(self, rewards=rewards, conflicts=(*self.conflicts, *conflicts))


def decide(receipts: Sequence[RewardableReceipt], state: RewardState) -> Decisions:
    """Decide every receipt once, in the order of booking."""
    partners, paying, decided = dict(state.partners), set(state.paying), dict(state.decided)
    rewards: list[Reward] = []
    conflicts: list[ReceiptConflict] = []
    for receipt in sorted(receipts, key=lambda receipt: (receipt.booked_at, receipt.event)):
        known = decided.get(receipt.id)
        if known is not None:
            if known != receipt.fields:
                conflicts.append(ReceiptConflict(receipt, known))
            continue
        decided[receipt.id] = receipt.fields
        partner = partners.get(receipt.partner) if receipt.partner else None
        reward = reward_of(receipt, partner, state.scale, counted=receipt.payer in paying)
        rewards.append(reward)
        if partner and reward.activates:
            paying.add(receipt.payer)
            partners[partner.person] = counted_once_more(partner)
    after = RewardState(state.scale, partners, paying, state.lapsed, decided)
    return Decisions(tuple(rewards), tuple(conflicts), after)


def reward_of(
    receipt: RewardableReceipt, partner: Partner | None, scale: Scale, *, counted: bool
) -> Reward:
    """The reward of one receipt. `counted`: its payer is a paying invitee already."""
    if receipt.partner is None:
        return Reward(receipt, "no_partner")
    if partner is None:
        return Reward(receipt, "partner_gone")
    # A payment must be worth something: money of no value raises no level.
    activates = receipt.value_minor > 0 and not counted
    if activates:
        partner = counted_once_more(partner)
    terms = terms_of(partner, scale)
    reward_minor = receipt.value_minor * terms.percent // 100
    outcome: Outcome = "rewarded" if reward_minor else "below_a_kopeck"
    return Reward(receipt, outcome, partner.paying, terms, reward_minor, activates)


def counted_once_more(partner: Partner) -> Partner:
    return replace(partner, paying=partner.paying + 1)
