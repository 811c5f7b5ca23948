"""The values in the state: payments, refunds, saved methods, notices."""

from dataclasses import dataclass
from typing import Any, Literal

from .asked import AskedPayment
from .shop import MethodType

Status = Literal["pending", "waiting_for_capture", "succeeded", "canceled"]
RefundStatus = Literal["pending", "succeeded", "canceled"]
STATUSES = ("pending", "waiting_for_capture", "succeeded", "canceled")
REFUND_STATUSES = ("pending", "succeeded", "canceled")


@dataclass(frozen=True)
class Payment:
    """`amount_minor` is what was asked, or captured. `ends_at_ms` ends the link or the hold."""

    seq: int
    id: str
    status: Status
    amount_minor: int
    created_at_ms: int
    captured_at_ms: int | None
    ends_at_ms: int | None
    method: MethodType | None
    method_id: str | None
    saved: bool
    refunded_minor: int
    reason: str | None
    charged_back_at_ms: int | None
    asked: AskedPayment


@dataclass(frozen=True)
class Refund:
    seq: int
    id: str
    payment_id: str
    status: RefundStatus
    amount_minor: int
    created_at_ms: int
    method: MethodType
    has_receipt: bool
    reason: str | None
    description: str | None
    metadata: dict[str, str]


@dataclass(frozen=True)
class SavedMethod:
    """`decline` is the reason for which charges of it are canceled from now on."""

    id: str
    type: MethodType
    decline: str | None


@dataclass(frozen=True)
class FiscalReceipt:
    """A receipt apart from its payment, as the merchant asked for it."""

    id: str
    payment_id: str
    created_at_ms: int
    settlement: str
    amount_minor: int
    items: list[dict[str, Any]]
    email: str | None


@dataclass(frozen=True)
class Notice:
    id: int
    event: str
    body: dict[str, Any]
    due_at_ms: int
    attempts: int
    state: Literal["waiting", "delivered", "dropped"]
