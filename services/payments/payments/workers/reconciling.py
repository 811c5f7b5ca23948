"""Compares a provider's listing with the ledger: books missing payments, reports the rest.

    payments ──▶ refunds ──▶ booked ──▶ balance ──▶ clearing ──▶ done | failed, published
    a page is read (no transaction) ──▶ compared, booked, reported, the cursor moves (transaction)

A worker may be killed at any point. Its lease ends, and another one goes on at the cursor.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import uuid4

import structlog

from payments import metrics
from payments.domain.provider import (
    Balances,
    Failure,
    Page,
    Payment,
    RefundPage,
    Refusal,
    Sum,
    Unreadable,
    Unsupported,
)
from payments.domain.read_back import outcome_of
from payments.domain.reconciliation import (
    Difference,
    counted,
    difference_of,
    held_difference,
    held_here,
    named,
    pause_s,
    refund_from,
    refunded,
    sentence_of,
    unbookable,
    unlisted,
    unreadable,
)
from payments.providers.protocol import Known
from payments.receiving import book_late_arrivals, take_in
from payments.store import reconciliation_leases as leases
from payments.store import reconciliations as store
from payments.store.reconciliations import Run, Step
from payments.subscribers import record_refunds
from shared.contracts.payments import ReconciliationFinished
from shared.messaging import outbox
from shared.platform import iterations
from shared.platform.db import Database, Row, Tx, data_is_to_blame
from shared.platform.loops import forever, set_within

log = structlog.get_logger()

POLL_S = 10.0
LEASE_S = 60.0
"""Longer than the longest call of a client."""
BOOKED_PER_PAGE = 2_000
MAX_READ_BACK = 50
MOST_CAPTURED = 20
"""Held payments of a page. There should be none; the next run takes others."""
CLEARED_AT_ONCE = 5_000
MAX_PAGES = 50_000
"""A listing of a month with five million payments. A longer one turns in a circle."""
MAX_MISSING_THERE = 1_000
"""A listing that lacks more of what is booked is broken, and not the ledger."""
MAX_PAGES_SINCE = 5
"""Payments of the minutes since the window. With more of them the next run compares."""
OVERDUE_AFTER_S = 3_600.0

TakeIn = Callable[[Sequence[Payment], str, Tx], Awaitable[object]]


class Listing(Protocol):
    """The part of a provider that is compared. No call raises for what a provider answers."""

    @property
    def name(self) -> str: ...

    @property
    def reads_at_once(self) -> int: ...

    async def read(self, references: Sequence[str]) -> Known | Failure: ...

    async def balance(self) -> Balances | Failure | Unsupported: ...

    async def list_payments(
        self, since: datetime, until: datetime, after: str | None
    ) -> Page | Failure: ...

    async def list_refunds(
        self, since: datetime, until: datetime, after: str | None
    ) -> RefundPage | Failure | Unsupported: ...

    async def capture(
        self, reference: str, amount_minor: int, currency: str
    ) -> Payment | Unreadable | Failure | Unsupported: ...


class Reconciler:
    """One provider's reconciliation in this process. The lease lets one replica walk at a time."""

    def __init__(
        self,
        database: Database,
        provider: Listing,
        *,
        take_in: TakeIn = take_in,
        lease_s: float = LEASE_S,
    ) -> None:
        self.database = database
        self.provider = provider
        self.take_in = take_in
        self.lease_s = lease_s
        self.holder = uuid4()

    async def run(self, stopping: asyncio.Event) -> None:
        """Walk until `stopping`: on as long as there is a page, then at each `POLL_S`."""

        async def turn() -> None:
            await leases.enlist(self.provider.name, self.database)
            if not await self.walk(stopping):
                iterations.rests(POLL_S)
                await set_within(stopping, POLL_S)

        await forever(
            "reconciling", turn, stopping, failed=self._failed, limit_s=iterations.LIMIT_S
        )

    def _failed(self, error: Exception) -> float:
        """The run goes on at its cursor: in this replica, or in another when the lease ends."""
        log.warning("reconciling failed", acquirer=self.provider.name, error=repr(error))
        return POLL_S

    async def walk(self, stopping: asyncio.Event) -> bool:
        """Take the run that is due and walk it; False when there was none."""
        run = await leases.claim(self.provider.name, self.holder, self.lease_s, self.database)
        if run is None:
            return False
        self._report_overdue(run)
        following: Run | None = run
        while following is not None and not stopping.is_set():
            iterations.found(1, following.step)
            following = await self._step(following)
        await leases.release(self.provider.name, self.holder, self.database)
        return True

    async def _step(self, run: Run) -> Run | None:
        """One page of the run; returns where it stands then. None: it ended, or waits."""
        if run.step != "clearing" and (reason := too_much_of(run)) is not None:
            return await self._give_up(run, reason)
        match run.step:
            case "payments":
                return await self._payments(run)
            case "refunds":
                return await self._refunds(run)
            case "booked":
                return await self._booked(run)
            case "balance":
                return await self._balance(run)
            case "clearing":
                return await self._clear(run)

    # The listing of the provider

    async def _payments(self, run: Run) -> Run | None:
        page = await self.provider.list_payments(run.since, run.until, run.after)
        if not isinstance(page, Page):
            return await self._not_answered(run, page)
        page = await self._captured(page, run)
        paid = {named(one.reference): one for one in page.payments if one.state == "succeeded"}
        broken = {named(one.reference): one for one in page.unreadable}
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            fresh = await store.list_charges(run.id, [*paid, *broken], tx)
            booked = await store.booked(run.acquirer, list(paid), tx)
            found = [unreadable(one) for charge, one in broken.items() if charge in fresh]
            for charge, one in paid.items():
                different = difference_of(one, booked.get(charge))
                if charge in fresh and different is not None:
                    found.append(different)
            arrived = await book_late_arrivals(list(paid.values()), self.provider.name, tx)
            found += [one for one in arrived if one.charge in fresh]
            refused = await self._take_in(paid, found, tx)
            found = [unbookable(one) if one.charge in refused else one for one in found]
            following = _following(run, "payments" if page.next else "refunds", page.next)
            return await _write(following, len(fresh), found, tx)

    async def _captured(self, page: Page, run: Run) -> Page:
        """Held money of ours is taken in full: nothing may watch its invoice any more."""
        payments = {one.reference: one for one in page.payments}
        held = [one for one in page.payments if outcome_of(one) == "held"]
        for one in held[:MOST_CAPTURED]:
            async with self.database.transaction() as tx:
                await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            iterations.turned()
            answer = await self.provider.capture(one.reference, one.amount_minor, one.currency)
            if isinstance(answer, Payment):
                payments[one.reference] = answer
            else:
                fields = {"reference": named(one.reference), "answer": type(answer).__name__}
                log.error("held money was not captured", **fields)
        return replace(page, payments=tuple(payments.values()))

    async def _take_in(
        self, paid: Mapping[str, Payment], found: Sequence[Difference], tx: Tx
    ) -> set[str]:
        """Book what is missing here; returns the charges that no row can hold.

        All together, or one by one where one is refused: it must not keep the others.
        """
        missing = {one.charge: paid[one.charge] for one in found if one.kind == "missing_here"}
        if not missing or await self._taken_in(list(missing.values()), tx):
            return set()
        return {charge for charge, one in missing.items() if not await self._taken_in([one], tx)}

    async def _taken_in(self, payments: Sequence[Payment], tx: Tx) -> bool:
        try:
            async with tx.connection.transaction():
                await self.take_in(payments, self.provider.name, tx)
        except Exception as error:
            if not data_is_to_blame(error):
                raise
            return False
        return True

    async def _refunds(self, run: Run) -> Run | None:
        """Of charges that the ledger holds: each is booked once, as one that is reported."""
        page = await self.provider.list_refunds(run.since, run.until, run.after)
        if isinstance(page, Unsupported):
            page = RefundPage(())
        if not isinstance(page, RefundPage):
            return await self._not_answered(run, page)
        back = [one for one in page.refunds if one.state == "succeeded"]
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            booked = await store.booked(run.acquirer, [named(one.payment) for one in back], tx)
            ours = {
                refund_from(one, run.acquirer): one for one in back if named(one.payment) in booked
            }
            fresh = await record_refunds(list(ours), tx)
            found = [unreadable(one) for one in page.unreadable]
            found += [
                refunded(one, booked[named(one.payment)])
                for reported, one in ours.items()
                if reported.id in fresh
            ]
            following = _following(run, "refunds" if page.next else "booked", page.next)
            return await _write(following, 0, found, tx)

    # Receipts that the provider did not list

    async def _booked(self, run: Run) -> Run | None:
        most = min(self.provider.reads_at_once, MAX_READ_BACK)
        rows = await store.unlisted(run, _place(run), BOOKED_PER_PAGE, self.database)
        lacking = [row for row in rows if not row["listed"]][:most]
        found = await self._read_back(lacking)
        if not isinstance(found, list):
            return await self._not_answered(run, found)
        following = _following(run, "balance", None)
        if rows:
            last = lacking[-1] if len(lacking) == most else rows[-1]
            following = _following(run, "booked", f"{last['paid_at'].isoformat()} {last['charge']}")
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            return await _write(following, 0, found, tx)

    async def _read_back(self, lacking: Sequence[Row]) -> list[Difference] | Failure:
        """Receipts that were not listed, beside what the provider says of each of them."""
        if not lacking:
            return []
        known = await self.provider.read([row["charge"] for row in lacking])
        if not isinstance(known, Mapping):
            return known
        found = (
            unlisted(row["charge"], Sum(row["currency"], row["amount_minor"]), known)
            for row in lacking
        )
        return [one for one in found if one is not None]

    # The balance that the provider tells (I11)

    async def _balance(self, run: Run) -> Run | None:
        """Compared where the provider tells one, and where no money moved while it was read."""
        found: list[Difference] = []
        told = await self.provider.balance()
        if isinstance(told, Failure):
            return await self._not_answered(run, told)
        if isinstance(told, Balances) and run.is_recent:
            listed = await self._since(run)
            again = await self.provider.balance() if isinstance(listed, dict) else None
            if isinstance(listed, dict) and again == told:
                found = await self._held(run, told, listed)
            else:
                log.info("balance not compared", **_fields(run))
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            return await _write(_following(run, "clearing", None), 0, found, tx)

    async def _since(self, run: Run) -> dict[str, Sum] | None:
        """The sums that arrived after the window, by charge. None: too many, or nobody can tell."""
        arrived: dict[str, Sum] = {}
        after: str | None = None
        until = run.until + leases.LONGEST_WINDOW
        for _ in range(MAX_PAGES_SINCE):
            page = await self.provider.list_payments(run.until, until, after)
            if not isinstance(page, Page) or page.unreadable:
                return None
            for one in page.payments:
                if one.state == "succeeded":
                    came = one.arrived or Sum(one.currency, one.amount_minor)
                    arrived[named(one.reference)] = came
            after = page.next
            if after is None:
                back = await self.provider.list_refunds(run.until, until, None)
                returned = isinstance(back, RefundPage) and not back.refunds and not back.unreadable
                return arrived if returned or isinstance(back, Unsupported) else None
        return None

    async def _held(self, run: Run, told: Balances, listed: Mapping[str, Sum]) -> list[Difference]:
        cleared, booked = await store.held(run.acquirer, run.until, self.database)
        if len(booked) == store.MAX_BOOKED_SINCE:
            return []
        ours, theirs = held_here(cleared, listed, booked), dict(told.sums)
        unknown = {one.reference for one in told.unreadable}
        found = [
            held_difference(currency, theirs.get(currency, 0), ours.get(currency, 0))
            for currency in sorted({*theirs, *ours} - unknown)
        ]
        different = [one for one in found if one is not None]
        return different + [unreadable(one) for one in told.unreadable]

    # The end, and what keeps a run from it

    async def _clear(self, run: Run) -> Run | None:
        """Forget what was listed, a part at a time; then the run ends, and is published."""
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            if await store.clear(run.id, CLEARED_AT_ONCE, tx):
                return run
            await store.end(run, tx)
            await outbox.publish(tx, [event_of(run, await tx.now())])
        report = log.error if run.reason or _alarming(run) else log.info
        report("reconciliation finished", **_fields(run), **run.counts.model_dump())
        return None

    async def _not_answered(self, run: Run, failure: Failure) -> Run | None:
        """A refusal ends the run, since asking again changes nothing. Else it waits."""
        if isinstance(failure, Refusal):
            return await self._give_up(run, sentence_of(failure))
        wait_s, reason = pause_s(failure, run.failures), sentence_of(failure)
        await leases.put_off(run, self.holder, wait_s, reason, self.database)
        log.warning("reconciliation waits", **_fields(run), pause_s=round(wait_s), why=reason)
        return None

    async def _give_up(self, run: Run, reason: str) -> Run:
        async with self.database.transaction() as tx:
            await leases.hold(run.acquirer, self.holder, self.lease_s, tx)
            following = replace(_following(run, "clearing", None), reason=reason)
            return await _write(following, 0, [], tx)

    def _report_overdue(self, run: Run) -> None:
        """A run that is older than its interval: its provider does not answer, or is slow."""
        if run.age_s > OVERDUE_AFTER_S:
            log.error("reconciliation is overdue", **_fields(run), age_s=round(run.age_s))


def too_much_of(run: Run) -> str | None:
    """Why a run cannot go on: its listing has no end, or is not that of this shop."""
    if run.pages >= MAX_PAGES:
        return f"the listing has more than {MAX_PAGES} pages"
    if run.counts.missing_there >= MAX_MISSING_THERE:
        return f"the listing lacks {MAX_MISSING_THERE} booked payments, or more"
    return None


def _following(run: Run, step: Step, after: str | None) -> Run:
    """After an answer of the provider a run waits for nothing."""
    return replace(run, step=step, after=after, reason=None, failures=0)


async def _write(run: Run, listed: int, found: Sequence[Difference], tx: Tx) -> Run:
    """Write the page's differences and where the run stands now; the run as it is then."""
    await store.write_differences(run, found, tx)
    following = replace(run, pages=run.pages + 1, counts=counted(run.counts, listed, found))
    await store.write_run(following, tx)

    def count() -> None:
        for one in found:
            metrics.DIFFERENCES.labels(run.acquirer, one.kind).inc()

    tx.after_commit(count)
    return following


def _place(run: Run) -> tuple[datetime, str]:
    """Where the walk through the receipts of the window goes on."""
    if run.after is None:
        return run.since, ""
    at, _, charge = run.after.partition(" ")
    return datetime.fromisoformat(at), charge


def event_of(run: Run, at: datetime) -> ReconciliationFinished:
    return ReconciliationFinished.caused_by(
        run.id,
        about=run.id,
        at=at,
        acquirer=run.acquirer,
        kind=run.kind,
        since=run.since,
        until=run.until,
        counts=run.counts,
        failed=run.reason,
    )


def _alarming(run: Run) -> bool:
    """Whether a person has to look. Booked and foreign payments need nobody."""
    counts = run.counts
    reported = counts.missing_there + counts.amount + counts.currency + counts.unreadable
    return bool(reported + counts.balance)


def _fields(run: Run) -> dict[str, str]:
    return {"acquirer": run.acquirer, "run": str(run.id), "kind": run.kind}
