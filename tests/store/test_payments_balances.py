"""Balances on a real PostgreSQL: rewards, debts, and the receipts that a person can name."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from payments.domain.ledger import REVENUE, Account
from payments.queries import answer_receipts
from payments.store import accounts
from shared.contracts.payments import ReceiptsQuery
from shared.platform.db import Database
from tests.kit.payments import (
    NOW,
    balance,
    book_rewards,
    paid,
    placed,
    report,
    reward,
    stars,
)

pytestmark = pytest.mark.usefixtures("invariants_hold")

OWE = "update accounts set balance_minor = -9000 where id = $1"
INSERT_TRANSFER = """
insert into transfers (id, cause, reason, person) values ($1, $2, 'purchase', $3)
"""
INSERT_ENTRIES = "insert into entries values ($1, $2, -9000, 'RUB'), ($1, $3, 9000, 'RUB')"
AGE_REWARDS = "update reward_hours set hour = hour - $2::interval where person = $1"


async def test_reward_is_booked_once_per_receipt(payments_db: Database) -> None:
    """M-16: 20 concurrent bookings leave one, beside another reward of the same partner."""
    partner, first, second = uuid4(), uuid4(), uuid4()
    rewards = [reward(partner, first), reward(partner, second), reward(partner, first)]
    await asyncio.gather(*(book_rewards(payments_db, *rewards) for _ in range(20)))
    await book_rewards(payments_db, *rewards)
    held = await balance(partner, payments_db)
    assert held.earned_minor == 2980
    assert held.withdrawable_minor == 0, "rewards of the last 21 days cannot be withdrawn"
    assert [line.reason for line in held.lines] == ["reward", "reward"]


async def test_reward_is_withdrawable_after_21_days(payments_db: Database) -> None:
    """To the hour: a reward matures with the last one of its hour, and never early."""
    partner = uuid4()
    await book_rewards(payments_db, reward(partner, uuid4(), 1000))
    await payments_db.execute(AGE_REWARDS, partner, timedelta(days=21, hours=1))
    await book_rewards(payments_db, reward(partner, uuid4(), 200), reward(partner, uuid4(), 100))
    held = await balance(partner, payments_db)
    assert (held.earned_minor, held.withdrawable_minor) == (1300, 1000)
    await payments_db.execute(AGE_REWARDS, partner, timedelta(days=20, hours=23))
    assert (await balance(partner, payments_db)).withdrawable_minor == 1000


async def test_debt_spares_the_part_of_an_order(payments_db: Database) -> None:
    """A reward settles the partner's debt from `earned`, not from the part of their open order."""
    person, transfer = uuid4(), uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    owed = Account("owed", person)
    async with payments_db.transaction() as tx:
        await tx.fetch(accounts.OPEN_ACCOUNTS, *accounts.account_columns({owed, REVENUE}))
        await tx.execute(OWE, owed.id)
        await tx.execute(INSERT_TRANSFER, transfer, str(transfer), person)
        await tx.execute(INSERT_ENTRIES, transfer, owed.id, REVENUE.id)
    await book_rewards(payments_db, reward(person, uuid4(), 100))
    held = await balance(person, payments_db)
    part_minor = 50 * 14900 // 99
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (part_minor, 0, 8900)
    await report(payments_db, paid(order, person, amount=50))
    state = "select state from orders where id = $1"
    assert await payments_db.fetchval(state, order.order) == "paid"


async def test_person_sees_only_their_last_receipts(payments_db: Database) -> None:
    """R-30: the newest three first, with any outcome. A reward is no receipt."""
    person, other = uuid4(), uuid4()
    for day in range(4):
        at = NOW + timedelta(days=day)
        receipt = stars(person, 50 + day, charge=f"{person}:{day}", payload="", paid_at=at)
        await report(payments_db, receipt)
    await report(payments_db, stars(other, 7, payload=""))
    await book_rewards(payments_db, reward(person, uuid4()))
    answer = await answer_receipts(ReceiptsQuery(person=person), payments_db)
    assert [(line.charge, line.amount_minor, line.currency) for line in answer.lines] == [
        (f"{person}:{day}", 50 + day, "XTR") for day in (3, 2, 1)
    ]
    assert (await answer_receipts(ReceiptsQuery(person=uuid4()), payments_db)).lines == ()
