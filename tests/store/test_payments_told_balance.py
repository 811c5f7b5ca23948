"""The balance that a provider tells beside the ledger, on a real PostgreSQL (I11)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from payments.commands.record_withdrawal import record_withdrawal
from payments.domain.provider import Balances, Payment, Sum, Unavailable, Unreadable
from payments.receiving import take_in
from shared.contracts.message import Refused, Value
from shared.contracts.payments_acts import RecordWithdrawal, WithdrawalRecorded
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.listing import FakeListing, differences, paid_there, reconciled, time_passes
from tests.kit.operators import by_operator
from tests.kit.payments import placed, report, rubles

pytestmark = pytest.mark.usefixtures("invariants_hold")


@pytest.fixture
def listing() -> FakeListing:
    return FakeListing()


def holding(amount_minor: int, *more: Sum) -> Balances:
    return Balances((Sum("RUB", amount_minor), *more))


async def booked(listing: FakeListing, database: Database, *, ago_s: float = 3600) -> Payment:
    """A payment of 149 rubles that the ledger holds."""
    paid_at = datetime.now(UTC) - timedelta(seconds=ago_s)
    payment = paid_there(await placed(uuid4(), database), paid_at=paid_at)
    listing.payments.append(payment)
    async with database.transaction() as tx:
        await take_in([payment], listing.name, tx)
    return payment


async def found(listing: FakeListing, database: Database) -> list[tuple[object, ...]]:
    rows = await differences(listing, database)
    return [
        (row["kind"], row["reference"], row["their_minor"], row["our_minor"], row["done"])
        for row in rows
    ]


async def test_an_equal_balance_is_no_difference(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-118: of every currency; one that is absent is nothing."""
    await booked(listing, payments_db)
    listing.balances = [holding(14_900, Sum("USDT", 0))]
    run = await reconciled(listing, payments_db)
    assert (run.state, run.counts.balance) == ("done", 0)


async def test_another_balance_is_reported_each_time(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-118: in both directions, until somebody settles it; nothing is booked."""
    await booked(listing, payments_db)
    listing.balances = [Balances((Sum("USDT", 7),), (Unreadable("ETH", "more_digits", "dust"),))]
    run = await reconciled(listing, payments_db)
    assert (run.counts.balance, run.counts.unreadable) == (2, 1)
    await time_passes(listing, payments_db)
    run = await reconciled(listing, payments_db)
    assert run.counts.balance == 2
    assert (await found(listing, payments_db))[:3] == [
        ("balance", "RUB", 0, 14_900, "reported"),
        ("balance", "USDT", 7, 0, "reported"),
        ("unreadable", "ETH", None, None, "reported"),
    ]


async def test_money_on_its_way_is_no_difference(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-118: it came after the window, is in the balance, and its notice is on its way."""
    await booked(listing, payments_db)
    order = await placed(uuid4(), payments_db)
    listing.payments.append(paid_there(order, paid_at=datetime.now(UTC)))
    listing.balances = [holding(2 * 14_900)]
    run = await reconciled(listing, payments_db)
    assert (run.counts.missing_here, run.counts.balance) == (0, 0)


async def test_money_booked_since_is_no_difference(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-118: a notice was faster than the listing that the balance belongs to."""
    await booked(listing, payments_db)
    await booked(listing, payments_db, ago_s=0)
    listing.payments.pop()
    listing.balances = [holding(14_900)]
    assert (await reconciled(listing, payments_db)).counts.balance == 0


async def test_a_balance_that_moves_is_not_compared(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-118: the next run compares again."""
    await booked(listing, payments_db)
    listing.balances = [holding(1), holding(2)]
    run = await reconciled(listing, payments_db)
    assert (run.state, run.counts.balance) == ("done", 0)
    await time_passes(listing, payments_db)
    assert (await reconciled(listing, payments_db)).counts.balance == 1


async def test_a_run_waits_for_a_balance(payments_db: Database, listing: FakeListing) -> None:
    """R-118: as for a page of the listing."""
    listing.balances = [Unavailable("it is down"), holding(0)]
    run = await reconciled(listing, payments_db)
    assert (run.state, run.reason) == ("running", "it is down")
    await time_passes(listing, payments_db)
    run = await reconciled(listing, payments_db)
    assert (run.state, run.counts.balance) == ("done", 0)


async def test_arrivals_in_assets_are_compared(payments_db: Database, listing: FakeListing) -> None:
    """R-118: the clearing account holds what arrived, less the fee."""
    payment = paid_there(await placed(uuid4(), payments_db))
    paid = replace(payment, arrived=Sum("USDT", 1_950), fee=Sum("USDT", 50))
    listing.payments = [paid]
    listing.balances = [Balances((Sum("USDT", 1_950),))]
    run = await reconciled(listing, payments_db)
    assert (run.counts.missing_here, run.counts.balance) == (1, 0)


def taking(amount_minor: int, acquirer: str = "yookassa") -> RecordWithdrawal:
    return RecordWithdrawal(
        **by_operator(), acquirer=acquirer, currency="RUB", amount_minor=amount_minor
    )


async def test_withdrawals_take_what_is_held(payments_db: Database) -> None:
    """R-118: two at once take no more than there is; a repeat is the same act."""
    await report(payments_db, rubles(uuid4(), 1_000, acquirer="yookassa"))
    first, second = taking(600), taking(600)

    async def book(act: RecordWithdrawal) -> Value:
        return await execute(payments_db, act, record_withdrawal)

    answers = await asyncio.gather(*(book(act) for act in (first, second, first, second)))
    done = [one for one in answers if isinstance(one, WithdrawalRecorded)]
    assert [one.held_minor for one in done] == [400, 400]
    assert [one for one in answers if isinstance(one, Refused)] == [
        Refused(reason="not_held", detail="400")
    ] * 2
    assert isinstance(back := await book(taking(-600)), WithdrawalRecorded)
    assert back.held_minor == 1_000
