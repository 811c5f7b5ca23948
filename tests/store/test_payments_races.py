"""Two transactions of the book at once: the second waits for the first, and then sees what it left."""

import asyncio
from uuid import UUID, uuid4

import pytest

from payments.answers import answer_balance
from payments.confirmation import Receipt
from payments.store import book as store
from payments.subscribers import confirm_receipts, payments_books_rewards
from shared import telemetry
from shared.db import Database
from shared.facts import RewardEarned
from shared.questions import AskBalance
from tests.kit.payments import NOW, paid, placed, report, reward, wallet
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("book_holds")


async def one_behind_the_other(book: Database, first: Receipt, second: Receipt) -> None:
    """Book both, the second begun while the first holds its locks."""
    async with book.transaction() as tx:
        await confirm_receipts([first], tx)
        task = asyncio.create_task(report(book, second))
        await waits_for_a_lock(task, book)
    await task


def free(person: UUID, stars: int) -> Receipt:
    """Money that names no order."""
    return Receipt("telegram_stars", uuid4().hex, person, "XTR", stars, "free", NOW)


async def told_wallet(receipt: Receipt, book: Database) -> int:
    told = "select (body ->> 'wallet_minor')::bigint from facts where body -> 'received' ->> 'receipt' = $1"
    return int(await book.fetchval(told, str(receipt.id)))


async def test_two_parts_of_one_order_at_once_buy_it(book: Database) -> None:
    """M-03: the second part is decided on the order that the first one left, not on the one before both."""
    person = uuid4()
    invoice = await placed(person, book)
    await one_behind_the_other(book, paid(invoice, person, amount=50), paid(invoice, person, amount=50))
    assert await book.fetchval("select state from orders where id = $1", invoice.order) == "paid"
    assert await wallet(person, book) == 2 * (50 * 14900 // 99) - 14900


async def test_two_payments_of_one_person_at_once_tell_what_the_wallet_really_holds(
    book: Database,
) -> None:
    """M-03: no order is locked here; whoever has read what the book holds for a person keeps others from moving it."""
    person = uuid4()
    await report(book, free(person, 1))
    first, second = free(person, 10), free(person, 100)
    async with book.transaction() as tx:
        await store.lock_holdings([person], tx)
        task = asyncio.create_task(report(book, second))
        await waits_for_a_lock(task, book)
        await confirm_receipts([first], tx)
    await task
    assert (await told_wallet(first, book), await told_wallet(second, book)) == (11 * 150, 111 * 150)


async def test_the_first_two_payments_of_a_newcomer_at_once_tell_what_the_wallet_really_holds(
    book: Database,
) -> None:
    """M-03: who has no account yet has nothing that could be locked, so the accounts are opened first."""
    person = uuid4()
    first, second = free(person, 10), free(person, 100)
    await one_behind_the_other(book, first, second)
    assert (await told_wallet(first, book), await told_wallet(second, book)) == (10 * 150, 110 * 150)


async def test_a_charge_that_comes_with_other_fields_while_the_first_is_being_booked_is_an_alarm(
    book: Database,
) -> None:
    """M-22: who waited for the winner compares with what the winner wrote."""
    person, charge = uuid4(), uuid4().hex
    invoice = await placed(person, book)
    first, second = paid(invoice, person, charge=charge), paid(invoice, person, charge=charge, amount=5000)
    before = telemetry.CONTRADICTIONS.labels("receipts")._value.get()
    await one_behind_the_other(book, first, second)
    assert await book.fetchval("select count(*) from contradictions where fact_id = $1", first.id) == 1
    assert telemetry.CONTRADICTIONS.labels("receipts")._value.get() == before + 1
    assert await wallet(person, book) == 0


async def earned(person: UUID, book: Database) -> int:
    return (await answer_balance(AskBalance(person=person), book)).earned_minor


async def contradicted(event: RewardEarned, book: Database) -> int:
    noted = "select count(*) from contradictions where where_seen = 'rewards' and fact_id = $1"
    return int(await book.fetchval(noted, event.id))


async def test_of_two_partners_rewarded_at_once_for_one_receipt_one_loses_with_an_alarm(
    book: Database,
) -> None:
    """M-16, M-08: no lock is shared by them; who comes second stops nobody else of his batch."""
    receipt = uuid4()
    first, second, neighbour = reward(uuid4(), receipt), reward(uuid4(), receipt), reward(uuid4(), uuid4())

    async def book_them(*events: RewardEarned) -> None:
        async with book.transaction() as tx:
            await payments_books_rewards(events, tx)

    async with book.transaction() as tx:
        await payments_books_rewards([first], tx)
        task = asyncio.create_task(book_them(second, neighbour))
        await waits_for_a_lock(task, book)
    await task
    assert [await earned(event.about, book) for event in (first, second, neighbour)] == [1490, 0, 1490]
    assert [await contradicted(event, book) for event in (first, second, neighbour)] == [0, 1, 0]
    await book_them(first)
    assert await earned(first.about, book) == 1490
    assert await contradicted(first, book) == 0, "a repeat is no contradiction"


async def test_a_reward_that_comes_again_for_another_or_as_another_is_an_alarm(book: Database) -> None:
    """M-16: later, and within one batch; the first counts."""
    partner, receipt = uuid4(), uuid4()
    first, for_another, larger = reward(partner, receipt), reward(uuid4(), receipt), reward(partner, receipt, 99_999)
    async with book.transaction() as tx:
        await payments_books_rewards([first, for_another], tx)
    assert (await earned(partner, book), await earned(for_another.about, book)) == (1490, 0)
    assert await contradicted(for_another, book) == 1
    async with book.transaction() as tx:
        await payments_books_rewards([larger, first], tx)
    assert await earned(partner, book) == 1490
    assert await contradicted(larger, book) == 1
