"""Messages of YooKassa's API v3: requests from values, values from answers. Pure.

Sources: its OpenAPI 3.0.2, its pages about webhooks and HTTP codes, and its SDK 3.13.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from payments.domain.fiscal import vat_of_advance
from payments.domain.provider import (
    Asked,
    Failure,
    Finding,
    FiscalKind,
    FiscalReceipt,
    Hint,
    Ignored,
    Malformed,
    Method,
    Notice,
    Opened,
    Payment,
    Refund,
    RefundDone,
    RefundPending,
    RefundState,
    Refusal,
    Registering,
    Registration,
    SlowDown,
    State,
    Sum,
    Unknown,
    Unreadable,
    Way,
)
from payments.domain.saved_methods import METHOD_UNKNOWN, TITLE_CHARACTERS
from payments.providers.caller import Answer
from payments.providers.reading import (
    CannotReadError,
    Json,
    clean,
    moment_of,
    object_of,
    optional_moment_of,
    own_text,
    readable,
    sum_of,
    text_of,
    word,
)
from shared.contracts.money import decimal_of

METHODS: dict[Way, str] = {"sbp": "sbp", "card": "bank_card"}
STATES: dict[str, State] = {
    "pending": "pending",
    "waiting_for_capture": "held",
    "succeeded": "succeeded",
    "canceled": "canceled",
}
REFUND_STATES: dict[str, RefundState] = {
    "pending": "pending",
    "succeeded": "succeeded",
    "canceled": "canceled",
}
REGISTRATIONS: dict[str, Registration] = {
    "pending": "pending",
    "succeeded": "succeeded",
    "canceled": "canceled",
}
METHOD_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
DESCRIPTION_CHARACTERS = 128
PAGE = 100
PAUSE_S = 1.8  # The SDK waits as long where no `retry_after` is told.
LONGEST_PAUSE_S = 3600.0
# SDK 3.13, `SecurityHelper`.
NETWORKS = tuple(
    ip_network(one)
    for one in (
        *("77.75.153.0/25", "77.75.154.128/25", "77.75.156.11/32", "77.75.156.35/32"),
        *("185.71.76.0/27", "185.71.77.0/27", "2a02:5180:0:1509::/64", "2a02:5180:0:1533::/64"),
        *("2a02:5180:0:2655::/64", "2a02:5180:0:2669::/64"),
    )
)


# Requests


def payment_body(asked: Asked) -> Json:
    """`capture` is always there: YooKassa takes an absent one for false and holds the money."""
    return {
        "amount": amount_body(asked.amount_minor, asked.currency),
        "capture": True,
        "description": asked.description[:DESCRIPTION_CHARACTERS],
        **_method_in(asked),
        "metadata": {"payload": asked.payload},
        **_receipt_in(asked.receipt, asked.amount_minor),
    }


def _method_in(asked: Asked) -> Json:
    """A saved method is charged without a page. Nothing is saved unless the payer agreed."""
    if asked.charges:
        assert asked.saved_method is not None, "a forgotten method is not charged"
        return {"payment_method_id": asked.saved_method}
    return {
        "payment_method_data": {"type": METHODS[asked.way]},
        "confirmation": {"type": "redirect", "return_url": asked.return_url},
        **({"save_payment_method": True} if asked.saves_method else {}),
    }


def refund_body(
    payment: str, amount_minor: int, currency: str, receipt: FiscalReceipt | None
) -> Json:
    """A refund of a part needs a receipt; one of the whole repeats that of its payment."""
    return {
        "payment_id": payment,
        "amount": amount_body(amount_minor, currency),
        **_receipt_in(receipt, amount_minor),
    }


def receipt_body(payment: str, receipt: FiscalReceipt) -> Json:
    """The offset of an advance: the service is given, and paid by money that came before."""
    amount = amount_body(receipt.amount_minor, "RUB")
    return {
        "type": "payment",
        "payment_id": payment,
        "send": True,
        "settlements": [{"type": "prepayment", "amount": amount}],
        **_receipt_fields(receipt),
    }


def _receipt_in(receipt: FiscalReceipt | None, amount_minor: int) -> Json:
    if receipt is None:
        return {}
    assert receipt.amount_minor == amount_minor, "the items of a receipt are its amount"
    return {"receipt": _receipt_fields(receipt)}


def _receipt_fields(receipt: FiscalReceipt) -> Json:
    """No name of a person: an e-mail is all that YooKassa needs."""
    items = []
    if receipt.service_minor:
        given = "full_payment", receipt.subject, receipt.vat_code
        items.append(_item(receipt.item, receipt.service_minor, *given))
    if receipt.advance_minor:
        given = "advance", "payment", vat_of_advance(receipt.vat_code)
        items.append(_item(receipt.item, receipt.advance_minor, *given))
    told = {} if receipt.tax_system is None else {"tax_system_code": receipt.tax_system}
    return {"customer": {"email": receipt.email}, "items": items, **told}


def _item(text: str, amount_minor: int, mode: str, subject: str, vat_code: int) -> Json:
    return {
        "description": text[:DESCRIPTION_CHARACTERS],
        "quantity": 1,
        "amount": amount_body(amount_minor, "RUB"),
        "vat_code": vat_code,
        "payment_subject": subject,
        "payment_mode": mode,
        "measure": "piece",
    }


def amount_body(amount_minor: int, currency: str) -> Json:
    return {"value": decimal_of(amount_minor, currency), "currency": currency}


def window_query(time: str, since: datetime, until: datetime | None) -> dict[str, str]:
    """The filter of a listing. `time` is `created_at` or `captured_at`."""
    query = {f"{time}.gte": _written(since)}
    return query if until is None else query | {f"{time}.lt": _written(until)}


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Answers


def object_by(answer: Answer) -> Json | Failure:
    """The object of a call that was done, or what its status means.

    Only an error object of YooKassa refuses: a page of a proxy between us proves nothing. 500 and
    202 are unknown, and the same call with the same key tells the outcome.
    """
    body = answer.body or {}
    pause_s = _pause_s(body)
    if answer.status == 200 and answer.body is not None:
        return answer.body
    if answer.status == 429:
        return SlowDown(PAUSE_S if pause_s is None else pause_s)
    if answer.status in (405, 415):  # Documented to come without a body.
        return Refusal(f"http_{answer.status}", f"YooKassa answers HTTP {answer.status}.")
    code = word(body.get("code"))
    if 400 <= answer.status < 500 and body.get("type") == "error" and code:
        if body.get("parameter") == "payment_method_id":
            code = METHOD_UNKNOWN
        return Refusal(code, clean(f"YooKassa refuses: {body.get('description') or code}."))
    return Unknown(f"HTTP {answer.status}", retry_after_s=pause_s)


def _pause_s(body: Json) -> float | None:
    """Seconds of `retry_after`, which is in milliseconds."""
    match body.get("retry_after"):
        case bool():
            return None
        case int(pause_ms) if pause_ms >= 0:
            return min(pause_ms, LONGEST_PAUSE_S * 1000) / 1000
        case _:
            return None


def opened_by(payment: Json, *, by_saved_method: bool = False) -> Opened | Failure:
    """The answer of a create. Without a link it was paid meanwhile, or it has ended.

    The charge of a saved method never has one.
    """
    read = charged_from if by_saved_method else opened_from
    opened = readable(read, payment, "")
    if isinstance(opened, Unreadable):
        return Unknown(f"malformed answer: {opened.sentence}")
    if payment["status"] == "canceled":
        reason = _cancel_reason(payment) or "canceled"
        return Refusal(reason, f"YooKassa has canceled the payment: {reason}.")
    return opened


def opened_from(payment: Json) -> Opened:
    """YooKassa tells no end of a link: by SBP it lives for one hour."""
    reference = text_of(payment, "id")
    if _state_of(payment) != "pending":
        return Opened(reference, None)
    url = object_of(payment, "confirmation").get("confirmation_url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise CannotReadError("malformed", "Its confirmation has no URL.")
    return Opened(reference, url)


def charged_from(payment: Json) -> Opened:
    """The charge of a saved method: it may be pending without a link."""
    _state_of(payment)
    return Opened(text_of(payment, "id"), None)


def payment_from(payment: Json) -> Payment:
    state = _state_of(payment)
    asked = _money_of(payment, "amount")
    arrived = _money_of(payment, "income_amount") if payment.get("income_amount") else None
    refunded = _money_of(payment, "refunded_amount") if payment.get("refunded_amount") else None
    return Payment(
        reference=text_of(payment, "id"),
        state=state,
        currency=asked.currency,
        amount_minor=asked.amount_minor,
        payload=payload_of(payment),
        created_at=moment_of(payment, "created_at"),
        way=_way_of(payment),
        paid_at=optional_moment_of(payment, "captured_at") if state == "succeeded" else None,
        arrived=arrived,
        fee=None if arrived is None else _fee(asked, arrived),
        refunded_minor=0 if refunded is None else refunded.amount_minor,
        cancel_reason=_cancel_reason(payment),
        registration=registration_of(payment, "payment"),
        method=_saved_method_of(payment) if state == "succeeded" else None,
    )


def payload_of(payment: object) -> str | None:
    metadata = payment.get("metadata") if isinstance(payment, dict) else None
    return own_text(metadata.get("payload")) if isinstance(metadata, dict) else None


def refund_from(refund: Json) -> Refund:
    state = REFUND_STATES.get(text_of(refund, "status"))
    if state is None:
        raise CannotReadError("malformed", "Its status is unknown.")
    amount = _money_of(refund, "amount")
    return Refund(
        reference=text_of(refund, "id"),
        payment=text_of(refund, "payment_id"),
        state=state,
        currency=amount.currency,
        amount_minor=amount.amount_minor,
        created_at=moment_of(refund, "created_at"),
        cancel_reason=_cancel_reason(refund),
    )


def refunded_by(answer: Json) -> RefundDone | RefundPending | Failure:
    """The outcome of a refund that was asked for."""
    refund = readable(refund_from, answer, "")
    if isinstance(refund, Unreadable):
        return Unknown(f"malformed answer: {refund.sentence}")
    if refund.state == "canceled":
        reason = refund.cancel_reason or "canceled"
        return Refusal(reason, f"YooKassa has canceled the refund: {reason}.")
    done = refund.state == "succeeded"
    return RefundDone(refund.reference) if done else RefundPending(refund.reference)


def registered_by(answer: Json) -> Registering | Failure:
    """The outcome of a receipt that was asked for."""
    state = registration_of(answer, "offset")
    reference = own_text(answer.get("id"))
    if state is None or not reference:
        return Unknown("malformed answer: a receipt without its id or status")
    return Registering(reference, state)


def registration_of(shown: Json, kind: FiscalKind) -> Registration | None:
    """Of a receipt, or of a payment or refund that has one. None where it has none."""
    told = shown.get("status" if kind == "offset" else "receipt_registration")
    return REGISTRATIONS.get(told) if isinstance(told, str) else None


def items_of(page: Json) -> list[tuple[object, str]] | Unknown:
    """The objects of a listing, each with the text that names it if it cannot be read."""
    items = page.get("items")
    if not isinstance(items, list):
        return Unknown("malformed answer: a listing without items")
    return [(one, _name_of(one)) for one in items]


def next_of(page: Json) -> str | None:
    cursor = page.get("next_cursor")
    return cursor if isinstance(cursor, str) and cursor else None


def _name_of(one: object) -> str:
    named = own_text(one.get("id")) if isinstance(one, dict) else None
    return named or "unnamed"


def _state_of(payment: Json) -> State:
    state = STATES.get(text_of(payment, "status"))
    if state is None:
        raise CannotReadError("malformed", "Its status is unknown.")
    return state


def _money_of(fields: Json, name: str) -> Sum:
    amount = object_of(fields, name)
    return sum_of(amount.get("value"), amount.get("currency"))


def _fee(asked: Sum, arrived: Sum) -> Sum:
    if arrived.currency != asked.currency or arrived.amount_minor > asked.amount_minor:
        raise CannotReadError("malformed", "More arrived than was paid, or in another currency.")
    return Sum(asked.currency, asked.amount_minor - arrived.amount_minor)


def _way_of(payment: Json) -> Way | None:
    method = payment.get("payment_method")
    kind = method.get("type") if isinstance(method, dict) else None
    return next((way for way, named in METHODS.items() if named == kind), None)


def _saved_method_of(payment: Json) -> Method | None:
    """None also for an id or a type that we cannot charge later: the money counts all the same."""
    told = payment.get("payment_method")
    if not isinstance(told, dict) or told.get("saved") is not True:
        return None
    way, saved = _way_of(payment), told.get("id")
    if way is None or not isinstance(saved, str) or not METHOD_ID.fullmatch(saved):
        return None
    title = told.get("title")
    return Method(saved, way, clean(title, TITLE_CHARACTERS) if isinstance(title, str) else "")


def _cancel_reason(fields: Json) -> str | None:
    details = fields.get("cancellation_details")
    return word(details.get("reason")) if isinstance(details, dict) else None


# Notices


def is_theirs(peer: str) -> bool:
    """Whether an address belongs to YooKassa's networks for notices."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in NETWORKS)


def notice_from(notice: Json | None) -> Notice:
    match notice:
        case {"type": "notification", "event": str(event), "object": dict(about)}:
            return readable_notice(event, about)
        case _:
            return Malformed("no notification of YooKassa")


def readable_notice(event: str, about: Mapping[str, Any]) -> Notice:
    kind = event.partition(".")[0]
    if kind not in ("payment", "refund"):
        return Ignored(clean(event))
    reference = own_text(about.get("id" if kind == "payment" else "payment_id"))
    if not reference:
        return Malformed(f"{clean(event)} without the id of a payment")
    if kind == "payment":
        return Hint(reference)
    return Hint(reference, "refund", own_text(about.get("id")))


# The start


def findings_from(
    me: Json | Failure, shop_id: str, *, receipts: bool = False
) -> tuple[Finding, ...]:
    """Findings about the shop, for an operator. One that blocks means that nobody can pay."""
    if isinstance(me, Refusal):
        what = "TURNPIKE_YOOKASSA_SHOP_ID and TURNPIKE_YOOKASSA_SECRET_KEY"
        return (Finding(f"YooKassa refuses {what}: {me.code}.", blocks=True),)
    if not isinstance(me, dict):
        return (Finding("YooKassa did not answer at the start.", blocks=False),)
    found = [
        Finding(sentence, blocks=True) for sentence in _blocking(me, shop_id, receipts=receipts)
    ]
    found += [Finding(sentence, blocks=False) for sentence in _notes(me, receipts=receipts)]
    return tuple(found)


def _blocking(me: Json, shop_id: str, *, receipts: bool) -> list[str]:
    found = []
    if me.get("account_id") not in (None, shop_id):
        found.append("The secret key of YooKassa belongs to another shop.")
    if me.get("status") != "enabled":
        found.append("YooKassa has disabled the shop.")
    if _sends_receipts(me) and not receipts:
        found.append(
            "The shop at YooKassa sends receipts, and takes no payment without one:"
            " set TURNPIKE_RECEIPTS."
        )
    if not _methods_of(me):
        found.append("The shop at YooKassa can take neither SBP nor cards.")
    return found


def _notes(me: Json, *, receipts: bool) -> list[str]:
    found = [] if me.get("test") is not True else ["The shop at YooKassa is a test shop."]
    if receipts and not _sends_receipts(me):
        found.append(
            "TURNPIKE_RECEIPTS is on, and the shop at YooKassa registers no receipts:"
            " switch them on in its cabinet."
        )
    missing = [] if not _methods_of(me) else [way for way in METHODS if way not in _methods_of(me)]
    return found + [f"The shop at YooKassa cannot take payments by {way}." for way in missing]


def _methods_of(me: Json) -> list[Way]:
    told = me.get("payment_methods")
    return [way for way, named in METHODS.items() if isinstance(told, list) and named in told]


def _sends_receipts(me: Json) -> bool:
    fiscalization = me.get("fiscalization")
    told = fiscalization.get("enabled") if isinstance(fiscalization, dict) else None
    return told is True or me.get("fiscalization_enabled") is True
