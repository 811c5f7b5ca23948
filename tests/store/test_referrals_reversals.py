"""Reversals on a real PostgreSQL: a reward is the percentage of what remains paid."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from referrals.queries import answer_invitations, answer_rewards
from referrals.subscribers import referrals_reverses_refunded, referrals_rewards_confirmed
from referrals.ticks import meet_refunds
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.referrals import Invitations, InvitationsQuery, Rewards, RewardsQuery
from shared.platform.db import Database
from tests.kit.referrals import broken, confirmed, handle, refunded, reversals_of, started
from tests.kit.servers import MakeDatabase
from tests.kit.sessions import waits_for_a_lock

CONFLICTS = "select count(*) from conflicts where where_seen = 'reversals' and event_id = $1"


@pytest.fixture(scope="module")
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("referrals")).dsn("referrals_app"), name="test", size=8)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
async def _invariants_hold(database: Database) -> AsyncIterator[None]:
    yield
    assert await broken(database) - {"the same id never came with other fields"} == set()


async def invited(database: Database, count: int = 1) -> tuple[UUID, list[UUID]]:
    partner, invitees = uuid4(), [uuid4() for _ in range(count)]
    await handle(database, started(partner), *(started(one, partner) for one in invitees))
    return partner, invitees


async def reversed_for(partner: UUID, database: Database) -> list[int]:
    return [one.reversed_minor for one in await reversals_of(partner, database)]


async def counts(partner: UUID, database: Database) -> tuple[int, int]:
    """The paying invitees of a partner, and what they earned."""
    found: Invitations = await answer_invitations(InvitationsQuery(person=partner), database)
    return found.paying, found.earned_minor


async def test_a_refund_takes_its_reward_back(database: Database) -> None:
    """R-66: once, however often it is reported."""
    partner, [payer] = await invited(database)
    payment = confirmed(payer, 10_000)
    await handle(database, payment)
    event = refunded(payment)
    await handle(database, event, event)
    await handle(database, event)
    assert await reversed_for(partner, database) == [1_000]
    assert await counts(partner, database) == (0, 0)
    [record] = (await rewards_of(payment, database)).rewards
    assert (record.reward_minor, record.reversed_minor) == (1_000, 1_000)


async def rewards_of(payment: PaymentConfirmed, database: Database) -> Rewards:
    assert payment.received is not None
    query = RewardsQuery(receipts=(payment.received.receipt,), payer=payment.about)
    return await answer_rewards(query, database)


async def test_a_part_leaves_the_percentage_of_the_rest(database: Database) -> None:
    """R-66: the reward is rounded down once, over what remains; parts lose no kopeck."""
    partner, [payer] = await invited(database)
    payment = confirmed(payer, 10_009)
    await handle(database, payment)
    for value_minor in (5, 5, 9_999):
        await handle(database, refunded(payment, value_minor))
    assert await reversed_for(partner, database) == [1, 999]
    assert await counts(partner, database) == (0, 0)


async def test_a_payer_counts_while_something_remains(database: Database) -> None:
    """R-66: the last return lapses them, and the next payment counts them again."""
    partner, [payer, other] = await invited(database, 2)
    payments = [confirmed(payer, after_s=nth) for nth in range(2)]
    await handle(database, *payments, confirmed(other, after_s=5))
    assert await counts(partner, database) == (2, 3_000)
    await handle(database, refunded(payments[0]))
    assert await counts(partner, database) == (2, 2_000)
    await handle(database, refunded(payments[1], 4_000))
    assert await counts(partner, database) == (2, 1_600)
    await handle(database, refunded(payments[1], 6_000))
    assert await counts(partner, database) == (1, 1_000)
    await handle(database, again := confirmed(payer, after_s=90))
    assert await counts(partner, database) == (2, 2_000)
    await handle(database, refunded(again, after_s=120))
    assert await counts(partner, database) == (1, 1_000)
    await handle(database, confirmed(payer, after_s=150), confirmed(payer, after_s=151))
    assert await counts(partner, database) == (2, 3_000)


async def test_a_refund_before_its_payment_waits(database: Database) -> None:
    """R-63: the payment is rewarded, and what was returned is taken back with it."""
    partner, [payer] = await invited(database)
    payment = confirmed(payer, 10_000)
    await handle(database, refunded(payment, 4_000))
    assert await reversed_for(partner, database) == []
    await handle(database, payment)
    assert await reversed_for(partner, database) == [400]
    assert await counts(partner, database) == (1, 600)
    assert await database.fetchval("select count(*) from waiting_refunds") == 0


async def test_refund_and_payment_wait_for_a_start(database: Database) -> None:
    """R-63: both come before the payer's /start, the refund first."""
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer, 10_000)
    await handle(database, refunded(payment))
    await handle(database, payment)
    await handle(database, started(partner), started(payer, partner))
    assert await reversed_for(partner, database) == [1_000]
    assert await counts(partner, database) == (0, 0)


async def test_refund_and_payment_at_once_meet(database: Database) -> None:
    """R-63: neither transaction saw the other's row. The next tick decides the refund."""
    partner, [payer] = await invited(database)
    payment = confirmed(payer, 10_000)
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([payment], tx)
        await handle(database, refunded(payment))
    assert await reversed_for(partner, database) == []
    await meet_refunds(database)
    await meet_refunds(database)
    assert await reversed_for(partner, database) == [1_000]


async def test_refund_without_a_partner_takes_nothing(database: Database) -> None:
    """R-66: it is decided all the same."""
    payer = uuid4()
    await handle(database, started(payer))
    await handle(database, payment := confirmed(payer))
    await handle(database, event := refunded(payment))
    taken = "select reversed_minor from reversals where refund = $1"
    assert await database.fetchval(taken, event.returned.refund) == 0


async def test_another_value_of_a_refund_is_a_conflict(database: Database) -> None:
    """R-66: the first counts."""
    partner, [payer] = await invited(database)
    await handle(database, payment := confirmed(payer, 10_000))
    first = refunded(payment, 1_000)
    other = refunded(payment, 9_000, refund=first.returned.refund, cause="another")
    await handle(database, first)
    await handle(database, other)
    assert await reversed_for(partner, database) == [100]
    assert await database.fetchval(CONFLICTS, other.id) == 1


async def test_refunds_at_once_keep_the_count(database: Database) -> None:
    """R-66: two payers lapse at the same moment, under the lock of their partner."""
    partner, payers = await invited(database, 3)
    payments = [confirmed(payer, after_s=nth) for nth, payer in enumerate(payers)]
    await handle(database, *payments)
    async with database.transaction() as tx:
        await referrals_reverses_refunded([refunded(payments[0])], tx)
        task = asyncio.create_task(handle(database, refunded(payments[1])))
        await waits_for_a_lock(task, database)
    await task
    assert await counts(partner, database) == (1, 1_000)
