"""Whether an acquirer may take a charge, and whether an order can still be paid for."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from payments.domain.confirmation import BOUGHT, Order

Refusal = Literal[
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

NOT_OFFERED: dict[str, Refusal] = {
    "paid": "order_paid",
    "partly_refunded": "order_paid",
    "refunded": "order_paid",
    "closed": "order_closed",
    "superseded": "order_superseded",
}


@dataclass(frozen=True)
class Charge:
    """The money that an acquirer is about to take."""

    payer: UUID | None
    currency: str
    amount_minor: int


@dataclass(frozen=True)
class Offer:
    """The invoice that a payload names. `person` and `state` are those of its order."""

    person: UUID
    state: str
    asked_minor: int
    asked_currency: str
    superseded: bool
    expired: bool


def may_charge(charge: Charge, offer: Offer | None) -> Refusal | None:
    """None approves: the offer is open, unexpired, the newest, of this payer and of this amount.

    The payer is compared first, so that a foreign payer learns nothing about the order.
    """
    if offer is None:
        return "payload_unknown"
    if charge.payer is None or charge.payer != offer.person:
        return "not_yours"
    if offer.state in NOT_OFFERED:
        return NOT_OFFERED[offer.state]
    if offer.superseded:
        return "invoice_superseded"
    if offer.expired or offer.state == "expired":
        return "invoice_expired"
    if charge.currency != offer.asked_currency:
        return "currency_differs"
    if charge.amount_minor != offer.asked_minor:
        return "amount_differs"
    return None


WITHOUT_KEYS = frozenset({"telegram_stars"})
"""The acquirers that need no credentials in payments: bot-gateway has Telegram's token."""

TELEGRAM_CARD = "telegram_card"
CARD_ACQUIRER = "yookassa"
"""Telegram charges cards there: its listing shows each charge under the id that Telegram tells."""

OrderRefusal = Literal[
    "not_yours",
    "order_paid",
    "order_closed",
    "order_too_old",
]


def refused_for(person: UUID, order: Order | None, *, too_old: bool) -> OrderRefusal | None:
    """Why no more money can be asked for this order. None where it can."""
    if order is None or order.person != person:
        return "not_yours"
    if order.state in BOUGHT:
        return "order_paid"
    if order.state == "closed":
        return "order_closed"
    if order.state == "expired" or too_old:
        return "order_too_old"
    return None
