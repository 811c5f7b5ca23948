"""Rewards that refunds take back: once per refund, from `earned`, then the wallet, then owed."""

import asyncio
from uuid import uuid4

import pytest

from payments.subscribers import payments_books_reversals
from shared.contracts.referrals import RewardReversed
from shared.platform.db import Database
from tests.kit.payments import (
    balance,
    book_reversals,
    book_rewards,
    report,
    reversal,
    reward,
    rubles,
    spend,
)
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("invariants_hold")

CONFLICTS = "select count(*) from conflicts where where_seen = 'reversals' and event_id = $1"


async def test_a_reversal_takes_earned_first(payments_db: Database) -> None:
    """R-66: then the wallet, and the rest is owed."""
    partner = uuid4()
    earned = reward(partner, uuid4(), 1490)
    await report(payments_db, rubles(partner, 500))
    await book_rewards(payments_db, earned)
    await book_reversals(payments_db, reversal(earned, 490))
    held = await balance(partner, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (500, 1000, 0)
    await spend(partner, 1100, payments_db)
    await book_reversals(payments_db, reversal(earned, 1000))
    held = await balance(partner, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 0, 600)


async def test_a_repeated_reversal_takes_once(payments_db: Database) -> None:
    """R-66: another amount of the same refund is a conflict, and takes nothing."""
    partner = uuid4()
    earned = reward(partner, uuid4(), 1490)
    once = reversal(earned, 490)
    again = RewardReversed.caused_by(
        "another", about=partner, at=once.at, refund=once.refund, receipt=once.receipt,
        reversed_minor=1000,
    )  # fmt: skip
    await book_rewards(payments_db, earned)
    await book_reversals(payments_db, once, once)
    await book_reversals(payments_db, once, again)
    assert (await balance(partner, payments_db)).earned_minor == 1000
    assert await payments_db.fetchval(CONFLICTS, once.id) == 0
    assert await payments_db.fetchval(CONFLICTS, again.id) == 1


async def test_a_reversal_before_its_reward(payments_db: Database) -> None:
    """R-66: it is owed until the reward comes, and both together are nothing."""
    partner = uuid4()
    earned = reward(partner, uuid4(), 1490)
    await book_reversals(payments_db, reversal(earned))
    assert (await balance(partner, payments_db)).owed_minor == 1490
    await book_rewards(payments_db, earned)
    held = await balance(partner, payments_db)
    assert (held.wallet_minor, held.earned_minor, held.owed_minor) == (0, 0, 0)


async def test_a_reversed_reward_is_young_no_more(payments_db: Database) -> None:
    """R-66: what is left of a young reward cannot be withdrawn, and the reversed part is gone."""
    partner = uuid4()
    earned = reward(partner, uuid4(), 1490)
    await book_rewards(payments_db, earned)
    await book_reversals(payments_db, reversal(earned, 1000))
    young = "select sum(amount_minor)::bigint from reward_hours where person = $1"
    assert await payments_db.fetchval(young, partner) == 490
    assert (await balance(partner, payments_db)).withdrawable_minor == 0


async def test_two_reversals_at_once_share_the_balance(payments_db: Database) -> None:
    """R-66: the second waits for the accounts of the partner."""
    partner = uuid4()
    earned = [reward(partner, uuid4(), 1000) for _ in range(2)]
    await book_rewards(payments_db, *earned)
    await spend(partner, 500, payments_db)
    async with payments_db.transaction() as tx:
        await payments_books_reversals([reversal(earned[0])], tx)
        task = asyncio.create_task(book_reversals(payments_db, reversal(earned[1])))
        await waits_for_a_lock(task, payments_db)
    await task
    held = await balance(partner, payments_db)
    assert (held.earned_minor, held.owed_minor) == (0, 500)
