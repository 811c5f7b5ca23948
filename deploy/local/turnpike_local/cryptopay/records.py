"""The records of the state."""

from dataclasses import dataclass
from decimal import Decimal

from .rules import InvoiceDraft, InvoiceStatus


@dataclass(frozen=True)
class Payment:
    """How an invoice was paid. Amounts and rates are decimal strings, as they were shown."""

    asset: str
    amount: str
    usd_rate: str
    fiat_rate: str | None
    fee_amount: str
    fee_in_usd: str
    paid_at_ms: int
    anonymously: bool
    comment: str | None


@dataclass(frozen=True)
class Invoice:
    invoice_id: int
    hash: str
    draft: InvoiceDraft
    created_at_ms: int
    expires_at_ms: int | None
    payment: Payment | None

    def status(self, now_ms: int) -> InvoiceStatus:
        if self.payment is not None:
            return "paid"
        if self.expires_at_ms is not None and self.expires_at_ms <= now_ms:
            return "expired"
        return "active"


@dataclass(frozen=True)
class Transfer:
    transfer_id: int
    spend_id: str
    user_id: int
    asset: str
    amount: Decimal
    comment: str | None
    completed_at_ms: int


@dataclass(frozen=True)
class Notice:
    """A report of a paid invoice that the app has not confirmed yet."""

    id: int
    update_id: int
    invoice_id: int
    attempts: int


@dataclass(frozen=True)
class Rate:
    """The price of one of an asset in USD. An invalid one cannot be paid at."""

    usd: Decimal
    is_valid: bool
