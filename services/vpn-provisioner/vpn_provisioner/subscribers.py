"""The door for facts: what was bought becomes access."""

from collections.abc import Callable, Sequence
from uuid import UUID

from shared.db import Tx
from shared.facts import PaymentConfirmed
from vpn_provisioner.access import Period, fold
from vpn_provisioner.store import jobs, subscriptions
from vpn_provisioner.store.subscriptions import Purchase


async def vpn_grants_confirmed(events: Sequence[PaymentConfirmed], tx: Tx, *, wake: Callable[[], None]) -> None:
    """Each bought order adds its row, once, and the subscription becomes the fold of all rows; then the nodes are told.

    Only `bought` counts here: money that was received and not spent gives no access.
    """
    fresh = await subscriptions.add_periods(_purchases(events), tx)
    if not fresh:
        return
    bought: dict[UUID, list[Period]] = {}
    for purchase in fresh:
        bought.setdefault(purchase.person, []).append(purchase.period)
    begun = await subscriptions.begin({person: fold(periods) for person, periods in bought.items()}, tx)
    if known := sorted(bought.keys() - begun):
        await subscriptions.lock(known, tx)
        everything = await subscriptions.periods_of(known, tx)
        await subscriptions.refold({person: fold(periods) for person, periods in everything.items()}, tx)
    await jobs.want({purchase.person: purchase.trace for purchase in fresh}, tx)
    tx.after_commit(wake)


def _purchases(events: Sequence[PaymentConfirmed]) -> list[Purchase]:
    """One for each order: the natural key, whatever number of facts speak of it."""
    orders: dict[UUID, Purchase] = {}
    for event in events:
        if event.bought is not None:
            period = Period(event.bought.order, event.booked_at, event.bought.terms)
            orders.setdefault(period.order, Purchase(event.about, period, event.trace))
    return list(orders.values())
