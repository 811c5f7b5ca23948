"""What a raw update of Telegram is to us: whose it is, which lane takes it, and what payment it reports."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeGuard
from uuid import UUID

Json = Mapping[str, Any]
Lane = Literal["chat", "money", "checkout"]

ALLOWED = ("message", "callback_query", "pre_checkout_query", "my_chat_member")
"""The kinds that we ask Telegram for."""

_BIGINT = 2**63
_PAYLOAD = re.compile(r"(?P<order>[0-9a-f]{32})\.[0-9a-f]{32}\.(?P<span>[0-9a-f]{16})")


@dataclass(frozen=True)
class Update:
    """A row of the intake."""

    update_id: int
    lane: Lane
    chat: int
    """Within the chat lane, updates of one chat run in order; 0 where there is no chat."""
    body: str


def update_from(raw: Json) -> Update:
    """Raises ValueError for what is no update; anything else is taken in, even if nobody will understand it."""
    update_id = raw.get("update_id") if isinstance(raw, Mapping) else None
    if not _is_id(update_id):
        raise ValueError("an update has an integer update_id")
    return Update(update_id, lane_of(raw), chat_of(raw), json.dumps(raw))


def lane_of(raw: Json) -> Lane:
    """Money never waits for a chat, and a pre-checkout waits for nothing."""
    if "pre_checkout_query" in raw:
        return "checkout"
    if _inner(raw, "message", "successful_payment") is not None:
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
    """Telegram's word that a payment succeeded."""

    acquirer: Literal["telegram_stars", "telegram_card"]
    charge: str
    payer: int
    """The Telegram id of who paid."""
    payload: str
    currency: str
    amount_minor: int
    paid_at: datetime
    recurring: bool

    @property
    def cause(self) -> str:
        return f"{self.acquirer}:{self.charge}"


def report_from(raw: Json) -> Report:
    """Raises ValueError (or TypeError, KeyError) when the message reports no payment that could be booked."""
    message = raw["message"]
    payment = message["successful_payment"]
    payer = _inner(message, "from", "id")
    charge, currency, amount = payment["telegram_payment_charge_id"], payment["currency"], payment["total_amount"]
    if not (isinstance(charge, str) and isinstance(currency, str) and charge and currency and _is_id(amount)):
        raise ValueError("a payment has a charge, a currency and a whole amount")
    return Report(
        acquirer="telegram_stars" if currency == "XTR" else "telegram_card",
        charge=charge,
        payer=int(payer if _is_id(payer) else message["chat"]["id"]),
        payload=str(payment.get("invoice_payload", "")).replace("\x00", ""),  # As PostgreSQL can keep it.
        currency=currency,
        amount_minor=amount,
        paid_at=datetime.fromtimestamp(message["date"], UTC),
        recurring=payment.get("is_recurring") is True,
    )


def order_of(payload: str) -> UUID | None:
    """The order that a payload of our form names."""
    found = _PAYLOAD.fullmatch(payload)
    return UUID(hex=found["order"]) if found else None


class Place(NamedTuple):
    """Where in an order's story something came: the span, by its 16 hex digits, that it goes on from."""

    order: UUID
    span: str


def place_of(payload: str) -> Place | None:
    """What a payload of the form `<order hex>.<invoice hex>.<span hex>` names; others name no story."""
    found = _PAYLOAD.fullmatch(payload)
    if found is None or int(found["order"], 16) == 0 or int(found["span"], 16) == 0:
        return None
    return Place(UUID(hex=found["order"]), found["span"])


def order_in(payload: str) -> UUID | None:
    """The order that a payload of the same form names."""
    found = _PAYLOAD.fullmatch(payload)
    return UUID(hex=found["order"]) if found else None


def _inner(raw: object, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and -_BIGINT <= value < _BIGINT
