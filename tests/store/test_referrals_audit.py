"""The audit finds broken invariants, conflicts and poison, each on a database of its own."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from referrals.audit import CHECKS, answer_audit
from referrals.store.rewards import ReceiptTakenError
from referrals.subscribers import referrals_rewards_confirmed
from shared.contracts.operations import AuditQuery
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.inbox import Handler
from shared.platform.db import Database
from tests.kit.referrals import broken, confirmed, handle, message_of, refunded, started
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.sessions import waits_for_a_lock

A_CONFLICT = "the same id never came with other fields"

# A statement of the owner that breaks each invariant, past every constraint.
BREAK = {
    "a reward decision names the partner of its payer": """
        update rewards set partner = gen_random_uuid()
    """,
    "every reward was published": "update rewards set published_as = gen_random_uuid()",
    "no payment waits over ten minutes for its payer's start": """
        insert into waiting (event, payer, body, waits_since)
        values (gen_random_uuid(), gen_random_uuid(), '{}', now() - interval '11 minutes')
    """,
    "no payment waits for a payer who has started": """
        insert into waiting (event, payer, body)
        select gen_random_uuid(), person, '{}' from people limit 1
    """,
    "no refund waits over ten minutes for its payment's decision": """
        insert into waiting_refunds (refund, receipt, body, waits_since)
        values (gen_random_uuid(), gen_random_uuid(), '{}', now() - interval '11 minutes')
    """,
    "every reversal was published": "update reversals set published_as = gen_random_uuid()",
    "a reward is the percentage of what remains paid": """
        update reversals set value_minor = value_minor + 1000
    """,
    "an invitee counts while something remains paid": """
        insert into reversals (refund, receipt, payer, value_minor, reversed_minor)
        select gen_random_uuid(), receipt, payer, value_minor, 0 from rewards
    """,
    "the percent of a reward is that of its scale at its count": """
        update levels set percent = 11 where paying_from = 0
    """,
    "a reward is the floor of its percent": """
        alter table rewards drop constraint a_reward_is_the_floor_of_its_percent;
        update rewards set reward_minor = reward_minor + 1
    """,
    "no partner is rewarded for their own payment": """
        alter table rewards drop constraint the_partner_is_not_the_payer;
        update rewards set partner = payer
    """,
    "the count of a reward is the number of payers up to it": """
        update rewards set paying = paying + 1
    """,
    "a partner's count is their number of paying invitees": """
        update partners set paying = paying + 1
    """,
    "a partner's total is the sum of what is left of their rewards": """
        update partners set earned_minor = earned_minor + 1
    """,
    "a partner's invited people are counted": "update invited set people = people + 1",
    "every bound person is registered, and no other": """
        insert into people (person, partner, started_at)
        values (gen_random_uuid(), gen_random_uuid(), now())
    """,
    "no step of an invitation is older than the step it follows": """
        update invitations set at = at - interval '1 hour' where state = 'activated'
    """,
    "an invitation is activated by a receipt of its invitee": """
        update invitations set cause = 'a guess'
    """,
    "invitations form no circle": """
        update people set partner = (select person from people where partner is not null)
        where partner is null
    """,
}


@pytest.fixture
async def fresh(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("referrals")


@pytest.fixture
async def database(fresh: FreshDatabase) -> AsyncIterator[Database]:
    opened = Database(fresh.dsn("referrals_app"), name="test", size=4)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def owner(fresh: FreshDatabase) -> AsyncIterator[Database]:
    opened = Database(fresh.dsn("referrals_owner"), name="test", size=1)
    await opened.open()
    yield opened
    await opened.close()


def test_every_invariant_is_broken_once() -> None:
    assert {check.truth for check in CHECKS} == set(BREAK)


@pytest.mark.parametrize("truth", BREAK)
async def test_the_audit_finds_a_broken_invariant(
    database: Database, owner: Database, truth: str
) -> None:
    """I6, I7: an audit without findings means something only if it would have found one."""
    partner, payer = uuid4(), uuid4()
    await handle(database, started(partner), started(payer, partner))
    await handle(database, payment := confirmed(payer))
    await handle(database, refunded(payment, 4_000))
    assert await broken(database) == set()
    await owner.execute(BREAK[truth])
    assert truth in await broken(database)


async def test_the_audit_counts_receipts_and_rewards(database: Database) -> None:
    """I6: payments compares these counts with its receipts and transfers."""
    partner, payer = uuid4(), uuid4()
    await handle(database, started(partner), started(payer, partner))
    await handle(
        database,
        confirmed(payer, 10_000),
        confirmed(payer, 5),
        confirmed(partner),
        confirmed(uuid4()),
    )
    audit = await answer_audit(AuditQuery.of("referrals")(), database)
    assert audit.counts == {
        "receipts_decided": 3,
        "receipts_waiting": 1,
        "rewards": 1,
        "reward_minor": 1_000,
    }


async def test_only_a_poison_message_is_dead_lettered(database: Database) -> None:
    """The rest of its batch is handled, and the inbox meets a repeat of all."""
    subscription = next(
        entry for entry in SUBSCRIPTIONS if entry.handler == "referrals_rewards_confirmed"
    )
    handler = Handler(subscription, referrals_rewards_confirmed, database)
    partner, payers = uuid4(), [uuid4() for _ in range(20)]
    await handle(database, *(started(payer, partner) for payer in payers))
    values = [-1 if number == 13 else 1_000 for number in range(20)]
    messages = [
        message_of(confirmed(payer, value)) for payer, value in zip(payers, values, strict=True)
    ]
    first = await handler.handle_batch(messages)
    again = await handler.handle_batch(messages)
    assert (first.done, first.dead_lettered, again.repeated) == (19, 1, 20)
    assert await broken(database) == {"there is no dead letter"}
    assert await database.fetchval("select sum(reward_minor) from rewards") == 1_900


async def test_a_receipt_with_another_value_is_a_conflict(database: Database) -> None:
    """I12: it earns no reward and never succeeds silently, even without an inbox row."""
    partner, payer, receipt = uuid4(), uuid4(), uuid4()
    await handle(database, started(payer, partner))
    await handle(database, confirmed(payer, 10_000, receipt=receipt))
    await handle(database, confirmed(payer, 999_999, receipt=receipt, cause="another charge"))
    assert await broken(database) == {A_CONFLICT}
    assert await database.fetchval("select sum(reward_minor) from rewards") == 1_000


async def test_a_racing_second_payer_is_a_conflict(database: Database) -> None:
    """The partners differ, so no lock is shared.

    The second transaction writes nothing, and its retry records the conflict.
    """
    receipt, first, second = uuid4(), uuid4(), uuid4()
    await handle(database, started(first, uuid4()), started(second, uuid4()))
    other = confirmed(second, receipt=receipt, cause="another charge")
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(first, receipt=receipt)], tx)
        racing = asyncio.create_task(handle(database, other))
        await waits_for_a_lock(racing, database)
    with pytest.raises(ReceiptTakenError):
        await racing
    assert await broken(database) == set()
    await handle(database, other)
    assert await broken(database) == {A_CONFLICT}


async def test_a_racing_payer_without_partner_is_a_conflict(database: Database) -> None:
    """I12: without a reward there is no lock either, and still one of the two payers is wrong."""
    receipt, first, second = uuid4(), uuid4(), uuid4()
    await handle(database, started(first), started(second))
    other = confirmed(second, receipt=receipt, cause="another charge")
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(first, receipt=receipt)], tx)
        racing = asyncio.create_task(handle(database, other))
        await waits_for_a_lock(racing, database)
    await racing
    assert await broken(database) == {A_CONFLICT}
