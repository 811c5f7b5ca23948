"""Settled transfers are summed, and ended days are closed for ever, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from payments.audit import CHECKS, COUNTS
from payments.operator_queries import answer_account_day
from payments.queries import answer_trial_balance
from payments.store import closing
from payments.ticks import close_ledger
from shared.contracts.message import Refused
from shared.contracts.payments import TrialBalance, TrialBalanceQuery
from shared.contracts.payments_acts import AccountDay, AccountDayQuery
from shared.operations.audit import audited
from shared.platform.db import Database
from tests.kit.closing import clock_steps_back, closed, days_pass
from tests.kit.payments import report, rubles, stars
from tests.kit.servers import FreshDatabase, MakeDatabase

ONE_DAY = timedelta(days=1)
DATED = """
with dated as (
  insert into transfers (id, cause, reason, person, at)
  values (gen_random_uuid(), $1, 'receipt', null, $2)
  returning id
)
insert into entries (transfer, account, amount_minor, currency)
select dated.id, a.id, a.amount_minor, 'RUB'
from dated
cross join lateral (
  select id, case kind when 'wallet' then 5 else -5 end as amount_minor
  from accounts
  where currency = 'RUB' and (kind = 'clearing:card' or id = $3)
) a
"""
A_WALLET = "select id from accounts where kind = 'wallet' limit 1"
TIMES = "select count(*) from transfers t, ledger_closing c where t.at > c.closed_at"


@pytest.fixture
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    """One for each test: a day is closed once."""
    return await fresh_database("payments")


@pytest.fixture
async def ledger(place: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(place.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await database.close()


async def now(database: Database) -> TrialBalance:
    return await answer_trial_balance(TrialBalanceQuery(), database)


async def violated(database: Database) -> set[str]:
    """The truths about sums and days that do not hold."""
    findings = (await audited(database, CHECKS, COUNTS)).findings
    return {one.truth for one in findings if one.violations and one.invariant in ("I1", "I3")}


async def test_a_closing_changes_no_sum(place: FreshDatabase, ledger: Database) -> None:
    """W-50: settled transfers are summed once, in pages; young ones are added when asked."""
    for _ in range(3):
        await report(ledger, stars(uuid4(), 10))
    before = await now(ledger)
    await close_ledger(ledger)
    assert await ledger.fetchval("select count(*) from closed_sums") == 0, "nothing is settled"
    await days_pass(2, place)
    async with ledger.transaction() as tx:
        assert await closing.close_page(2, tx), "a page of two"
    assert await now(ledger) == before
    await close_ledger(ledger)
    assert await ledger.fetchval("select count(*) from closed_sums") > 0
    await report(ledger, stars(uuid4(), 10))
    wallets = [
        sum(one.amount_minor for one in balance.lines if one.account == "wallet")
        for balance in (before, await now(ledger))
    ]
    assert wallets[1] == wallets[0] + 1500
    assert await violated(ledger) == set()


async def test_an_ended_day_is_closed_once(place: FreshDatabase, ledger: Database) -> None:
    """R-115: by three replicas at once; the money of people is one line."""
    await report(ledger, rubles(uuid4(), 500), rubles(uuid4(), 200))
    day = await days_pass(2, place)
    await asyncio.gather(*(close_ledger(ledger) for _ in range(3)))
    assert await closed(day, ledger) == {
        ("clearing:card", "RUB"): (700, 0, -700),
        ("wallet", "RUB"): (0, 700, 700),
    }
    assert await violated(ledger) == set()


async def test_the_running_day_is_not_closed(ledger: Database) -> None:
    """R-115: the answer names the last day that is."""
    await report(ledger, rubles(uuid4(), 500))
    await close_ledger(ledger)
    day = await ledger.fetchval("select open_day from ledger_closing")
    refused = await answer_account_day(AccountDayQuery(day=day), ledger)
    assert isinstance(refused, Refused)
    assert refused.reason == "day_not_closed"


async def test_quiet_days_are_closed_too(place: FreshDatabase, ledger: Database) -> None:
    """R-115: a service that was down for days leaves no gap, and balances continue."""
    await report(ledger, rubles(uuid4(), 500))
    day = await days_pass(5, place)
    await closed(day, ledger)
    for later in (1, 2, 3):
        answer = await answer_account_day(AccountDayQuery(day=day + later * ONE_DAY), ledger)
        assert isinstance(answer, AccountDay)
        sums = [(one.account, one.debit_minor, one.balance_minor) for one in answer.lines]
        assert sums == [("clearing:card", 0, -500), ("wallet", 0, 500)]
    assert await violated(ledger) == set()


async def test_later_entries_leave_a_closed_day(place: FreshDatabase, ledger: Database) -> None:
    """R-116: they belong to the open day; one that is dated back is refused by the database."""
    await report(ledger, rubles(uuid4(), 500))
    day = await days_pass(2, place)
    before = await closed(day, ledger)
    await report(ledger, rubles(uuid4(), 300))
    noon = await ledger.fetchval("select ($1::date + time '12:00') at time zone 'UTC'", day)
    wallet = await ledger.fetchval(A_WALLET)
    with pytest.raises(asyncpg.SerializationError, match="closed part"):
        await ledger.execute(DATED, "dated back", noon, wallet)
    assert await closed(day, ledger) == before
    assert await violated(ledger) == set()


async def die_after_a_page(database: Database) -> None:
    async with database.transaction() as tx:
        assert await closing.close_page(2, tx)
        raise RuntimeError("killed")


async def test_a_death_between_pages_loses_nothing(place: FreshDatabase, ledger: Database) -> None:
    """R-117: a step is one transaction; the next replica goes on at the position."""
    for _ in range(5):
        await report(ledger, rubles(uuid4(), 100))
    day = await days_pass(2, place)
    for _ in range(2):
        async with ledger.transaction() as tx:
            assert await closing.close_page(2, tx)
        with pytest.raises(RuntimeError, match="killed"):
            await die_after_a_page(ledger)
    assert (await closed(day, ledger))["wallet", "RUB"] == (0, 500, 500)
    assert await violated(ledger) == set()


async def test_a_clock_that_steps_back_misdates_nothing(
    place: FreshDatabase, ledger: Database
) -> None:
    """R-117: a booking then belongs to the first open moment, and every sum holds it."""
    await report(ledger, rubles(uuid4(), 500))
    await closed(await days_pass(2, place), ledger)
    await clock_steps_back(place)
    before = await ledger.fetch("select * from account_days order by day, account")
    await report(ledger, rubles(uuid4(), 300))
    assert await ledger.fetchval(TIMES) == 1
    await close_ledger(ledger)
    assert await ledger.fetch("select * from account_days order by day, account") == before
    held = {one.account: one.amount_minor for one in (await now(ledger)).lines}
    assert held == {"clearing:card": -800, "wallet": 800}
    assert await violated(ledger) == set()
