"""Payments and refunds as bot-gateway reports them."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shared.contracts.bot import PaymentReported, RefundReported


def reported(**fields: Any) -> PaymentReported:
    """A report of 99 Stars from somebody, for no order; `fields` replace the usual ones."""
    charge, now = uuid4().hex, datetime.now(UTC)
    known: dict[str, Any] = {
        "acquirer": "telegram_stars",
        "charge": charge,
        "payer": uuid4(),
        "payload": "nothing",
        "currency": "XTR",
        "amount_minor": 99,
        "paid_at": now,
    } | fields
    cause = f"telegram_stars:{charge}"
    return PaymentReported.caused_by(cause, about=known["payer"], at=now, **known)


def refunded(**fields: Any) -> RefundReported:
    """Telegram returned 99 Stars of a charge; `fields` replace the usual ones."""
    now = datetime.now(UTC)
    known: dict[str, Any] = {
        "acquirer": "telegram_stars",
        "charge": uuid4().hex,
        "payer": uuid4(),
        "payload": "nothing",
        "currency": "XTR",
        "amount_minor": 99,
        "refunded_at": now,
    } | fields
    return RefundReported.caused_by(uuid4(), about=known["payer"] or uuid4(), at=now, **known)
