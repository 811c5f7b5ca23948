"""Payments are read back from their provider and booked: those of notices, and those watched.

    claimed (one statement) ──▶ read back, held money captured (no transaction)
        ──▶ booked and settled (transaction) │ given back │ read again

A worker may be killed at any point. Its lease ends, and another one reads the same again: a charge
is booked once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar
from uuid import UUID, uuid4

import structlog

from payments.domain.pauses import pause_of_provider_s
from payments.domain.provider import (
    Failure,
    Payment,
    Refusal,
    SlowDown,
    Unavailable,
    Unknown,
    Unreadable,
)
from payments.domain.read_back import Outcome, Read
from payments.metrics import READS
from payments.providers.protocol import Known, Provider
from payments.receiving import take_in
from payments.store import pace
from payments.store.pace import Lane
from payments.workers.lease import POLL_S, held
from shared.platform import iterations, telemetry
from shared.platform.db import Database, Tx, database_is_to_blame
from shared.platform.failpoints import failpoint
from shared.platform.loops import Bell, at_each_ring

log = structlog.get_logger()


class Due(Protocol):
    """A claimed reference. `tries` failed for it alone, `failures` in a row for its provider."""

    @property
    def key(self) -> UUID: ...
    @property
    def reference(self) -> str: ...
    @property
    def tries(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def every_s(self) -> float: ...


Item = TypeVar("Item", bound=Due)


class Source(Protocol[Item]):
    """Where references come from, and what is recorded of them."""

    lane: Lane
    calls: int
    """So many at once; the pace waits for as many afterwards."""

    async def claim(
        self, acquirer: str, at_once: int, token: UUID, database: Database
    ) -> list[Item]: ...

    async def due_in_s(self, acquirer: str, database: Database) -> float | None: ...

    async def renew(self, keys: Sequence[UUID], token: UUID, database: Database) -> bool: ...

    async def give_back(self, keys: Sequence[UUID], token: UUID, database: Database) -> None: ...

    async def settle(self, token: UUID, reads: Sequence[tuple[Item, Read]], tx: Tx) -> None: ...


class Reader(Generic[Item]):
    """Reads payments of one provider, from one source."""

    def __init__(
        self, source: Source[Item], provider: Provider, database: Database, bell: Bell
    ) -> None:
        self.source = source
        self.provider = provider
        self.database = database
        self.bell = bell
        self.name = f"{source.lane}_{provider.name}"

    async def run(self, stopping: asyncio.Event) -> None:
        await at_each_ring(
            self.name, self.bell, self.round, self.due_in_s, stopping, every_s=POLL_S
        )

    async def due_in_s(self) -> float | None:
        return await self.source.due_in_s(self.provider.name, self.database)

    async def round(self) -> int:
        """Claim what is due, read it back, book. Returns how much was claimed."""
        token, began = uuid4(), asyncio.get_running_loop().time()
        due = await self.source.claim(
            self.provider.name, self.provider.reads_at_once, token, self.database
        )
        if due:
            iterations.found(len(due))
            keys = [one.key for one in due]

            async def renew() -> bool:
                return await self.source.renew(keys, token, self.database)

            async with held(renew, began), asyncio.TaskGroup() as group:
                for at, batch in enumerate(batches(due, self.provider.reads_at_once)):
                    group.create_task(self._later(at * due[0].every_s, batch, token))
        return len(due)

    async def _later(self, after_s: float, batch: Sequence[Item], token: UUID) -> None:
        """The calls of a round keep the pace among themselves, too."""
        await asyncio.sleep(after_s)
        with telemetry.span(f"payments.read_{self.source.lane}", references=len(batch)):
            known = await self._read(batch)
            if isinstance(known, dict):
                if batch[0].failures:
                    await self._set_pace(batch[0].failures // 2, 0.0)
                known = {name: await self._captured(one) for name, one in known.items()}
                failpoint("payment_read", self.source.lane)
                await self._take_in(batch, known, token)
            else:
                await self._failed(batch, known, token)

    async def _read(self, batch: Sequence[Item]) -> dict[str, Payment | Unreadable] | Failure:
        try:
            known = await self.provider.read(list(dict.fromkeys(one.reference for one in batch)))
        except Exception as error:  # A fault of the client is a failed try, so tries end.
            log.error("provider client failed", lane=self.name, error=type(error).__name__)
            return Unknown("the client failed")
        if isinstance(known, Refusal | SlowDown | Unavailable | Unknown):
            return known
        return dict(known)

    async def _captured(self, told: Payment | Unreadable) -> Payment | Unreadable:
        """Held money is taken in full. Where that fails it stays held, and is tried again."""
        if isinstance(told, Unreadable):
            log.error("payment cannot be read", reference=told.reference, reason=told.reason)
            return told
        if told.state != "held":
            return told
        answer = await self.provider.capture(told.reference, told.amount_minor, told.currency)
        if isinstance(answer, Payment | Unreadable):
            return answer
        log.error("held money was not captured", reference=told.reference, answer=repr(answer))
        return told

    async def _take_in(self, batch: Sequence[Item], known: Known, token: UUID) -> None:
        """All in one transaction. What the database refuses is bisected until it is alone."""
        try:
            async with self.database.transaction() as tx:
                payments = {
                    one.reference: told
                    for one in batch
                    if isinstance(told := known.get(one.reference), Payment)
                }
                outcomes = await take_in(list(payments.values()), self.provider.name, tx)
                reads = [(one, _read_of(known.get(one.reference), outcomes)) for one in batch]
                await self.source.settle(token, reads, tx)
        except Exception as error:
            if database_is_to_blame(error):
                raise
            await self._bisect(batch, known, token, error)
        else:
            self._count([read for _, read in reads])

    async def _bisect(
        self, batch: Sequence[Item], known: Known, token: UUID, error: Exception
    ) -> None:
        if len(batch) == 1:
            reference = batch[0].reference
            log.error("payment was not booked", reference=reference, error=type(error).__name__)
            await self._give_up_for_now(batch, token)
            return
        middle = len(batch) // 2
        await self._take_in(batch[:middle], known, token)
        await self._take_in(batch[middle:], known, token)

    async def _failed(self, batch: Sequence[Item], failure: Failure, token: UUID) -> None:
        """One alone has failed itself; of several nobody knows which, so fewer come next time."""
        log.warning("provider was not read", lane=self.name, failure=repr(failure))
        alone = len(batch) == 1 and isinstance(failure, Unknown | Refusal)
        if alone:
            await self._give_up_for_now(batch, token)
        else:
            await self.source.give_back([one.key for one in batch], token, self.database)
        if not (alone and batch[0].tries):
            asked_s = getattr(failure, "retry_after_s", None) or 0.0
            failures = batch[0].failures
            await self._set_pace(failures + 1, pause_of_provider_s(failures, asked_s))
        READS.labels(self.provider.name, self.source.lane, "unanswered").inc(len(batch))
        iterations.outcome("unanswered", len(batch))

    async def _give_up_for_now(self, batch: Sequence[Item], token: UUID) -> None:
        async with self.database.transaction() as tx:
            await self.source.settle(token, [(one, "failed") for one in batch], tx)
        self._count(["failed"] * len(batch))

    async def _set_pace(self, failures: int, pause_s: float) -> None:
        lane = self.source.lane
        await pace.set_pace(self.provider.name, lane, failures, pause_s, self.database)

    def _count(self, reads: Sequence[Read]) -> None:
        for read in reads:
            READS.labels(self.provider.name, self.source.lane, read).inc()
            iterations.outcome(read)


def batches(due: Sequence[Item], at_once: int) -> list[Sequence[Item]]:
    """Those that never failed together, in calls of a size; the others one by one."""
    size = max(1, at_once >> due[0].failures)
    fresh = [one for one in due if not one.tries]
    together = [fresh[at : at + size] for at in range(0, len(fresh), size)]
    return [*together, *([one] for one in due if one.tries)]


def _read_of(told: Payment | Unreadable | None, outcomes: Mapping[str, Outcome]) -> Read:
    if told is None:
        return "unknown"
    return "unreadable" if isinstance(told, Unreadable) else outcomes[told.reference]
