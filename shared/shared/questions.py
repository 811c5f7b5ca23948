"""Every question that a service answers; asking changes nothing."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from shared.contract import Question, Value
from shared.owners import OWNERS


class Recipient(Value):
    chat_id: int
    language: Literal["ru", "en"]
    reachable: bool


class AskRecipient(Question[Recipient]):
    """Where and in which language a person is written to. Refused: `person_unknown`."""

    topic = "bot.recipient"
    answer = Recipient

    person: UUID


class Price(Value):
    months: int
    price_minor: int
    stars: int


class Plan(Value):
    plan: str
    devices: int
    traffic_bytes: int | None
    prices: tuple[Price, ...]


class Plans(Value):
    plans: tuple[Plan, ...]
    ways: tuple[Literal["stars"], ...]


class AskPlans(Question[Plans]):
    """What can be bought today, in the order in which it is shown."""

    topic = "payments.plans"
    answer = Plans


class Checkout(Value):
    ok: bool
    reason: (
        Literal[
            "payload_unknown",
            "not_yours",
            "order_closed",
            "invoice_superseded",
            "invoice_expired",
            "amount_differs",
            "currency_differs",
        ]
        | None
    )


class AskCheckout(Question[Checkout]):
    """May this charge be taken? Yes only for the open, unexpired, newest invoice of an open order of that person."""

    topic = "payments.checkout"
    answer = Checkout

    payer: UUID | None
    payload: str
    currency: str
    amount_minor: int


class BalanceLine(Value):
    at: datetime
    reason: str
    amount_minor: int


class Balance(Value):
    wallet_minor: int
    earned_minor: int
    owed_minor: int
    withdrawable_minor: int
    lines: tuple[BalanceLine, ...]
    """The newest first, at most 10."""


class AskBalance(Question[Balance]):
    """What the book holds for a person, in kopecks; zeros for somebody it never saw."""

    topic = "payments.balance"
    answer = Balance

    person: UUID


class ReceiptLine(Value):
    charge: str
    """The payment's id as whoever took the money calls it."""
    paid_at: datetime
    currency: str
    amount_minor: int


class Receipts(Value):
    lines: tuple[ReceiptLine, ...]
    """The newest first, at most 3."""


class AskReceipts(Question[Receipts]):
    """What a person paid lately: what he names when he asks about a payment."""

    topic = "payments.receipts"
    answer = Receipts

    person: UUID


class BookLine(Value):
    account: str
    currency: str
    amount_minor: int


class Book(Value):
    lines: tuple[BookLine, ...]
    """The sum of each kind of account; people's are summed over everybody."""


class AskBook(Question[Book]):
    """What all accounts of the book come to. They sum to zero per currency."""

    topic = "payments.book"
    answer = Book


class Invitations(Value):
    invited: int
    paying: int
    earned_minor: int
    percent: int
    next_level_at: int | None
    next_percent: int | None


class AskInvitations(Question[Invitations]):
    """How a person's invitations stand; zeros at the first level for somebody not known yet."""

    topic = "referrals.invitations"
    answer = Invitations

    person: UUID


class Access(Value):
    state: Literal["none", "issuing", "up", "ended"]
    plan: str | None = None
    devices: int | None = None
    ends_at: datetime | None = None
    used_bytes: int | None = None


class AskAccess(Question[Access]):
    """What a person may use and until when; `issuing` while the panel does not agree yet."""

    topic = "vpn.access"
    answer = Access

    person: UUID


class Outlook(Value):
    """What a purchase makes of the access that a person has now."""

    effect: Literal["begins", "extends", "converts"]
    """A new time begins; the present one goes on; another plan begins at once and takes over what was paid for."""
    plan: str | None
    """The present plan, None where there is no access."""
    converted_hours: int
    """What is left of the present plan, in whole hours of the new one; 0 unless it converts."""
    ends_at: datetime
    """When the access would end."""


class AskOutlook(Question[Outlook]):
    """What a plan for so many months would come to, were it paid now."""

    topic = "vpn.outlook"
    answer = Outlook

    person: UUID
    plan: str
    months: int
    list_month_minor: int
    """The plan's one-month list price in kopecks, which an order freezes: by it paid time converts."""


class Key(Value):
    link: str
    ends_at: datetime


class AskKey(Question[Key]):
    """The key itself, asked for at the moment it is shown or sent. Refused: `no_access`, `issuing`."""

    topic = "vpn.key"
    answer = Key

    person: UUID


class Finding(Value):
    """One invariant as its owner sees it."""

    invariant: str
    truth: str
    violations: int
    examples: tuple[str, ...] = ()


class Audit(Value):
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    """How much there is, for whoever looks; empty when only some hours were audited."""


class AskAudit(Question[Audit]):
    """The owner's invariants, asked of its tables now: `AskAudit.of("payments")()`, one topic per owner."""

    answer = Audit

    hours: float | None = Field(default=None, gt=0, le=1_000_000)
    """Only what happened in the last so many hours, where a check can tell; None is all there is."""

    @staticmethod
    def of(owner: str) -> "type[AskAudit]":
        return AUDITS[owner]


AUDITS: dict[str, type[AskAudit]] = {
    owner: type(f"Ask{owner.capitalize()}Audit", (AskAudit,), {"topic": f"{owner}.audit", "__doc__": AskAudit.__doc__})
    for owner in OWNERS
}


class Tally(Value):
    """An hour in two numbers: how many facts, and the low 64 bits of their ids and their digests, all by exclusive or.

    Two sides with the same facts have the same tally, in whatever order they came.
    """

    hour: datetime
    count: int
    bits: int


class Told(Value):
    at: datetime
    """The owner's clock when it answered."""
    from_at: datetime
    until_at: datetime
    tallies: tuple[Tally, ...]
    """Hours with facts, from `from_at` until before `until_at`; an hour that is not here has none."""
    waiting: tuple[datetime, ...]
    """Hours of which a fact has yet to be acknowledged by the broker: nothing can be said of them now."""


class AskTold(Question[Told]):
    """What was told in closed hours: `AskTold.of("payments")(…)`, one topic per owner. Refused: `not_mine`.

    The newest hours first; `before` is the `from_at` of the page before, and a page without hours the last.
    """

    answer = Told

    fact: str
    """The topic of the fact."""
    before: datetime | None = None
    hours: int = Field(ge=1, le=24)

    @staticmethod
    def of(owner: str) -> "type[AskTold]":
        return TOLDS[owner]


class ToldIds(Value):
    ids: tuple[UUID, ...]
    digests: tuple[int, ...]
    more: bool


class AskToldIds(Question[ToldIds]):
    """Which facts were told in an hour, by id, in pages: `AskToldIds.of("payments")(…)`, one topic per owner."""

    answer = ToldIds

    fact: str
    hour: datetime
    after: UUID | None = None

    @staticmethod
    def of(owner: str) -> "type[AskToldIds]":
        return TOLD_IDS[owner]


TOLDS: dict[str, type[AskTold]] = {
    owner: type(f"Ask{owner.capitalize()}Told", (AskTold,), {"topic": f"{owner}.told", "__doc__": AskTold.__doc__})
    for owner in OWNERS
}

TOLD_IDS: dict[str, type[AskToldIds]] = {
    owner: type(
        f"Ask{owner.capitalize()}ToldIds",
        (AskToldIds,),
        {"topic": f"{owner}.told_ids", "__doc__": AskToldIds.__doc__},
    )
    for owner in OWNERS
}

QUESTIONS: tuple[type[Question[Any]], ...] = (
    AskRecipient,
    AskPlans,
    AskCheckout,
    AskBalance,
    AskReceipts,
    AskBook,
    AskInvitations,
    AskAccess,
    AskOutlook,
    AskKey,
    *AUDITS.values(),
    *TOLDS.values(),
    *TOLD_IDS.values(),
)
