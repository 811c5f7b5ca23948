"""Two transactions at once: the second waits for the first, and then sees what it committed."""

import asyncio
from uuid import UUID, uuid4

import pytest

from payments.domain.confirmation import Receipt
from payments.store import accounts
from payments.subscribers import confirm_receipts, payments_books_rewards
from shared.contracts.referrals import RewardEarned
from shared.platform import telemetry
from shared.platform.db import Database
from tests.kit.payments import (
    balance,
    book_rewards,
    paid,
    placed,
    report,
    reward,
    stars,
    wallet,
)
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("invariants_hold")

PUBLISHED_WALLET = """
select (body ->> 'wallet_minor')::bigint
from events
where body -> 'received' ->> 'receipt' = $1
"""

CONFLICTS_OF_REWARD = """
select count(*)
from conflicts
where where_seen = 'rewards' and event_id = $1
"""


async def book_both(database: Database, first: Receipt, second: Receipt) -> None:
    """Book both: the second begins while the first holds its locks."""
    async with database.transaction() as tx:
        await confirm_receipts([first], tx)
        task = asyncio.create_task(report(database, second))
        await waits_for_a_lock(task, database)
    await task


async def published_wallet(receipt: Receipt, database: Database) -> int:
    """The balance of the wallet in the event of this receipt, in kopecks."""
    return int(await database.fetchval(PUBLISHED_WALLET, str(receipt.id)))


async def test_two_concurrent_parts_buy_their_order(payments_db: Database) -> None:
    """M-03: the second part is decided on the order that the first part left."""
    person = uuid4()
    order = await placed(person, payments_db)
    first, second = paid(order, person, amount=50), paid(order, person, amount=50)
    await book_both(payments_db, first, second)
    state = "select state from orders where id = $1"
    assert await payments_db.fetchval(state, order.order) == "paid"
    assert await wallet(person, payments_db) == 2 * (50 * 14900 // 99) - 14900


async def test_concurrent_payments_publish_the_true_balance(payments_db: Database) -> None:
    """M-03: no order is locked here. The locks of the accounts keep other transactions away."""
    person = uuid4()
    await report(payments_db, stars(person, 1))
    first, second = stars(person, 10), stars(person, 100)
    async with payments_db.transaction() as tx:
        await accounts.lock_holdings([person], tx)
        task = asyncio.create_task(report(payments_db, second))
        await waits_for_a_lock(task, payments_db)
        await confirm_receipts([first], tx)
    await task
    assert await published_wallet(first, payments_db) == 11 * 150
    assert await published_wallet(second, payments_db) == 111 * 150


async def test_first_payments_publish_the_true_balance(payments_db: Database) -> None:
    """M-03: a missing account cannot be locked, so accounts are opened first."""
    person = uuid4()
    first, second = stars(person, 10), stars(person, 100)
    await book_both(payments_db, first, second)
    assert await published_wallet(first, payments_db) == 10 * 150
    assert await published_wallet(second, payments_db) == 110 * 150


async def test_concurrent_report_with_other_fields_conflicts(payments_db: Database) -> None:
    """M-22: the transaction that waited compares with the row that was committed meanwhile."""
    person = uuid4()
    order = await placed(person, payments_db)
    first = paid(order, person)
    second = paid(order, person, charge=first.charge, amount=5000)
    before = telemetry.CONFLICTS.labels("receipts")._value.get()
    await book_both(payments_db, first, second)
    conflicts = "select count(*) from conflicts where event_id = $1"
    assert await payments_db.fetchval(conflicts, first.id) == 1
    assert telemetry.CONFLICTS.labels("receipts")._value.get() == before + 1
    assert await wallet(person, payments_db) == 0


async def earned(person: UUID, database: Database) -> int:
    return (await balance(person, database)).earned_minor


async def conflicting(event: RewardEarned, database: Database) -> int:
    return int(await database.fetchval(CONFLICTS_OF_REWARD, event.id))


async def test_one_of_two_concurrent_partners_is_rewarded(payments_db: Database) -> None:
    """M-16, M-08: they share no lock. The later one conflicts and stops no other of its batch."""
    receipt = uuid4()
    first, second, other = (
        reward(uuid4(), receipt),
        reward(uuid4(), receipt),
        reward(uuid4(), uuid4()),
    )
    events = (first, second, other)
    async with payments_db.transaction() as tx:
        await payments_books_rewards([first], tx)
        task = asyncio.create_task(book_rewards(payments_db, second, other))
        await waits_for_a_lock(task, payments_db)
    await task
    assert [await earned(event.about, payments_db) for event in events] == [1490, 0, 1490]
    assert [await conflicting(event, payments_db) for event in events] == [0, 1, 0]
    await book_rewards(payments_db, first)
    assert await earned(first.about, payments_db) == 1490
    assert await conflicting(first, payments_db) == 0, "a repeat is no conflict"


async def test_another_partner_or_amount_is_a_conflict(payments_db: Database) -> None:
    """M-16: the first event of a receipt counts, within a batch and later."""
    partner, receipt = uuid4(), uuid4()
    first, foreign, larger = (
        reward(partner, receipt),
        reward(uuid4(), receipt),
        reward(partner, receipt, 99_999),
    )
    await book_rewards(payments_db, first, foreign)
    assert await earned(partner, payments_db) == 1490
    assert await earned(foreign.about, payments_db) == 0
    assert await conflicting(foreign, payments_db) == 1
    await book_rewards(payments_db, larger, first)
    assert await earned(partner, payments_db) == 1490
    assert await conflicting(larger, payments_db) == 1
