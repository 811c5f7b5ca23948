"""Rewards on a real PostgreSQL: once per receipt, at the right level, whatever comes first and whoever races."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from referrals.answers import answer_invitations
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared.contract import derived_id
from shared.db import Database, Row
from shared.facts import Bought, PaymentConfirmed, RewardEarned, Terms
from shared.questions import AskInvitations, Invitations
from tests.kit.referrals import LONG_AGO, broken, confirmed, hear, started
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.sessions import waits_for_a_lock

REWARD_OF = "select * from rewards where receipt = $1"
FACT = "select body::text as body, trace from facts where id = $1"
STATES_OF = "select state, cause from invitations where invitee = $1 order by state desc"
WAITING_OF = "select count(*) from waiting where payer = $1"
FIX_PERCENT = "update referrals.partners set fixed_percent = $2 where person = $1"
FORGET_PARTNER = "delete from referrals.partners where person = $1"
STORY = "0af7651916cd43dd8448eb211c80319c"
BOUGHT = Bought(
    order=UUID(int=7),
    what="subscription",
    terms=Terms(plan="basic", months=1, devices=5, traffic_bytes=None, node_group="default", list_month_minor=14_900),
    price_minor=14_900,
)


@pytest.fixture(scope="module")
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("referrals")


@pytest.fixture(scope="module")
async def database(fresh: FreshDatabase) -> AsyncIterator[Database]:
    opened = Database(fresh.dsn("referrals_app"), name="test", size=25)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def operator(fresh: FreshDatabase) -> AsyncIterator[Database]:
    """What referrals itself may not do to its tables yet."""
    opened = Database(fresh.dsn("postgres"), name="test", size=1)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
async def _invariants_hold(database: Database) -> AsyncIterator[None]:
    yield
    assert await broken(database) == set()


async def invited(database: Database, count: int, *, paid: int = 0) -> tuple[UUID, list[UUID]]:
    """A partner with so many invitees, the first `paid` of whom have paid."""
    partner, invitees = uuid4(), [uuid4() for _ in range(count)]
    await hear(database, started(partner), *(started(invitee, partner, after_s=1) for invitee in invitees))
    if paid:
        await hear(database, *(confirmed(invitee) for invitee in invitees[:paid]))
    return partner, invitees


async def reward_of(event: PaymentConfirmed, database: Database) -> Row | None:
    assert event.received is not None
    return await database.fetchrow(REWARD_OF, event.received.receipt)


async def told_of(event: PaymentConfirmed, partner: UUID, database: Database) -> tuple[RewardEarned, str | None] | None:
    assert event.received is not None
    row = await database.fetchrow(FACT, derived_id(event.received.receipt, RewardEarned.topic, partner))
    return (RewardEarned.model_validate_json(row["body"]), row["trace"]) if row else None


async def standing(person: UUID, database: Database) -> Invitations:
    return await answer_invitations(AskInvitations(person=person), database)


async def test_a_partner_earns_the_percent_of_what_his_invitee_paid(database: Database) -> None:
    """M-12: only what was received is asked about, so whether access is up plays no part."""
    partner, [payer] = await invited(database, 1)
    payment = confirmed(payer, 14_909)
    await hear(database, payment)
    told = await told_of(payment, partner, database)
    assert told is not None
    fact = told[0]
    assert (fact.about, fact.invitee, fact.value_minor, fact.reward_minor) == (partner, payer, 14_909, 1_490)
    assert (fact.percent, fact.paying, fact.next_level_at, fact.next_percent) == (10, 1, 25, 25)
    assert [row["state"] for row in await database.fetch(STATES_OF, payer)] == ["registered", "activated"]


async def test_spending_a_balance_rewards_nothing_twice(database: Database) -> None:
    """M-13: a top-up pays the partner, and what is bought with it does not."""
    partner, [payer] = await invited(database, 1)
    bought = confirmed(payer, after_s=1).model_copy(update={"received": None, "bought": BOUGHT})
    await hear(database, confirmed(payer, 100_000), bought)
    assert (await standing(partner, database)).earned_minor == 10_000


async def test_thirty_invitees_who_never_paid_lift_nobody_to_a_level(database: Database) -> None:
    """M-14."""
    partner, [payer, *_] = await invited(database, 30)
    payment = confirmed(payer)
    await hear(database, payment)
    row = await reward_of(payment, database)
    assert row is not None
    assert (row["paying"], row["percent"]) == (1, 10)
    assert await standing(partner, database) == Invitations(
        invited=30, paying=1, earned_minor=1_000, percent=10, next_level_at=25, next_percent=25
    )


async def test_two_twenty_fifth_payers_at_once_are_the_twenty_fourth_and_the_twenty_fifth(database: Database) -> None:
    """M-15."""
    for _ in range(5):
        partner, invitees = await invited(database, 25, paid=23)
        payments = [confirmed(payer) for payer in invitees[23:]]
        await asyncio.gather(*(hear(database, payment) for payment in payments))
        rows = [row for payment in payments if (row := await reward_of(payment, database))]
        assert sorted((row["paying"], row["percent"]) for row in rows) == [(24, 10), (25, 25)]
        assert (await standing(partner, database)).percent == 25


async def test_twenty_transactions_with_one_receipt_pay_one_reward(database: Database) -> None:
    """M-16."""
    partner, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    await asyncio.gather(*(hear(database, payment) for _ in range(20)))
    assert (await standing(partner, database)).earned_minor == 1_000


@pytest.mark.parametrize("bound", [True, False])
async def test_twenty_transactions_with_the_same_fifty_receipts_agree(database: Database, bound: bool) -> None:
    """M-16: no deadlock and no second decision, with a partner's lock and without."""
    partner, payers = await invited(database, 50) if bound else (uuid4(), [uuid4() for _ in range(50)])
    if not bound:
        await hear(database, *(started(payer) for payer in payers))
    payments = [confirmed(payer, after_s=place % 7) for place, payer in enumerate(payers)]
    await asyncio.gather(*(hear(database, *payments[place:], *payments[:place]) for place in range(20)))
    assert (await standing(partner, database)).paying == (50 if bound else 0)


async def test_a_partner_who_is_gone_costs_his_invitee_nothing(database: Database, operator: Database) -> None:
    """M-18, M-19."""
    partner, [payer] = await invited(database, 1)
    await operator.execute(FORGET_PARTNER, partner)
    payment = confirmed(payer)
    await hear(database, payment)
    row = await reward_of(payment, database)
    assert row is not None
    assert (row["outcome"], row["partner"], row["reward_minor"]) == ("partner_gone", partner, 0)
    assert await told_of(payment, partner, database) is None


async def test_a_payer_whom_nobody_invited_is_decided_without_a_reward(database: Database) -> None:
    alone = uuid4()
    payment = confirmed(alone)
    await hear(database, started(alone))
    await hear(database, payment)
    row = await reward_of(payment, database)
    assert row is not None
    assert row["outcome"] == "no_partner"


async def test_a_fixed_percent_is_shown_and_paid(database: Database, operator: Database) -> None:
    partner, [payer] = await invited(database, 1)
    await operator.execute(FIX_PERCENT, partner, 60)
    await hear(database, confirmed(payer))
    assert await standing(partner, database) == Invitations(
        invited=1, paying=1, earned_minor=6_000, percent=60, next_level_at=None, next_percent=None
    )


async def test_a_stranger_stands_at_the_first_level(database: Database) -> None:
    assert await standing(uuid4(), database) == Invitations(
        invited=0, paying=0, earned_minor=0, percent=10, next_level_at=25, next_percent=25
    )


async def test_a_payment_before_its_start_is_rewarded_by_the_start_in_its_own_story(database: Database) -> None:
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer).continuing(f"00-{STORY}-b7ad6b7169203331-01")
    await hear(database, payment)
    await hear(database, payment)
    assert await reward_of(payment, database) is None
    assert await database.fetchval(WAITING_OF, payer) == 1
    await hear(database, started(payer, partner))
    told = await told_of(payment, partner, database)
    assert told is not None
    assert told[0].reward_minor == 1_000
    assert str(told[1]).split("-")[1] == STORY
    assert await database.fetchval(WAITING_OF, payer) == 0


async def test_a_payment_that_meets_a_half_written_start_is_rewarded_behind_it(database: Database) -> None:
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_registers_started([started(payer, partner)], tx)
        paying = asyncio.create_task(hear(database, payment))
        await waits_for_a_lock(paying, database)
    await paying
    assert await told_of(payment, partner, database) is not None


async def test_a_start_that_meets_a_payment_about_to_wait_turns_it_over(database: Database) -> None:
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([payment], tx)
        starting = asyncio.create_task(hear(database, started(payer, partner)))
        await waits_for_a_lock(starting, database)
    await starting
    assert await told_of(payment, partner, database) is not None


async def test_ten_thousand_buyers_of_one_partner_are_one_fold(database: Database) -> None:
    """M-15: the statements of a batch do not grow with it."""
    partner, buyers = await invited(database, 10_000)
    payments = [confirmed(buyer, after_s=place) for place, buyer in enumerate(buyers)]
    began = time.perf_counter()
    one, many = await statements_for(database, payments[:1]), await statements_for(database, payments[1:])
    assert time.perf_counter() - began < 10  # Some 2 s on two cores; a hang limit.
    assert one == many <= 12
    expected = 24 * 1_000 + 25 * 2_500 + (10_000 - 49) * 4_500
    assert (await standing(partner, database)).earned_minor == expected


async def statements_for(database: Database, payments: list[PaymentConfirmed]) -> int:
    said: list[object] = []
    async with database.transaction() as tx:
        with tx.connection.query_logger(said.append):
            await referrals_rewards_confirmed(payments, tx)
    return len(said)


async def test_a_locked_partner_delays_no_other(database: Database) -> None:
    slow, [slow_payer] = await invited(database, 1)
    _, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(slow_payer)], tx)
        await asyncio.wait_for(hear(database, payment), timeout=2)
        waiting = asyncio.create_task(hear(database, confirmed(slow_payer)))
        await waits_for_a_lock(waiting, database)
    await waiting
    assert await reward_of(payment, database) is not None
    assert (await standing(slow, database)).paying == 1


@pytest.mark.parametrize("cut", [1, 7, 30, 60])
async def test_batches_of_any_size_come_to_the_same_rewards(database: Database, cut: int) -> None:
    """The rows give the next batch what the fold gave the next payment."""
    _, payers = await invited(database, 55)
    payments = [confirmed(payers[place * 7 % 55], 1_000 + place, after_s=place) for place in range(60)]
    for begin in range(0, len(payments), cut):
        await hear(database, *reversed(payments[begin : begin + cut]))
    rows = [row for payment in payments if (row := await reward_of(payment, database))]
    counts = [min(place + 1, 55) for place in range(60)]
    assert [row["paying"] for row in rows] == counts
    levels = [10 if count < 25 else 25 if count < 50 else 45 for count in counts]
    assert [row["reward_minor"] for row in rows] == [
        (1_000 + place) * percent // 100 for place, percent in enumerate(levels)
    ]


async def test_what_was_decided_says_when_and_why_for_ever(database: Database) -> None:
    """A reward keeps its scale, count and percent, and the activation its receipt: both can be recomputed."""
    _, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    await hear(database, payment)
    row = await reward_of(payment, database)
    assert row is not None
    assert (row["scale"], row["paying"], row["percent"]) == (1, 1, 10)
    assert row["decided_at"] > LONG_AGO
    states = await database.fetch(STATES_OF, payer)
    assert [state["cause"] for state in states] == [str(payer), str(row["receipt"])]
