"""Values of every payment provider: requests, payments, notices and outcomes.

An outcome that is no success is one of four values, never an exception:

Refusal       the provider will not do it: asking again changes nothing
SlowDown      nothing happened: ask again after so many seconds
Unavailable   nothing happened: the provider was not reached, ask again
Unknown       it may have happened: `then` says what to do first
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

Way = Literal["sbp", "card", "crypto"]
"""How a person pays at a provider."""
State = Literal["pending", "held", "succeeded", "canceled"]
"""`held`: the money waits for a capture. `canceled`: nothing can be paid any more."""
RefundState = Literal["pending", "succeeded", "canceled"]
Registration = Literal["pending", "succeeded", "canceled"]
"""Of a receipt for the tax office. `canceled`: it could not be registered."""
FiscalKind = Literal["payment", "offset", "refund"]


@dataclass(frozen=True, slots=True)
class FiscalReceipt:
    """A receipt for the tax office (54-FZ): a service that is paid in full, and an advance.

    One of the two may be 0. `vat_code` is that of the service.
    """

    email: str
    item: str
    subject: str
    vat_code: int
    tax_system: int | None
    service_minor: int
    advance_minor: int

    @property
    def amount_minor(self) -> int:
        return self.service_minor + self.advance_minor


@dataclass(frozen=True, slots=True)
class Asked:
    """An invoice to open. Its id makes the provider's idempotency key.

    Keep it and repeat it unchanged: another request under the same key is refused. `since` is the
    time of the first try, and `find` looks back as far as that.
    """

    invoice: UUID
    way: Way
    amount_minor: int
    currency: str
    description: str
    payload: str
    """As `shared.contracts.payload` writes it. The provider returns it with the money."""
    return_url: str
    expires_in_s: int
    """Sent where the provider takes a lifetime. Otherwise late money is honoured."""
    since: datetime
    receipt: FiscalReceipt | None = None
    """For the tax office. Its items are exactly the amount."""
    saves_method: bool = False
    """The payer agreed that the provider saves the method of this payment."""
    charges: bool = False
    """A saved method is charged, at once and without a page."""
    saved_method: str | None = field(default=None, repr=False)
    """The provider's id of that method. None: it was forgotten, and can only be looked up."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The invoice at the provider. A repeat with the same key gives the same one."""

    reference: str
    pay_url: str | None
    """None where it charges a saved method, was paid meanwhile, or has ended: read it."""
    expires_at: datetime | None = None
    """None where the provider does not tell it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A permanent no. `code` is the provider's own word, `sentence` is for an operator."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Too many calls (429). Nothing happened."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No connection. Nothing happened. `reason` holds no secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The call may have taken effect. `reason` holds no secret.

    `repeat`: the same call again, with the same key. `find`: look the lost answer up first, since
    the provider has no keys. Neither before `retry_after_s`.
    """

    reason: str
    then: Literal["repeat", "find"] = "repeat"
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The provider cannot do this at all. The sentence says what to do instead."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Returning:
    """How an acquirer returns money.

    `keyed`: the same call again is the same refund. Without keys an unclear outcome is for an
    operator.
    """

    in_parts: bool
    keyed: bool


Failure = Refusal | SlowDown | Unavailable | Unknown


class Sum(NamedTuple):
    """Money in the smallest unit that `shared.contracts.money` keeps of its currency."""

    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Method:
    """A method of payment that the provider has saved. Its id is enough to charge it."""

    id: str = field(repr=False)
    way: Way
    title: str
    """As the provider shows it, perhaps empty. A text of outside, of one line."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as the provider tells it. `reference` is the key of its charge.

    `currency` and `amount_minor` are the price that the payer saw. `arrived` may be in another
    asset.
    """

    reference: str
    state: State
    currency: str
    amount_minor: int
    payload: str | None
    """None for a payment that carries no text: it is not ours."""
    created_at: datetime
    way: Way | None = None
    """None until the provider knows it, or where we know no such way."""
    paid_at: datetime | None = None
    arrived: Sum | None = None
    """What reached our account at the provider, net of `fee`. None until it is told."""
    fee: Sum | None = None
    """What the provider kept, in the currency of `arrived`. None until it is told."""
    refunded_minor: int = 0
    """In `currency`."""
    cancel_reason: str | None = None
    registration: Registration | None = None
    """Of its receipt for the tax office. None where it has none."""
    method: Method | None = None
    """None where the provider has not saved the method of this payment."""


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as the provider tells it. `payment` is the reference of its payment."""

    reference: str
    payment: str
    state: RefundState
    currency: str
    amount_minor: int
    created_at: datetime
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A payment or refund of which we cannot keep the money: nothing is rounded or guessed.

    An alarm for an operator. It does not stop the others of its page.
    """

    reference: str
    reason: Literal["more_digits", "out_of_range", "currency_unknown", "malformed"]
    sentence: str


@dataclass(frozen=True, slots=True)
class RefundDone:
    """The money went back. `reference` is the refund's own id."""

    reference: str


@dataclass(frozen=True, slots=True)
class RefundPending:
    """The provider has accepted it. `read_refund` and the listing tell its end."""

    reference: str


@dataclass(frozen=True, slots=True)
class Registering:
    """The provider has the receipt. `reference` is the receipt's own id."""

    reference: str
    state: Registration


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. `next` continues it, also in another process; None is the end."""

    payments: tuple[Payment, ...]
    unreadable: tuple[Unreadable, ...] = ()
    next: str | None = None


@dataclass(frozen=True, slots=True)
class RefundPage:
    """One page of refunds, as `Page` is of payments."""

    refunds: tuple[Refund, ...]
    unreadable: tuple[Unreadable, ...] = ()
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Balances:
    """The provider's balances for the shop now, held-back money included: each currency once."""

    sums: tuple[Sum, ...]
    unreadable: tuple[Unreadable, ...] = ()
    """`reference` is the currency."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A notice says that something changed. It is no proof: read the payment back.

    `reference` is always the payment's. `refund` is the refund's own id where the notice is of one.
    """

    reference: str
    kind: Literal["payment", "refund"] = "payment"
    refund: str | None = None


@dataclass(frozen=True, slots=True)
class Forged:
    """The notice does not come from the provider: a wrong signature or address."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The notice cannot be read. Keep its bytes and alert: the provider may have changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A true notice of something that the shop does not follow. Answer 200."""

    kind: str


Notice = Hint | Forged | Malformed | Ignored


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence for an operator at the start. One that `blocks` means that nobody can pay."""

    sentence: str
    blocks: bool
