"""Ten thousand open invoices outlive an outage of their provider, at its pace."""

import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from payments.domain.pauses import LONGEST_PAUSE_S
from payments.domain.provider import Payment, Unavailable
from payments.workers import lease
from shared.contracts.payload import write_payload
from shared.platform.db import Database
from tests.kit.fake_provider import NOON, FakeProvider, Fault
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till

INVOICES = 10_000
ONE_BY_ONE = 1_000
"""Each costs the same call: a tenth of them is enough to see it."""
HOUR_S = 3_600
MOST_CALLS_OF_AN_OUTAGE = 130
"""One in each longest pause, after the first ones."""
PRICE_MINOR = 14_900
USUAL_S = (5, 10, 20, 50)
LATE_S = 6
"""Two calls of a round for each of the questions."""
NONE_IS_LATE = "no job of an invoice is overdue by an hour"

# Placed in the hour of the outage, so most have ended meanwhile.
ORDERS = """
insert into orders (
  id, person, what, plan, months, devices, node_group, list_month_minor, price_minor, placed_at,
  honoured_until
)
select id, id, 'subscription', 'basic', 1, 5, 'default', $2, $2, at, at + interval '30 days'
from unnest($1::uuid[]) with ordinality o (id, n)
cross join lateral (select now() - n * interval '1 hour' / cardinality($1)) t (at)
"""
INVOICES_OF = """
insert into invoices (
  id, order_id, way, acquirer, asked_minor, asked_currency, worth_minor, state, reference, pay_url,
  opened_at, expires_at
)
select i.id, o.id, $4, $5, $3, 'RUB', $3, 'open', i.id::text, 'https://pay.example/', o.placed_at,
  o.placed_at + interval '30 minutes'
from unnest($1::uuid[], $2::uuid[]) i (id, order_id)
join orders o on o.id = i.order_id
"""
JOBS = """
insert into invoice_jobs (invoice, acquirer, step, reference, due_at, awaited)
select id, acquirer, 'watch', reference, opened_at, $1
from invoices
"""
# The time that a worker waits for, passed at once. The jobs are due already.
PASS = """
update provider_pace
set next_at = next_at - $2::float8 * interval '1 second'
where acquirer = $1 and lane = 'watch'
"""
# A call is a second: the test hands the time in, so its workers may call at once.
AT_ONCE = "update provider_pace set every = interval '1 millisecond' where lane = 'watch'"
SECONDS = """
with paced as (update provider_pace set next_at = now() where acquirer = $1)
update invoice_jobs
set due_at = due_at - $3::int * interval '1 second'
where invoice = any($2::uuid[])
"""
BY_AGE = "select reference from invoice_jobs order by due_at"
LEFT = "select count(*) from invoice_jobs"
STATES = "select state, count(*) from invoices group by state"


async def fill(
    database: Database, provider: FakeProvider, count: int, *, awaited: bool = False
) -> None:
    """Open invoices, whose payers paid every second one; the provider has ended the others.

    `awaited`: none was asked for since its payer waited, so each is taken for one that still does.
    """
    invoices, orders = ([uuid4() for _ in range(count)] for _ in range(2))
    way = "crypto" if provider.name == "cryptobot" else "sbp"
    await database.execute(ORDERS, orders, PRICE_MINOR)
    await database.execute(INVOICES_OF, invoices, orders, PRICE_MINOR, way, provider.name)
    await database.execute(JOBS, awaited)
    for place, (invoice, order) in enumerate(zip(invoices, orders, strict=True)):
        provider.payments[str(invoice)] = payment_of(invoice, order, paid=place % 2 == 0)


def payment_of(invoice: UUID, order: UUID, *, paid: bool) -> Payment:
    return Payment(
        str(invoice),
        "succeeded" if paid else "canceled",
        "RUB",
        PRICE_MINOR,
        write_payload(order, invoice, None),
        NOON,
        paid_at=NOON if paid else None,
        cancel_reason=None if paid else "expired",
    )


async def asked(till: Till) -> float:
    """One call of the watcher, made when its loop would make it; the seconds of the wait."""
    wait_s = max(0.0, await till.watcher.due_in_s() or 0.0)
    await till.database.execute(PASS, till.provider.name, wait_s)
    assert await till.watcher.round() > 0
    return wait_s


async def an_outage(till: Till) -> int:
    """The provider does not answer for an hour; how often it was called."""
    till.provider.fails("read", *[Fault(Unavailable("ClientConnectorError"))] * HOUR_S)
    waited_s = 0.0
    while waited_s < HOUR_S:
        waited_s += await asked(till)
    till.provider.faults.clear()
    calls = len(till.provider.asked_for)
    till.provider.asked_for.clear()
    return calls


async def settle_all(till: Till) -> tuple[int, float]:
    """Ask until nothing is left; the calls, and the seconds until the last one."""
    began, waited_s = time.monotonic(), 0.0
    while await till.database.fetchval(LEFT):
        waited_s += await asked(till)
    calls = len(till.provider.asked_for)
    assert calls - 1 <= waited_s + time.monotonic() - began, "at most one call a second"
    return calls, waited_s


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine books a thousand payments in one lot, too."""
    monkeypatch.setattr(lease, "LEASE_S", 600.0)


@pytest.fixture
async def cryptobot(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    """Reads a thousand at once, as Crypto Pay."""
    provider = FakeProvider("cryptobot", reads_at_once=1_000)
    async with a_till(fresh_database, provider) as till:
        yield till


@pytest.fixture
async def yookassa(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database, FakeProvider(reads_at_once=1)) as till:
        yield till


async def test_lots_settle_ten_thousand_invoices(cryptobot: Till) -> None:
    """R-129: Crypto Pay in 14 calls, one a second; the lots grow from 1, 31, 250 and 500."""
    await fill(cryptobot.database, cryptobot.provider, INVOICES)
    assert await an_outage(cryptobot) <= MOST_CALLS_OF_AN_OUTAGE
    calls, waited_s = await settle_all(cryptobot)
    assert calls == 14
    assert waited_s <= LONGEST_PAUSE_S + calls
    await settled(cryptobot, INVOICES)


async def test_single_questions_settle_each_invoice(yookassa: Till) -> None:
    """R-129: YooKassa in a call for each, one a second, so the last of 10 000 after 10 000 s."""
    await fill(yookassa.database, yookassa.provider, ONE_BY_ONE)
    assert await an_outage(yookassa) <= MOST_CALLS_OF_AN_OUTAGE
    calls, waited_s = await settle_all(yookassa)
    assert calls == ONE_BY_ONE
    assert waited_s <= LONGEST_PAUSE_S + calls
    await settled(yookassa, ONE_BY_ONE)


async def seconds(till: Till, count: int, invoices: list[UUID]) -> list[str]:
    """Pass so much time, a call each second, also for these invoices; all that was asked for."""
    await till.database.execute(AT_ONCE)
    asked: list[tuple[str, ...]] = till.provider.asked_for
    since, before = len(asked), len(asked)
    while len(asked) < since + count:
        passed, before = len(asked) - before, len(asked)
        await till.database.execute(SECONDS, till.provider.name, invoices, passed)
        assert await till.watcher.round() > 0
    till.expected.add(NONE_IS_LATE)
    return [reference for (reference,) in asked[since:]]


async def test_waiting_payers_overtake_a_backlog(yookassa: Till) -> None:
    """R-130: an invoice of now is asked for after 5, 10, 20 and 50 s, the backlog beside it."""
    await fill(yookassa.database, yookassa.provider, ONE_BY_ONE, awaited=True)
    opened = await yookassa.ask(uuid4())
    await yookassa.opener.round()
    reference = (await yookassa.row(opened.invoice))["reference"]
    asked = await seconds(yookassa, 60, [opened.invoice])
    times = [at for at, one in enumerate(asked) if one == reference]
    assert len(times) == len(USUAL_S)
    assert all(0 <= at - usual <= LATE_S for at, usual in zip(times, USUAL_S, strict=True)), times
    assert len(set(asked)) == len(asked) - len(times) + 1, "the backlog has all other calls"


async def test_a_backlog_has_each_second_call(yookassa: Till) -> None:
    """R-130: the job that waited longest, while more payers wait than can be asked for."""
    await fill(yookassa.database, yookassa.provider, ONE_BY_ONE, awaited=True)
    by_age = [row["reference"] for row in await yookassa.database.fetch(BY_AGE)]
    asked = await seconds(yookassa, 40, [])
    assert set(asked) == {*by_age[:20], *by_age[-20:]}


async def settled(till: Till, count: int) -> None:
    """Every paid invoice is booked, every other one has ended, and each was asked for once."""
    rows = await till.database.fetch(STATES)
    assert {row["state"]: row["count"] for row in rows} == {
        "paid": count // 2,
        "expired": count // 2,
    }
    assert await till.bookings() == [("bought", "paid")] * (count // 2)
    asked = [reference for lot in till.provider.asked_for for reference in lot]
    assert len(asked) == len(set(asked)) == count
