"""Fees that a provider tells after the booking, on a real PostgreSQL."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from payments.domain.provider import Payment, Sum
from payments.queries import answer_trial_balance
from payments.receiving import take_in
from shared.contracts.payments import TrialBalanceQuery
from shared.platform.db import Database
from tests.kit.listing import FakeListing, differences, paid_there, reconciled, time_passes
from tests.kit.payments import give_back, placed, refund_of, stars, wallet

pytestmark = pytest.mark.usefixtures("invariants_hold")

FEES = """
select count(*) from transfers where reason = 'fee' and cause like $1 || ':%'
"""


@pytest.fixture
def listing() -> FakeListing:
    return FakeListing()


async def booked(listing: FakeListing, database: Database) -> Payment:
    """A payment of 149 rubles whose fee is not told yet."""
    payment = paid_there(await placed(uuid4(), database))
    listing.payments = [payment]
    async with database.transaction() as tx:
        await take_in([payment], listing.name, tx)
    return payment


def less(payment: Payment, fee_minor: int) -> Payment:
    """The same payment, now that its provider tells the fee."""
    arrived = Sum("RUB", payment.amount_minor - fee_minor)
    return replace(payment, arrived=arrived, fee=Sum("RUB", fee_minor))


def in_usdt(payment: Payment) -> Payment:
    return replace(payment, arrived=Sum("USDT", 1_950), fee=Sum("USDT", 50))


async def held(listing: FakeListing, database: Database) -> dict[str, int]:
    """The provider's balance by the clearing account, per currency."""
    lines = (await answer_trial_balance(TrialBalanceQuery(), database)).lines
    return {
        one.currency: -one.amount_minor
        for one in lines
        if one.account == f"clearing:{listing.name}" and one.amount_minor
    }


async def found(listing: FakeListing, database: Database) -> list[tuple[object, ...]]:
    """The kind, the fees of both sides, and what was done."""
    rows = await differences(listing, database)
    return [(row["kind"], row["their_minor"], row["our_minor"], row["done"]) for row in rows]


async def test_a_listed_fee_is_booked_once(payments_db: Database, listing: FakeListing) -> None:
    """R-119: by the listing of the hour; the next hours change nothing."""
    payment = await booked(listing, payments_db)
    assert await held(listing, payments_db) == {"RUB": 14_900}
    listing.payments = [less(payment, 521)]
    for _ in range(3):
        run = await reconciled(listing, payments_db)
        await time_passes(listing, payments_db)
    assert (run.state, run.counts.fee, run.counts.amount) == ("done", 0, 0)
    assert await held(listing, payments_db) == {"RUB": 14_379}
    assert await found(listing, payments_db) == [("fee", 521, None, "booked")]


async def test_concurrent_tellers_book_one_fee(payments_db: Database, listing: FakeListing) -> None:
    """R-119: notices and the watcher read the payment back at once."""
    payment = await booked(listing, payments_db)

    async def read_back() -> None:
        async with payments_db.transaction() as tx:
            await take_in([less(payment, 521)], listing.name, tx)

    await asyncio.gather(*(read_back() for _ in range(5)))
    assert await payments_db.fetchval(FEES, listing.name) == 1
    assert await held(listing, payments_db) == {"RUB": 14_379}


async def test_another_fee_is_reported(payments_db: Database, listing: FakeListing) -> None:
    """R-119: the first one that was told stands."""
    payment = await booked(listing, payments_db)
    async with payments_db.transaction() as tx:
        await take_in([less(payment, 521)], listing.name, tx)
    listing.payments = [less(payment, 600)]
    run = await reconciled(listing, payments_db)
    assert run.counts.fee == 1
    assert await found(listing, payments_db) == [("fee", 600, 521, "reported")]
    assert await held(listing, payments_db) == {"RUB": 14_379}


async def test_a_late_asset_replaces_the_rubles(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-119: the clearing account holds what came, and the wallet is as before."""
    payment = await booked(listing, payments_db)
    listing.payments = [in_usdt(payment)]
    await reconciled(listing, payments_db)
    assert await held(listing, payments_db) == {"USDT": 1_950}
    assert await found(listing, payments_db) == [("fee", 50, None, "booked")]


async def test_returned_money_keeps_its_currency(
    payments_db: Database, listing: FakeListing
) -> None:
    """R-119: rubles went back already, so an asset that is told now is reported."""
    payment = await booked(listing, payments_db)
    receipt = replace(
        stars(None, payment.amount_minor, charge=payment.reference),
        acquirer=listing.name,
        currency="RUB",
    )
    await give_back(payments_db, refund_of(receipt, 4_900))
    listing.payments = [in_usdt(payment)]
    await reconciled(listing, payments_db)
    assert await held(listing, payments_db) == {"RUB": 10_000}
    assert await found(listing, payments_db) == [("fee", 50, None, "reported")]


async def test_a_late_fee_leaves_the_wallet(payments_db: Database, listing: FakeListing) -> None:
    """R-119: the shop bears it, and a refund returns the whole price."""
    person = uuid4()
    payment = paid_there(await placed(person, payments_db), 20_000)
    async with payments_db.transaction() as tx:
        await take_in([payment], listing.name, tx)
        await take_in([less(payment, 700)], listing.name, tx)
    assert await wallet(person, payments_db) == 5_100
    assert await held(listing, payments_db) == {"RUB": 19_300}
