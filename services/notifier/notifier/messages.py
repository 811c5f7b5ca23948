"""Which messages a fact gives: who is told what, once per cause, and which message takes another's place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.contract import derived_id
from shared.facts import AccessEnded, AccessGranted, Bought, InvitationRegistered, PaymentConfirmed, RewardEarned

Kind = Literal[
    "paid_issuing",
    "access_ready",
    "topped_up",
    "missing",
    "left_over",
    "friend_registered",
    "reward_earned",
    "access_ended",
]

# Who pays is in the chat again: such a message is tried even where the last one found the door shut.
ANSWERS_A_PAYMENT: frozenset[Kind] = frozenset({"paid_issuing", "access_ready", "topped_up", "missing", "left_over"})

KEYS_AND_RECEIPTS = 1  # The first lane; whatever could wait for an hour will drive in another.

# The panel usually agrees sooner, and then one message says it all.
ISSUING_AFTER_S = 3.0


@dataclass(frozen=True)
class Message:
    """A message to write down. Within a `story` a higher `rank` supersedes every lower one.

    Those of a chat go out in the order of what happened: `told_at` is the fact's own moment, and `place` its place
    among what happened at that very moment.
    """

    person: UUID
    cause: str
    kind: Kind
    told_at: datetime
    place: int = 0
    story: UUID | None = None
    rank: int = 0
    lane: int = KEYS_AND_RECEIPTS
    after_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    trace: str | None = None

    @property
    def id(self) -> UUID:
        return derived_id("delivery", self.person, self.cause, self.kind)


def of_payment(fact: PaymentConfirmed) -> list[Message]:
    """What was bought is being issued; money that bought nothing, or was more than the price, says why it is there."""
    told = []
    if fact.bought is not None:
        told.append(_issuing(fact, fact.bought))
    if fact.received is None:
        return told
    kind: Kind
    details: dict[str, Any] = {"wallet_minor": fact.wallet_minor}
    if fact.bought is None:
        kind = "missing" if fact.missing_minor > 0 else "topped_up"
        details |= {"value_minor": fact.received.value_minor, "missing_minor": fact.missing_minor}
        details["reason"] = fact.reason
    elif fact.over_minor > 0:
        kind = "left_over"
        details["over_minor"] = fact.over_minor
    else:
        return told
    receipt = str(fact.received.receipt)
    told.append(Message(fact.about, receipt, kind, fact.at, fact.place, details=details, trace=fact.trace))
    return told


def _issuing(fact: PaymentConfirmed, bought: Bought) -> Message:
    return Message(
        fact.about,
        str(bought.order),
        "paid_issuing",
        fact.at,
        fact.place,
        story=bought.order,
        rank=1,
        after_s=ISSUING_AFTER_S,
        details={"price_minor": bought.price_minor},
        trace=fact.trace,
    )


def of_access(fact: AccessGranted) -> Message:
    """The key is there; which key is asked at the moment of sending."""
    return Message(
        fact.about,
        str(fact.order),
        "access_ready",
        fact.at,
        story=fact.order,
        rank=2,
        details={"plan": fact.plan, "devices": fact.devices},
        trace=fact.trace,
    )


def of_end(fact: AccessEnded) -> Message:
    details = {"ended_at": fact.ended_at.isoformat()}
    return Message(fact.about, fact.cause, "access_ended", fact.at, details=details, trace=fact.trace)


def of_invitation(fact: InvitationRegistered) -> Message:
    return Message(fact.about, str(fact.invitee), "friend_registered", fact.at, trace=fact.trace)


def of_reward(fact: RewardEarned) -> Message | None:
    """A share of less than a kopeck is nothing to write about. Of one moment, the one with fewer paying came first."""
    if fact.reward_minor == 0:
        return None
    fields = ("reward_minor", "percent", "paying", "next_level_at", "next_percent")
    details = {name: getattr(fact, name) for name in fields}
    receipt = str(fact.receipt)
    return Message(fact.about, receipt, "reward_earned", fact.at, fact.paying, details=details, trace=fact.trace)
