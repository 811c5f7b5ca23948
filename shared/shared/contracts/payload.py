"""The payload of an invoice: the provider returns it with the money. This is its only codec.

    <order, 32 hex digits>.<invoice, 32 hex digits>.<span, 16 hex digits>

82 characters; Telegram allows 128 bytes. The span is the one that the trace of the order
continues from. The trace id is the order's id, so it needs no digits of its own.
"""

import re
from typing import NamedTuple
from uuid import UUID

_FORM = re.compile(r"(?P<order>[0-9a-f]{32})\.(?P<invoice>[0-9a-f]{32})\.(?P<span>[0-9a-f]{16})")
_NO_SPAN = "0" * 16


class Payload(NamedTuple):
    """The order and the invoice; `span` is None where the payload names no span."""

    order: UUID
    invoice: UUID
    span: str | None


def write_payload(order: UUID, invoice: UUID, trace: str | None) -> str:
    """The payload of an invoice. `trace` is a `traceparent`; its span is kept."""
    span = trace.split("-")[2] if trace else _NO_SPAN
    return f"{order.hex}.{invoice.hex}.{span}"


def read_payload(payload: str) -> Payload | None:
    """Parse a payload. None for a text of another form: payers can send any text."""
    found = _FORM.fullmatch(payload)
    if found is None:
        return None
    span = None if found["span"] == _NO_SPAN else found["span"]
    return Payload(UUID(hex=found["order"]), UUID(hex=found["invoice"]), span)
