"""A provider's listing in memory: its pages come newest first, move, fail and hang."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from payments.commands.reconcile import reconcile
from payments.domain.provider import (
    Balances,
    Failure,
    Page,
    Payment,
    Refund,
    RefundPage,
    Unreadable,
    Unsupported,
)
from payments.providers.protocol import Known
from payments.queries import answer_reconciliation
from payments.store import reconciliation_leases as leases
from payments.store import reconciliations
from payments.workers.reconciling import Reconciler
from shared.contracts.message import Refused
from shared.contracts.payments import (
    OpenedInvoice,
    Reconcile,
    ReconciliationQuery,
    ReconciliationRecord,
    ReconciliationReport,
    StartedReconciliations,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database, Row

NO_REFUNDS = Unsupported("this listing returns no money")
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)

DIFFERENCES = """
select kind, reference, charge, their_minor, our_minor, sentence, done
from reconciliation_differences
where acquirer = $1
order by id
"""

DAY_WAS_RECONCILED = """
insert into reconciliations (id, acquirer, kind, since, until, state, ended_at)
select $2, $1, 'daily', ended.day - interval '1 day', ended.day, 'done', shop_now()
from (select date_trunc('day', shop_now() - interval '30 minutes', 'UTC') as day) ended
where not exists (select from reconciliations where acquirer = $1 and kind = 'daily')
"""

AGE = """
with aged as (
  update reconciliation_leases
  set due_at = now(), held_until = now(), reconciled_until = reconciled_until - $2::interval
  where acquirer = $1
)
update reconciliations
set started_at = started_at - $2::interval
where acquirer = $1 and kind <> 'daily'
"""


@dataclass
class FakeListing:
    """Payments and refunds by time, in pages by offset. Each test has a provider of its own."""

    name: str = field(default_factory=lambda: f"provider_{uuid4().hex[:8]}")
    reads_at_once: int = 3
    page: int = 2
    payments: list[Payment] = field(default_factory=list)
    unlisted: dict[str, Payment | Unreadable] = field(default_factory=dict)
    """What only `read` knows."""
    unreadable: list[Unreadable] = field(default_factory=list)
    """Told on the first page."""
    refunds: list[Refund] | None = field(default_factory=list)
    """None: the provider has none."""
    balances: list[Balances | Failure] = field(default_factory=list)
    """Answers of the next calls; the last one stays. Empty: the provider tells none."""
    failures: list[Failure] = field(default_factory=list)
    """Answers of the next pages."""
    asked: list[str | None] = field(default_factory=list)
    reads: list[tuple[str, ...]] = field(default_factory=list)
    captured: list[str] = field(default_factory=list)
    returning: Unsupported = NO_REFUNDS
    uncaptured: Failure | None = None
    """What each capture answers instead."""
    before_page: Callable[[str | None], Awaitable[None]] | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def capture(self, reference: str, amount_minor: int, currency: str) -> Payment | Failure:
        if self.uncaptured is not None:
            return self.uncaptured
        [held] = [one for one in self.payments if one.reference == reference]
        assert (held.amount_minor, held.currency) == (amount_minor, currency)
        self.captured.append(reference)
        taken = replace(held, state="succeeded", paid_at=held.created_at)
        self.payments[self.payments.index(held)] = taken
        return taken

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure:
        self.asked.append(after)
        if self.before_page is not None:
            await self.before_page(after)
        if self.failures:
            return self.failures.pop(0)
        within = [one for one in self.payments if since <= (one.paid_at or one.created_at) < until]
        within.sort(key=lambda one: one.paid_at or one.created_at, reverse=True)
        first = int(after or 0)
        end = first + self.page
        following = str(end) if end < len(within) else None
        unreadable = () if after else tuple(self.unreadable)
        return Page(tuple(within[first:end]), unreadable, following)

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> RefundPage | Failure | Unsupported:
        if self.refunds is None:
            return Unsupported("this provider returns no money")
        return RefundPage(tuple(one for one in self.refunds if since <= one.created_at < until))

    async def balance(self) -> Balances | Failure | Unsupported:
        if not self.balances:
            return Unsupported("this provider tells no balance")
        return self.balances.pop(0) if len(self.balances) > 1 else self.balances[0]

    async def read(self, references: Sequence[str]) -> Known | Failure:
        assert len(references) <= self.reads_at_once
        self.reads.append(tuple(references))
        known: Mapping[str, Payment | Unreadable] = self.unlisted
        return {one: known[one] for one in references if one in known}

    def hangs_at(self, after: str | None) -> asyncio.Event:
        """The page that comes after this hangs, for ever; the event is set once it does."""
        reached = asyncio.Event()

        async def hang(asked: str | None) -> None:
            if asked == after and not reached.is_set():
                reached.set()
                await asyncio.Event().wait()

        self.before_page = hang
        return reached


def paid_there(
    order: OpenedInvoice | None,
    amount_minor: int = 14_900,
    *,
    reference: str | None = None,
    paid_at: datetime = AN_HOUR_AGO,
    payload: str | None = None,
) -> Payment:
    """A payment of this order in rubles, as a provider tells it. Without an order: by `payload`."""
    return Payment(
        reference or uuid4().hex,
        "succeeded",
        "RUB",
        amount_minor,
        order.payload if order else payload,
        created_at=paid_at,
        paid_at=paid_at,
    )


async def reconciled(listing: FakeListing, database: Database) -> ReconciliationRecord:
    """All runs that are due, by one worker; the newest hourly one as it stands then.

    The day before was reconciled: in the first hours of a day, its run would also list what a test
    pays an hour ago.
    """
    worker = Reconciler(database, listing)
    await leases.enlist(listing.name, database)
    await database.execute(DAY_WAS_RECONCILED, listing.name, uuid4())
    while await worker.walk(asyncio.Event()):
        pass
    return await newest(listing, database)


async def newest(
    listing: FakeListing, database: Database, kind: str = "hourly"
) -> ReconciliationRecord:
    runs = await reconciliations.runs(listing.name, 100, database)
    return next(one for one in runs if one.kind == kind)


async def time_passes(
    listing: FakeListing, database: Database, by: timedelta = timedelta(minutes=61)
) -> None:
    """An hour goes by for what this provider's runs wait for."""
    await database.execute(AGE, listing.name, by)


async def differences(listing: FakeListing, database: Database) -> list[Row]:
    return await database.fetch(DIFFERENCES, listing.name)


def asking(provider: str | None, **window: datetime) -> Reconcile:
    return Reconcile(
        id=uuid4(),
        actor="operator:olga",
        role="support",
        reason="a lost webhook",
        deadline_at=datetime.now(UTC) + timedelta(minutes=1),
        provider=provider,
        **window,
    )


async def ask(
    listing: FakeListing, database: Database, **window: datetime
) -> StartedReconciliations | Refused:
    act = partial(reconcile, providers=[listing.name])
    answer = await execute(database, asking(listing.name, **window), act)
    assert isinstance(answer, StartedReconciliations | Refused)
    return answer


async def report(run: UUID, database: Database, after: int = 0) -> ReconciliationReport:
    answer = await answer_reconciliation(ReconciliationQuery(run=run, after=after), database)
    assert isinstance(answer, ReconciliationReport)
    return answer
