"""The source of open invoices: each is asked for until it was paid, or can no longer be paid."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from payments.domain.pauses import pause_of_job_s, watch_after_s
from payments.domain.read_back import Read
from payments.store import invoice_jobs, watched
from payments.store.pace import Lane
from payments.store.watched import Watched
from payments.workers.lease import LEASE_S
from shared.platform.db import Database, Tx

log = structlog.get_logger()

ENDS: frozenset[Read] = frozenset({"booked", "canceled"})
FAILS: frozenset[Read] = frozenset({"failed", "held", "unreadable"})


class OpenInvoices:
    lane: Lane = "watch"
    calls = 1

    async def claim(
        self, acquirer: str, at_once: int, token: UUID, database: Database
    ) -> list[Watched]:
        return await watched.claim(acquirer, at_once, self.calls, token, LEASE_S, database)

    async def due_in_s(self, acquirer: str, database: Database) -> float | None:
        return await invoice_jobs.due_in_s(acquirer, "watch", database)

    async def renew(self, keys: Sequence[UUID], token: UUID, database: Database) -> bool:
        return await invoice_jobs.renew(keys, token, LEASE_S, database)

    async def give_back(self, keys: Sequence[UUID], token: UUID, database: Database) -> None:
        await watched.give_back(keys, token, database)

    async def settle(self, token: UUID, reads: Sequence[tuple[Watched, Read]], tx: Tx) -> None:
        ended, later = [], []
        for one, read in reads:
            after_s = watch_after_s(one.reads, one.past_end_s)
            awaited = one.past_end_s < 0
            if read in FAILS and after_s is not None:
                later.append((one.key, pause_of_job_s(one.tries), True, awaited))
            elif read in ENDS or after_s is None:
                ended.append(one.key)
            else:
                later.append((one.key, after_s, False, awaited))
            if after_s is None and read not in ENDS:
                log.warning("invoice is watched no longer", reference=one.reference, read=read)
        await watched.ask_later(token, later, tx)
        if ended:
            await invoice_jobs.drop(ended, token, tx)
