"""A provider's listing against the ledger: missing payments are booked, all else is reported."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from payments.domain.provider import Payment, Refund, State, Unavailable, Unreadable
from payments.receiving import take_in
from shared.contracts.payments import OpenedInvoice, ReconciliationFinished
from shared.platform.db import Database
from tests.kit.listing import (
    AN_HOUR_AGO,
    FakeListing,
    differences,
    paid_there,
    reconciled,
    time_passes,
)
from tests.kit.payments import placed, wallet

pytestmark = pytest.mark.usefixtures("invariants_hold")

RECEIPTS = "select count(*) from receipts where acquirer = $1"
STATE = "select state from orders where id = $1"
BOOKED_AS = """
select b.outcome, b.because
from receipts r
join bookings b on b.receipt = r.id
where r.acquirer = $1 and r.charge = $2
"""
FINISHED = """
select body::text
from events
where topic = 'payments.reconciliation.finished' and body ->> 'acquirer' = $1
order by seq
"""
LISTED = """
select count(*)
from reconciliation_listed l
join reconciliations r on r.id = l.run
where r.acquirer = $1
"""


async def bought(order: OpenedInvoice, database: Database) -> bool:
    return bool(await database.fetchval(STATE, order.order) == "paid")


async def report(payment: Payment, listing: FakeListing, database: Database) -> None:
    """As a notice or the watcher does: the payment was read back."""
    async with database.transaction() as tx:
        await take_in([payment], listing.name, tx)


async def finished(listing: FakeListing, database: Database) -> list[ReconciliationFinished]:
    rows = await database.fetch(FINISHED, listing.name)
    return [ReconciliationFinished.model_validate_json(row["body"]) for row in rows]


async def test_a_payment_without_a_notice_is_booked(payments_db: Database) -> None:
    """R-16: the listing books it as its notice would have, and says so; once."""
    order = await placed(uuid4(), payments_db)
    listing = FakeListing(payments=[paid_there(order, reference="lost")])
    run = await reconciled(listing, payments_db)
    assert await bought(order, payments_db)
    assert (run.state, run.counts.listed, run.counts.missing_here) == ("done", 1, 1)
    [event, *_] = await finished(listing, payments_db)
    assert (event.about, event.kind, event.counts) == (run.run, "hourly", run.counts)
    assert (event.since, event.until, event.failed) == (run.since, run.until, None)

    await time_passes(listing, payments_db)
    again = await reconciled(listing, payments_db)
    assert again.run != run.run
    assert (again.counts.listed, again.counts.missing_here) == (1, 0)
    assert [tuple(row) for row in await differences(listing, payments_db)] == [
        ("missing_here", "lost", "lost", 14_900, None, None, "booked")
    ]
    assert await payments_db.fetchval(RECEIPTS, listing.name) == 1
    assert await payments_db.fetchval(LISTED, listing.name) == 0


async def test_notice_watcher_and_listing_book_once(payments_db: Database) -> None:
    """R-16: all of them at the same moment, and again."""
    person = uuid4()
    order = await placed(person, payments_db)
    payment = paid_there(order, 20_000)
    listing = FakeListing(payments=[payment])
    begin = asyncio.Event()

    async def told() -> None:
        await begin.wait()
        await report(payment, listing, payments_db)

    async def open_the_gate(_: str | None) -> None:
        begin.set()

    listing.before_page = open_the_gate
    await asyncio.gather(reconciled(listing, payments_db), *(told() for _ in range(6)))
    assert await payments_db.fetchval(RECEIPTS, listing.name) == 1
    assert await wallet(person, payments_db) == 5_100


async def test_a_payment_listed_twice_is_counted_once(payments_db: Database) -> None:
    """A listing that is newest first moves under the walk: a newer payment shifts its pages."""
    orders = [await placed(uuid4(), payments_db) for _ in range(4)]
    first = [
        paid_there(order, paid_at=AN_HOUR_AGO - timedelta(minutes=number))
        for number, order in enumerate(orders[:3])
    ]
    listing = FakeListing(payments=first)

    async def pay(after: str | None) -> None:
        if after == "2" and len(listing.payments) == 3:
            newer_at = AN_HOUR_AGO + timedelta(minutes=1)
            listing.payments.append(paid_there(orders[3], paid_at=newer_at))

    listing.before_page = pay
    run = await reconciled(listing, payments_db)
    assert (run.counts.listed, run.counts.missing_here) == (3, 3)
    await time_passes(listing, payments_db)
    run = await reconciled(listing, payments_db)
    assert (run.counts.listed, run.counts.missing_here) == (4, 1)
    assert [await bought(order, payments_db) for order in orders] == [True] * 4


async def test_another_sum_is_reported_and_not_booked(payments_db: Database) -> None:
    """R-95: the receipt stands; both differences are in the report with both sums."""
    person, listing = uuid4(), FakeListing()
    for change in ({"amount_minor": 14_901}, {"currency": "USD"}):
        payment = paid_there(await placed(person, payments_db))
        await report(payment, listing, payments_db)
        listing.payments.append(replace(payment, **change))
    before = await wallet(person, payments_db)
    run = await reconciled(listing, payments_db)
    assert (run.counts.amount, run.counts.currency, run.counts.missing_here) == (1, 1, 0)
    found = {row["kind"]: row for row in await differences(listing, payments_db)}
    assert (found["amount"]["their_minor"], found["amount"]["our_minor"]) == (14_901, 14_900)
    assert found["currency"]["done"] == "reported"
    assert await payments_db.fetchval(RECEIPTS, listing.name) == 2
    assert await wallet(person, payments_db) == before


async def test_a_receipt_that_is_not_listed_is_reported(payments_db: Database) -> None:
    """R-96: it is read back before it is reported; the row holds the provider's answer."""
    payments = [
        paid_there(await placed(uuid4(), payments_db), reference=name)
        for name in ("behind", "cancelled", "unknown", "another")
    ]
    listing = FakeListing(reads_at_once=3)
    for payment in payments:
        await report(payment, listing, payments_db)
    behind, cancelled, _, another = payments
    listing.unlisted = {
        "behind": behind,
        "cancelled": replace(cancelled, state="canceled"),
        "another": replace(another, amount_minor=1),
    }
    run = await reconciled(listing, payments_db)
    assert (run.counts.missing_there, run.counts.amount, run.state) == (2, 1, "done")
    assert {row["charge"]: row["sentence"] for row in await differences(listing, payments_db)} == {
        "another": None,
        "cancelled": "The provider: canceled.",
        "unknown": "The provider does not know it.",
    }
    assert listing.reads[:2] == [("another", "behind", "cancelled"), ("unknown",)]


async def test_a_receipt_outside_the_window_is_not_missed(payments_db: Database) -> None:
    """R-96: a receipt before the window, or in its last two minutes, is not compared."""
    listing = FakeListing()
    for ago in (timedelta(seconds=5), timedelta(days=5)):
        order = await placed(uuid4(), payments_db)
        payment = paid_there(order, paid_at=datetime.now(UTC) - ago)
        await report(payment, listing, payments_db)
    run = await reconciled(listing, payments_db)
    assert run.counts.missing_there == 0
    assert listing.reads == []


async def test_a_foreign_payment_is_reported_once(payments_db: Database) -> None:
    """R-97: the other shop of the merchant account keeps the money; each run counts it."""
    foreign = [paid_there(None, payload=text) for text in (None, "order 7", "")]
    listing = FakeListing(payments=foreign)
    for _ in range(2):
        run = await reconciled(listing, payments_db)
        assert (run.counts.listed, run.counts.foreign, run.counts.missing_here) == (3, 3, 0)
        await time_passes(listing, payments_db)
    found = await differences(listing, payments_db)
    assert sorted(row["charge"] for row in found) == sorted(one.reference for one in foreign)
    assert await payments_db.fetchval(RECEIPTS, listing.name) == 0


async def test_money_of_an_unknown_order_is_parked(payments_db: Database) -> None:
    """R-16: its payload has our form, so it is ours: suspense, and an operator is told."""
    payload = f"{uuid4().hex}.{uuid4().hex}.{'0' * 16}"
    listing = FakeListing(payments=[paid_there(None, payload=payload, reference="orphan")])
    run = await reconciled(listing, payments_db)
    assert run.counts.missing_here == 1
    row = await payments_db.fetchrow(BOOKED_AS, listing.name, "orphan")
    assert row is not None
    assert tuple(row) == ("suspense", "payer_unknown")


async def test_what_cannot_be_kept_stops_no_other(payments_db: Database) -> None:
    """R-98: an unreadable payment, and one that no row holds, are reported; the others booked."""
    orders = [await placed(uuid4(), payments_db) for _ in range(3)]
    listing = FakeListing(
        page=10,
        payments=[
            paid_there(orders[0]),
            paid_there(orders[1], 0, reference="nothing"),
            paid_there(orders[2]),
        ],
        unreadable=[Unreadable("odd\x00", "more_digits", "It has more digits than kopecks.")],
    )
    run = await reconciled(listing, payments_db)
    assert (run.state, run.counts.missing_here, run.counts.unreadable) == ("done", 2, 2)
    assert [await bought(order, payments_db) for order in orders] == [True, False, True]
    sentences = {
        row["charge"]: row["sentence"]
        for row in await differences(listing, payments_db)
        if row["kind"] == "unreadable"
    }
    assert sentences == {
        "'odd\\x00'": "more_digits: It has more digits than kopecks.",
        "nothing": "No receipt can hold it.",
    }


async def test_payments_that_are_not_paid_are_passed(payments_db: Database) -> None:
    order = await placed(uuid4(), payments_db)
    states: tuple[State, ...] = ("pending", "canceled")
    listing = FakeListing(payments=[replace(paid_there(order), state=state) for state in states])
    run = await reconciled(listing, payments_db)
    assert run.counts.listed == 0
    assert not await bought(order, payments_db)


async def test_listed_held_money_is_captured(payments_db: Database) -> None:
    """R-16: its notice was lost, and nothing watches its invoice any more."""
    order = await placed(uuid4(), payments_db)
    held = replace(paid_there(order), state="held", paid_at=None)
    listing = FakeListing(payments=[held])
    await reconciled(listing, payments_db)
    assert listing.captured == [held.reference]
    assert await bought(order, payments_db)


async def test_foreign_held_money_is_left_alone(payments_db: Database) -> None:
    """R-97: a shared merchant account holds money of other shops."""
    order = await placed(uuid4(), payments_db)
    listing = FakeListing(payments=[replace(paid_there(order), state="held", payload=None)])
    await reconciled(listing, payments_db)
    assert listing.captured == []


async def test_money_that_stays_held_is_an_alarm(payments_db: Database) -> None:
    """R-16: the next run takes it."""
    order = await placed(uuid4(), payments_db)
    held = replace(paid_there(order), state="held", paid_at=None)
    listing = FakeListing(payments=[held], uncaptured=Unavailable("no connection"))
    with capture_logs() as logs:
        await reconciled(listing, payments_db)
    [told] = [one for one in logs if one["event"] == "held money was not captured"]
    assert (told["log_level"], told["reference"]) == ("error", held.reference)
    assert not await bought(order, payments_db)
    listing.uncaptured = None
    await time_passes(listing, payments_db)
    await reconciled(listing, payments_db)
    assert await bought(order, payments_db)


async def test_a_listed_refund_is_booked_once(payments_db: Database) -> None:
    """R-78: of money that the ledger holds; another's refund is not ours. Windows overlap."""
    person = uuid4()
    payment = paid_there(await placed(person, payments_db), reference="returned")
    back = Refund("r1", "returned", "succeeded", "RUB", 5_000, AN_HOUR_AGO)
    listing = FakeListing(
        payments=[payment],
        refunds=[
            back,
            replace(back, reference="r2", state="pending"),
            replace(back, reference="r3", payment="of somebody else"),
        ],
    )
    run = await reconciled(listing, payments_db)
    assert run.counts.refund == 1
    found = [tuple(row) for row in await differences(listing, payments_db) if row[0] == "refund"]
    assert found == [("refund", "r1", "returned", 5_000, 14_900, None, "booked")]
    returned = "select amount_minor, state from refunds where charge = 'returned'"
    assert [tuple(row) for row in await payments_db.fetch(returned)] == [(5_000, "booked")]
    await time_passes(listing, payments_db)
    assert (await reconciled(listing, payments_db)).counts.refund == 0


async def test_a_provider_without_refunds_is_reconciled(payments_db: Database) -> None:
    listing = FakeListing(refunds=None)
    assert (await reconciled(listing, payments_db)).state == "done"


async def test_the_first_differences_are_kept(
    payments_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted. Ten thousand rows of one run are enough to read."""
    monkeypatch.setattr("payments.store.reconciliations.MAX_DIFFERENCES_KEPT", 3)
    foreign = [paid_there(None) for _ in range(5)]
    listing = FakeListing(payments=foreign)
    run = await reconciled(listing, payments_db)
    assert run.counts.foreign == 5
    assert len(await differences(listing, payments_db)) == 3


async def test_two_charges_of_an_order_buy_once(payments_db: Database) -> None:
    """Both are listed on one page; the second stays in the wallet."""
    person = uuid4()
    order = await placed(person, payments_db)
    listing = FakeListing(payments=[paid_there(order), paid_there(order)])
    run = await reconciled(listing, payments_db)
    assert run.counts.missing_here == 2
    assert await wallet(person, payments_db) == 14_900
