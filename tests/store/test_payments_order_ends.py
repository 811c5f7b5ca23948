"""Orders that are superseded, expire and are pruned, and the money that comes late for them."""

import asyncio
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from payments.queries import answer_payment
from payments.store import orders
from payments.ticks import end_orders
from shared.contracts.message import Refused
from shared.contracts.payments import PaymentQuery
from shared.platform import iterations
from shared.platform.db import Database
from tests.kit.payments import paid, placed, report, wallet

pytestmark = pytest.mark.usefixtures("invariants_hold")

STATES = """
select o.state as order_state, i.state as invoice_state
from orders o
join invoices i on i.order_id = o.id
where o.id = $1
"""

COUNT = "select count(*) from orders where person = $1 and state = $2"

AGE = """
with aged as (
  update orders
  set placed_at = placed_at - $2::int * interval '1 d',
    honoured_until = honoured_until - $2::int * interval '1 d'
  where id = $1
  returning id
)
update invoices
set opened_at = opened_at - $2::int * interval '1 d',
  expires_at = expires_at - $2::int * interval '1 d'
where order_id in (select id from aged)
"""


async def states(order: UUID, database: Database) -> tuple[str, str] | None:
    """Of the order and of its invoice. None for an order that was pruned."""
    row = await database.fetchrow(STATES, order)
    return (row["order_state"], row["invoice_state"]) if row else None


async def test_ends_of_orders_are_logged(payments_db: Database) -> None:
    """W-84: how many expired and were deleted; an idle turn logs nothing."""
    await end_orders(payments_db)
    order = (await placed(uuid4(), payments_db)).order
    with capture_logs() as logs, iterations.working("end_orders") as worker:
        for _ in range(2):
            await days_pass(order, 40, payments_db)
            worker.ends()
        await end_orders(payments_db)
        worker.ends()
    ended = [one for one in logs if one["event"] == "iteration_end"]
    assert [(one["items"], one["outcomes"]) for one in ended] == [
        (1, {"expired": 1}),
        (1, {"deleted": 1}),
    ]


async def days_pass(order: UUID, days: int, database: Database) -> None:
    await database.execute(AGE, order, days)
    await end_orders(database)


async def test_newer_order_supersedes_all_older(payments_db: Database) -> None:
    """W-36: orders that are placed at the same time may stay open until the next one."""
    person = uuid4()
    for _ in range(5):
        together = range(payments_db.size)
        await asyncio.gather(*(placed(person, payments_db) for _ in together))
        assert await payments_db.fetchval(COUNT, person, "open") <= 2 * payments_db.size
    last = await placed(person, payments_db)
    assert await payments_db.fetchval(COUNT, person, "open") == 1
    assert await states(last.order, payments_db) == ("open", "open")
    assert await payments_db.fetchval(COUNT, person, "superseded") == 5 * payments_db.size


async def test_late_money_buys_a_superseded_order(payments_db: Database) -> None:
    """R-33, I10: it was placed earlier, but its price is honoured for 30 days."""
    person = uuid4()
    older, newer = await placed(person, payments_db), await placed(person, payments_db)
    assert await states(older.order, payments_db) == ("superseded", "superseded")
    await report(payments_db, paid(older, person))
    assert await states(older.order, payments_db) == ("paid", "paid")
    assert await states(newer.order, payments_db) == ("open", "open")
    await report(payments_db, paid(newer, person))
    assert await states(newer.order, payments_db) == ("paid", "paid")
    assert await wallet(person, payments_db) == 0


async def test_purchase_closes_the_superseded_orders(payments_db: Database) -> None:
    """R-33: money that comes for one of them afterwards stays in the wallet."""
    person = uuid4()
    older, newer = await placed(person, payments_db), await placed(person, payments_db)
    await report(payments_db, paid(newer, person))
    assert await states(older.order, payments_db) == ("closed", "superseded")
    await report(payments_db, paid(older, person))
    assert await wallet(person, payments_db) == 14900


async def test_purchase_closes_a_bounded_number(
    payments_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-36: the newest ones. Money that comes for a still older order buys."""
    monkeypatch.setattr(orders, "MAX_OLDER_AT_ONCE", 2)
    person = uuid4()
    placed_in_turn = [await placed(person, payments_db) for _ in range(5)]
    await report(payments_db, paid(placed_in_turn[-1], person))
    found = [await states(one.order, payments_db) for one in placed_in_turn]
    assert [state and state[0] for state in found] == [
        "superseded",
        "superseded",
        "closed",
        "closed",
        "paid",
    ]
    await report(payments_db, paid(placed_in_turn[0], person))
    assert await states(placed_in_turn[0].order, payments_db) == ("paid", "paid")


@pytest.mark.parametrize("superseded", [False, True])
async def test_unpaid_order_expires_and_is_pruned(payments_db: Database, superseded: bool) -> None:
    """D-15: after 30 days, and after 30 more."""
    person = uuid4()
    order = (await placed(person, payments_db)).order
    if superseded:
        await placed(person, payments_db)
    await days_pass(order, 29, payments_db)
    before = ("superseded", "superseded") if superseded else ("open", "open")
    assert await states(order, payments_db) == before
    await days_pass(order, 2, payments_db)
    assert await states(order, payments_db) == ("expired", before[1].replace("open", "expired"))
    await days_pass(order, 30, payments_db)
    assert await states(order, payments_db) is None
    unknown = await answer_payment(PaymentQuery(named=str(order)), payments_db)
    assert unknown == Refused(reason="payment_unknown")


async def test_money_for_an_expired_order_keeps_it(payments_db: Database) -> None:
    """D-15, R-33: the money is in the wallet, valued by the invoice, and names the order."""
    person = uuid4()
    order = await placed(person, payments_db)
    await days_pass(order.order, 31, payments_db)
    await report(payments_db, paid(order, person))
    assert await wallet(person, payments_db) == 14900
    await days_pass(order.order, 60, payments_db)
    await days_pass(order.order, 60, payments_db)
    assert await states(order.order, payments_db) == ("expired", "expired")


async def test_foreign_money_keeps_the_invoice(payments_db: Database) -> None:
    """D-15: the booking of another payer names the invoice, by whose ratio it was valued."""
    order, payer = await placed(uuid4(), payments_db), uuid4()
    await report(payments_db, paid(order, payer))
    await days_pass(order.order, 90, payments_db)
    assert await states(order.order, payments_db) == ("expired", "expired")
    assert await wallet(payer, payments_db) == 14900


async def test_money_for_a_pruned_order_is_booked(payments_db: Database) -> None:
    """D-15: into the payer's wallet, by the rate of the day."""
    person = uuid4()
    order = await placed(person, payments_db)
    await days_pass(order.order, 90, payments_db)
    assert await states(order.order, payments_db) is None
    await report(payments_db, paid(order, person))
    assert await wallet(person, payments_db) == 99 * 150


async def test_closed_order_is_pruned(payments_db: Database) -> None:
    """D-15: the paid order stays for ever."""
    person = uuid4()
    older, newer = await placed(person, payments_db), await placed(person, payments_db)
    await report(payments_db, paid(newer, person))
    for order in (older.order, newer.order):
        await days_pass(order, 90, payments_db)
    assert await states(older.order, payments_db) is None
    assert await states(newer.order, payments_db) == ("paid", "paid")
