"""Payments: the requests of the merchant, the acts of the payer, and the passing of time."""

from dataclasses import replace
from uuid import uuid4

from .asked import AskedPayment, asked_payment, check_method
from .backend import Backend
from .errors import Json, forbidden, invalid
from .fields import Fields
from .receipts import check_receipt
from .records import Payment
from .shop import MethodType

_ENDED_AT_ONCE = 500

DECLINES = (
    *("3d_secure_failed", "call_issuer", "card_expired", "payment_method_limit_exceeded"),
    *("payment_method_restricted", "country_forbidden", "general_decline", "fraud_suspected"),
    *("identification_required", "insufficient_funds", "invalid_card_number", "invalid_csc"),
    *("issuer_unavailable", "permission_revoked", "internal_timeout"),
)


class Payments:
    """Each act checks first, and then changes the payment in the caller's transaction."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # The merchant

    def create(self, body: Json) -> Json:
        backend = self._backend
        if not backend.shop.enabled:
            raise forbidden("The store is disabled")
        asked = asked_payment(body, backend.shop)
        payment_id, now_ms = str(uuid4()), backend.clock.now_ms()
        ends_at_ms = now_ms + round(backend.limits.link_s * 1000)
        if asked.method_id is None:
            backend.state.add_payment(payment_id, asked, now_ms, ends_at_ms)
        else:
            self._charge_saved(payment_id, asked, now_ms, ends_at_ms)
        return backend.shown(payment_id)

    def _charge_saved(
        self, payment_id: str, asked: AskedPayment, now_ms: int, ends_at_ms: int
    ) -> None:
        """Charge a saved method at once, without the payer."""
        state = self._backend.state
        if not self._backend.shop.may_save_methods:
            raise forbidden("This store can't make recurring payments")
        saved = state.method(asked.method_id or "")
        if saved is None:
            raise invalid("Payment method is not found", "payment_method_id")
        check_method(asked, saved.type, self._backend.shop)
        state.add_payment(payment_id, replace(asked, method=saved.type), now_ms, ends_at_ms)
        state.change_payment(payment_id, method_id=saved.id)
        state.use_method(saved.id, now_ms)
        if self._backend.faults.charges.take(lambda _: True) is not None:
            return
        if saved.decline is not None:
            self._cancel(self._backend.payment(payment_id), saved.decline)
        else:
            self._paid(self._backend.payment(payment_id), saved.type, saved=True)

    def capture(self, payment_id: str, body: Json) -> Json:
        payment = self._on_hold(payment_id)
        fields = Fields(body)
        amount_minor = fields.amount("amount") or payment.amount_minor
        if amount_minor > payment.amount_minor:
            raise invalid("The amount is greater than the amount on hold", "amount.value")
        is_part = amount_minor < payment.amount_minor
        check_receipt(
            fields,
            self._backend.shop,
            amount_minor,
            needed=is_part and payment.asked.has_receipt,
        )
        fields.end()
        self._succeed(replace(payment, amount_minor=amount_minor))
        return self._backend.shown(payment_id)

    def cancel(self, payment_id: str, body: Json) -> Json:
        payment = self._on_hold(payment_id)
        Fields(body).end()
        self._cancel(payment, "canceled_by_merchant")
        return self._backend.shown(payment_id)

    def _on_hold(self, payment_id: str) -> Payment:
        payment = self._backend.payment(payment_id)
        if payment.status != "waiting_for_capture":
            raise invalid(f"The payment is {payment.status}, not waiting_for_capture", "payment_id")
        return payment

    # The payer

    def pay(self, payment_id: str, method: MethodType | None) -> Payment:
        """Pay by `method`, or by the one that the payment names. Raises `Refused`."""
        payment = self._payable(payment_id)
        chosen = payment.asked.method or method or self._backend.shop.methods[0]
        if chosen not in self._backend.shop.methods:
            raise invalid("Payment method is not available", "method")
        check_method(payment.asked, chosen, self._backend.shop)
        self._paid(payment, chosen, saved=payment.asked.save or payment.method_id is not None)
        return self._backend.payment(payment_id)

    def decline(self, payment_id: str, reason: str) -> Payment:
        """The payer refuses, or their bank does."""
        if reason not in DECLINES:
            raise invalid(f"One of {', '.join(DECLINES)} is expected", "reason")
        self._cancel(self._payable(payment_id), reason)
        return self._backend.payment(payment_id)

    def _payable(self, payment_id: str) -> Payment:
        payment = self._backend.payment(payment_id)
        if payment.status != "pending":
            raise invalid(f"The payment is {payment.status}", "payment_id")
        return payment

    def take_card(self, amount_minor: int, description: str) -> str:
        """Telegram charges a card of its payer; the payment's id. Raises `Refused`.

        No document says which metadata such a payment has. Here it has none: the shop's payload
        stays at Telegram.
        """
        asked = AskedPayment(
            amount_minor,
            capture=True,
            description=description,
            method="bank_card",
            method_id=None,
            return_url=None,
            locale=None,
            save=False,
            customer_id=None,
            metadata={},
            has_receipt=False,
        )
        shop = self._backend.shop
        if not shop.enabled or "bank_card" not in shop.methods:
            raise forbidden("The store can't take cards")
        if shop.fiscalization is not None:
            raise invalid("Receipt is missing or illegal", "receipt")
        check_method(asked, "bank_card", shop)
        payment_id, now_ms = str(uuid4()), self._backend.clock.now_ms()
        self._backend.state.add_payment(payment_id, asked, now_ms, now_ms)
        self._paid(self._backend.payment(payment_id), "bank_card", saved=False)
        return payment_id

    # Time, and acts of the provider

    def end_due(self) -> bool:
        """Cancel payments whose link or hold ended. True if there may be more."""
        now_ms = self._backend.clock.now_ms()
        ended = self._backend.state.payments_that_ended(now_ms, _ENDED_AT_ONCE)
        for payment in ended:
            self._end(payment)
        return len(ended) == _ENDED_AT_ONCE

    def expire(self, payment_id: str) -> None:
        """End its link or its hold now."""
        payment = self._backend.payment(payment_id)
        if payment.ends_at_ms is None:
            raise invalid(f"The payment is {payment.status}", "payment_id")
        self._end(payment)

    def charge_back(self, payment_id: str) -> None:
        """The bank takes the money back. The API and the notices do not say so."""
        payment = self._backend.payment(payment_id)
        if payment.status != "succeeded" or payment.charged_back_at_ms is not None:
            raise invalid("Only a payment that succeeded can be charged back once", "payment_id")
        now_ms = self._backend.clock.now_ms()
        self._backend.state.change_payment(payment_id, charged_back_at_ms=now_ms)

    def decline_saved(self, method_id: str, reason: str | None) -> None:
        """From now on, cancel charges of this method for this reason; None accepts them again."""
        if self._backend.state.method(method_id) is None:
            raise invalid("Payment method is not found", "method_id")
        if reason is not None and reason not in DECLINES:
            raise invalid(f"One of {', '.join(DECLINES)} is expected", "reason")
        self._backend.state.decline_method(method_id, reason)

    # Changes

    def _paid(self, payment: Payment, method: MethodType, *, saved: bool) -> None:
        backend = self._backend
        if saved and payment.method_id is None:
            backend.state.save_method(payment.id, method, backend.clock.now_ms())
        backend.state.change_payment(payment.id, method=method, saved=saved)
        if payment.asked.capture:
            self._succeed(payment)
            return
        ends_at_ms = backend.clock.now_ms() + round(backend.limits.hold_s * 1000)
        backend.state.change_payment(
            payment.id, status="waiting_for_capture", ends_at_ms=ends_at_ms
        )
        self._notify("payment.waiting_for_capture", payment.id)

    def _succeed(self, payment: Payment) -> None:
        if payment.asked.has_receipt:
            self._backend.register(payment.id)
        self._backend.state.change_payment(
            payment.id,
            status="succeeded",
            amount_minor=payment.amount_minor,
            captured_at_ms=self._backend.clock.now_ms(),
            ends_at_ms=None,
        )
        self._notify("payment.succeeded", payment.id)

    def _cancel(self, payment: Payment, reason: str) -> None:
        self._backend.state.change_payment(
            payment.id, status="canceled", reason=reason, ends_at_ms=None
        )
        self._notify("payment.canceled", payment.id)

    def _end(self, payment: Payment) -> None:
        was_pending = payment.status == "pending"
        self._cancel(payment, "expired_on_confirmation" if was_pending else "expired_on_capture")

    def _notify(self, event: str, payment_id: str) -> None:
        self._backend.notify(event, self._backend.shown(payment_id))
