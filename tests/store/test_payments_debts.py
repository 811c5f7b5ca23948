"""A debt is paid on a real PostgreSQL: what a refund undid is bought again, once."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from payments.commands.adjust_balance import adjust_balance
from payments.domain.confirmation import Receipt
from payments.ticks import restore_access
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.payments_acts import AdjustBalance
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.operators import by_operator
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
    state_of,
    wallet,
)
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")

PRICE, SPENT = 14_900, 5_000
DEBT = "select state, because from debts where person = $1 order by opened_at desc limit 1"
RESTORED = "select id, state from orders where restores = $1"
CONFIRMED = """
select body::text as body
from events
where topic = 'payments.payment.confirmed'
  and (body ->> 'about')::uuid = $1
  and body ->> 'received' is null
order by seq
"""
BREAK = f"""
alter table orders add constraint a_broken_restore
  check (person <> '{UUID(int=1)}' or restores is null)
"""
MEND = "alter table orders drop constraint a_broken_restore"
AGE = """
update debts set opened_at = opened_at - interval '31 days' where person = $1
"""


async def indebted(person: UUID, database: Database) -> UUID:
    """An order of 149 rubles that a chargeback undid, although 50 rubles are still owed."""
    receipt = rubles(person, PRICE + SPENT)
    await report(database, receipt)
    order = await bought_from_balance(person, database)
    await spend(person, SPENT, database)
    await give_back(database, refund_of(receipt))
    assert await state_of(order, database) == "refunded"
    assert (await balance(person, database)).owed_minor == SPENT
    return order


async def debt_of(person: UUID, database: Database) -> tuple[str, str | None]:
    row = await database.fetchrow(DEBT, person)
    assert row is not None, "a debt is kept for 90 days"
    return row["state"], row["because"]


async def purchases(person: UUID, database: Database) -> list[PaymentConfirmed]:
    """The published purchases from the balance."""
    rows = await database.fetch(CONFIRMED, person)
    return [PaymentConfirmed.model_validate_json(row["body"]) for row in rows]


async def pay(person: UUID, amount_minor: int, database: Database) -> Receipt:
    """Money that names no order, and what follows from it."""
    receipt = rubles(person, amount_minor)
    await report(database, receipt)
    await restore_access(database)
    return receipt


async def test_a_paid_debt_buys_the_order_again(payments_db: Database) -> None:
    """R-142: the refund names the sum, and the event that access reads comes once."""
    order = await indebted(person := uuid4(), payments_db)
    [refunded] = await refund_events(person, payments_db)
    assert refunded.restored_for_minor == SPENT + PRICE
    await pay(person, refunded.restored_for_minor + 7, payments_db)
    row = await payments_db.fetchrow(RESTORED, order)
    assert row is not None
    assert (row["state"], await state_of(order, payments_db)) == ("paid", "refunded")
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.owed_minor) == (7, 0)
    first, again = await purchases(person, payments_db)
    assert first.bought is not None
    assert again.bought is not None
    assert (again.bought.order, again.bought.restores) == (row["id"], order)
    assert (again.bought.terms, again.bought.price_minor) == (first.bought.terms, PRICE)
    assert await debt_of(person, payments_db) == ("ended", "restored")


async def test_repeated_turns_restore_once(payments_db: Database) -> None:
    """R-143: also at the same time, and also when more money comes."""
    await indebted(person := uuid4(), payments_db)
    await report(payments_db, rubles(person, SPENT + 3 * PRICE))
    await asyncio.gather(restore_access(payments_db), restore_access(payments_db))
    await pay(person, 3 * PRICE, payments_db)
    assert len(await purchases(person, payments_db)) == 2
    assert await wallet(person, payments_db) == 5 * PRICE


@pytest.mark.parametrize("parts", [(2_000, PRICE + 3_000), (19_000, 0)])
async def test_a_debt_may_be_paid_in_parts(payments_db: Database, parts: tuple[int, int]) -> None:
    """R-142: what is left when the debt is paid decides; without the price nothing comes back."""
    await indebted(person := uuid4(), payments_db)
    for part in filter(None, parts):
        await pay(person, part, payments_db)
    enough = sum(parts) >= SPENT + PRICE
    assert len(await purchases(person, payments_db)) == 1 + enough
    assert await wallet(person, payments_db) == (0 if enough else 14_000)
    assert await debt_of(person, payments_db) == ("ended", "restored" if enough else "short")


async def test_a_broken_debt_delays_nobody(
    payments_db: Database, payments_schema: FreshDatabase
) -> None:
    """R-152: the person whose restore fails is asked for first, and again at the next turn."""
    broken, ann = UUID(int=1), uuid4()
    for person in (broken, ann):
        await indebted(person, payments_db)
        await report(payments_db, rubles(person, SPENT + PRICE))
    owner = await asyncpg.connect(payments_schema.dsn("payments_owner"))
    await owner.execute(BREAK)
    with pytest.raises(ExceptionGroup):
        await restore_access(payments_db)
    assert [len(await purchases(one, payments_db)) for one in (broken, ann)] == [1, 2]
    await owner.execute(MEND)
    await owner.close()
    await restore_access(payments_db)
    assert len(await purchases(broken, payments_db)) == 2


async def test_an_operators_credit_restores(payments_db: Database) -> None:
    """R-142: it is money of the wallet as any."""
    await indebted(person := uuid4(), payments_db)
    command = AdjustBalance(**by_operator(), person=person, amount_minor=SPENT + PRICE)
    await execute(payments_db, command, adjust_balance)
    await restore_access(payments_db)
    assert len(await purchases(person, payments_db)) == 2


async def test_a_reward_restores_nothing(payments_db: Database) -> None:
    """R-144: it pays the debt; the rest of it may be withdrawn, and stays."""
    await indebted(person := uuid4(), payments_db)
    await book_rewards(payments_db, reward(person, uuid4(), SPENT + PRICE))
    await restore_access(payments_db)
    held = await balance(person, payments_db)
    assert (held.earned_minor, held.owed_minor) == (PRICE, 0)
    assert await debt_of(person, payments_db) == ("ended", "short")


async def test_money_of_an_open_order_restores_nothing(payments_db: Database) -> None:
    """R-144: the person pays for another order, in parts."""
    await indebted(person := uuid4(), payments_db)
    order = await placed(person, payments_db, months=12)
    await report(payments_db, paid(order, person, amount=order.asked_minor // 2))
    await pay(person, SPENT, payments_db)
    assert await debt_of(person, payments_db) == ("ended", "short")
    assert len(await purchases(person, payments_db)) == 1


async def test_another_choice_restores_nothing(payments_db: Database) -> None:
    """R-144: an old plan would take the place of the one that was bought meanwhile."""
    await indebted(person := uuid4(), payments_db)
    await report(payments_db, paid(await placed(person, payments_db, "plus"), person))
    await pay(person, SPENT + PRICE, payments_db)
    assert await debt_of(person, payments_db) == ("ended", "bought_since")
    assert await wallet(person, payments_db) == PRICE


async def test_restoring_leaves_a_newer_order_open(payments_db: Database) -> None:
    """R-144: the person is about to pay for it, and its page stays."""
    await indebted(person := uuid4(), payments_db)
    order = await placed(person, payments_db, "plus")
    await pay(person, SPENT + PRICE, payments_db)
    assert await debt_of(person, payments_db) == ("ended", "restored")
    assert await state_of(order.order, payments_db) == "open"


async def test_a_late_payment_restores_nothing(payments_db: Database) -> None:
    """R-144: old prices are honoured for 30 days."""
    await indebted(person := uuid4(), payments_db)
    await payments_db.execute(AGE, person)
    await pay(person, SPENT + PRICE, payments_db)
    assert await debt_of(person, payments_db) == ("ended", "too_late")


async def test_a_returned_payment_takes_it_again(payments_db: Database) -> None:
    """R-145: the order that it bought again is undone, and the debt is back, to be paid again."""
    await indebted(person := uuid4(), payments_db)
    receipt = await pay(person, SPENT + PRICE, payments_db)
    [_, again] = await purchases(person, payments_db)
    assert again.bought is not None
    await give_back(payments_db, refund_of(receipt))
    assert await state_of(again.bought.order, payments_db) == "refunded"
    assert (await balance(person, payments_db)).owed_minor == SPENT
    await pay(person, SPENT + PRICE, payments_db)
    [*_, third] = await purchases(person, payments_db)
    assert third.bought is not None
    assert third.bought.restores == again.bought.order


async def test_a_debt_that_is_back_restores_nothing(payments_db: Database) -> None:
    """R-145: the payment is returned before anything came back."""
    await indebted(person := uuid4(), payments_db)
    receipt = rubles(person, SPENT + PRICE)
    await report(payments_db, receipt)
    await give_back(payments_db, refund_of(receipt))
    await restore_access(payments_db)
    assert await debt_of(person, payments_db) == ("open", None)
    await pay(person, SPENT + PRICE, payments_db)
    assert len(await purchases(person, payments_db)) == 2


async def test_without_a_debt_nothing_comes_back(payments_db: Database) -> None:
    """R-144: the undone order paid the refund, so nothing is owed, and money stays free."""
    receipt = rubles(person := uuid4(), PRICE)
    await report(payments_db, receipt)
    await bought_from_balance(person, payments_db)
    await give_back(payments_db, refund_of(receipt))
    [refunded] = await refund_events(person, payments_db)
    assert (refunded.owed_minor, refunded.restored_for_minor) == (0, 0)
    await pay(person, PRICE, payments_db)
    assert await payments_db.fetchrow(DEBT, person) is None
    assert await wallet(person, payments_db) == PRICE


async def test_orders_come_back_the_oldest_first(payments_db: Database) -> None:
    """R-142: as far as the money goes; each has a moment of its own."""
    receipt = rubles(person := uuid4(), 2 * PRICE + SPENT)
    await report(payments_db, receipt)
    older, newer = [await bought_from_balance(person, payments_db) for _ in range(2)]
    await spend(person, SPENT, payments_db)
    await give_back(payments_db, refund_of(receipt))
    await pay(person, SPENT + PRICE, payments_db)
    assert len(await payments_db.fetch(RESTORED, older)) == 1
    assert not await payments_db.fetch(RESTORED, newer)
    assert await debt_of(person, payments_db) == ("ended", "short")


async def test_the_named_sum_spares_an_open_order(payments_db: Database) -> None:
    """R-150: the refund took what an open order had received, and new money is its own first."""
    receipt = rubles(person := uuid4(), PRICE + SPENT)
    await report(payments_db, receipt)
    await bought_from_balance(person, payments_db)
    await spend(person, SPENT, payments_db)
    await report(payments_db, paid(await placed(person, payments_db), person, amount=10))
    part_minor = await wallet(person, payments_db)
    await give_back(payments_db, refund_of(receipt))
    owed_minor = (await balance(person, payments_db)).owed_minor
    assert (owed_minor, await wallet(person, payments_db)) == (SPENT - part_minor, 0)
    [refunded] = await refund_events(person, payments_db)
    await pay(person, refunded.restored_for_minor, payments_db)
    assert await debt_of(person, payments_db) == ("ended", "restored")
    assert await wallet(person, payments_db) == part_minor


async def test_the_newest_debt_comes_back_first(payments_db: Database) -> None:
    """R-151: the last refund named the sum of all debts, and of its own orders."""
    person, orders = uuid4(), []
    receipts = [rubles(person, PRICE + SPENT) for _ in range(2)]
    for receipt in receipts:
        await report(payments_db, receipt)
        orders.append(await bought_from_balance(person, payments_db))
        await spend(person, SPENT, payments_db)
    for receipt in reversed(receipts):
        await give_back(payments_db, refund_of(receipt))
    *_, refunded = await refund_events(person, payments_db)
    assert [one.order for one in refunded.undone] == orders[:1]
    assert refunded.restored_for_minor == 2 * SPENT + PRICE
    await pay(person, refunded.restored_for_minor, payments_db)
    assert len(await payments_db.fetch(RESTORED, orders[0])) == 1
    assert not await payments_db.fetch(RESTORED, orders[1])
