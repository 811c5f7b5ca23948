"""Periodic work of payments: orders end, days are closed, refunds meet their payments, gauges."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from payments import metrics
from payments.restoring import restore_next
from payments.store import (
    closing,
    debts,
    fiscal,
    invoice_jobs,
    orders,
    outgoing,
    reconciliation_leases,
    refunds,
)
from payments.subscribers import book_refunds
from shared.platform import iterations
from shared.platform.db import Database

END_ORDERS_EVERY_S = 60.0
MAX_ORDERS_AT_ONCE = 1_000
"""So many orders of each kind, every minute: 1.4 million a day."""
PRUNED_AFTER = timedelta(days=30)
"""An expired order is kept so long: money that comes then is valued by its invoice."""

COUNT_EVERY_S = 10.0
CLOSE_EVERY_S = 60.0
TRANSFERS_AT_ONCE = 5_000
MAX_PAGES = 20

MEASURE_EVERY_S = 15.0
MEET_REFUNDS_EVERY_S = 5.0
REFUNDS_AT_ONCE = 100
RESTORE_EVERY_S = 5.0
RESTORED_AT_ONCE = 100
MAX_RESTORING_STEPS = 25
"""Of a person in one turn: a refund undoes at most 21 orders."""


async def end_orders(database: Database) -> None:
    iterations.found(await orders.expire(MAX_ORDERS_AT_ONCE, database), "expired")
    iterations.found(await orders.prune(PRUNED_AFTER, MAX_ORDERS_AT_ONCE, database), "deleted")


async def count_ways_in(acquirers: Sequence[str], database: Database) -> None:
    """Set the gauges of invoices and notices of these providers."""
    for row in await invoice_jobs.counts(acquirers, database):
        acquirer = row["acquirer"]
        metrics.INVOICE_JOBS.labels(acquirer, "open").set(row["opening"])
        metrics.INVOICE_JOBS.labels(acquirer, "watch").set(row["watched"])
        metrics.NOTICES_LEFT.labels(acquirer, "waiting").set(row["notices"])
        metrics.NOTICES_LEFT.labels(acquirer, "parked").set(row["parked"])


async def count_outgoing(acquirers: Sequence[str], database: Database) -> None:
    """Set the gauges of refunds that have not ended."""
    for row in await outgoing.counts(acquirers, database):
        gauge = metrics.OUTGOING_REFUNDS.labels(row["acquirer"], row["state"])
        gauge.set(row["refunds"])


async def count_fiscal_receipts(acquirer: str, database: Database) -> None:
    row = await fiscal.left(acquirer, database)
    for state in ("waiting", "failed"):
        metrics.FISCAL_RECEIPTS_LEFT.labels(acquirer, state).set(row[state])


async def close_ledger(database: Database) -> None:
    """In pages, and a day after its last one; the next turn takes the pages that one leaves."""
    for _ in range(MAX_PAGES):
        async with database.transaction() as tx:
            if not await closing.close_page(TRANSFERS_AT_ONCE, tx):
                return
        iterations.found(1, "closed")


async def measure_reconciliations(acquirers: Sequence[str], database: Database) -> None:
    """How long ago each configured provider was reconciled."""
    for acquirer, age_s in (await reconciliation_leases.ages(acquirers, database)).items():
        metrics.RECONCILED_AGE.labels(acquirer).set(age_s)


async def meet_refunds(database: Database) -> None:
    """Book refunds that were reported at the moment of their payment: neither saw the other."""
    met = await refunds.met_late(REFUNDS_AT_ONCE, database)
    if met:
        async with database.transaction() as tx:
            await book_refunds(met, tx)
        iterations.found(len(met), "booked")


async def restore_access(database: Database) -> None:
    """Buy again what debts had cost that are paid now: each order in a transaction of its own.

    A person for whom it fails delays nobody. Raises `ExceptionGroup` after all others had their
    turn.
    """
    failed: list[Exception] = []
    for person in await debts.settled(RESTORED_AT_ONCE, database):
        iterations.found(1)
        try:
            await restore_all_of(person, database)
            iterations.outcome("restored")
        except Exception as error:
            iterations.outcome("failed")
            failed.append(error)
    if failed:
        raise ExceptionGroup("access of some people was not restored", failed)


async def restore_all_of(person: UUID, database: Database) -> None:
    for _ in range(MAX_RESTORING_STEPS):
        async with database.transaction() as tx:
            if not await restore_next(person, tx):
                break
