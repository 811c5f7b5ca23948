"""Refunds as payments publishes them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from shared.contracts.payments import PaymentRefunded, Returned, Undone

PRICE_MINOR = 14_900


def refunded(
    person: UUID,
    order: UUID | None = None,
    *,
    undone_minor: int = PRICE_MINOR,
    cause: object = None,
    at: datetime | None = None,
    **changes: Any,
) -> PaymentRefunded:
    """99 Stars of an order of 149 rubles are returned; of none without an `order`.

    `changes` replace fields of `returned` and of the event.
    """
    returned: dict[str, Any] = {
        "refund": uuid4(),
        "receipt": uuid4(),
        "acquirer": "telegram_stars",
        "charge": "charge",
        "value_minor": undone_minor,
        "amount_minor": 99,
        "currency": "XTR",
    }
    fields: dict[str, Any] = {"owed_minor": 0, "wallet_minor": 0, "position": 0}
    returned |= {name: changes.pop(name) for name in list(changes) if name in returned}
    at = at or datetime.now(UTC)
    return PaymentRefunded.caused_by(
        cause or f"refund:{returned['refund']}",
        about=person,
        at=at,
        returned=Returned(**returned),
        undone=(share_of(order, undone_minor),) if order else (),
        booked_at=at,
        **(fields | changes),
    )


def share_of(order: UUID, undone_minor: int) -> Undone:
    return Undone(
        order=order,
        undone_minor=undone_minor,
        price_minor=PRICE_MINOR,
        whole=undone_minor == PRICE_MINOR,
        plan="basic",
        months=1,
    )
