"""Periodic work: expire access, revive it, remind of its end, fold refunds, count jobs."""

from collections.abc import Callable, Mapping
from uuid import UUID

import structlog

from shared.contracts.vpn import AccessExpiring
from shared.messaging.outbox import publish
from shared.platform import iterations
from shared.platform.db import Database, Tx
from vpn_provisioner import metrics
from vpn_provisioner.domain import reminders as decisions
from vpn_provisioner.domain.access import fold
from vpn_provisioner.domain.reminders import Expiring
from vpn_provisioner.store import jobs, periods, reminders, shortenings, subscriptions
from vpn_provisioner.subscribers import shorten
from vpn_provisioner.workers.announcer import announce

log = structlog.get_logger()

EXPIRE_EVERY_S = 5.0
REVIVE_EVERY_S = 5.0
REMIND_EVERY_S = 5.0
SHORTEN_EVERY_S = 5.0
COUNT_EVERY_S = 5.0
PEOPLE_AT_ONCE = 500
# 5 a second, of notifier's 20: after an outage, a wave of reminders delays no key.
REMINDERS_PER_TICK = 25
MAX_ROUNDS = 100


async def expire(database: Database, wake: Callable[[], None]) -> None:
    """Begin to end overdue subscriptions: every node is to remove their people and confirm it.

    A renewal at the same moment either comes first, and then the subscription is not due, or it
    waits for this transaction and makes the subscription live again.
    """
    for _ in range(MAX_ROUNDS):
        async with database.transaction() as tx:
            people = await subscriptions.expire(PEOPLE_AT_ONCE, tx)
            if people:
                iterations.found(len(people), "expired")
                await jobs.want(dict.fromkeys(people), tx)
                await announce(people, tx)  # People who were on no node have nothing to wait for.
                tx.after_commit(wake)
        if len(people) < PEOPLE_AT_ONCE:
            return


async def revive(database: Database, wake: Callable[[], None]) -> None:
    """Give access back that a clock ahead of this one took too early, as after a failover."""
    for _ in range(MAX_ROUNDS):
        async with database.transaction() as tx:
            people = await subscriptions.revive(PEOPLE_AT_ONCE, tx)
            if people:
                await jobs.want(dict.fromkeys(people), tx)
                tx.after_commit(wake)
        if people:
            iterations.found(len(people), "revived")
            log.warning("the clock stepped back: access is given back", people=len(people))
        if len(people) < PEOPLE_AT_ONCE:
            return


async def remind(database: Database) -> None:
    """Publish the steps before the ends of access that have begun, and schedule the next ones.

    Replicas share the due rows. Rows without a step to publish do not count as reminders. A
    renewal at the same moment either comes first, and then the step is not due, or it waits, and
    notifier asks for the end before it sends.
    """
    published = 0
    for _ in range(MAX_ROUNDS):
        async with database.transaction() as tx:
            expiring = await reminders.claim(REMINDERS_PER_TICK, tx)
            if expiring:
                published += await _publish_expiring(expiring, tx)
        if len(expiring) < REMINDERS_PER_TICK or published >= REMINDERS_PER_TICK:
            return


async def _publish_expiring(expiring: Mapping[UUID, Expiring], tx: Tx) -> int:
    now = await tx.now()
    decided = {person: decisions.remind(one, now) for person, one in expiring.items()}
    await reminders.schedule({person: one.next_at for person, one in decided.items()}, tx)
    events = [
        AccessExpiring.caused_by(
            f"{person} {expiring[person].ends_at.isoformat()} {one.hours}",
            about=person,
            at=now,
            ends_at=expiring[person].ends_at,
            hours=one.hours,
        )
        for person, one in decided.items()
        if one.hours is not None
    ]
    await publish(tx, events)
    iterations.found(len(events), "reminded")
    return len(events)


async def meet_refunds(database: Database, wake: Callable[[], None]) -> None:
    """Shorten access whose first order and its refund came at once: neither saw the other."""
    async with database.transaction() as tx:
        people = await shortenings.shortened_lately(PEOPLE_AT_ONCE, tx)
        if people:
            stored = await periods.subscriptions_of(people, tx)
            stale = [one.person for one in stored if fold(one.periods) != one.entitlement]
            iterations.found(len(stale), "shortened")
            await shorten(dict.fromkeys(stale), tx, wake=wake)


async def count(database: Database) -> None:
    """Set the gauges of capacity, waiting jobs and dead jobs."""
    for node, capacity, waiting, dead in await jobs.counts(database):
        metrics.NODE_CAPACITY.labels(node).set(capacity)
        metrics.JOBS_WAITING.labels(node).set(waiting)
        metrics.JOBS_DEAD.labels(node).set(dead)
