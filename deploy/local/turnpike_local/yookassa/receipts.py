"""Receipts for the tax office (54-FZ): only checked, never registered anywhere."""

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from .errors import invalid
from .fields import Fields
from .shop import Shop

_MEASURES = (
    *("piece", "gram", "kilogram", "ton", "centimeter", "decimeter", "meter"),
    *("square_centimeter", "square_decimeter", "square_meter", "milliliter", "liter"),
    *("cubic_meter", "kilowatt_hour", "gigacalorie", "day", "hour", "minute", "second"),
    *("kilobyte", "megabyte", "gigabyte", "terabyte", "another"),
)
_SUBJECTS = (
    *("commodity", "excise", "job", "service", "gambling_bet", "gambling_prize", "lottery"),
    *("lottery_prize", "intellectual_activity", "payment", "agent_commission", "property_right"),
    *("non_operating_gain", "insurance_premium", "sales_tax", "resort_fee", "composite"),
    *("another", "fine", "tax", "lien", "cost", "agent_withdrawals", "casino"),
)
_MODES = (
    *("full_prepayment", "partial_prepayment", "advance", "full_payment", "partial_payment"),
    *("credit", "credit_payment"),
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"[0-9]{4,15}")
_QUANTITY_MOST = Decimal("99999.999")


def check_receipt(asked: Fields, shop: Shop, amount_minor: int, *, needed: bool) -> bool:
    """Whether `asked` has a receipt. A missing one is refused if the shop needs it."""
    receipt = asked.object("receipt")
    if receipt is None:
        if needed:
            raise invalid("Receipt is missing or illegal", asked.at("receipt"))
        return False
    of_yookassa = shop.fiscalization == "yoo_receipt"
    _check_customer(receipt, email_needed=of_yookassa)
    items = receipt.objects("items", most=80 if of_yookassa else 100)
    total_minor = sum(_item_minor(item, measure_needed=of_yookassa) for item in items)
    receipt.flag("internet")
    receipt.whole("tax_system_code", most=6)
    receipt.whole("timezone", most=11)
    receipt.end()
    if total_minor != amount_minor:
        raise invalid("The items of the receipt do not add up to the amount", asked.at("receipt"))
    return True


def receipt_items(receipt: Any) -> list[dict[str, Any]]:
    """The items of a receipt that was checked."""
    return [dict(item) for item in receipt["items"]]


def _check_customer(receipt: Fields, *, email_needed: bool) -> None:
    customer = receipt.object("customer", required=True)
    assert customer is not None  # Required.
    email = customer.text("email", most=254, required=email_needed)
    phone = customer.text("phone", most=15)
    customer.text("full_name", most=256)
    if email is None and phone is None:
        raise invalid("An e-mail address or a phone is needed", customer.at("email"))
    if email is not None and not _EMAIL.fullmatch(email):
        raise invalid("An e-mail address is expected", customer.at("email"))
    if phone is not None and not _PHONE.fullmatch(phone):
        raise invalid("A phone of 4 to 15 digits is expected", customer.at("phone"))
    customer.end()


def _item_minor(item: Fields, *, measure_needed: bool) -> int:
    """The price of one item times its quantity, in kopecks."""
    item.text("description", most=128, required=True)
    item.whole("vat_code", most=12, required=True)
    item.one_of("payment_subject", _SUBJECTS)
    item.one_of("payment_mode", _MODES)
    item.one_of("measure", _MEASURES, required=measure_needed)
    price_minor = item.amount("amount", required=True)
    assert price_minor is not None  # Required.
    quantity = _quantity(item)
    item.end()
    return int((price_minor * quantity).to_integral_value(ROUND_HALF_UP))


def _quantity(item: Fields) -> Decimal:
    value = item.take("quantity", required=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid("A number is expected", item.at("quantity"))
    quantity = Decimal(str(value))
    exponent = quantity.as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    if not 0 < quantity <= _QUANTITY_MOST or digits > 3:
        raise invalid("At most 99999.999, with three digits, is expected", item.at("quantity"))
    return quantity
