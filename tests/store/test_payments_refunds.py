"""Refunds on a real PostgreSQL: booked once, in any order, with all that they undo."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from payments.queries import answer_payment
from payments.subscribers import confirm_receipts, payments_records_refunds, record_refunds
from payments.ticks import meet_refunds
from shared.contracts.payments import OpenedInvoice, PaymentQuery, PaymentRecord, PaymentRefunded
from shared.platform.db import Database
from tests.kit.payments import (
    balance,
    book_rewards,
    bought_from_balance,
    give_back,
    paid,
    placed,
    refund_events,
    refund_of,
    report,
    reward,
    rubles,
    spend,
    stars,
    state_of,
    wallet,
)
from tests.kit.reports import refunded
from tests.kit.servers import FreshDatabase
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("invariants_hold")

PRICE = 14900
TOPICS = "select topic from events where (body ->> 'about')::uuid = $1 order by seq"
STATE = "select state from refunds where receipt = $1"
RECEIVED = "select received_minor from orders where id = $1"
SUSPENSE = """
select coalesce(sum(e.amount_minor), 0)::bigint
from entries e
join accounts a on a.id = e.account
where a.kind = 'suspense'
"""
CONFLICTS = "select count(*) from conflicts where where_seen = 'refunds' and event_id = $1"


async def bought(person: UUID, database: Database) -> tuple[OpenedInvoice, PaymentRefunded]:
    """A purchase whose payment was returned: the order, and the event of the refund."""
    order = await placed(person, database)
    receipt = paid(order, person)
    await report(database, receipt)
    await give_back(database, refund_of(receipt))
    [event] = await refund_events(person, database)
    return order, event


async def test_a_refund_undoes_its_order(payments_db: Database) -> None:
    """M-41, R-67: the money leaves the ledger, the order is undone, and both are published."""
    person = uuid4()
    order, event = await bought(person, payments_db)
    held = await balance(person, payments_db)
    assert await state_of(order.order, payments_db) == "refunded"
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 0, 0)
    assert {line.reason for line in held.lines} == {
        "receipt",
        "purchase",
        "purchase_undone",
        "refund",
    }
    assert (event.returned.value_minor, event.returned.amount_minor) == (PRICE, 99)
    [undone] = event.undone
    assert (undone.order, undone.undone_minor, undone.whole) == (order.order, PRICE, True)
    assert (event.owed_minor, event.wallet_minor) == (0, 0)


async def test_telegram_reports_a_refund(payments_db: Database) -> None:
    """M-41: Telegram returns a charge once, and the charge is the key."""
    person, receipt = uuid4(), stars(payer := uuid4(), 7)
    await report(payments_db, receipt, stars(person, 7))
    returned = refunded(charge=receipt.charge, payer=payer, amount_minor=7)
    for _ in range(2):
        async with payments_db.transaction() as tx:
            await payments_records_refunds([returned, returned], tx)
    assert await wallet(payer, payments_db) == 0
    assert await wallet(person, payments_db) == 7 * 150
    assert len(await refund_events(payer, payments_db)) == 1


async def test_a_refund_before_its_payment_waits(payments_db: Database) -> None:
    """R-63: the payment meets it in its own transaction, and is published first."""
    person = uuid4()
    order = await placed(person, payments_db)
    receipt = paid(order, person)
    await give_back(payments_db, refund_of(receipt))
    assert await payments_db.fetchval(STATE, receipt.id) == "waiting"
    await report(payments_db, receipt)
    assert await payments_db.fetchval(STATE, receipt.id) == "booked"
    assert await state_of(order.order, payments_db) == "refunded"
    assert await wallet(person, payments_db) == 0
    topics = [row["topic"] for row in await payments_db.fetch(TOPICS, person)]
    assert topics == ["payments.payment.confirmed", "payments.payment.refunded"]


async def test_refund_and_payment_at_once_meet(payments_db: Database) -> None:
    """R-63: each transaction began before the other's commit. The next tick books the refund."""
    receipt = stars(person := uuid4(), 7)
    async with payments_db.transaction() as tx:
        await record_refunds([refund_of(receipt)], tx)
        await report(payments_db, receipt)
    assert await payments_db.fetchval(STATE, receipt.id) == "waiting"
    await meet_refunds(payments_db)
    await meet_refunds(payments_db)
    assert await payments_db.fetchval(STATE, receipt.id) == "booked"
    assert await wallet(person, payments_db) == 0


async def test_repeated_refunds_book_once(payments_db: Database) -> None:
    """R-64: in a batch, and later. Another amount of the same refund is a conflict."""
    receipt = rubles(person := uuid4(), 1000)
    returned = refund_of(receipt, 300, reference="one")
    await report(payments_db, receipt)
    await give_back(payments_db, returned, returned)
    await give_back(payments_db, returned, refund_of(receipt, 500, reference="one"))
    assert await wallet(person, payments_db) == 700
    assert await payments_db.fetchval(CONFLICTS, returned.id) == 1
    await give_back(payments_db, refund_of(receipt, 700, reference="another"))
    assert await wallet(person, payments_db) == 0
    values = [one.returned.value_minor for one in await refund_events(person, payments_db)]
    assert values == [300, 700]


@pytest.fixture
async def another_pool(payments_schema: FreshDatabase) -> AsyncIterator[Database]:
    opened = Database(payments_schema.dsn("payments_app"), name="other", size=4)
    await opened.open()
    yield opened
    await opened.close()


async def test_hundred_concurrent_refunds_book_once(
    payments_db: Database, another_pool: Database
) -> None:
    """R-64: over two pools, as from two replicas."""
    receipt = rubles(person := uuid4(), 1000)
    await report(payments_db, receipt)
    pools = [payments_db, another_pool]
    refund = refund_of(receipt)
    await asyncio.gather(*(give_back(pools[number % 2], refund) for number in range(100)))
    assert await wallet(person, payments_db) == 0
    assert len(await refund_events(person, payments_db)) == 1


async def test_two_refunds_at_once_keep_the_sum(
    payments_db: Database, another_pool: Database
) -> None:
    """R-64: they share the lock of their receipt, so that both together are the whole."""
    order = await placed(person := uuid4(), payments_db)
    receipt = rubles(person, PRICE, payload=order.payload)
    await report(payments_db, receipt)
    async with payments_db.transaction() as tx:
        await record_refunds([refund_of(receipt, 900, reference="one")], tx)
        second = refund_of(receipt, PRICE - 900, reference="another")
        task = asyncio.create_task(give_back(another_pool, second))
        await waits_for_a_lock(task, payments_db)
    await task
    assert await state_of(order.order, payments_db) == "refunded"
    assert await wallet(person, payments_db) == 0


async def test_a_partial_refund_undoes_a_share(payments_db: Database) -> None:
    """R-67: the access pays for what the wallet does not hold."""
    order = await placed(person := uuid4(), payments_db)
    receipt = rubles(person, PRICE, payload=order.payload)
    await report(payments_db, receipt)
    await give_back(payments_db, refund_of(receipt, 4900, reference="one"))
    assert await state_of(order.order, payments_db) == "partly_refunded"
    [first] = await refund_events(person, payments_db)
    [undone] = first.undone
    assert (undone.undone_minor, undone.price_minor, undone.whole) == (4900, PRICE, False)
    await give_back(payments_db, refund_of(receipt, PRICE - 4900, reference="another"))
    assert await state_of(order.order, payments_db) == "refunded"
    [_, second] = await refund_events(person, payments_db)
    assert (second.undone[0].undone_minor, second.undone[0].whole) == (PRICE - 4900, True)
    assert await wallet(person, payments_db) == 0


async def test_a_partial_refund_takes_excess_first(payments_db: Database) -> None:
    """R-67: money that bought nothing goes back before the access is shortened."""
    order = await placed(person := uuid4(), payments_db)
    receipt = rubles(person, PRICE + 1000, payload=order.payload)
    await report(payments_db, receipt)
    await give_back(payments_db, refund_of(receipt, 700, reference="one"))
    assert await state_of(order.order, payments_db) == "paid"
    await give_back(payments_db, refund_of(receipt, 700, reference="another"))
    assert await state_of(order.order, payments_db) == "partly_refunded"
    [_, second] = await refund_events(person, payments_db)
    assert second.undone[0].undone_minor == 400
    assert await wallet(person, payments_db) == 0


async def test_newest_orders_are_undone_first(payments_db: Database) -> None:
    """R-65: the money was spent on two orders since; one of them is worth enough."""
    person = uuid4()
    receipts = [rubles(person, PRICE) for _ in range(2)]
    await report(payments_db, *receipts)
    orders = [await bought_from_balance(person, payments_db) for _ in range(2)]
    await give_back(payments_db, refund_of(receipts[0]))
    assert [await state_of(order, payments_db) for order in orders] == ["paid", "refunded"]
    await give_back(payments_db, refund_of(receipts[1]))
    assert [await state_of(order, payments_db) for order in orders] == ["refunded", "refunded"]
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.owed_minor) == (0, 0)


async def test_a_purchase_of_other_money_stays(payments_db: Database) -> None:
    """R-65: an order that was paid before, or by its own charge, is not undone for this one."""
    person = uuid4()
    await report(payments_db, rubles(person, PRICE))
    before = await bought_from_balance(person, payments_db)
    receipt = rubles(person, 1000)
    await report(payments_db, receipt)
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person))
    await spend(person, 1000, payments_db)
    await give_back(payments_db, refund_of(receipt))
    states = [await state_of(one, payments_db) for one in (before, order.order)]
    assert states == ["paid", "paid"]
    assert (await balance(person, payments_db)).owed_minor == 1000


async def test_money_that_is_gone_is_owed(payments_db: Database) -> None:
    """R-65: the next payment settles it."""
    receipt = rubles(person := uuid4(), 1000)
    await report(payments_db, receipt)
    await spend(person, 600, payments_db)
    await give_back(payments_db, refund_of(receipt))
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.owed_minor) == (0, 600)
    [event] = await refund_events(person, payments_db)
    assert event.owed_minor == 600
    await report(payments_db, rubles(person, 1000))
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.owed_minor) == (400, 0)


async def test_each_part_returns_to_its_account(payments_db: Database) -> None:
    """R-65: an order that the wallet and rewards paid returns to both, and the refund takes its."""
    person = uuid4()
    await book_rewards(payments_db, reward(person, uuid4(), 5000))
    receipt = rubles(person, PRICE - 5000)
    await report(payments_db, receipt)
    order = await bought_from_balance(person, payments_db)
    await give_back(payments_db, refund_of(receipt))
    held = await balance(person, payments_db)
    assert await state_of(order, payments_db) == "refunded"
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 5000, 0)


async def test_another_part_of_an_order_is_returned(payments_db: Database) -> None:
    """R-67: a charge that paid a part undoes the whole order; the other part is in the wallet."""
    order = await placed(person := uuid4(), payments_db)
    first = rubles(person, 4900, payload=order.payload)
    await report(payments_db, first)
    await report(payments_db, rubles(person, PRICE - 4900, payload=order.payload))
    await give_back(payments_db, refund_of(first))
    assert await state_of(order.order, payments_db) == "refunded"
    assert await wallet(person, payments_db) == PRICE - 4900


async def test_a_part_of_an_open_order_is_returned(payments_db: Database) -> None:
    """R-63: its order counts it no more, and buys only once the whole price has come again."""
    order = await placed(person := uuid4(), payments_db)
    part = paid(order, person, amount=50)
    await report(payments_db, part)
    await give_back(payments_db, refund_of(part))
    assert await payments_db.fetchval(RECEIVED, order.order) == 0
    assert await wallet(person, payments_db) == 0
    await report(payments_db, paid(order, person, amount=49))
    assert await state_of(order.order, payments_db) == "open"
    await report(payments_db, paid(order, person, amount=50))
    assert await state_of(order.order, payments_db) == "paid"


async def test_parked_money_is_returned_from_suspense(payments_db: Database) -> None:
    """R-64: nobody had it, so nothing is undone, and no event names a payer."""
    before = await payments_db.fetchval(SUSPENSE)
    receipt = stars(None, 7)
    await report(payments_db, receipt)
    assert await payments_db.fetchval(SUSPENSE) == before + 7
    await give_back(payments_db, refund_of(receipt))
    assert await payments_db.fetchval(SUSPENSE) == before
    assert await payments_db.fetchval(STATE, receipt.id) == "booked"


async def test_a_refund_racing_a_purchase(payments_db: Database) -> None:
    """R-65: the purchase waits for the wallet, and then finds that its first part is gone."""
    order = await placed(person := uuid4(), payments_db)
    first = paid(order, person, amount=50)
    await report(payments_db, first)
    async with payments_db.transaction() as tx:
        await record_refunds([refund_of(first)], tx)
        task = asyncio.create_task(report(payments_db, paid(order, person, amount=49)))
        await waits_for_a_lock(task, payments_db)
    await task
    assert await state_of(order.order, payments_db) == "open"
    assert await wallet(person, payments_db) == 49 * PRICE // 99 + 1


async def test_a_refund_of_an_uncommitted_payment_waits(payments_db: Database) -> None:
    """R-63: the payment is written and not committed, so the refund waits for the next tick."""
    order = await placed(person := uuid4(), payments_db)
    payment = paid(order, person)
    async with payments_db.transaction() as tx:
        await confirm_receipts([payment], tx)
        await give_back(payments_db, refund_of(payment))
    assert await state_of(order.order, payments_db) == "paid"
    await meet_refunds(payments_db)
    assert await state_of(order.order, payments_db) == "refunded"


async def test_an_operator_sees_the_refund(payments_db: Database) -> None:
    """R-67: `turnpike why` shows the refund with its transfers."""
    order, event = await bought(uuid4(), payments_db)
    record = await answer_payment(PaymentQuery(named=str(order.order)), payments_db)
    assert isinstance(record, PaymentRecord)
    assert record.order is not None
    assert record.order.state == "refunded"
    [returned] = record.refunds
    assert (returned.refund, returned.state, returned.event) == (
        event.returned.refund,
        "booked",
        event.id,
    )
    reasons = [transfer.reason for transfer in record.transfers]
    assert reasons[-1] == "refund"
    assert set(reasons) == {"receipt", "purchase", "purchase_undone", "refund"}


@pytest.mark.parametrize("table", ["refunds", "refunded_receipts", "undone_orders"])
async def test_refunds_are_never_deleted(payments_db: Database, table: str) -> None:
    """D-10: what was booked is ended by another booking, never by a deletion."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await payments_db.execute(f"delete from {table}")
