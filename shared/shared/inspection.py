"""Every question that operators ask: what lies buried, what became of a payment, whether two owners agree.

Answers are rows with their ids and times (the owner's database clock); no name, key or text of a person travels.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contract import Question, Value
from shared.owners import OWNERS


def _each(question: type[Question[Any]], what: str) -> dict[str, Any]:
    """The same question to every owner, each with its own topic."""
    name = question.__name__.removeprefix("Ask")
    return {
        owner: type(
            f"Ask{owner.capitalize()}{name}",
            (question,),
            {"topic": f"{owner}.{what}", "__doc__": question.__doc__, "__module__": question.__module__},
        )
        for owner in OWNERS
    }


class DeadLetter(Value):
    letter: int
    handler: str
    fact: UUID
    subject: str
    reason: str
    size_bytes: int
    buried_at: datetime
    replayed_at: datetime | None
    trace: str | None
    """The trace id of its story, where its headers tell it."""


class DeadLetters(Value):
    letters: tuple[DeadLetter, ...]
    more: bool


class AskDeadLetters(Question[DeadLetters]):
    """What lies buried with the owner, the oldest first, a page at a time: `AskDeadLetters.of("payments")(…)`."""

    answer = DeadLetters

    after: int = Field(default=0, ge=0, lt=2**63)
    """The last letter of the page before."""
    replayed: bool = False
    """Those that were replayed too."""

    @staticmethod
    def of(owner: str) -> "type[AskDeadLetters]":
        return _DEAD_LETTERS[owner]


_DEAD_LETTERS: dict[str, type[AskDeadLetters]] = _each(AskDeadLetters, "dead_letters")


class OpenedLetter(Value):
    letter: DeadLetter
    body: str
    """The bytes as text where they are UTF-8, else as hexadecimal digits; at most the first 64 KiB of them."""
    encoding: Literal["utf-8", "hex"]


class AskDeadLetter(Question[OpenedLetter]):
    """One dead letter with its bytes. Refused: `letter_unknown`."""

    answer = OpenedLetter

    letter: int = Field(ge=0, lt=2**63)

    @staticmethod
    def of(owner: str) -> "type[AskDeadLetter]":
        return _DEAD_LETTER[owner]


_DEAD_LETTER: dict[str, type[AskDeadLetter]] = _each(AskDeadLetter, "dead_letter")


class DeadJob(Value):
    person: UUID
    node: str
    present: bool
    """Whether the node was to let the person in, or to shut him out."""
    tries: int
    error: str | None
    died_at: datetime
    trace: str | None


class DeadJobs(Value):
    jobs: tuple[DeadJob, ...]
    more: bool


class AskDeadJobs(Question[DeadJobs]):
    """Access jobs that were given up, the oldest first, at most 200; of one person where one is named."""

    topic = "vpn.dead_jobs"
    answer = DeadJobs

    person: UUID | None = None


# What became of a payment


class Person(Value):
    person: UUID


class AskPerson(Question[Person]):
    """Who has this Telegram id here. Refused: `person_unknown`."""

    topic = "bot.person"
    answer = Person

    telegram_id: int = Field(ge=-(2**63), lt=2**63)


class ReportUpdate(Value):
    """An update that brought a report, as the intake keeps it (three days, longer while it is not done)."""

    seq: int
    state: Literal["waiting", "done", "dropped", "failed"]
    reason: str | None
    tries: int
    received_at: datetime
    ended_at: datetime | None


class Report(Value):
    """Telegram's word that a payment succeeded: one per charge, however often it came."""

    charge: str | None
    currency: str | None
    amount_minor: int | None
    order: UUID | None
    payer: UUID | None
    fact: UUID | None
    """What was told of it; None while it waits, and for a report that nobody can read."""
    told_at: datetime | None
    updates: tuple[ReportUpdate, ...]


class Reports(Value):
    reports: tuple[Report, ...]


class AskReports(Question[Reports]):
    """What Telegram reported of these charges, and of this order; the oldest first, at most 20."""

    topic = "bot.reports"
    answer = Reports

    charges: tuple[str, ...] = Field(max_length=100)
    order: UUID | None


class OrderSeen(Value):
    order: UUID
    person: UUID
    plan: str
    months: int
    price_minor: int
    received_minor: int
    state: Literal["open", "paid", "closed"]
    placed_at: datetime
    paid_at: datetime | None
    honoured_until: datetime
    honoured: bool
    """Whether money that comes now still buys."""
    trace: str | None


class InvoiceSeen(Value):
    invoice: UUID
    way: str
    asked_minor: int
    currency: str
    state: Literal["open", "superseded", "paid"]
    opened_at: datetime
    expires_at: datetime
    expired: bool


class ReceiptSeen(Value):
    """Money that came, and what it became."""

    receipt: UUID
    acquirer: str
    charge: str
    payer: UUID | None
    currency: str
    amount_minor: int
    paid_at: datetime
    received_at: datetime
    outcome: Literal["bought", "wallet", "suspense"]
    because: str
    value_minor: int | None
    fact: UUID


class EntrySeen(Value):
    account: str
    owner: UUID | None
    currency: str
    amount_minor: int


class TransferSeen(Value):
    transfer: UUID
    cause: str
    reason: str
    person: UUID | None
    at: datetime
    entries: tuple[EntrySeen, ...]


class Payment(Value):
    """An order with everything that came for it; or money that came for none."""

    order: OrderSeen | None
    invoices: tuple[InvoiceSeen, ...]
    receipts: tuple[ReceiptSeen, ...]
    transfers: tuple[TransferSeen, ...]


class AskPayment(Question[Payment]):
    """What the book says of the payment with this name. Refused: `payment_unknown`."""

    topic = "payments.payment"
    answer = Payment

    named: str = Field(max_length=300)
    """A charge, an invoice's payload, or the id of an order, an invoice or a receipt."""


class PaymentLine(Value):
    named: UUID
    """The order, or the receipt of money that came for none."""
    what: str
    state: str
    amount_minor: int
    currency: str
    at: datetime


class PaymentLines(Value):
    payments: tuple[PaymentLine, ...]


class AskPayments(Question[PaymentLines]):
    """A person's last payments and open orders, the newest first, at most 20."""

    topic = "payments.payments"
    answer = PaymentLines

    person: UUID


class RewardSeen(Value):
    """What was decided about a receipt."""

    receipt: UUID
    outcome: Literal["rewarded", "below_a_kopeck", "no_partner", "partner_gone"]
    partner: UUID | None
    paying: int | None
    percent: int | None
    value_minor: int
    reward_minor: int
    fact: UUID | None
    decided_at: datetime


class Rewards(Value):
    rewards: tuple[RewardSeen, ...]
    waits_since: datetime | None
    """A payment of this payer waits for his start."""
    started: bool
    refused: str | None
    """Why the payer was not bound to whom he named, if he named somebody."""


class AskRewards(Question[Rewards]):
    """What these receipts of this payer were worth to a partner, or the named reason why nothing."""

    topic = "referrals.rewards"
    answer = Rewards

    receipts: tuple[UUID, ...] = Field(max_length=100)
    payer: UUID


class AccessJob(Value):
    node: str
    present: bool
    state: Literal["waiting", "agreed", "dead"]
    tries: int
    run_at: datetime
    agreed_at: datetime | None
    error: str | None


class Grant(Value):
    """What an order gave, and how far the nodes are with it."""

    order: UUID
    person: UUID
    heard_at: datetime
    age_s: float
    told_at: datetime | None
    fact: UUID | None
    state: Literal["live", "ending", "ended"]
    ends_at: datetime
    jobs: tuple[AccessJob, ...]


class AskGrant(Question[Grant]):
    """The access that an order bought. Refused: `order_unknown`."""

    topic = "vpn.grant"
    answer = Grant

    order: UUID


class DeliverySeen(Value):
    delivery: UUID
    person: UUID
    kind: str
    cause: str
    state: Literal["waiting", "claimed", "sent", "unreachable", "failed", "unknown", "superseded"]
    reason: str | None
    tries: int
    not_before: datetime
    written_at: datetime
    settled_at: datetime | None
    fact: UUID | None
    """What was told of a message that was lost."""


class Deliveries(Value):
    deliveries: tuple[DeliverySeen, ...]


class AskDeliveries(Question[Deliveries]):
    """The messages that these people were to get because of these causes (orders and receipts), in their order."""

    topic = "notifier.deliveries"
    answer = Deliveries

    people: tuple[UUID, ...] = Field(max_length=100)
    causes: tuple[str, ...] = Field(max_length=200)


class FactTold(Value):
    fact: UUID
    topic: str
    told_at: datetime
    age_s: float
    waits: bool
    """The broker has not acknowledged it yet."""


class FactHeard(Value):
    fact: UUID
    handler: str
    outcome: Literal["done", "buried"]
    heard_at: datetime


class FactFailing(Value):
    """A handler stumbled over it and will try again by itself."""

    fact: UUID
    handler: str
    tries: int
    reason: str


class FactBuried(Value):
    fact: UUID
    handler: str
    letter: int
    reason: str
    buried_at: datetime
    replayed_at: datetime | None


class FactsSeen(Value):
    told: tuple[FactTold, ...]
    heard: tuple[FactHeard, ...]
    failing: tuple[FactFailing, ...]
    buried: tuple[FactBuried, ...]


class AskFacts(Question[FactsSeen]):
    """What the owner told and heard of these facts: `AskFacts.of("payments")(facts=…)`. It keeps them for 30 days."""

    answer = FactsSeen

    facts: tuple[UUID, ...] = Field(max_length=500)

    @staticmethod
    def of(owner: str) -> "type[AskFacts]":
        return _FACTS[owner]


_FACTS: dict[str, type[AskFacts]] = _each(AskFacts, "facts")

# What two owners must agree on


class Keys(Value):
    keys: tuple[str, ...]
    after: str | None
    """Where the next page begins; None after the last."""


class AskKeys(Question[Keys]):
    """A page of what the owner has of one kind: `AskKeys.of("payments")(kind="received", …)`. Refused: `kind_unknown`.

    A key says all that another owner must have the same: ids, and amounts in minor units, with a space between.
    """

    answer = Keys

    kind: str
    after: str | None = None
    hours: float | None = Field(default=None, gt=0, le=1_000_000)
    """Only what is younger."""
    settled_s: float = Field(default=0.0, ge=0, le=86_400)
    """Only what is older, by the owner's clock: what is younger may still be on its way to the other."""

    @staticmethod
    def of(owner: str) -> "type[AskKeys]":
        return _KEYS[owner]


_KEYS: dict[str, type[AskKeys]] = _each(AskKeys, "keys")


class Lacking(Value):
    keys: tuple[str, ...]


class AskLacking(Question[Lacking]):
    """Which of these the owner has not, of that kind. Refused: `kind_unknown`."""

    answer = Lacking

    kind: str
    keys: tuple[str, ...] = Field(max_length=5000)

    @staticmethod
    def of(owner: str) -> "type[AskLacking]":
        return _LACKING[owner]


_LACKING: dict[str, type[AskLacking]] = _each(AskLacking, "lacking")

INSPECTIONS: tuple[type[Question[Any]], ...] = (
    *_DEAD_LETTERS.values(),
    *_DEAD_LETTER.values(),
    AskDeadJobs,
    AskPerson,
    AskReports,
    AskPayment,
    AskPayments,
    AskRewards,
    AskGrant,
    AskDeliveries,
    *_FACTS.values(),
    *_KEYS.values(),
    *_LACKING.values(),
)
