"""Rewards on a real PostgreSQL: once per receipt, at the right level, in any order and race."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from referrals.queries import answer_invitations
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared.contracts.message import derived_id
from shared.contracts.payments import Bought, PaymentConfirmed, PlanTerms
from shared.contracts.referrals import Invitations, InvitationsQuery, RewardEarned
from shared.platform.db import Database, Row
from tests.kit.referrals import LONG_AGO, broken, confirmed, handle, started
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.sessions import waits_for_a_lock
from tests.kit.waiting import HANG_S

REWARD_OF = "select * from rewards where receipt = $1"
EVENT = "select body::text as body, trace from events where id = $1"
STATES_OF = "select state, cause from invitations where invitee = $1 order by state desc"
WAITING_OF = "select count(*) from waiting where payer = $1"
FIX_PERCENT = "update referrals.partners set fixed_percent = $2 where person = $1"
FORGET_PARTNER = "delete from referrals.partners where person = $1"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
BOUGHT = Bought(
    order=UUID(int=7),
    what="subscription",
    terms=PlanTerms(
        plan="basic",
        months=1,
        devices=5,
        traffic_bytes=None,
        node_group="default",
        list_month_minor=14_900,
    ),
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
    """For changes that the service itself may not make to its tables yet."""
    opened = Database(fresh.dsn("postgres"), name="test", size=1)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
async def _invariants_hold(database: Database) -> AsyncIterator[None]:
    yield
    assert await broken(database) == set()


async def invited(database: Database, count: int, *, paid: int = 0) -> tuple[UUID, list[UUID]]:
    """A partner with so many invitees. The first `paid` of them have paid."""
    partner, invitees = uuid4(), [uuid4() for _ in range(count)]
    await handle(
        database, started(partner), *(started(invitee, partner, after_s=1) for invitee in invitees)
    )
    if paid:
        await handle(database, *(confirmed(invitee) for invitee in invitees[:paid]))
    return partner, invitees


async def reward_of(event: PaymentConfirmed, database: Database) -> Row:
    row = await reward_or_none(event, database)
    assert row is not None
    return row


async def reward_or_none(event: PaymentConfirmed, database: Database) -> Row | None:
    assert event.received is not None
    return await database.fetchrow(REWARD_OF, event.received.receipt)


async def published_for(
    event: PaymentConfirmed, partner: UUID, database: Database
) -> tuple[RewardEarned, str | None] | None:
    """The event about the reward of this payment, and its trace."""
    assert event.received is not None
    row = await database.fetchrow(
        EVENT, derived_id(event.received.receipt, RewardEarned.topic, partner)
    )
    return (RewardEarned.model_validate_json(row["body"]), row["trace"]) if row else None


async def invitations_of(person: UUID, database: Database) -> Invitations:
    return await answer_invitations(InvitationsQuery(person=person), database)


async def test_a_partner_earns_a_percent_of_the_payment(database: Database) -> None:
    """M-12: only the received money counts, so the state of access plays no part."""
    partner, [payer] = await invited(database, 1)
    payment = confirmed(payer, 14_909)
    await handle(database, payment)
    published = await published_for(payment, partner, database)
    assert published is not None
    event = published[0]
    assert (event.about, event.invitee) == (partner, payer)
    assert (event.value_minor, event.reward_minor) == (14_909, 1_490)
    assert (event.percent, event.paying, event.next_level_at, event.next_percent) == (10, 1, 25, 25)
    states = await database.fetch(STATES_OF, payer)
    assert [row["state"] for row in states] == ["registered", "activated"]


async def test_spending_a_balance_earns_nothing(database: Database) -> None:
    """M-13: a top-up pays the partner, and a purchase from the wallet does not."""
    partner, [payer] = await invited(database, 1)
    bought = confirmed(payer, after_s=1).model_copy(update={"received": None, "bought": BOUGHT})
    await handle(database, confirmed(payer, 100_000), bought)
    assert (await invitations_of(partner, database)).earned_minor == 10_000


async def test_invitees_without_payments_raise_no_level(database: Database) -> None:
    """M-14."""
    partner, [payer, *_] = await invited(database, 30)
    payment = confirmed(payer)
    await handle(database, payment)
    row = await reward_of(payment, database)
    assert (row["paying"], row["percent"]) == (1, 10)
    assert await invitations_of(partner, database) == Invitations(
        invited=30, paying=1, earned_minor=1_000, percent=10, next_level_at=25, next_percent=25
    )


async def test_two_racing_payers_get_different_counts(database: Database) -> None:
    """M-15: with 23 before them, one of two payers is the 24th and one is the 25th."""
    for _ in range(5):
        partner, invitees = await invited(database, 25, paid=23)
        payments = [confirmed(payer) for payer in invitees[23:]]
        await asyncio.gather(*(handle(database, payment) for payment in payments))
        rows = [await reward_of(payment, database) for payment in payments]
        assert sorted((row["paying"], row["percent"]) for row in rows) == [(24, 10), (25, 25)]
        assert (await invitations_of(partner, database)).percent == 25


async def test_twenty_repeats_of_a_receipt_pay_once(database: Database) -> None:
    """M-16."""
    partner, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    await asyncio.gather(*(handle(database, payment) for _ in range(20)))
    assert (await invitations_of(partner, database)).earned_minor == 1_000


@pytest.mark.parametrize("bound", [True, False])
async def test_twenty_transactions_over_fifty_receipts_agree(
    database: Database, bound: bool
) -> None:
    """M-16: no deadlock and no second decision, with a partner's lock and without."""
    partner, payers = (
        await invited(database, 50) if bound else (uuid4(), [uuid4() for _ in range(50)])
    )
    if not bound:
        await handle(database, *(started(payer) for payer in payers))
    payments = [confirmed(payer, after_s=number % 7) for number, payer in enumerate(payers)]
    await asyncio.gather(*(handle(database, *payments[cut:], *payments[:cut]) for cut in range(20)))
    assert (await invitations_of(partner, database)).paying == (50 if bound else 0)


async def test_a_missing_partner_costs_the_invitee_nothing(
    database: Database, operator: Database
) -> None:
    """M-18, M-19."""
    partner, [payer] = await invited(database, 1)
    await operator.execute(FORGET_PARTNER, partner)
    payment = confirmed(payer)
    await handle(database, payment)
    row = await reward_of(payment, database)
    assert (row["outcome"], row["partner"], row["reward_minor"]) == ("partner_gone", partner, 0)
    assert await published_for(payment, partner, database) is None


async def test_an_uninvited_payer_earns_nobody_a_reward(database: Database) -> None:
    payer = uuid4()
    payment = confirmed(payer)
    await handle(database, started(payer))
    await handle(database, payment)
    assert (await reward_of(payment, database))["outcome"] == "no_partner"


async def test_a_fixed_percent_is_shown_and_paid(database: Database, operator: Database) -> None:
    partner, [payer] = await invited(database, 1)
    await operator.execute(FIX_PERCENT, partner, 60)
    await handle(database, confirmed(payer))
    assert await invitations_of(partner, database) == Invitations(
        invited=1, paying=1, earned_minor=6_000, percent=60, next_level_at=None, next_percent=None
    )


async def test_an_unknown_person_is_at_the_first_level(database: Database) -> None:
    assert await invitations_of(uuid4(), database) == Invitations(
        invited=0, paying=0, earned_minor=0, percent=10, next_level_at=25, next_percent=25
    )


async def test_a_start_rewards_the_payment_before_it(database: Database) -> None:
    """The reward continues the trace of the payment."""
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer).continuing(f"00-{TRACE_ID}-b7ad6b7169203331-01")
    await handle(database, payment)
    await handle(database, payment)
    assert await reward_or_none(payment, database) is None
    assert await database.fetchval(WAITING_OF, payer) == 1
    await handle(database, started(payer, partner))
    published = await published_for(payment, partner, database)
    assert published is not None
    assert published[0].reward_minor == 1_000
    assert str(published[1]).split("-")[1] == TRACE_ID
    assert await database.fetchval(WAITING_OF, payer) == 0


async def test_a_payment_waits_for_an_uncommitted_start(database: Database) -> None:
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_registers_started([started(payer, partner)], tx)
        paying = asyncio.create_task(handle(database, payment))
        await waits_for_a_lock(paying, database)
    await paying
    assert await published_for(payment, partner, database) is not None


async def test_a_start_takes_an_uncommitted_waiting_payment(database: Database) -> None:
    partner, payer = uuid4(), uuid4()
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([payment], tx)
        starting = asyncio.create_task(handle(database, started(payer, partner)))
        await waits_for_a_lock(starting, database)
    await starting
    assert await published_for(payment, partner, database) is not None


async def test_statements_do_not_grow_with_the_batch(database: Database) -> None:
    """M-15: ten thousand buyers of one partner take some 2 s on two cores."""
    partner, buyers = await invited(database, 10_000)
    payments = [confirmed(buyer, after_s=second) for second, buyer in enumerate(buyers)]
    one = await statements_for(database, payments[:1])
    many = await statements_for(database, payments[1:])
    assert one == many <= 12
    expected = 24 * 1_000 + 25 * 2_500 + (10_000 - 49) * 4_500
    assert (await invitations_of(partner, database)).earned_minor == expected


async def statements_for(database: Database, payments: list[PaymentConfirmed]) -> int:
    statements: list[object] = []
    async with database.transaction() as tx:
        with tx.connection.query_logger(statements.append):
            await referrals_rewards_confirmed(payments, tx)
    return len(statements)


async def test_a_locked_partner_delays_no_other(database: Database) -> None:
    slow, [slow_payer] = await invited(database, 1)
    _, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(slow_payer)], tx)
        await asyncio.wait_for(handle(database, payment), HANG_S)
        waiting = asyncio.create_task(handle(database, confirmed(slow_payer)))
        await waits_for_a_lock(waiting, database)
    await waiting
    await reward_of(payment, database)
    assert (await invitations_of(slow, database)).paying == 1


@pytest.mark.parametrize("size", [1, 7, 30, 60])
async def test_batches_of_any_size_give_equal_rewards(database: Database, size: int) -> None:
    """The rows carry the same state from batch to batch as the fold carries within one."""
    _, payers = await invited(database, 55)
    payments = [
        confirmed(payers[number * 7 % 55], 1_000 + number, after_s=number) for number in range(60)
    ]
    for begin in range(0, len(payments), size):
        await handle(database, *reversed(payments[begin : begin + size]))
    rows = [await reward_of(payment, database) for payment in payments]
    counts = [min(number + 1, 55) for number in range(60)]
    assert [row["paying"] for row in rows] == counts
    levels = [10 if count < 25 else 25 if count < 50 else 45 for count in counts]
    assert [row["reward_minor"] for row in rows] == [
        (1_000 + number) * percent // 100 for number, percent in enumerate(levels)
    ]


async def test_a_decision_keeps_its_time_and_reasons(database: Database) -> None:
    """A reward keeps its scale, count and percent, and the activation its receipt.

    Both can be recomputed for ever.
    """
    _, [payer] = await invited(database, 1)
    payment = confirmed(payer)
    await handle(database, payment)
    row = await reward_of(payment, database)
    assert (row["scale"], row["paying"], row["percent"]) == (1, 1, 10)
    assert row["decided_at"] > LONG_AGO
    states = await database.fetch(STATES_OF, payer)
    assert [state["cause"] for state in states] == [str(payer), str(row["receipt"])]
