"""The queries and acts of operators at payments: balances, days, the catalogue, parked receipts."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from shared.contracts.message import Charge, Payload, Query, Value, Word, added
from shared.contracts.operators import Act
from shared.contracts.payments import MAX_MONTHS, MAX_PLAN_CHARACTERS, Way

MAX_ADJUSTMENT_MINOR = 10_000_000_00
"""Kopecks of one act. More is a slip of the hand."""
MAX_PRICE_MINOR = 100_000_000_00
MAX_PRICE_STARS = 100_000
MAX_DEVICES = 1_000
MAX_TRAFFIC_BYTES = 2**50
MAX_RATE = 10**12
MAX_WAY_MINOR = 10**12

PlanCode = Annotated[str, Field(min_length=1, max_length=MAX_PLAN_CHARACTERS)]
CURRENCY_PATTERN = r"^[A-Z]{3,8}$"
Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN, max_length=8)]

# Balances


class Adjusted(Value):
    """The balances afterwards, in kopecks."""

    person: UUID
    amount_minor: int
    wallet_minor: int
    earned_minor: int
    owed_minor: int


class AdjustBalance(Act[Adjusted]):
    """Credit or debit the wallet of a person, against an account of the shop.

    A credit settles the person's debt first. Refused: `balance_short` (`detail` is what is missing,
    in kopecks): a debit takes no more than the wallet holds.
    """

    topic = "payments.adjust_balance"
    answer = Adjusted

    person: UUID
    amount_minor: int = Field(ge=-MAX_ADJUSTMENT_MINOR, le=MAX_ADJUSTMENT_MINOR)
    """In kopecks. Below zero it is a debit."""
    source: Literal["adjustments", "promotions", "opening"] = added("adjustments")
    """The other side: a correction, a gift of the shop, or a balance of another shop."""

    @model_validator(mode="after")
    def _moves_something(self) -> Self:
        if self.amount_minor == 0:
            raise ValueError("an adjustment moves money")
        return self


# Money that left the account at an acquirer

MAX_WITHDRAWAL_MINOR = 10**17


class WithdrawalRecorded(Value):
    """`held_minor` is what the acquirer holds afterwards, by the ledger."""

    acquirer: Word
    currency: Word
    amount_minor: int
    held_minor: int


class RecordWithdrawal(Act[WithdrawalRecorded]):
    """Book what the owner withdrew at an acquirer, against the account `withdrawn`.

    Nothing is sent anywhere. Refused: `acquirer_unknown` (`detail` names the known ones),
    `not_held` (`detail` is what the acquirer holds by the ledger, in the smallest unit).
    """

    topic = "payments.record_withdrawal"
    answer = WithdrawalRecorded

    acquirer: Word
    currency: Currency
    amount_minor: int = Field(ge=-MAX_WITHDRAWAL_MINOR, le=MAX_WITHDRAWAL_MINOR)
    """In the smallest unit. Below zero it was put into the account."""

    @model_validator(mode="after")
    def _moves_something(self) -> Self:
        if self.amount_minor == 0:
            raise ValueError("a withdrawal moves money")
        return self


# Closed days


class AccountDayLine(Value):
    """An account at the end of a day. Those of people are summed by their kind."""

    account: str
    currency: str
    debit_minor: int
    """What left the account on this day."""
    credit_minor: int
    """What came into it."""
    balance_minor: int
    """Since the first day: credits less debits. Money that an acquirer holds is below zero."""


class AccountDay(Value):
    day: date
    lines: tuple[AccountDayLine, ...]


class AccountDayQuery(Query[AccountDay]):
    """The trial balance of a closed day, in UTC. It never changes.

    Refused: `day_not_closed` (`detail` is the last day that is, or empty).
    """

    topic = "payments.account_day"
    answer = AccountDay

    day: date


# The catalogue


class PlanRecord(Value):
    plan: Word
    position: int
    devices: int
    traffic_bytes: int | None
    node_group: Word
    on_sale: bool


class PriceRecord(Value):
    plan: Word
    months: int
    price_minor: int
    stars: int
    since: datetime
    """When this price began."""


class RateRecord(Value):
    currency: Word
    from_at: datetime
    kopecks: int
    per_minor: int
    state: Literal["past", "present", "future"]


class WayRecord(Value):
    way: Word
    acquirer: Word
    currency: Word
    least_minor: int
    most_minor: int
    on_sale: bool


class Catalogue(Value):
    plans: tuple[PlanRecord, ...]
    prices: tuple[PriceRecord, ...]
    rates: tuple[RateRecord, ...]
    """Of each currency the newest first, at most 200 in all."""
    ways: tuple[WayRecord, ...]


class CatalogueQuery(Query[Catalogue]):
    """Everything that is or was on sale, as operators change it."""

    topic = "payments.catalogue"
    answer = Catalogue


class PriceSet(Value):
    plan: Word
    months: int
    price_minor: int
    stars: int


class SetPrice(Act[PriceSet]):
    """Set the price of a plan for a number of months, in rubles and in Stars at once.

    Orders that were placed keep their price. A version is kept of every price.
    Refused: `plan_unknown`.
    """

    topic = "payments.set_price"
    answer = PriceSet

    plan: PlanCode
    months: int = Field(ge=1, le=MAX_MONTHS)
    price_minor: int = Field(ge=1, le=MAX_PRICE_MINOR)
    stars: int = Field(ge=1, le=MAX_PRICE_STARS)


class SetPlan(Act[PlanRecord]):
    """Change a plan: whether it is on sale, its devices, its traffic. Absent fields stay.

    Orders that were placed keep their terms. Refused: `plan_unknown`.
    """

    topic = "payments.set_plan"
    answer = PlanRecord

    plan: PlanCode
    on_sale: bool | None = None
    devices: int | None = Field(default=None, ge=1, le=MAX_DEVICES)
    traffic_bytes: int | None = Field(default=None, ge=0, le=MAX_TRAFFIC_BYTES)
    """0 is no limit."""


class SetRate(Act[RateRecord]):
    """Add a version of the rate of a currency. The version before it is in force until then.

    Refused: `rubles_have_no_rate`, `begins_too_early` (`detail` is the earliest time),
    `rate_exists` (another one begins at that time).
    """

    topic = "payments.set_rate"
    answer = RateRecord

    currency: Currency
    kopecks: int = Field(ge=1, le=MAX_RATE)
    per_minor: int = Field(ge=1, le=MAX_RATE)
    """So many smallest units of the currency are worth `kopecks`."""
    from_at: datetime | None = None
    """None: as early as possible, in a minute."""


class SetWay(Act[WayRecord]):
    """Change a way to pay: whether it is on sale, its least and most. Absent fields stay.

    Invoices that are open stay open. Refused: `way_unknown`, `least_above_most`.
    """

    topic = "payments.set_way"
    answer = WayRecord

    way: Way
    on_sale: bool | None = None
    least_minor: int | None = Field(default=None, ge=1, le=MAX_WAY_MINOR)
    most_minor: int | None = Field(default=None, ge=1, le=MAX_WAY_MINOR)
    """In the smallest unit of the way's currency."""


# Parked receipts


class ParkedReceipt(Value):
    """Money in suspense."""

    receipt: UUID
    acquirer: Word
    charge: Charge
    payer: UUID | None
    currency: Word
    amount_minor: int
    payload: Payload
    paid_at: datetime
    parked_at: datetime
    because: Literal["payer_unknown", "no_rate"]


class ParkedReceipts(Value):
    receipts: tuple[ParkedReceipt, ...]
    more: bool


class ParkedQuery(Query[ParkedReceipts]):
    """Receipts that wait for an operator, the oldest first, a page at a time."""

    topic = "payments.parked"
    answer = ParkedReceipts

    after: UUID | None = None
    """The last receipt of the page before."""


class Resolved(Value):
    receipt: UUID
    person: UUID
    value_minor: int
    outcome: Literal["bought", "wallet"]
    because: Word
    order: UUID | None
    missing_minor: int
    wallet_minor: int


class ResolveParked(Act[Resolved]):
    """Book a parked receipt: to the wallet of a person, or to an order of that person.

    From there it is money as any: the order buys by the rules of every payment, a partner is
    rewarded, the person is informed. Once per receipt.
    Refused: `receipt_unknown`, `resolved_already`, `returned`, `not_yours` (the order, or a receipt
    whose payer is known), `no_rate` (for its currency; name one), `worth_too_much` (by the named
    rate).
    """

    topic = "payments.resolve_parked"
    answer = Resolved

    receipt: UUID
    person: UUID
    order: UUID | None = None
    kopecks: int | None = Field(default=None, ge=1, le=MAX_RATE)
    per_minor: int = Field(default=1, ge=1, le=MAX_RATE)
    """A rate for this receipt alone: `kopecks` for every `per_minor` of its smallest units."""
