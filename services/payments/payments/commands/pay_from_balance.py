"""Buying from the balance: an order is paid from the wallet, then from rewards."""

from datetime import datetime

from payments.domain.checkout import refused_for
from payments.domain.confirmation import Order, buy_from_balance
from payments.store import bookings, orders
from shared.contracts.message import Refused
from shared.contracts.payments import PaidFromBalance, PayFromBalance, PaymentConfirmed
from shared.messaging import outbox
from shared.platform import telemetry
from shared.platform.db import Tx


async def pay_from_balance(command: PayFromBalance, tx: Tx) -> PaidFromBalance | Refused:
    """The order spends its price and is paid, in this transaction: no money comes from outside."""
    batch = await bookings.open_order(command.order, command.person, tx)
    order = batch.orders.get(command.order)
    too_old = order is not None and batch.now > order.honoured_until
    if refusal := refused_for(command.person, order, too_old=too_old):
        return Refused(reason=refusal)
    assert order is not None, "an unknown order is refused"
    if order.what == "topup":
        return Refused(reason="nothing_to_buy")
    missing_minor = buy_from_balance(order, batch)
    if missing_minor > 0:
        return Refused(reason="balance_short", detail=str(missing_minor))
    holdings = batch.held_by(command.person)
    telemetry.note(order.trace, telemetry.BOOKED, "bought")
    event = event_of(order, holdings.wallet_minor, await tx.now())
    await bookings.write_batch(batch, [], tx)
    await orders.set_published_as(order.id, event.id, tx)
    await outbox.publish(tx, [event])
    return PaidFromBalance(
        order=order.id,
        price_minor=order.price_minor,
        wallet_minor=holdings.wallet_minor,
        earned_minor=holdings.earned_minor,
    )


def event_of(order: Order, wallet_minor: int, now: datetime) -> PaymentConfirmed:
    """Caused by the order. Without `received`: nothing of it is rewarded."""
    return PaymentConfirmed.caused_by(
        f"order:{order.id}",
        about=order.person,
        at=now,
        trace=order.trace,
        received=None,
        bought=order.bought,
        booked_at=now,
        wallet_minor=wallet_minor,
        missing_minor=0,
    )
