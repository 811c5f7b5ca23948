"""What a debt had cost comes back once it is paid: each order is bought again, once."""

from datetime import datetime
from uuid import UUID

from payments.commands.pay_from_balance import event_of
from payments.domain.confirmation import Batch, Order, buy
from payments.domain.debts import next_step
from payments.domain.ledger import Holdings
from payments.store import accounts, bookings, debts, orders
from shared.messaging import outbox
from shared.platform import telemetry
from shared.platform.db import Tx


async def restore_next(person: UUID, tx: Tx) -> bool:
    """One order is bought again, or one debt ends. False: nothing of this person is left."""
    held = await lock_held(person, tx)
    debt = await debts.lock_settled(person, tx)
    if debt is None:
        return False
    lost, now = await debts.lost(debt.refund, tx), await tx.now()
    bought_since = await debts.bought_since(debt, tx)
    step = next_step(debt, held, lost, bought_since=bought_since, now=now)
    if isinstance(step, Order):
        await buy_again(step, held, now, tx)
    elif step == "owed":
        await debts.reopen(debt.refund, tx)
    else:
        await debts.end(debt.refund, step, tx)
    return True


async def lock_held(person: UUID, tx: Tx) -> Holdings:
    """With the parts that open orders have received: they are not spent on another order."""
    balances = await accounts.lock_balances([person], tx)
    parts = await orders.received_parts([person], tx)
    return accounts.holdings_from(balances, parts)[person]


async def buy_again(order: Order, held: Holdings, now: datetime, tx: Tx) -> None:
    """A purchase from the balance as any, with an order of its own."""
    await debts.insert_restoring(order, tx)
    batch = Batch(now, {}, {order.id: order}, {}, {order.person: held})
    buy(order, 0, batch)
    telemetry.note(order.trace, telemetry.BOOKED, "bought")
    event = event_of(order, batch.held_by(order.person).wallet_minor, now)
    await bookings.write_batch(batch, [], tx)
    await orders.set_published_as(order.id, event.id, tx)
    await outbox.publish(tx, [event])
