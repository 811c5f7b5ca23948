"""What referrals publishes and answers."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.message import Event, Query, Value

# Events


class InvitationRegistered(Event):
    """A new person is bound to a partner. `about` is the partner; the cause is the invitee."""

    topic = "referrals.invitation.registered"

    invitee: UUID


class RewardEarned(Event):
    """A partner earned a share of a receipt. `about` is the partner; the cause is the receipt."""

    topic = "referrals.reward.earned"
    undigested = frozenset({"paying", "next_level_at", "next_percent"})

    receipt: UUID
    invitee: UUID
    percent: int
    value_minor: int
    reward_minor: int
    paying: int
    """The number of the partner's paying invitees, this one included."""
    next_level_at: int | None
    """The number of paying invitees from which the percent rises. None at the highest level."""
    next_percent: int | None


class RewardReversed(Event):
    """A reward is taken back, or a part of it. `about` is the partner; the cause is the refund."""

    topic = "referrals.reward.reversed"

    refund: UUID
    receipt: UUID
    reversed_minor: int
    """In kopecks: the reward before, less its percentage of what remains paid."""


EVENTS: tuple[type[Event], ...] = (InvitationRegistered, RewardEarned, RewardReversed)


# Queries of other services


class Invitations(Value):
    invited: int
    paying: int
    earned_minor: int
    percent: int
    next_level_at: int | None
    next_percent: int | None


class InvitationsQuery(Query[Invitations]):
    """The invitations of a person in numbers. Zeros at the first level for an unknown person."""

    topic = "referrals.invitations"
    answer = Invitations

    person: UUID


# Queries of operators


class RewardRecord(Value):
    """What was decided about a receipt."""

    receipt: UUID
    outcome: Literal["rewarded", "below_a_kopeck", "no_partner", "partner_gone"]
    partner: UUID | None
    paying: int | None
    percent: int | None
    value_minor: int
    reward_minor: int
    reversed_minor: int = 0
    """What refunds took back of it."""
    event: UUID | None
    decided_at: datetime


class Rewards(Value):
    rewards: tuple[RewardRecord, ...]
    waits_since: datetime | None
    """Since when a payment of this payer waits for the payer's /start."""
    started: bool
    refused: str | None
    """Why the payer was not bound to the partner that they named, if they named one."""


class RewardsQuery(Query[Rewards]):
    """The rewards of these receipts of one payer, or the named reason for none."""

    topic = "referrals.rewards"
    answer = Rewards

    receipts: tuple[UUID, ...] = Field(max_length=100)
    payer: UUID
