"""The bodies of requests as values. Reading one refuses whatever the contract refuses."""

import ipaddress
from dataclasses import dataclass
from typing import Any, cast

from .errors import forbidden, invalid
from .fields import Fields
from .receipts import check_receipt
from .shop import LEAST_MINOR, METHODS, MOST_MINOR, MethodType, Shop

_LOCALES = ("ru_RU", "en_US")


@dataclass(frozen=True)
class AskedPayment:
    """`method` is None when the payer chooses; `method_id` names a saved method."""

    amount_minor: int
    capture: bool
    description: str | None
    method: MethodType | None
    method_id: str | None
    return_url: str | None
    locale: str | None
    save: bool
    customer_id: str | None
    metadata: dict[str, str]
    has_receipt: bool


@dataclass(frozen=True)
class AskedRefund:
    payment_id: str
    amount_minor: int
    description: str | None
    metadata: dict[str, str]
    fields: Fields
    """What is left: the receipt, whose rules depend on the payment."""


def asked_payment(body: object, shop: Shop) -> AskedPayment:
    fields = Fields(body)
    amount_minor = _needed(fields.amount("amount", required=True))
    method_id = fields.text("payment_method_id", most=64)
    method = _method(fields, shop)
    if method_id and method:
        raise invalid("A saved method needs no data", "payment_method_data")
    save = fields.flag("save_payment_method")
    if method_id and save:
        raise invalid("A saved method is saved already", "save_payment_method")
    return_url, locale = _confirmation(fields, by_saved_method=method_id is not None)
    asked = AskedPayment(
        amount_minor,
        # YooKassa takes `false` for an absent one. Here it is refused: money on hold by mistake.
        capture=fields.flag("capture", required=True),
        description=fields.text("description", most=128),
        method=method,
        method_id=method_id,
        return_url=return_url,
        locale=locale,
        save=save,
        customer_id=fields.text("merchant_customer_id", most=200),
        metadata=fields.metadata(),
        has_receipt=check_receipt(
            fields, shop, amount_minor, needed=shop.fiscalization is not None
        ),
    )
    _check_ip(fields)
    fields.end()
    check_method(asked, method, shop)
    return asked


def check_method(asked: AskedPayment, method: MethodType | None, shop: Shop) -> None:
    """Raises `Refused` if this method (or none of the shop's) can take the payment."""
    if asked.save and not shop.may_save_methods:
        raise forbidden("This store can't make recurring payments")
    if method == "sbp" and not asked.capture:
        raise invalid("SBP has no payments in two stages", "capture")
    most_minor = max(MOST_MINOR[one] for one in ((method,) if method else shop.methods))
    if not LEAST_MINOR <= asked.amount_minor <= most_minor:
        raise invalid("The amount is outside the limits of the method", "amount.value")


def asked_refund(body: object) -> AskedRefund:
    """The caller checks the receipt and then calls `fields.end`."""
    fields = Fields(body)
    payment_id = fields.text("payment_id", most=36, required=True)
    if payment_id is None or len(payment_id) != 36:
        raise invalid("An id of 36 characters is expected", "payment_id")
    return AskedRefund(
        payment_id,
        _needed(fields.amount("amount", required=True)),
        fields.text("description", most=250),
        fields.metadata(),
        fields,
    )


def _needed(value: int | None) -> int:
    assert value is not None  # Required.
    return value


def _method(fields: Fields, shop: Shop) -> MethodType | None:
    data = fields.object("payment_method_data")
    if data is None:
        return None
    method = cast(MethodType, data.one_of("type", METHODS, required=True))
    data.end()
    if method not in shop.methods:
        raise invalid("Payment method is not available", "payment_method_data.type")
    return method


def _confirmation(fields: Fields, *, by_saved_method: bool) -> tuple[str | None, str | None]:
    """The address to return to, and the language of the page."""
    confirmation = fields.object("confirmation", required=not by_saved_method)
    if confirmation is None:
        return None, None
    if by_saved_method:
        raise invalid("A saved method needs no confirmation", "confirmation")
    confirmation.one_of("type", ("redirect",), required=True)
    confirmation.flag("enforce")
    locale = confirmation.one_of("locale", _LOCALES)
    return_url = confirmation.url("return_url", most=2048)
    confirmation.end()
    return return_url, locale


def _check_ip(fields: Fields) -> None:
    value: Any = fields.text("client_ip", most=45)
    try:
        ipaddress.ip_address(value or "127.0.0.1")
    except ValueError:
        raise invalid("An IP address is expected", "client_ip") from None
