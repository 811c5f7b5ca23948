"""Decisions about a raw update of Telegram: its lane, its chat, and the payment that it reports."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal, TypeGuard
from uuid import UUID

from shared.contracts.message import MAX_CHARGE_CHARACTERS, MAX_PAYLOAD_CHARACTERS
from shared.contracts.payload import read_payload

Json = Mapping[str, Any]
Lane = Literal["chat", "money", "checkout"]

ALLOWED = ("message", "callback_query", "pre_checkout_query", "my_chat_member")
"""The kinds of update that the bot requests from Telegram."""

PAYMENT, REFUND = "successful_payment", "refunded_payment"

_BIGINT = 2**63
_CURRENCY_CHARACTERS = 16

MAX_DEPTH = 64
"""No update of Telegram is nested as deeply."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


@dataclass(frozen=True)
class Update:
    """An update as the intake stores it."""

    update_id: int
    lane: Lane
    chat: int
    """Updates of one chat run in order within the chat lane. 0 where there is no chat."""
    body: str


def update_from(raw: Json) -> Update:
    """Raises ValueError for JSON that is no update. Updates of an unknown kind are accepted."""
    update_id = raw.get("update_id") if isinstance(raw, Mapping) else None
    if not _is_id(update_id):
        raise ValueError("an update has an integer update_id")
    try:
        body = json.dumps(raw, allow_nan=False)
    except (RecursionError, ValueError):  # Too deep, or a number that JSON does not know.
        body = json.dumps(readable(raw))
    return Update(update_id, lane_of(raw), chat_of(raw), body)


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text of any depth. Raises ValueError for a text that is no JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(_shallow(text if isinstance(text, str) else text.decode()))


def _shallow(text: str) -> str:
    """The JSON text with null in the place of everything below `MAX_DEPTH`."""
    parts, depth, begin = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts.append(text[begin : token.start()])
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                parts.append("null")
                begin = token.end()
            depth -= 1
    return "".join(parts) + text[begin:] if depth <= MAX_DEPTH else ""


def readable(value: Any, depth: int = 0) -> Any:
    """The value with texts that PostgreSQL and Telegram accept, and null below `MAX_DEPTH`.

    JSON may hold NUL and halves of surrogate pairs, which become the replacement character, and
    numbers beyond any, which become null.
    """
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    if not isinstance(value, dict | list):
        return value
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [readable(one, depth + 1) for one in value]
    return {_clean(name): readable(one, depth + 1) for name, one in value.items()}


def _clean(text: str) -> str:
    if text.isascii():
        return text.replace("\x00", "\ufffd")
    pairs = text.replace("\x00", "\ufffd").encode("utf-16-le", "surrogatepass")
    return pairs.decode("utf-16-le", "replace")


def lane_of(raw: Json) -> Lane:
    """Payments never wait for a chat, and pre-checkouts wait for nothing."""
    if "pre_checkout_query" in raw:
        return "checkout"
    if any(_inner(raw, "message", kind) is not None for kind in (PAYMENT, REFUND)):
        return "money"
    return "chat"


def chat_of(raw: Json) -> int:
    for path in (
        ("message", "chat", "id"),
        ("callback_query", "message", "chat", "id"),
        ("callback_query", "from", "id"),
        ("my_chat_member", "chat", "id"),
        ("pre_checkout_query", "from", "id"),
    ):
        chat = _inner(raw, *path)
        if _is_id(chat):
            return int(chat)
    return 0


@dataclass(frozen=True)
class Report:
    """Telegram's statement that a payment succeeded, or that its money was returned."""

    acquirer: Literal["telegram_stars", "telegram_card"]
    charge: str
    payer: int
    """The Telegram id of the payer."""
    payload: str
    currency: str
    amount_minor: int
    paid_at: datetime
    """Of a refund, the time of the return."""
    recurring: bool
    refunded: bool = False
    provider_charge: str | None = None
    """The id of a card's payment at its acquirer. Stars have none."""

    @property
    def cause(self) -> str:
        charge = f"{self.acquirer}:{self.charge}"
        return f"refund:{charge}" if self.refunded else charge


def report_from(raw: Json) -> Report:
    """Raises ValueError (or TypeError, KeyError) for a message without money to book."""
    message = raw["message"]
    refunded = message.get(PAYMENT) is None
    payment = message[REFUND if refunded else PAYMENT]
    payer = _inner(message, "from", "id")
    charge, currency, amount = (
        payment["telegram_payment_charge_id"],
        payment["currency"],
        payment["total_amount"],
    )
    if not (
        _is_text(charge, MAX_CHARGE_CHARACTERS)
        and _is_text(currency, _CURRENCY_CHARACTERS)
        and _is_id(amount)
    ):
        raise ValueError("a payment has a charge, a currency and a whole amount")
    # PostgreSQL stores no NUL, and an index no text of any length. Such a payload is not ours.
    payload = _clean(str(payment.get("invoice_payload", "")).replace("\x00", ""))
    payload = payload[:MAX_PAYLOAD_CHARACTERS]
    is_card = currency != "XTR"
    reference = payment.get("provider_payment_charge_id")
    return Report(
        acquirer="telegram_card" if is_card else "telegram_stars",
        charge=charge,
        payer=int(payer if _is_id(payer) else message["chat"]["id"]),
        payload=payload,
        currency=currency,
        amount_minor=amount,
        paid_at=datetime.fromtimestamp(message["date"], UTC),
        recurring=payment.get("is_recurring") is True,
        refunded=refunded,
        provider_charge=(
            reference if is_card and _is_text(reference, MAX_CHARGE_CHARACTERS) else None
        ),
    )


@dataclass(frozen=True)
class PaySheet:
    """An open pay sheet: Telegram asks whether it may take the charge."""

    query_id: str
    payer: int
    """The Telegram id of the payer."""
    language_code: str
    payload: str
    currency: str
    amount_minor: int


def pay_sheet_from(raw: Json) -> PaySheet:
    """Raises ValueError where nothing names the query: it cannot be answered.

    Any other part that is malformed is 0 or empty, which no payer, invoice or amount is.
    """
    query_id = _text(_inner(raw, "pre_checkout_query", "id"))
    if not query_id:
        raise ValueError("a pre-checkout query has an id")
    payer, amount_minor = (
        value if _is_id(value) else 0
        for value in (
            _inner(raw, "pre_checkout_query", "from", "id"),
            _inner(raw, "pre_checkout_query", "total_amount"),
        )
    )
    return PaySheet(
        query_id,
        payer,
        _text(_inner(raw, "pre_checkout_query", "from", "language_code")),
        _text(_inner(raw, "pre_checkout_query", "invoice_payload")),
        _text(_inner(raw, "pre_checkout_query", "currency")),
        amount_minor,
    )


def order_in(payload: str) -> UUID | None:
    """The order that a payload names. None for a payload of another form."""
    named = read_payload(payload)
    return named.order if named else None


def trace_position_in(payload: str) -> tuple[UUID, str] | None:
    """The order and the span (16 hex digits) from which the trace of the order continues.

    None for a payload that names no trace: another form, an order of 0 or a span of 0.
    """
    named = read_payload(payload)
    if named is None or named.span is None or named.order.int == 0:
        return None
    return named.order, named.span


def _inner(raw: object, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw


def _is_text(value: object, characters: int) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and 0 < len(value) <= characters
        and "\x00" not in value
        and value == _clean(value)
    )


def _text(value: object) -> str:
    """The text, or an empty one where it could be neither stored nor sent."""
    if not isinstance(value, str) or "\x00" in value:
        return ""
    return value if value == _clean(value) else ""


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and -_BIGINT <= value < _BIGINT
