"""The events, queries and commands of bot-gateway."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.contracts.message import (
    Charge,
    Command,
    Event,
    Line,
    Payload,
    Query,
    Value,
    Word,
    added,
)
from shared.contracts.operators import Act, OperatorName, Role

# Events


class PersonStarted(Event):
    """A person pressed /start for the first time in a life."""

    topic = "bot.person.started"

    code: Word | None
    """The payload of that first /start, as it was typed."""
    invited_by: UUID | None
    """The person whose invitation code it was. None where the code belongs to nobody."""


class PersonChanged(Event):
    """A person's language or reachability changed. The cause is the update and the change."""

    topic = "bot.person.changed"

    language: Literal["ru", "en"]
    reachable: bool


class PaymentReported(Event):
    """Telegram reported a payment. The cause is the charge: a repeat is the same event.

    A webhook and a listing may tell payer, payload and time differently: the first report stands.
    """

    topic = "bot.payment.reported"
    undigested = frozenset({"payer", "payload", "paid_at"})

    acquirer: Word
    charge: Charge
    payer: UUID | None
    """None when the payer never started the bot: the money is booked all the same."""
    payload: Payload
    currency: Word
    amount_minor: int
    paid_at: datetime
    recurring: bool = False
    provider_charge: Charge | None = added(None)
    """The id of a card's payment at the acquirer behind Telegram."""


class RefundReported(Event):
    """Telegram reported that the money of a charge was returned. The cause is the charge.

    A message and a listing may tell payer, payload and time differently: the first report stands.
    """

    topic = "bot.refund.reported"
    undigested = frozenset({"payer", "payload", "refunded_at"})

    acquirer: Word
    charge: Charge
    payer: UUID | None
    payload: Payload
    currency: Word
    amount_minor: int
    refunded_at: datetime


EVENTS: tuple[type[Event], ...] = (PersonStarted, PersonChanged, PaymentReported, RefundReported)


# Queries of other services


class Recipient(Value):
    chat_id: int
    language: Literal["ru", "en"]
    reachable: bool


class RecipientQuery(Query[Recipient]):
    """The chat and the language of a person. Refused: `person_unknown`."""

    topic = "bot.recipient"
    answer = Recipient

    person: UUID


class StarRefund(Value):
    """Stars that payments asked to return. Telegram reports a refund by itself, too."""

    refund: UUID
    state: Literal["waiting", "done", "refused"]
    reason: str | None
    """Why it was refused, or what the last failed try answered."""


class StarRefundQuery(Query[StarRefund]):
    """What became of a refund of Stars. Refused: `refund_unknown`."""

    topic = "bot.star_refund"
    answer = StarRefund

    refund: UUID


# Commands of other services


class RefundStars(Command[StarRefund]):
    """Return the Stars of a charge, whole. The id is that of the refund at payments.

    Refused: `payer_unknown` (a payer who never started the bot, after three days).
    """

    topic = "bot.refund_stars"
    answer = StarRefund

    charge: Charge
    payer: UUID | None


# Queries of operators


class Person(Value):
    person: UUID


class PersonQuery(Query[Person]):
    """The person with this Telegram id. Refused: `person_unknown`."""

    topic = "bot.person"
    answer = Person

    telegram_id: int = Field(ge=-(2**63), lt=2**63)


class ReportUpdate(Value):
    """An update that carried a report, as the intake keeps it: 3 days, longer while it is open."""

    seq: int
    state: Literal["waiting", "done", "dropped", "failed"]
    reason: str | None
    tries: int
    received_at: datetime
    ended_at: datetime | None


class Report(Value):
    """Telegram's statement that a payment succeeded: one per charge, however often it came."""

    charge: str | None
    currency: str | None
    amount_minor: int | None
    order: UUID | None
    payer: UUID | None
    event: UUID | None
    """The event that was published. None while it waits, and for an unreadable report."""
    recorded_at: datetime | None
    updates: tuple[ReportUpdate, ...]


class Reports(Value):
    reports: tuple[Report, ...]


class ReportsQuery(Query[Reports]):
    """Telegram's reports of these charges and of this order, the oldest first, at most 20."""

    topic = "bot.reports"
    answer = Reports

    charges: tuple[Line, ...] = Field(max_length=100)
    order: UUID | None


MAX_OPERATORS = 200


class Operator(Value):
    operator: OperatorName
    role: Role
    since: datetime | None
    """None for an owner whom TURNPIKE_OWNERS names, as is the next one."""
    by: Line | None
    """The operator who gave the role."""


class OperatorQuery(Query[Operator]):
    """The role of an operator. Refused: `operator_unknown`."""

    topic = "bot.operator"
    answer = Operator

    operator: OperatorName


class Operators(Value):
    operators: tuple[Operator, ...]
    """By name, those of TURNPIKE_OWNERS first. At most 220: 20 of the setting and 200 rows."""


class OperatorsQuery(Query[Operators]):
    """Everybody who has a role."""

    topic = "bot.operators"
    answer = Operators


# Acts


class OperatorChanged(Value):
    operator: OperatorName
    role: Role | None
    """None: the operator was removed."""


class SetOperator(Act[OperatorChanged]):
    """Add an operator, change the role of one, or remove one.

    Refused: `owner_by_setting` (TURNPIKE_OWNERS names this one), `operator_unknown` (nobody to
    remove), `too_many_operators`.
    """

    topic = "bot.set_operator"
    answer = OperatorChanged

    operator: OperatorName
    new_role: Role | None
    """None removes the operator."""
