"""The source of notices: each is read back, and ends with what its payment turned out to be."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from payments.domain.pauses import pause_of_job_s
from payments.domain.read_back import Read, end_of_notice
from payments.store import notices
from payments.store.notices import Told
from payments.store.pace import Lane
from payments.workers.lease import LEASE_S
from shared.platform.db import Database, Tx

log = structlog.get_logger()


MOST_AT_ONCE = 1_000
"""A lot of Crypto Pay fills a statement alone; YooKassa is asked for each notice by itself."""


class Notices:
    lane: Lane = "notice"
    calls = 10

    async def claim(
        self, acquirer: str, at_once: int, token: UUID, database: Database
    ) -> list[Told]:
        calls = max(1, min(self.calls, MOST_AT_ONCE // at_once))
        return await notices.claim(acquirer, at_once, calls, token, LEASE_S, database)

    async def due_in_s(self, acquirer: str, database: Database) -> float | None:
        return await notices.due_in_s(acquirer, database)

    async def renew(self, keys: Sequence[UUID], token: UUID, database: Database) -> bool:
        return await notices.renew(keys, token, LEASE_S, database)

    async def give_back(self, keys: Sequence[UUID], token: UUID, database: Database) -> None:
        await notices.give_back(keys, token, database)

    async def settle(self, token: UUID, reads: Sequence[tuple[Told, Read]], tx: Tx) -> None:
        ended, retried = [], []
        for one, read in reads:
            end = end_of_notice(read, one.tries)
            if end is None:
                retried.append((one.key, read, pause_of_job_s(one.tries)))
            else:
                ended.append((one.key, end, read))
            if end == "parked":
                log.error("notice is parked", reference=one.reference, kind=one.kind, read=read)
        await notices.settle(token, ended, retried, tx)
