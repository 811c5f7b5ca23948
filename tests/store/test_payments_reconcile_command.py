"""Runs that operators begin, and the reports that they read, for as long as they are kept."""

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from payments.commands.reconcile import MAX_UNFINISHED, reconcile
from payments.queries import answer_reconciliation, answer_reconciliations
from payments.store.reconciliations import DROP_OLD_DIFFERENCES, DROP_OLD_RUNS
from shared.contracts.message import Refused
from shared.contracts.payments import (
    ReconciliationQuery,
    ReconciliationsQuery,
    StartedReconciliations,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.listing import (
    FakeListing,
    ask,
    asking,
    differences,
    paid_there,
    reconciled,
    report,
)
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")


async def test_a_repeated_command_is_one_run(payments_db: Database) -> None:
    """One for each configured provider."""
    names = [FakeListing().name, FakeListing().name]
    command = asking(None)
    act = partial(reconcile, providers=names)
    first = await execute(payments_db, command, act)
    again = await execute(payments_db, command, act)
    assert isinstance(first, StartedReconciliations)
    assert first == again
    assert [one.acquirer for one in first.runs] == sorted(names)
    for one in first.runs:
        assert one.until - one.since == timedelta(days=1)
        [run] = (await answer_reconciliations(query_of(one.acquirer), payments_db)).runs
        assert run == one


def query_of(provider: str) -> ReconciliationsQuery:
    return ReconciliationsQuery(provider=provider)


async def test_a_window_that_cannot_be_is_refused(payments_db: Database) -> None:
    """R-99: by name; an end in the future is now."""
    listing, now = FakeListing(), datetime.now(UTC)
    refusals = [
        await ask(listing, payments_db, since=now + timedelta(hours=1)),
        await ask(listing, payments_db, since=now, until=now - timedelta(hours=1)),
        await ask(listing, payments_db, since=now - timedelta(days=32)),
    ]
    reasons = [one.reason for one in refusals if isinstance(one, Refused)]
    assert reasons == ["window_empty", "window_empty", "window_too_long"]
    started = await ask(listing, payments_db, until=now + timedelta(days=1))
    assert isinstance(started, StartedReconciliations)
    assert started.runs[0].until < datetime.now(UTC) - timedelta(minutes=1)


async def test_an_unknown_provider_is_refused(payments_db: Database) -> None:
    for known, detail in ((["b", "a"], "a, b"), ([], "none")):
        act = partial(reconcile, providers=known)
        answer = await execute(payments_db, asking("nobody"), act)
        assert answer == Refused(reason="provider_unknown", detail=detail)
    everybody = await execute(payments_db, asking(None), partial(reconcile, providers=[]))
    assert isinstance(everybody, Refused)


async def test_unfinished_runs_are_few(payments_db: Database) -> None:
    listing = FakeListing()
    for _ in range(MAX_UNFINISHED):
        assert isinstance(await ask(listing, payments_db), StartedReconciliations)
    refused = await ask(listing, payments_db)
    assert refused == Refused(reason="too_many_runs", detail=listing.name)
    await reconciled(listing, payments_db)
    assert isinstance(await ask(listing, payments_db), StartedReconciliations)


async def test_a_report_comes_in_pages(payments_db: Database) -> None:
    listing = FakeListing(payments=[paid_there(None) for _ in range(203)], page=100)
    run = await reconciled(listing, payments_db)
    first = await report(run.run, payments_db)
    assert (len(first.differences), first.more) == (200, True)
    rest = await report(run.run, payments_db, after=first.differences[-1].id)
    assert (len(rest.differences), rest.more) == (3, False)
    assert first.run == rest.run == run
    unknown = await answer_reconciliation(ReconciliationQuery(run=uuid4()), payments_db)
    assert unknown == Refused(reason="run_unknown")


AGED = """
with aged as (
  update reconciliation_differences
  set found_at = found_at - interval '1 year'
  where acquirer = $1
)
update reconciliations set started_at = started_at - interval '1 year' where acquirer = $1
"""


async def test_old_reports_are_dropped(
    payments_db: Database, payments_schema: FreshDatabase
) -> None:
    """R-99: after 90 days, a page at a time; the differences first."""
    listing = FakeListing(payments=[paid_there(None) for _ in range(3)])
    await reconciled(listing, payments_db)
    owner = await asyncpg.connect(payments_schema.dsn("payments_owner"))
    await owner.execute(AGED, listing.name)
    await owner.close()
    assert await payments_db.execute(DROP_OLD_RUNS, 1) != "DELETE 0"  # That of the day before.
    assert len(await differences(listing, payments_db)) == 3
    for _ in range(3):
        assert await payments_db.execute(DROP_OLD_DIFFERENCES, 1) == "DELETE 1"
    assert await payments_db.execute(DROP_OLD_RUNS, 100) == "DELETE 1"
    assert (await answer_reconciliations(query_of(listing.name), payments_db)).runs == ()
