"""Receipts apart from a payment, and the registration of all receipts at the tax office."""

from uuid import uuid4

from turnpike_local.standin.clock import iso

from .backend import Backend
from .errors import Json, invalid, not_found
from .fields import Fields, money
from .receipts import check_receipt, receipt_items
from .records import FiscalReceipt

_SETTLEMENTS = ("cashless", "prepayment", "postpayment", "consideration")
_OF_ONE_PAYMENT_MOST = 50


class Registrations:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def create(self, body: Json) -> Json:
        """A receipt that the merchant asks for: here only the offset of money that came before."""
        backend, fields = self._backend, Fields(body)
        if backend.shop.fiscalization is None:
            raise invalid("The store has no online sales register", "receipt")
        fields.one_of("type", ("payment",), required=True)
        payment_id = fields.text("payment_id", most=36, required=True)
        if not fields.flag("send", required=True):
            raise invalid("Only true is expected", "send")
        self._check_payment(payment_id or "")
        settled_minor = _settled_minor(fields)
        asked = dict(body)
        for name in ("type", "payment_id", "send", "settlements"):
            asked.pop(name, None)
        check_receipt(Fields({"receipt": asked}), backend.shop, settled_minor, needed=True)
        receipt = FiscalReceipt(
            id=f"rt-{uuid4()}",
            payment_id=payment_id or "",
            created_at_ms=backend.clock.now_ms(),
            settlement=str(body["settlements"][0]["type"]),
            amount_minor=settled_minor,
            items=receipt_items(asked),
            email=asked["customer"].get("email"),
        )
        backend.state.add_receipt(receipt)
        backend.register(receipt.id)
        return self.shown(receipt.id)

    def shown(self, receipt_id: str) -> Json:
        receipt = self._backend.state.receipt(receipt_id)
        if receipt is None:
            raise not_found("Receipt doesn't exist or access denied", "receipt_id")
        status = self._backend.state.registration(receipt.id) or "succeeded"
        done = {"registered_at": iso(receipt.created_at_ms)} if status == "succeeded" else {}
        return {
            "id": receipt.id,
            "type": "payment",
            "payment_id": receipt.payment_id,
            "status": status,
            "items": receipt.items,
            "settlements": [{"type": receipt.settlement, "amount": money(receipt.amount_minor)}],
            **done,
        }

    def settle(self, id_: str, status: str) -> None:
        """The tax office answers for a receipt, or for that of a payment or a refund."""
        if self._backend.state.registration(id_) != "pending":
            raise invalid("The registration is not pending", "id")
        self._backend.state.set_registration(id_, status)

    def _check_payment(self, payment_id: str) -> None:
        payment = self._backend.state.payment(payment_id)
        if payment is None or payment.status != "succeeded":
            raise invalid("A payment that succeeded is expected", "payment_id")
        if self._backend.state.receipts_of(payment_id) >= _OF_ONE_PAYMENT_MOST:
            raise invalid("The payment has 50 receipts", "payment_id")


def _settled_minor(fields: Fields) -> int:
    """The sum of the settlements. The receipt itself is checked against it."""
    total_minor = 0
    for one in fields.objects("settlements", most=10):
        one.one_of("type", _SETTLEMENTS, required=True)
        total_minor += one.amount("amount", required=True) or 0
        one.end()
    return total_minor
