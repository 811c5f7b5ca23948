"""Periodic work of referrals: refunds meet payments that came at the same moment."""

from referrals.store import reversals
from referrals.subscribers import reverse_waiting
from shared.platform import iterations
from shared.platform.db import Database

MEET_REFUNDS_EVERY_S = 5.0
REFUNDS_AT_ONCE = 100


async def meet_refunds(database: Database) -> None:
    """Neither the refund nor its payment saw the other: each was written in its transaction."""
    met = await reversals.met_late(REFUNDS_AT_ONCE, database)
    if met:
        async with database.transaction() as tx:
            await reverse_waiting(met, tx)
        iterations.found(len(met), "reversed")
