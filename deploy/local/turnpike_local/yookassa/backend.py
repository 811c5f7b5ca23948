"""YooKassa's side: the state, the clock, and the notices that a change of it makes."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from turnpike_local.standin.clock import Clock

from . import shapes
from .errors import Json, not_found
from .planned_faults import PlannedFaults
from .records import Payment, Refund
from .shop import Limits, Shop
from .state import State

EVENTS = (
    *("payment.waiting_for_capture", "payment.succeeded", "payment.canceled"),
    "refund.succeeded",
)


@dataclass
class Backend:
    """All writes run inside `transaction()`. `url` is known once the server listens.

    `chat_url` is where a payer's links into Telegram lead.
    """

    state: State
    shop: Shop
    limits: Limits
    clock: Clock
    url: Callable[[], str]
    chat_url: str = ""
    faults: PlannedFaults = field(default_factory=PlannedFaults)
    notices_changed: asyncio.Event = field(default_factory=asyncio.Event)
    tell: Callable[[Payment], None] = lambda _: None
    """Told of every payment that changed, after the commit."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit, then wake the sender of notices."""
        with self.state.transaction():
            yield
        self.notices_changed.set()
        touched = [self.state.payment(one) for one in sorted(self.state.touched)]
        self.state.touched.clear()
        for payment in touched:
            if payment is not None:
                self.tell(payment)

    def payment(self, payment_id: str) -> Payment:
        found = self.state.payment(payment_id)
        if found is None:
            raise not_found("Payment doesn't exist or access denied", "payment_id")
        return found

    def shown(self, payment_id: str) -> Json:
        return self.payment_shown(self.payment(payment_id))

    def payment_shown(self, payment: Payment) -> Json:
        return self._registered(shapes.payment(payment, self.shop, self.url()))

    def refund_shown(self, refund: Refund) -> Json:
        return self._registered(shapes.refund(refund, self.shop))

    def _registered(self, shown: Json) -> Json:
        """With the registration that a fault planned, where it has a receipt."""
        planned = self.state.registration(shown["id"])
        ended = shown.get("receipt_registration") == "succeeded"
        return shown | {"receipt_registration": planned} if planned and ended else shown

    def register(self, id_: str) -> None:
        """The receipt of this object goes to the tax office, or what a fault plans instead."""
        fault = self.faults.registrations.take()
        if fault is not None:
            self.state.set_registration(id_, fault.status, self.clock.now_ms())

    def notify(self, event: str, shown: Json) -> None:
        """Queue a notice with the object of this moment, or do with it as a fault plans."""
        now_ms, fault = self.clock.now_ms(), self.faults.of_notice(event)
        state = "dropped" if fault and fault.never else "waiting"
        due_at_ms = now_ms + (round(fault.late_s * 1000) if fault else 0)
        body = {"type": "notification", "event": event, "object": shown}
        self.state.add_notice(event, body, now_ms, due_at_ms, state)
