"""The events, queries and commands of payments."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

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
from shared.contracts.operators import Act

# Events

MAX_UNDONE = 21
"""Orders that one refund undoes: that of its payment, and 20 that the balance paid since."""


class Received(Value):
    """Money came from outside: the half of a confirmed payment that rewards read."""

    receipt: UUID
    acquirer: Word
    charge: Charge
    value_minor: int
    """The value in kopecks, by the invoice's own ratio or the rate of the day."""
    amount_minor: int | None = added(None)
    """What was paid, in the smallest unit of `currency`. None in events older than this field."""
    currency: Word | None = added(None)


OrderedWhat = Literal["subscription", "topup"]


class PlanTerms(Value):
    """What a plan gives, frozen in the order."""

    plan: Word
    months: int
    devices: int
    traffic_bytes: int | None
    node_group: Word
    list_month_minor: int
    """The one-month list price in kopecks. Paid time is converted to another plan by it."""


class Bought(Value):
    """Money was spent: the half of a confirmed payment that access reads."""

    order: UUID
    what: Literal["subscription"]
    terms: PlanTerms
    price_minor: int
    restores: UUID | None = added(None)
    """The order that a refund had undone and that this one buys again, since the debt is paid."""


class PaymentConfirmed(Event):
    """A payment is booked. The cause is the charge where there is `received`, else the order."""

    topic = "payments.payment.confirmed"
    undigested = frozenset({"booked_at", "wallet_minor", "position"})

    received: Received | None
    bought: Bought | None
    booked_at: datetime
    """The ledger's time. Subscriptions fold their rows by it."""
    wallet_minor: int
    """The balance of the wallet afterwards, in kopecks."""
    missing_minor: int
    """What the order of this money still lacks, in kopecks. 0 when it bought or named no order."""
    position: int = added(0)
    """The position among the payments booked at the same moment, counted from 0."""
    reason: (
        Literal[
            "topped_up",
            "no_order",
            "not_yours",
            "order_closed",
            "order_too_old",
            "too_little",
            "part_spent",
        ]
        | None
    ) = added(None)
    """Why the money bought nothing. None where it bought, and in events older than this field."""
    lacking: UUID | None = added(None)
    """The order that still lacks `missing_minor`. `OpenInvoice` opens an invoice for it."""
    over_minor: int = added(0)
    """What came above the price of the bought order, in kopecks. It stays in the wallet."""


class ReceiptParked(Event):
    """Money arrived for nobody known. It stays in suspense until an operator decides."""

    topic = "payments.receipt.parked"

    acquirer: Word
    charge: Charge
    currency: Word
    amount_minor: int
    reason: Literal["payer_unknown", "no_rate"]


class InvoiceOpened(Event):
    """A provider has opened an invoice. `InvoiceQuery` answers its page to pay on."""

    topic = "payments.invoice.opened"

    order: UUID
    invoice: UUID


InvoiceRefusedReason = Literal[
    "refused", "provider_down", "not_payable", "canceled", "method_gone", "no_funds", "declined"
]


class InvoiceRefused(Event):
    """An invoice has no page to pay on. The order stays, and another way may be asked for.

    `refused`: by the provider. `provider_down`: it did not answer while the invoice lived.
    `not_payable`: its page came too late. `canceled`: it had one, on which the payer or their bank
    refused, or whose time has ended. Of a charge of a saved method: `method_gone` (it can no longer
    be charged, and is forgotten), `no_funds`, `declined` (by the bank, perhaps for now).
    """

    topic = "payments.invoice.refused"

    order: UUID
    invoice: UUID
    reason: InvoiceRefusedReason


DifferenceKind = Literal[
    "missing_here",
    "missing_there",
    "amount",
    "currency",
    "refund",
    "unreadable",
    "foreign",
    "fee",
    "balance",
]
ReconciliationKind = Literal["hourly", "daily", "asked"]


class ReconciliationCounts(Value):
    """The size of a listing, and its differences of each kind."""

    listed: int = 0
    missing_here: int = 0
    """Booked by this run, as a notice would have booked them."""
    missing_there: int = 0
    amount: int = 0
    currency: int = 0
    refund: int = 0
    unreadable: int = 0
    foreign: int = 0
    """Payments of somebody else who shares the merchant account. Nothing of them is booked."""
    fee: int = added(0)
    """Fees that were told late and are booked now, or that are others than was booked."""
    balance: int = added(0)
    """Currencies of which the provider holds another sum than the clearing account (I11)."""


class ReconciliationFinished(Event):
    """A provider's listing was compared with the ledger. The cause and `about` are the run."""

    topic = "payments.reconciliation.finished"

    acquirer: Word
    kind: ReconciliationKind
    since: datetime
    until: datetime
    counts: ReconciliationCounts
    failed: Line | None = None
    """Why the run gave up. None where it compared everything."""


class Returned(Value):
    """Money went back outside: the half of a refund that rewards read."""

    refund: UUID
    receipt: UUID
    acquirer: Word
    charge: Charge
    value_minor: int
    """What it took from the payer, in kopecks."""
    amount_minor: int
    currency: Word


class Undone(Value):
    """A purchase is undone, or a share of it: the half of a refund that access reads.

    The share is `undone_minor` of `price_minor`. The shares of one order make at most the whole.
    """

    order: UUID
    undone_minor: int
    price_minor: int
    whole: bool
    """Whether nothing of the order is left."""
    plan: Word | None
    """None where the order bought no plan."""
    months: int | None


class PaymentRefunded(Event):
    """Money of a payment was returned, and the refund is booked. The cause is the refund."""

    topic = "payments.payment.refunded"
    undigested = frozenset({"booked_at", "wallet_minor", "position"})

    returned: Returned
    undone: tuple[Undone, ...] = Field(max_length=MAX_UNDONE)
    owed_minor: int
    """What this refund left to be paid by the person, in kopecks."""
    restored_for_minor: int = added(0)
    """A top-up of so much pays all that is owed, and buys again what this refund undid. 0 where
    nothing comes back."""
    wallet_minor: int
    """The balance of the wallet afterwards, in kopecks."""
    booked_at: datetime
    position: int
    """The position among the bookings of the same moment, counted from 0."""


EVENTS: tuple[type[Event], ...] = (
    PaymentConfirmed,
    PaymentRefunded,
    ReceiptParked,
    InvoiceOpened,
    InvoiceRefused,
    ReconciliationFinished,
)


# Queries of other services

MAX_PLAN_CHARACTERS = 24
MAX_MONTHS = 120
"""What a button holds. Constraints of `plans` and `prices` hold the same."""
MAX_CHECKOUTS = 100
"""Charges of one query."""


class Price(Value):
    months: int
    price_minor: int
    stars: int


class Plan(Value):
    plan: str
    devices: int
    traffic_bytes: int | None
    prices: tuple[Price, ...]


Way = Literal["stars", "sbp", "card", "crypto", "telegram"]
"""A way to pay with money from outside. `telegram` is a card, charged by Telegram."""

MAX_TITLE_CHARACTERS = 40
SavedName = Annotated[str, StringConstraints(pattern=r"^s[0-9a-f]{6}$")]
"""A saved method, as buttons name it. It is a way to pay of one person."""


class SavedMethod(Value):
    """A method of payment that the person asked the shop to remember."""

    name: SavedName
    way: Way
    """An invoice by it asks for as much as one in this way."""
    title: str = Field(max_length=MAX_TITLE_CHARACTERS)
    """As the provider shows it, perhaps empty. A text of outside."""


LEAST_TOPUP_MINOR = 100_00
MOST_TOPUP_MINOR = 100_000_00
"""What a top-up asks for, in kopecks."""


class WayToPay(Value):
    way: Way
    currency: Word
    least_minor: int
    """The smallest amount of an invoice, in the smallest unit of `currency`."""
    most_minor: int
    kopecks: int = 1
    """The value of `per_minor` smallest units of `currency`. None is asked for less."""
    per_minor: int = 1


class Plans(Value):
    plans: tuple[Plan, ...]
    ways: tuple[WayToPay, ...]
    saved: tuple[SavedMethod, ...] = ()
    """Of the person who asks: those that can be charged today, the newest first."""


class PlansQuery(Query[Plans]):
    """The plans on sale and the ways to pay today, in the order of the screen."""

    topic = "payments.plans"
    answer = Plans

    person: UUID | None = None


CheckoutReason = Literal[
    "payload_unknown",
    "not_yours",
    "order_paid",
    "order_closed",
    "order_superseded",
    "invoice_superseded",
    "invoice_expired",
    "amount_differs",
    "currency_differs",
]


class Checkout(Value):
    ok: bool
    reason: CheckoutReason | None


class Checkouts(Value):
    answers: tuple[Checkout, ...]
    """One for each charge, in the order of the query."""


class PreCheckout(Value):
    """A charge that an acquirer is about to take."""

    payer: UUID | None
    payload: Payload
    currency: Word
    amount_minor: int = Field(ge=-(2**63), lt=2**63)


class CheckoutQuery(Query[Checkouts]):
    """May these charges be taken? Each gets its own answer.

    Approved only for the open, unexpired, newest invoice of an open order of that person.
    """

    topic = "payments.checkout"
    answer = Checkouts

    charges: tuple[PreCheckout, ...] = Field(max_length=MAX_CHECKOUTS)


class BalanceLine(Value):
    at: datetime
    reason: str
    """The reason of the transfer, and `topup` for the receipt of a top-up."""
    amount_minor: int


class Balance(Value):
    wallet_minor: int
    earned_minor: int
    owed_minor: int
    withdrawable_minor: int
    lines: tuple[BalanceLine, ...]
    """The newest first, at most 10."""
    earlier: UUID | None = None
    """With this as `before` the query answers the next older lines. None: there are none."""
    later: UUID | None = None
    """With this as `after` the query answers the next newer lines. None: there are none."""
    saved: tuple[SavedMethod, ...] = ()
    """All that are remembered, also those that cannot be charged today."""
    asks_email: bool = False
    """Whether people may give an e-mail for receipts of the tax office."""


class BalanceQuery(Query[Balance]):
    """The balances of a person, in kopecks. Zeros for an unknown person.

    Without `before` and `after`, or with one that is not a transfer of this person, the lines are
    the newest.
    """

    topic = "payments.balance"
    answer = Balance

    person: UUID
    before: UUID | None = None
    after: UUID | None = None


class AskedByWay(Value):
    """The amount of an invoice, in the smallest unit of `currency`."""

    way: Way
    asked_minor: int
    currency: Word


class Rest(Value):
    """The amounts that an order lacks. Amounts without a currency are in kopecks."""

    order: UUID
    what: OrderedWhat
    plan: str | None
    """None for a top-up, as is the next one."""
    months: int | None
    price_minor: int
    missing_minor: int
    """0 where nothing has to come: the balance can pay."""
    balance_minor: int
    """Wallet and rewards together. From `price_minor` on, `PayFromBalance` buys."""
    ways: tuple[AskedByWay, ...]
    """The ways to pay what is missing, in the order of the screen. Those that take no such amount
    are left out."""
    saved: tuple[SavedMethod, ...] = ()
    """Those that can be charged today, the newest first."""


class RestQuery(Query[Rest]):
    """What does this order lack, and what would an invoice ask for in each way to pay?

    Refused as `OpenInvoice` is: `not_yours` (or unknown), `order_paid`, `order_closed`,
    `order_too_old`.
    """

    topic = "payments.rest"
    answer = Rest

    person: UUID
    order: UUID
    from_balance: bool = False
    """The balance pays first."""


class ReceiptEmail(Value):
    """`email` is None where the operator's is used."""

    email: str | None


class ReceiptEmailQuery(Query[ReceiptEmail]):
    """Where do the receipts of a person go?"""

    topic = "payments.receipt_email"
    answer = ReceiptEmail

    person: UUID


class ReceiptLine(Value):
    charge: str
    """The id that the acquirer gave to the payment."""
    paid_at: datetime
    currency: str
    amount_minor: int


class Receipts(Value):
    lines: tuple[ReceiptLine, ...]
    """The newest first, at most 3."""


class ReceiptsQuery(Query[Receipts]):
    """The last payments of a person: what they name when they ask support about a payment."""

    topic = "payments.receipts"
    answer = Receipts

    person: UUID


class TrialBalanceLine(Value):
    account: str
    currency: str
    amount_minor: int


class TrialBalance(Value):
    lines: tuple[TrialBalanceLine, ...]
    """The sum of each kind of account. Accounts of people are summed over all people."""


class TrialBalanceQuery(Query[TrialBalance]):
    """The sums of all accounts of the ledger. They are zero per currency."""

    topic = "payments.trial_balance"
    answer = TrialBalance


# Commands


class PlacedOrder(Value):
    """An order: what is wanted, at a price that is frozen. `OpenInvoice` asks for its money."""

    order: UUID
    what: OrderedWhat
    plan: str | None
    """None for a top-up, as are the next two."""
    months: int | None
    list_month_minor: int | None
    """The one-month list price, frozen in the order."""
    price_minor: int


class PlaceOrder(Command[PlacedOrder]):
    """Freeze a price for a person. The command's id is the order's id.

    With `plan` and `months` it is an order of a subscription, with `topup_minor` of money in the
    wallet. It supersedes the person's older open orders of its kind.

    Refused: `plan_unknown` (unknown, not for that many months, or not on sale).
    """

    topic = "payments.place_order"
    answer = PlacedOrder

    person: UUID
    plan: str | None = Field(default=None, min_length=1, max_length=MAX_PLAN_CHARACTERS)
    months: int | None = Field(default=None, ge=1, le=MAX_MONTHS)
    topup_minor: int | None = Field(default=None, ge=LEAST_TOPUP_MINOR, le=MOST_TOPUP_MINOR)

    @model_validator(mode="after")
    def _wants_one_thing(self) -> Self:
        terms = (self.plan is not None, self.months is not None, self.topup_minor is None)
        if len(set(terms)) > 1:
            raise ValueError("an order has a plan with months, or topup_minor")
        return self


InvoiceState = Literal["asking", "open", "superseded", "expired", "paid"]


class OpenedInvoice(Value):
    """An invoice of an order. It asks for what the order lacks."""

    order: UUID
    invoice: UUID
    what: OrderedWhat
    plan: str | None
    months: int | None
    list_month_minor: int | None
    price_minor: int
    payload: str
    """The provider returns it with the money. At most 128 bytes."""
    way: Way
    asked_minor: int
    """What the provider asks for, in the smallest unit of `currency` (whole Stars for XTR)."""
    currency: str
    worth_minor: int
    """What the asked amount is worth, in kopecks. Below the price it asks for a part of it."""
    state: InvoiceState
    """`asking`: the provider has not answered yet. `payments.invoice.opened` says when it has."""
    pay_url: str | None = None
    """Where a person pays. None while asking, and where Telegram charges: bot-gateway makes it."""
    expires_at: datetime
    expires_in_s: int
    """Seconds left at the time of the answer, by the clock of the owning database."""
    from_balance: bool = False
    """The balance pays first."""
    remembers: bool | None = None
    """Whether the provider saves the method that pays it. None where it cannot be saved."""
    charges: bool = False
    """A saved method is charged: there is no page to pay on, and a payment or a refusal follows."""
    refused: InvoiceRefusedReason | None = None
    """Why that method was not charged. None while nobody knows."""


class InvoiceQuery(Query[OpenedInvoice]):
    """An invoice of a person, with its page to pay on. Refused: `not_yours` (or unknown)."""

    topic = "payments.invoice"
    answer = OpenedInvoice

    person: UUID
    invoice: UUID


class OpenInvoice(Command[OpenedInvoice]):
    """Ask for what an order lacks, in one way to pay.

    An open invoice for the same amount and way is answered again; another one is superseded. A
    superseded order is open again.

    Refused: `not_yours` (or unknown), `order_paid`, `order_closed`, `order_too_old`,
    `nothing_missing`, `being_booked` (one of the `charged` invoices has no booking yet),
    `being_charged` (a saved method, for another order of this kind, to an unknown end),
    `dearer` (a saved method would be charged more than `most_minor`), `way_closed` (not on sale, or
    without credentials), `too_much` (for this way), `method_unknown`
    (a saved method that was forgotten, or is another person's), `email_wanted` (receipts go with
    this way, and the person was not asked yet: `SetReceiptEmail` answers).
    """

    topic = "payments.open_invoice"
    answer = OpenedInvoice

    person: UUID
    order: UUID
    way: Way | SavedName
    """A saved method is charged at once, without a page, and once until its end is known."""
    remember: bool = False
    """The person agrees that the method that pays is saved. Without effect where none can be."""
    from_balance: bool = False
    """The balance pays first. The order buys as soon as the balance holds its price."""
    most_minor: int | None = None
    """The amount that the button of a saved method named. None: the person saw the price."""
    charged: tuple[UUID, ...] = Field(default=(), max_length=MAX_CHECKOUTS)
    """Invoices of the order that were charged, as far as the asking side knows."""


class ForgottenMethod(Value):
    method: SavedName


class ForgetMethod(Command[ForgottenMethod]):
    """Forget a saved method: it is never charged again. Refused: `method_unknown`."""

    topic = "payments.forget_method"
    answer = ForgottenMethod

    person: UUID
    method: SavedName


class PaidFromBalance(Value):
    order: UUID
    price_minor: int
    wallet_minor: int
    earned_minor: int
    """The balances afterwards, in kopecks."""


class PayFromBalance(Command[PaidFromBalance]):
    """Pay for an order from the wallet, then from rewards. No money comes from outside.

    Refused: `not_yours` (or unknown), `order_paid`, `order_closed`, `order_too_old`,
    `nothing_to_buy` (a top-up), `balance_short` (`detail` is what is missing, in kopecks).
    """

    topic = "payments.pay_from_balance"
    answer = PaidFromBalance

    person: UUID
    order: UUID


MAX_EMAIL_CHARACTERS = 254


class SetReceiptEmailAnswer(Value):
    """Without the e-mail: answers are stored."""

    person: UUID


class SetReceiptEmail(Command[SetReceiptEmailAnswer]):
    """The e-mail of a person for receipts, or None: they go to the operator's.

    Open invoices keep the one that they were asked with. Refused: `email_invalid`.
    """

    topic = "payments.set_receipt_email"
    answer = SetReceiptEmailAnswer
    unstored = frozenset({"email"})

    person: UUID
    email: str | None = Field(default=None, max_length=MAX_EMAIL_CHARACTERS)


class ReconciliationRecord(Value):
    """A run: the comparison of one provider's listing with the ledger, over a window."""

    run: UUID
    acquirer: str
    kind: ReconciliationKind
    since: datetime
    until: datetime
    state: Literal["running", "done", "failed"]
    counts: ReconciliationCounts
    reason: str | None
    """Why a running one waits, or why a failed one gave up."""
    started_at: datetime
    ended_at: datetime | None


class StartedReconciliations(Value):
    runs: tuple[ReconciliationRecord, ...]


MAX_DAYS_RECONCILED = 31


class Reconcile(Act[StartedReconciliations]):
    """Compare the listings of providers with the ledger now, over a window: the last day, else.

    It begins a run for the provider, or for every configured one. A window ends at most two
    minutes ago; a later `until` is taken as that.

    Refused: `provider_unknown` (or none is configured; `detail` names those that are),
    `window_empty`, `window_too_long` (over 31 days), `too_many_runs` (that have not ended).
    """

    topic = "payments.reconcile"
    answer = StartedReconciliations

    provider: Word | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


# Queries of operators


class OrderRecord(Value):
    order: UUID
    person: UUID
    what: OrderedWhat = "subscription"
    plan: str | None
    months: int | None
    price_minor: int
    received_minor: int
    state: Literal["open", "superseded", "closed", "expired", "paid", "partly_refunded", "refunded"]
    placed_at: datetime
    paid_at: datetime | None
    honoured_until: datetime
    honoured: bool
    """Whether money that comes now still buys."""
    trace: str | None


class InvoiceRecord(Value):
    invoice: UUID
    way: str
    asked_minor: int
    currency: str
    state: InvoiceState
    reference: str | None = None
    """The provider's id of it."""
    opened_at: datetime
    expires_at: datetime
    expired: bool


class ReceiptRecord(Value):
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
    event: UUID
    telegram_charge: str | None = None
    """Telegram's id of a card that it charged at this acquirer."""


class RefundRecord(Value):
    """Money that was returned. It waits until its payment is booked."""

    refund: UUID
    receipt: UUID
    currency: str
    amount_minor: int
    refunded_at: datetime
    state: Literal["waiting", "booked"]
    booked_minor: int | None
    """In its own currency. Less than `amount_minor` where more came back than was paid."""
    value_minor: int | None
    owed_minor: int | None
    event: UUID | None


class EntryRecord(Value):
    account: str
    owner: UUID | None
    currency: str
    amount_minor: int


class TransferRecord(Value):
    transfer: UUID
    cause: str
    reason: str
    person: UUID | None
    at: datetime
    entries: tuple[EntryRecord, ...]


class PaymentRecord(Value):
    """An order with all money that came for it, or money that came for no order."""

    order: OrderRecord | None
    invoices: tuple[InvoiceRecord, ...]
    receipts: tuple[ReceiptRecord, ...]
    transfers: tuple[TransferRecord, ...]
    refunds: tuple[RefundRecord, ...] = ()


class PaymentQuery(Query[PaymentRecord]):
    """What the ledger holds of one payment. Refused: `payment_unknown`."""

    topic = "payments.payment"
    answer = PaymentRecord

    named: str = Field(min_length=1, max_length=300)
    """A charge, an invoice's payload, or the id of an order, an invoice or a receipt."""


class PaymentLine(Value):
    named: UUID
    """The order, or the receipt of money that came for no order."""
    what: str
    state: str
    amount_minor: int
    currency: str
    at: datetime


class PaymentLines(Value):
    payments: tuple[PaymentLine, ...]


class PaymentsQuery(Query[PaymentLines]):
    """The last payments and open orders of a person, the newest first, at most 20."""

    topic = "payments.payments"
    answer = PaymentLines

    person: UUID


class Reconciliations(Value):
    runs: tuple[ReconciliationRecord, ...]
    """The newest first."""


class ReconciliationsQuery(Query[Reconciliations]):
    """The last 20 runs of all providers, or of one."""

    topic = "payments.reconciliations"
    answer = Reconciliations

    provider: Word | None = None


class DifferenceRecord(Value):
    """What a provider says of a charge, and what the ledger holds of it. None is nothing."""

    id: int
    kind: DifferenceKind
    reference: str
    """The provider's id of what differs: the charge itself, or a refund."""
    charge: str
    their_currency: str | None
    their_minor: int | None
    our_currency: str | None
    our_minor: int | None
    sentence: str | None
    done: Literal["booked", "reported"]


class ReconciliationReport(Value):
    run: ReconciliationRecord
    differences: tuple[DifferenceRecord, ...]
    """The first 10 000 of a run are kept; the counts hold all."""
    more: bool


class ReconciliationQuery(Query[ReconciliationReport]):
    """A run with its differences, a page at a time. Refused: `run_unknown`."""

    topic = "payments.reconciliation"
    answer = ReconciliationReport

    run: UUID
    after: int = Field(default=0, ge=0, lt=2**63)
    """The id of the last difference of the page before."""
