"""Handlers of events: purchases become access, and refunds shorten it."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from shared.contracts.payments import PaymentConfirmed, PaymentRefunded
from shared.platform import telemetry
from shared.platform.db import Tx
from vpn_provisioner.domain.access import Period, fold
from vpn_provisioner.store import jobs, periods, shortenings, subscriptions
from vpn_provisioner.store.periods import Purchase
from vpn_provisioner.store.shortenings import Shortening
from vpn_provisioner.workers.announcer import announce


async def vpn_grants_confirmed(
    events: Sequence[PaymentConfirmed], tx: Tx, *, wake: Callable[[], None]
) -> None:
    """Add a row for each bought order, once; fold all rows into the subscription; write the jobs.

    Only `bought` counts: money that was received and not spent gives no access.
    """
    fresh = await periods.add_periods(_purchases(events), tx)
    if not fresh:
        return
    bought: dict[UUID, list[Period]] = {}
    for purchase in fresh:
        telemetry.note(purchase.trace, telemetry.GRANTED, "period")
        bought.setdefault(purchase.person, []).append(purchase.period)
    begun = await subscriptions.begin({person: fold(own) for person, own in bought.items()}, tx)
    if known := sorted(bought.keys() - begun):
        await subscriptions.lock(known, tx)
        everything = await periods.periods_of(known, tx)
        await subscriptions.refold({person: fold(own) for person, own in everything.items()}, tx)
    # A refund came first: an order that is undone is never wanted at a node.
    undone = {one.person: one.trace for one in fresh if one.period.undone}
    await shorten(undone, tx, wake=wake)
    await jobs.want({purchase.person: purchase.trace for purchase in fresh}, tx)
    tx.after_commit(wake)


def _purchases(events: Sequence[PaymentConfirmed]) -> list[Purchase]:
    """One purchase for each order: the order is the natural key, however many events name it."""
    orders: dict[UUID, Purchase] = {}
    for event in events:
        if event.bought is not None:
            period = Period(event.bought.order, event.booked_at, event.bought.terms)
            orders.setdefault(period.order, Purchase(event.about, period, event.trace))
    return list(orders.values())


async def vpn_shortens_refunded(
    events: Sequence[PaymentRefunded], tx: Tx, *, wake: Callable[[], None]
) -> None:
    """Add a row for each undone share, once, and fold again.

    A share whose order is not known yet is read when the order comes.
    """
    fresh = await shortenings.add(
        [
            Shortening(
                event.returned.refund,
                share.order,
                event.about,
                share.undone_minor,
                share.price_minor,
                event.trace,
            )
            for event in events
            for share in event.undone
        ],
        tx,
    )
    await shorten({one.person: one.trace for one in fresh}, tx, wake=wake)


async def shorten(people: Mapping[UUID, str | None], tx: Tx, *, wake: Callable[[], None]) -> None:
    """Fold the subscriptions of these people after a refund. One that ends by it ends now."""
    if not people:
        return
    named = sorted(people)
    await subscriptions.lock(named, tx)
    everything = await periods.periods_of(named, tx)
    folded = {person: fold(own) for person, own in everything.items() if own}
    await subscriptions.shorten(folded, tx)
    await shortenings.withdraw_grants(named, tx)
    await jobs.want({person: people[person] for person in folded}, tx)
    await announce(sorted(folded), tx)  # People who were on no node have nothing to wait for.
    tx.after_commit(wake)
