"""Receipts on a real PostgreSQL: a charge is booked once, and repeats change nothing."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import Counter

from payments.domain.confirmation import Receipt
from payments.subscribers import confirm_receipts
from shared.platform import telemetry
from shared.platform.db import Database
from tests.kit.payments import NOW, paid, placed, report, stars, wallet
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")

AMOUNT_OF = "select amount_minor from receipts where id = $1"
CONFLICTS_OF = "select count(*) from conflicts where event_id = $1"

# By their position among the bookings of one moment.
EVENTS_ABOUT = """
select body
from events
where body ->> 'about' = $1
order by coalesce((body ->> 'position')::int, 0)
"""

ADD_RATES = """
insert into rates (currency, from_at, kopecks, per_minor)
values ('AAA', now() - interval '2 d', 1, 1), ('AAA', now() - interval '1 d', 2, 1),
  ('AAA', now() + interval '1 d', 3, 1), ('BBB', now() + interval '1 d', 3, 1)
"""

PARKED = """
select count(*)
from events
where topic = 'payments.receipt.parked' and body ->> 'charge' = $1
"""


def counted(counter: Counter) -> float:
    return float(counter.labels("receipts")._value.get())


async def events_about(person: UUID, database: Database) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in await database.fetch(EVENTS_ABOUT, str(person))]


async def test_concurrent_reports_book_one_charge(payments_db: Database) -> None:
    """M-02, R-11: 100 concurrent reports of a charge are one receipt, one purchase, one event."""
    person = uuid4()
    receipt = paid(await placed(person, payments_db), person)
    await asyncio.gather(*(report(payments_db, receipt, receipt) for _ in range(100)))
    receipts = "select count(*) from receipts where payer = $1"
    transfers = "select count(*) from transfers where person = $1"
    assert await payments_db.fetchval(receipts, person) == 1
    assert await payments_db.fetchval(transfers, person) == 2
    assert len(await events_about(person, payments_db)) == 1
    assert await wallet(person, payments_db) == 0


async def test_events_of_one_moment_carry_their_position(payments_db: Database) -> None:
    """N-16: events of one transaction share its time. Each has the wallet as it was after it."""
    person = uuid4()
    receipts = [stars(person, 1, paid_at=NOW + timedelta(seconds=second)) for second in range(4)]
    await report(payments_db, *receipts[::-1])
    events = await events_about(person, payments_db)
    assert [event["wallet_minor"] for event in events] == [150, 300, 450, 600]


async def test_event_carries_the_reason_and_the_excess(payments_db: Database) -> None:
    """N-17: paid with twice the price, and then once more."""
    person = uuid4()
    order = await placed(person, payments_db)
    twice = paid(order, person, amount=2 * order.asked_minor)
    again = replace(paid(order, person), paid_at=NOW + timedelta(seconds=1))
    await report(payments_db, twice, again)
    first, second = await events_about(person, payments_db)
    assert (first["over_minor"], first.get("reason")) == (14900, None)
    assert (second["reason"], second.get("over_minor")) == ("order_closed", None)


async def test_another_amount_for_a_charge_is_a_conflict(payments_db: Database) -> None:
    """M-22: the first report counts. Another amount is an alarm and never a second booking."""
    person = uuid4()
    order = await placed(person, payments_db)
    first = paid(order, person, charge="forged")
    await report(payments_db, first)
    await report(payments_db, paid(order, person, charge="forged", amount=5000))
    assert await wallet(person, payments_db) == 0
    assert await payments_db.fetchval(CONFLICTS_OF, first.id) == 1


@pytest.mark.parametrize("changed", [{"payer": None}, {"payload": "free"}, {"payer": uuid4()}])
async def test_payer_and_payload_may_be_told_differently(
    payments_db: Database, changed: dict[str, Any]
) -> None:
    """M-22: a webhook and a listing tell them differently. Those of the first report stand."""
    person = uuid4()
    first = paid(await placed(person, payments_db), person)
    later = replace(first, paid_at=NOW + timedelta(seconds=1), **changed)
    repeats = counted(telemetry.DUPLICATES_REFUSED)
    await report(payments_db, first, later)
    await report(payments_db, later)
    assert await payments_db.fetchval(CONFLICTS_OF, first.id) == 0
    assert counted(telemetry.DUPLICATES_REFUSED) == repeats + 2
    kept = "select payer, payload from receipts where id = $1"
    row = await payments_db.fetchrow(kept, first.id)
    assert row is not None
    assert tuple(row) == (person, first.payload)
    assert await wallet(person, payments_db) == 0


@pytest.mark.parametrize("changed", [{"amount_minor": 5000}, {"currency": "RUB"}])
async def test_another_sum_is_a_conflict(payments_db: Database, changed: dict[str, Any]) -> None:
    """M-22: the amount, and the currency of the same amount."""
    person = uuid4()
    first = paid(await placed(person, payments_db), person)
    await report(payments_db, first)
    await report(payments_db, replace(first, **changed))
    assert await payments_db.fetchval(CONFLICTS_OF, first.id) == 1


async def test_earlier_report_of_a_batch_counts(payments_db: Database) -> None:
    """M-22: different fields conflict within a batch too.

    The earlier payment time wins, whatever its place in the batch.
    """
    person = uuid4()
    order = await placed(person, payments_db)
    early = paid(order, person)
    late = replace(early, amount_minor=5000, paid_at=NOW + timedelta(seconds=1))
    conflicts, repeats = counted(telemetry.CONFLICTS), counted(telemetry.DUPLICATES_REFUSED)
    await report(payments_db, late, early, early)
    assert await payments_db.fetchval(AMOUNT_OF, early.id) == early.amount_minor
    assert await payments_db.fetchval(CONFLICTS_OF, early.id) == 1
    assert counted(telemetry.CONFLICTS) == conflicts + 1
    assert counted(telemetry.DUPLICATES_REFUSED) == repeats + 1, "a conflict is no plain repeat"
    assert await wallet(person, payments_db) == 0


async def test_first_report_counts_at_equal_times(payments_db: Database) -> None:
    """M-22: where the times are equal, the order in the batch decides."""
    person = uuid4()
    first = paid(await placed(person, payments_db), person)
    await report(payments_db, first, replace(first, amount_minor=5000))
    assert await payments_db.fetchval(AMOUNT_OF, first.id) == first.amount_minor


async def test_conflict_is_counted_after_the_commit_only(payments_db: Database) -> None:
    person = uuid4()
    receipt = paid(await placed(person, payments_db), person)
    before = counted(telemetry.CONFLICTS)

    async def rolled_back() -> None:
        async with payments_db.transaction() as tx:
            await confirm_receipts([receipt, replace(receipt, amount_minor=5000)], tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rolled_back()
    assert counted(telemetry.CONFLICTS) == before


async def test_shuffled_batches_do_not_deadlock(payments_db: Database) -> None:
    """The batches share people and charges."""
    people = [uuid4() for _ in range(12)]
    receipts = [
        paid(await placed(person, payments_db), person) for person in people for _ in range(3)
    ]
    batches = [[*receipts[start::2], *reversed(receipts[::3])] for start in (0, 1) * 4]
    await asyncio.gather(*(report(payments_db, *batch) for batch in batches))
    booked = "select count(*) from receipts where payer = any($1)"
    assert await payments_db.fetchval(booked, people) == len(receipts)


async def test_payment_of_an_expired_invoice_pays_its_order(payments_db: Database) -> None:
    """R-28: money that was taken buys the order that it was taken for."""
    person = uuid4()
    order = await placed(person, payments_db)
    expire = "update invoices set expires_at = now() - interval '1 h' where id = $1"
    await payments_db.execute(expire, order.invoice)
    await report(payments_db, paid(order, person))
    state_of_order = "select state from orders where id = $1"
    state_of_invoice = "select state from invoices where id = $1"
    assert await payments_db.fetchval(state_of_order, order.order) == "paid"
    assert await payments_db.fetchval(state_of_invoice, order.invoice) == "paid"


async def test_rate_applies_from_its_beginning(
    payments_schema: FreshDatabase, payments_db: Database
) -> None:
    """The newest version that has begun is the rate in force. Tomorrow's gives no value yet."""
    owner = await asyncpg.connect(payments_schema.dsn("payments_owner"))
    await owner.execute(ADD_RATES)
    await owner.close()
    person = uuid4()
    known, unknown = (
        Receipt("telegram_stars", uuid4().hex, person, currency, 100, "free", NOW)
        for currency in ("AAA", "BBB")
    )
    await report(payments_db, known, unknown)
    value_of = "select value_minor from bookings where receipt = $1"
    reason_of = "select because from bookings where receipt = $1"
    assert await payments_db.fetchval(value_of, known.id) == 200
    assert await payments_db.fetchval(reason_of, unknown.id) == "no_rate"


async def test_money_of_an_unknown_payer_is_parked(payments_db: Database) -> None:
    """It goes to suspense, and an event is published."""
    receipt = stars(None, 7, payload="?")
    await report(payments_db, receipt)
    outcome_of = "select outcome from bookings where receipt = $1"
    assert await payments_db.fetchval(outcome_of, receipt.id) == "suspense"
    assert await payments_db.fetchval(PARKED, receipt.charge) == 1
