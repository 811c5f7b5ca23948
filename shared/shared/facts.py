"""Every fact that a service tells, with the fields that its listeners may rely on."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contract import Fact, Value


def added(nothing: Any) -> Any:
    """A field that came later. While it says nothing it leaves no trace, so that older facts keep bytes and digest."""
    return Field(default=nothing, exclude_if=lambda value: bool(value == nothing))


class PersonStarted(Fact):
    """Somebody pressed /start for the first time in a life."""

    topic = "bot.person.started"

    code: str | None
    """The payload of that first /start, as it was typed."""
    invited_by: UUID | None
    """Whose invitation code it was; bot-gateway owns the codes, so a code without a person stays None."""


class PersonChanged(Fact):
    """The language or the reachability of a person is another now; the cause is the update that changed it."""

    topic = "bot.person.changed"

    language: Literal["ru", "en"]
    reachable: bool


class PaymentReported(Fact):
    """Telegram said that a payment succeeded. The cause is the charge, so every repeat is the same fact."""

    topic = "bot.payment.reported"

    acquirer: str
    charge: str
    payer: UUID | None
    """None when the payer never started here: the money is booked all the same."""
    payload: str
    currency: str
    amount_minor: int
    paid_at: datetime
    recurring: bool = False


class Received(Value):
    """Money came from outside: the half of a confirmed payment that rewards read."""

    receipt: UUID
    acquirer: str
    charge: str
    value_minor: int
    """What it is worth in kopecks, by the invoice's own ratio or the rate of the day."""


class Terms(Value):
    """What a plan gives, frozen in the order."""

    plan: str
    months: int
    devices: int
    traffic_bytes: int | None
    node_group: str
    list_month_minor: int
    """The one-month list price in kopecks: by it paid time converts to another plan."""


class Bought(Value):
    """Money was spent: the half of a confirmed payment that access reads."""

    order: UUID
    what: Literal["subscription"]
    terms: Terms
    price_minor: int


class PaymentConfirmed(Fact):
    """A payment is in the book. The cause is the charge where there is `received`, else the order."""

    topic = "payments.payment.confirmed"
    circumstances = frozenset({"booked_at", "wallet_minor", "place"})

    received: Received | None
    bought: Bought | None
    booked_at: datetime
    """The book's time: subscriptions fold by it."""
    wallet_minor: int
    """What the wallet holds afterwards, in kopecks."""
    missing_minor: int
    """What the order that this money came for still lacks, in kopecks; 0 when it bought or came for none."""
    place: int = added(0)
    """Where it stands among what was booked at that very moment: the wallet held this after that many others."""
    reason: Literal["no_order", "not_yours", "order_closed", "order_too_old", "too_little", "part_spent"] | None = (
        added(None)
    )
    """Why the money bought nothing; None where it bought, and in facts from before there were reasons."""
    over_minor: int = added(0)
    """How much more than its price came for the order that was bought, in kopecks; it rests in the wallet."""


class ReceiptParked(Fact):
    """Money arrived that could not be given to anybody; it rests in suspense until an operator decides."""

    topic = "payments.receipt.parked"

    acquirer: str
    charge: str
    currency: str
    amount_minor: int
    reason: Literal["payer_unknown", "no_rate"]


class InvitationRegistered(Fact):
    """A new person is bound to a partner. `about` is the partner, the cause is the invitee."""

    topic = "referrals.invitation.registered"

    invitee: UUID


class RewardEarned(Fact):
    """A partner earned a share of a receipt. `about` is the partner, the cause is the receipt."""

    topic = "referrals.reward.earned"
    circumstances = frozenset({"paying", "next_level_at", "next_percent"})

    receipt: UUID
    invitee: UUID
    percent: int
    value_minor: int
    reward_minor: int
    paying: int
    """How many invitees of the partner pay, this one counted."""
    next_level_at: int | None
    """From how many paying invitees the percent rises; None at the highest level."""
    next_percent: int | None


class AccessGranted(Fact):
    """The panel agrees that the person may use the VPN. The cause is the order (or other row) that was asked for."""

    topic = "vpn.access.granted"

    order: UUID
    plan: str
    devices: int
    ends_at: datetime


class AccessEnded(Fact):
    """The time is over and the panel confirmed the removal. The cause is the end that was reached."""

    topic = "vpn.access.ended"

    ended_at: datetime


class DeliveryFailed(Fact):
    """A message that matters could not be handed over; `about` is the person."""

    topic = "notifier.delivery.failed"

    kind: str
    reason: str


FACTS: tuple[type[Fact], ...] = (
    PersonStarted,
    PersonChanged,
    PaymentReported,
    PaymentConfirmed,
    ReceiptParked,
    InvitationRegistered,
    RewardEarned,
    AccessGranted,
    AccessEnded,
    DeliveryFailed,
)
