"""The door for time: access ends, and what waits is counted."""

from collections.abc import Callable

from shared.db import Database
from vpn_provisioner import metrics
from vpn_provisioner.conclude import conclude
from vpn_provisioner.store import jobs, subscriptions

EXPIRE_EVERY_S = 5.0
COUNT_EVERY_S = 5.0
PEOPLE_AT_ONCE = 500
MOST_ROUNDS = 100


async def expire(database: Database, wake: Callable[[], None]) -> None:
    """Subscriptions whose time is over begin to end: every node is to shut their people out, and confirm it.

    Who renews in the same moment either comes first, and is not due, or waits here and makes it live again.
    """
    for _ in range(MOST_ROUNDS):
        async with database.transaction() as tx:
            people = await subscriptions.expire(PEOPLE_AT_ONCE, tx)
            if people:
                await jobs.want(dict.fromkeys(people), tx)
                await conclude(people, tx)  # Who was on no node has nobody to wait for.
                tx.after_commit(wake)
        if len(people) < PEOPLE_AT_ONCE:
            return


async def count(database: Database) -> None:
    """Set the gauges of what waits and what is dead."""
    for node, capacity, waiting, dead in await jobs.counts(database):
        metrics.NODE_CAPACITY.labels(node).set(capacity)
        metrics.JOBS_WAITING.labels(node).set(waiting)
        metrics.JOBS_DEAD.labels(node).set(dead)
