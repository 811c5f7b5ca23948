"""Refunds: never more than was paid, at once or after a while, also from the cabinet."""

from typing import Any
from uuid import uuid4

from .asked import asked_refund
from .backend import Backend
from .errors import Json, invalid, not_found
from .receipts import check_receipt
from .records import Payment, Refund, RefundStatus

REASONS = (
    *("yoo_money_account_closed", "insufficient_funds", "general_decline", "rejected_by_payee"),
    *("rejected_by_timeout", "payment_expired"),
)


class Refunds:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def create(self, body: Json) -> Json:
        """A refund that the merchant asks. It succeeds at once unless a fault is planned."""
        asked, backend = asked_refund(body), self._backend
        payment = self._refundable(asked.payment_id, asked.amount_minor)
        is_part = asked.amount_minor < payment.amount_minor
        has_receipt = check_receipt(
            asked.fields,
            backend.shop,
            asked.amount_minor,
            needed=is_part and payment.asked.has_receipt,
        )
        asked.fields.end()
        fault = backend.faults.refunds.take()
        status: RefundStatus = "succeeded"
        if fault is not None:
            status = "canceled" if fault.reason else "pending"
        refund_id = self._add(
            payment,
            asked.amount_minor,
            status=status,
            has_receipt=has_receipt or payment.asked.has_receipt,
            reason=fault.reason if fault else None,
            description=asked.description,
            metadata=asked.metadata,
        )
        return self.shown(refund_id)

    def create_in_cabinet(self, payment_id: str, amount_minor: int | None) -> Json:
        """A refund that a person makes in the merchant's cabinet: it has no metadata of ours."""
        rest_minor = self._rest_minor(self._backend.payment(payment_id))
        amount_minor = amount_minor or rest_minor
        payment = self._refundable(payment_id, amount_minor)
        has_receipt = payment.asked.has_receipt
        refund_id = self._add(payment, amount_minor, status="succeeded", has_receipt=has_receipt)
        return self.shown(refund_id)

    def settle(self, refund_id: str, reason: str | None) -> Json:
        """End a pending refund: it succeeds, or is canceled for this reason."""
        refund = self._refund(refund_id)
        if refund.status != "pending":
            raise invalid(f"The refund is {refund.status}", "refund_id")
        if reason is None:
            self._backend.state.settle_refund(refund_id, "succeeded", None)
            self._succeeded(refund)
        else:
            self._backend.state.settle_refund(refund_id, "canceled", reason)
        return self.shown(refund_id)

    def shown(self, refund_id: str) -> Json:
        return self._backend.refund_shown(self._refund(refund_id))

    def _refund(self, refund_id: str) -> Refund:
        refund = self._backend.state.refund(refund_id)
        if refund is None:
            raise not_found("Refund doesn't exist or access denied", "refund_id")
        return refund

    def _refundable(self, payment_id: str, amount_minor: int) -> Payment:
        payment = self._backend.state.payment(payment_id)
        if payment is None:
            raise invalid("Payment doesn't exist", "payment_id")
        if payment.status != "succeeded":
            raise invalid(f"The payment is {payment.status}", "payment_id")
        kept_ms = self._backend.limits.kept_s * 1000
        if self._backend.clock.now_ms() - payment.created_at_ms >= kept_ms:
            raise invalid("The payment is too old", "payment_id")
        if not 0 < amount_minor <= self._rest_minor(payment):
            raise invalid("The amount is greater than what is left to refund", "amount.value")
        return payment

    def _rest_minor(self, payment: Payment) -> int:
        return payment.amount_minor - self._backend.state.reserved_minor(payment.id)

    def _add(self, payment: Payment, amount_minor: int, **values: Any) -> str:
        empty: Json = {"reason": None, "description": None, "metadata": {}}
        now_ms = self._backend.clock.now_ms()
        assert payment.method is not None  # It succeeded.
        refund = Refund(
            seq=0,
            id=str(uuid4()),
            payment_id=payment.id,
            amount_minor=amount_minor,
            created_at_ms=now_ms,
            method=payment.method,
            **{**empty, **values},
        )
        self._backend.state.add_refund(refund)
        if refund.status == "succeeded":
            self._succeeded(refund)
        return refund.id

    def _succeeded(self, refund: Refund) -> None:
        payment = self._backend.payment(refund.payment_id)
        refunded_minor = payment.refunded_minor + refund.amount_minor
        if refund.has_receipt:
            self._backend.register(refund.id)
        self._backend.state.change_payment(payment.id, refunded_minor=refunded_minor)
        self._backend.notify("refund.succeeded", self.shown(refund.id))
