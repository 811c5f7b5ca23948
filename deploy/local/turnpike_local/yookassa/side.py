"""YooKassa's side of the sandbox: payments as it shows them, and acts in the merchant's cabinet."""

from turnpike_local.standin.outside import Act, Fault, NotPossibleError, Outside, OutsideState

from .backend import Backend
from .errors import Refused
from .lifecycle import Payments
from .planned_faults import PlannedAnswer, PlannedNotice
from .records import Payment
from .refunds import Refunds
from .shapes import page_url

_NEW_PAYMENT = "POST /v3/payments"
_PAID = "payment.succeeded"
_STATES: dict[str, OutsideState] = {"succeeded": "paid", "canceled": "ended"}
_WAYS = {"sbp": "SBP", "bank_card": "card"}


class Side:
    def __init__(self, backend: Backend, payments: Payments, refunds: Refunds) -> None:
        self._backend = backend
        self._payments = payments
        self._refunds = refunds

    def outside(self, payment: Payment) -> Outside:
        method = payment.method or payment.asked.method
        return Outside(
            provider="YooKassa",
            reference=payment.id,
            payload=" ".join(payment.asked.metadata.values()),
            way=_WAYS[method] if method else "",
            title=payment.asked.description or "",
            amount_minor=payment.amount_minor,
            currency="RUB",
            url=page_url(payment, self._backend.url()),
            state=_STATES.get(payment.status, "open"),
            returned=payment.refunded_minor > 0,
            charged_back=payment.charged_back_at_ms is not None,
        )

    def plan(self, fault: Fault) -> None:
        faults = self._backend.faults
        if fault == "notice":
            faults.notices.add(PlannedNotice(_PAID, never=True))
        else:
            faults.answers.add(PlannedAnswer("lost" if fault == "lost" else "500", _NEW_PAYMENT))

    def take_card(self, amount_minor: int, description: str) -> str:
        """Charge a card for Telegram. Raises `NotPossibleError`."""
        try:
            with self._backend.transaction():
                reference = self._payments.take_card(amount_minor, description)
                self._backend.state.touched.discard(reference)  # Telegram tells of it.
        except Refused as refused:
            raise NotPossibleError(str(refused)) from refused
        return reference

    def act(self, act: Act, reference: str) -> None:
        """Raises `NotPossibleError`."""
        try:
            with self._backend.transaction():
                if act == "return":
                    self._refunds.create_in_cabinet(reference, None)
                else:
                    self._payments.charge_back(reference)
        except Refused as refused:
            raise NotPossibleError(str(refused)) from refused
