"""Payments that were read back: booked once, in what really arrived, or the end of an invoice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from payments.domain.provider import Payment, Sum, Unknown
from payments.store import orders
from shared.contracts.payload import write_payload
from shared.platform.db import Database
from tests.kit.fake_provider import NOON, Fault
from tests.kit.payments import wallet
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till

PAYERS = "select payer, currency, amount_minor from receipts"
TOO_OLD = """
update orders
set state = 'expired', honoured_until = now() - interval '40 days'
where id = $1
"""


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def test_paid_invoice_buys_its_order(till: Till) -> None:
    """The payer is the person of the order: no provider tells one."""
    person = uuid4()
    asked, reference = await till.opened(person)
    assert await till.take_in(till.provider.pay(reference)) == {"booked"}
    assert await till.bookings() == [("bought", "paid")]
    assert (await till.row(asked.invoice))["state"] == "paid"
    [receipt] = await till.database.fetch(PAYERS)
    assert tuple(receipt) == (person, "RUB", 14900)
    assert await till.sums() == {("clearing:yookassa", "RUB"): -14900, ("revenue", "RUB"): 14900}


async def test_repeats_book_once(till: Till) -> None:
    """R-11: webhook, watcher and listing at once, a hundred times, over two pools."""
    _, reference = await till.opened(uuid4())
    paid = till.provider.pay(reference)
    second = Database(till.dsn, name="second")
    await second.open()
    pools = [till.database, second] * 50
    await asyncio.gather(*(till.take_in(paid, database=pool) for pool in pools))
    await second.close()
    assert await till.bookings() == [("bought", "paid")]


async def test_fee_leaves_the_clearing_account(till: Till) -> None:
    """M-23: the wallet gets the price, the shop bears the fee."""
    _, reference = await till.opened(uuid4())
    await till.take_in(till.provider.pay(reference, arrived=Sum("RUB", 14378), fee=Sum("RUB", 522)))
    assert await till.bookings() == [("bought", "paid")]
    assert await till.sums() == {
        ("clearing:yookassa", "RUB"): -14378,
        ("fees", "RUB"): -522,
        ("revenue", "RUB"): 14900,
    }


async def test_coins_that_came_for_rubles(till: Till) -> None:
    """R-72: the clearing account holds the asset that arrived, to its last unit."""
    person = uuid4()
    _, reference = await till.opened(person)
    came = Sum("USDT", 1_862_499_999), Sum("USDT", 57_603_093)
    await till.take_in(till.provider.pay(reference, arrived=came[0], fee=came[1]))
    assert await till.bookings() == [("bought", "paid")]
    assert await till.sums() == {
        ("clearing:yookassa", "USDT"): -1_862_499_999,
        ("fees", "USDT"): -57_603_093,
        ("exchange", "USDT"): 1_920_103_092,
        ("exchange", "RUB"): -14900,
        ("revenue", "RUB"): 14900,
    }
    assert await wallet(person, till.database) == 0


async def test_money_for_a_pruned_order_is_parked(till: Till) -> None:
    """Its payload is ours, so it is real money of somebody: an operator decides."""
    asked, reference = await till.opened(uuid4())
    await till.database.execute(TOO_OLD, asked.order)
    await orders.prune(timedelta(days=30), 100, till.database)
    paid = till.provider.pay(reference, arrived=Sum("USDT", 900), fee=Sum("USDT", 100))
    assert await till.take_in(paid) == {"booked"}
    assert await till.bookings() == [("suspense", "payer_unknown")]
    assert await till.sums() == {
        ("clearing:yookassa", "USDT"): -900,
        ("fees", "USDT"): -100,
        ("suspense", "USDT"): 1000,
    }


async def test_foreign_payment_is_not_ours(till: Till) -> None:
    """A merchant's account may be shared with another shop."""
    for payload in (None, "", "order 17"):
        foreign = Payment("f", "succeeded", "RUB", 14900, payload, NOON, paid_at=NOON)
        assert await till.take_in(foreign) == {"foreign"}
    assert await till.bookings() == []


async def test_payment_of_an_unknown_order_is_parked(till: Till) -> None:
    payload = write_payload(uuid4(), uuid4(), None)
    unknown = Payment("u", "succeeded", "RUB", 14900, payload, NOON, paid_at=NOON)
    assert await till.take_in(unknown) == {"booked"}
    assert await till.bookings() == [("suspense", "payer_unknown")]


async def test_money_by_another_provider_is_booked(till: Till) -> None:
    """R-09: an invoice of one provider, paid at another: its receipt says where the money is."""
    asked, _ = await till.opened(uuid4())
    till.provider.name = "cryptobot"
    other = Payment("x", "succeeded", "RUB", 14900, asked.payload, NOON, paid_at=NOON)
    await till.take_in(other)
    assert ("clearing:cryptobot", "RUB") in await till.sums()


async def test_late_money_of_a_superseded_invoice_buys(till: Till) -> None:
    """R-01: another way was asked for, and the first page was paid all the same."""
    person = uuid4()
    asked, reference = await till.opened(person)
    await till.ask(person, asked.order, way="card")
    assert (await till.row(asked.invoice))["state"] == "superseded"
    await till.take_in(till.provider.pay(reference))
    assert await till.bookings() == [("bought", "paid")]


async def test_canceled_payment_ends_its_invoice(till: Till) -> None:
    asked, reference = await till.opened(uuid4())
    over = till.provider.becomes(
        reference, state="canceled", cancel_reason="expired_on_confirmation"
    )
    assert await till.take_in(over) == {"canceled"}
    row = await till.row(asked.invoice)
    assert (row["state"], row["reason"]) == ("expired", "expired_on_confirmation")


async def test_waiting_payment_changes_nothing(till: Till) -> None:
    asked, reference = await till.opened(uuid4())
    assert await till.take_in(till.provider.becomes(reference)) == {"pending"}
    assert await till.take_in(till.provider.becomes(reference, state="held")) == {"held"}
    assert (await till.row(asked.invoice))["state"] == "open"
    assert await till.bookings() == []


async def test_paid_invoice_ends_no_more(till: Till) -> None:
    """An older answer that comes late ends nothing that was paid."""
    asked, reference = await till.opened(uuid4())
    await till.take_in(till.provider.pay(reference))
    await till.take_in(till.provider.becomes(reference, state="canceled"))
    assert (await till.row(asked.invoice))["state"] == "paid"


async def test_paid_before_its_opening_is_recorded(till: Till) -> None:
    """R-73: the opening keeps the reference of an invoice that is paid already."""
    till.provider.fails("open", Fault(Unknown("TimeoutError", "find"), done=True))
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    [reference] = till.provider.opened
    await till.take_in(till.provider.pay(reference))
    assert await till.bookings() == [("bought", "paid")]
    await till.turn(till.opener)
    row = await till.row(asked.invoice)
    assert (row["state"], row["reference"]) == ("paid", reference)
    assert (await till.told(), till.provider.cancelled) == ([], [])
