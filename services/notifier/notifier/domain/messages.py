"""The messages that an event causes: each once per person, cause and kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from shared.contracts.message import derived_id
from shared.contracts.payments import Bought, PaymentConfirmed, PaymentRefunded, Received
from shared.contracts.referrals import InvitationRegistered, RewardEarned
from shared.contracts.vpn import AccessEnded, AccessExpiring, AccessGranted

Kind = Literal[
    "paid_issuing",
    "access_ready",
    "topped_up",
    "missing",
    "left_over",
    "refunded",
    "friend_registered",
    "reward_earned",
    "access_ended",
    "access_expiring",
]

# A payer is in the chat again: these kinds are tried even if the bot was blocked before.
ANSWERS_A_PAYMENT: frozenset[Kind] = frozenset(
    {"paid_issuing", "access_ready", "topped_up", "missing", "left_over", "refunded"}
)

REOPENED: frozenset[Kind] = ANSWERS_A_PAYMENT | {"reward_earned", "access_expiring"}
"""The kinds that may still matter after the person was unreachable. The others are outdated then.

A reminder is checked again when it is sent.
"""

# Shorter than the shortest period that is sold: a key that waited still works.
REOPENED_FOR = timedelta(days=7)
"""How long a message of these kinds is sent again after the person can be reached."""

KEYS_AND_RECEIPTS = 1
"""The first priority. Higher numbers are for messages that could wait for an hour."""

NEVER_REPEATED: frozenset[Kind] = frozenset({"access_expiring"})
"""The kinds that are not sent again if their sender died: they may have arrived."""

REMINDERS = 2
"""The priority of a message before an end."""

# The panel usually answers sooner, and then one message says everything.
ISSUING_AFTER_S = 3.0


@dataclass(frozen=True)
class Message:
    """A message to write. Within a `thread` a higher `rank` supersedes every lower one.

    A message that `follows` another kind of its cause is written only if that one is no longer
    waiting: a waiting one is sent with the details of the whole thread.

    The messages of a chat are sent in the order of their events: by `occurred_at`, the time of
    the event, then by `position`, its order among events of the same time.
    """

    person: UUID
    cause: str
    kind: Kind
    occurred_at: datetime
    position: int = 0
    thread: UUID | None = None
    rank: int = 0
    follows: Kind | None = None
    priority: int = KEYS_AND_RECEIPTS
    after_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    trace: str | None = None

    @property
    def id(self) -> UUID:
        return derived_id("delivery", self.person, self.cause, self.kind)


def of_payment(event: PaymentConfirmed) -> list[Message]:
    """One message appears: the purchase with what is left, or money in the wallet."""
    if event.bought is not None:
        issuing = _issuing(event, event.bought)
        says_more = event.over_minor > 0 or event.received is None
        return [issuing, _left_over(issuing)] if says_more else [issuing]
    return [] if event.received is None else [_in_the_wallet(event, event.received)]


def _in_the_wallet(event: PaymentConfirmed, received: Received) -> Message:
    details = _paid(received) | {
        "value_minor": received.value_minor,
        "missing_minor": event.missing_minor,
        "wallet_minor": event.wallet_minor,
        "reason": event.reason,
        "lacking": event.lacking.hex if event.lacking else None,
    }
    return Message(
        event.about,
        str(received.receipt),
        "missing" if event.missing_minor > 0 else "topped_up",
        event.at,
        event.position,
        details=details,
        trace=event.trace,
    )


def _issuing(event: PaymentConfirmed, bought: Bought) -> Message:
    if event.received is None:
        details = {"balance_minor": bought.price_minor, "wallet_minor": event.wallet_minor}
        details |= {"restored": True} if bought.restores else {}
    else:
        details = _paid(event.received)
    if event.over_minor > 0:
        details |= {"over_minor": event.over_minor, "wallet_minor": event.wallet_minor}
    return Message(
        event.about,
        str(bought.order),
        "paid_issuing",
        event.at,
        event.position,
        thread=bought.order,
        rank=1,
        after_s=ISSUING_AFTER_S,
        details=details,
        trace=event.trace,
    )


def _paid(received: Received) -> dict[str, Any]:
    """The money as it was paid; in rubles for an event that does not know it."""
    if received.amount_minor is None or received.currency is None:
        return {"paid_minor": received.value_minor}
    return {"paid_minor": received.amount_minor, "currency": received.currency}


def _left_over(issuing: Message) -> Message:
    """The access was granted first, and its message is on its way or sent: it is edited.

    The edit says what is left over of the money, or in the wallet that paid.
    """
    return replace(issuing, kind="left_over", rank=3, follows="access_ready", after_s=0.0)


def of_refund(event: PaymentRefunded) -> Message:
    """One message for each refund: what was returned, what it undid, and what is owed."""
    returned = event.returned
    details = {
        "paid_minor": returned.amount_minor,
        "currency": returned.currency,
        "value_minor": returned.value_minor,
        "undone": [
            {"plan": share.plan, "months": share.months, "whole": share.whole}
            for share in event.undone
            if share.plan is not None
        ],
        "owed_minor": event.owed_minor,
        "restored_for_minor": event.restored_for_minor,
        "wallet_minor": event.wallet_minor,
    }
    return Message(
        event.about,
        str(returned.refund),
        "refunded",
        event.at,
        event.position,
        details=details,
        trace=event.trace,
    )


def of_access(event: AccessGranted) -> Message:
    """The access is ready. A key that is shown is queried when the message is sent."""
    return Message(
        event.about,
        str(event.order),
        "access_ready",
        event.at,
        thread=event.order,
        rank=2,
        details={
            "plan": event.plan,
            "devices": event.devices,
            "ends_at": event.ends_at.isoformat(),
            "effect": event.effect,
            "plan_before": event.plan_before,
            "converted_hours": event.converted_hours,
            "new_link": event.new_link,
        },
        trace=event.trace,
    )


def shows_key(kind: Kind, details: Mapping[str, Any]) -> bool:
    """Whether the key is queried and shown. A renewal at the same nodes keeps it."""
    if kind not in ("access_ready", "left_over"):
        return False
    return details.get("effect", "begins") == "begins" or bool(details["new_link"])


def of_end(event: AccessEnded) -> Message | None:
    """An end by a refund is in the message of the refund."""
    if event.refunded:
        return None
    details = {"ended_at": event.ended_at.isoformat()}
    return Message(
        event.about, event.cause, "access_ended", event.at, details=details, trace=event.trace
    )


def of_expiring(event: AccessExpiring) -> Message:
    """A reminder of the end. Whether it still holds is queried when it is sent."""
    return Message(
        event.about,
        event.cause,
        "access_expiring",
        event.at,
        priority=REMINDERS,
        details={"ends_at": event.ends_at.isoformat(), "hours": event.hours},
        trace=event.trace,
    )


def of_invitation(event: InvitationRegistered) -> Message:
    return Message(
        event.about, str(event.invitee), "friend_registered", event.at, trace=event.trace
    )


def of_reward(event: RewardEarned) -> Message | None:
    """A reward. A share below one kopeck has no message.

    Of two rewards of the same time, the one with fewer paying invitees came first.
    """
    if event.reward_minor == 0:
        return None
    fields = ("reward_minor", "percent", "paying", "next_level_at", "next_percent")
    details = {name: getattr(event, name) for name in fields}
    receipt = str(event.receipt)
    return Message(
        event.about,
        receipt,
        "reward_earned",
        event.at,
        event.paying,
        details=details,
        trace=event.trace,
    )
