"""The objects of YooKassa's API, made of the values of the state."""

from turnpike_local.standin.clock import iso

from .errors import Json
from .fields import money
from .records import Payment, Refund, SavedMethod
from .shop import MethodType, Shop

PAGE_PATH = "/checkout/payments/v2/contract"
VAT_ON_FEE_PERCENT = 22
BY_NETWORK = "payment_network"
_PARTIES = {
    "canceled_by_merchant": "merchant",
    **dict.fromkeys(
        ("expired_on_confirmation", "expired_on_capture", "permission_revoked", "internal_timeout"),
        "yoo_money",
    ),
}
_TITLES = {"sbp": "СБП", "bank_card": "Bank card *4444"}
_CARD = {
    "first6": "555555",
    "last4": "4444",
    "expiry_year": "2030",
    "expiry_month": "12",
    "card_type": "MasterCard",
    "issuer_country": "RU",
}


def payment(one: Payment, shop: Shop, base_url: str) -> Json:
    """The payment as the API shows it now."""
    asked, shown = one.asked, _always(one, shop)
    if one.status == "pending" and one.method_id is None:
        shown["confirmation"] = _confirmation(one, base_url)
    if one.method is not None:
        shown["payment_method"] = _method(one, one.method)
    if one.status == "waiting_for_capture" and one.ends_at_ms is not None:
        shown["expires_at"] = iso(one.ends_at_ms)
    if one.captured_at_ms is not None:
        shown["captured_at"] = iso(one.captured_at_ms)
        shown["income_amount"] = money(_income_minor(one, shop))
    if one.refunded_minor:
        shown["refunded_amount"] = money(one.refunded_minor)
    if one.reason is not None:
        party = _PARTIES.get(one.reason, BY_NETWORK)
        shown["cancellation_details"] = {"party": party, "reason": one.reason}
    return shown | _registration(one.status, shop, has_receipt=asked.has_receipt)


def _registration(status: str, shop: Shop, *, has_receipt: bool) -> Json:
    """A receipt is registered, or not, with its payment or refund."""
    if not has_receipt or shop.fiscalization is None:
        return {}
    ended = status in ("succeeded", "canceled")
    return {"receipt_registration": status if ended else "pending"}


def _always(one: Payment, shop: Shop) -> Json:
    optional = {
        "description": one.asked.description,
        "merchant_customer_id": one.asked.customer_id,
    }
    return {
        "id": one.id,
        "status": one.status,
        "amount": money(one.amount_minor),
        "recipient": {"account_id": shop.shop_id, "gateway_id": shop.gateway_id},
        "created_at": iso(one.created_at_ms),
        "test": True,
        "paid": one.status in ("waiting_for_capture", "succeeded"),
        "refundable": one.status == "succeeded" and one.refunded_minor < one.amount_minor,
        "metadata": one.asked.metadata,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _confirmation(one: Payment, base_url: str) -> Json:
    return {
        "type": "redirect",
        "return_url": one.asked.return_url,
        "confirmation_url": page_url(one, base_url),
    }


def page_url(one: Payment, base_url: str) -> str:
    """Its pay page."""
    return f"{base_url}{PAGE_PATH}?orderId={one.id}"


def _method(one: Payment, method: MethodType) -> Json:
    was_paid = one.status in ("waiting_for_capture", "succeeded")
    waits = one.asked.save and one.status == "pending"
    status = "active" if one.saved else "pending" if waits else "inactive"
    shown: Json = {
        "type": method,
        "id": one.method_id or one.id,
        "saved": one.saved,
        "status": status,
    }
    if was_paid:
        shown["title"] = _TITLES[method]
        if method == "sbp":
            shown["sbp_operation_id"] = _operation_id(one.id)
            shown["payer_bank_details"] = {"bank_id": "100000000111", "bic": "044525225"}
        else:
            shown["card"] = _CARD
    return shown


def _income_minor(one: Payment, shop: Shop) -> int:
    """The amount without the fee and the VAT on the fee, each rounded to a kopeck."""
    assert one.method is not None  # It was captured.
    fee_minor = (one.amount_minor * shop.fees[one.method] + 5_000) // 10_000
    vat_minor = (fee_minor * VAT_ON_FEE_PERCENT + 50) // 100
    return one.amount_minor - fee_minor - vat_minor


def refund(one: Refund, shop: Shop) -> Json:
    shown: Json = {
        "id": one.id,
        "payment_id": one.payment_id,
        "status": one.status,
        "amount": money(one.amount_minor),
        "created_at": iso(one.created_at_ms),
        "metadata": one.metadata,
    }
    if one.description is not None:
        shown["description"] = one.description
    if one.reason is not None:
        party = "refund_network" if one.reason == "rejected_by_payee" else "yoo_money"
        shown["cancellation_details"] = {"party": party, "reason": one.reason}
    if one.method == "sbp":
        is_sent = one.status == "succeeded"
        operation = {"sbp_operation_id": _operation_id(one.id)} if is_sent else {}
        shown["refund_method"] = {"type": "sbp", **operation}
    return shown | _registration(one.status, shop, has_receipt=one.has_receipt)


def _operation_id(of: str) -> str:
    return of.replace("-", "").upper()


def saved_method(one: SavedMethod, shop: Shop) -> Json:
    shown: Json = {
        "id": one.id,
        "type": one.type,
        "saved": True,
        "status": "inactive" if one.decline == "permission_revoked" else "active",
        "title": _TITLES[one.type],
        "holder": {"account_id": shop.shop_id, "gateway_id": shop.gateway_id},
    }
    return shown | ({"card": _CARD} if one.type == "bank_card" else {})


def me(shop: Shop) -> Json:
    """The shop, as `GET /me` describes it."""
    is_on = shop.fiscalization is not None
    return {
        "account_id": shop.shop_id,
        "status": "enabled" if shop.enabled else "disabled",
        "test": True,
        "fiscalization_enabled": is_on,
        "payment_methods": list(shop.methods),
        **({"fiscalization": {"enabled": True, "provider": shop.fiscalization}} if is_on else {}),
    }
