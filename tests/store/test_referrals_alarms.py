"""What must never be is seen: broken truths, contradictions and poison, each on a database of its own."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from referrals.audit import CHECKS, answer_audit
from referrals.store import ReceiptTakenError
from referrals.subscribers import referrals_rewards_confirmed
from shared.db import Database
from shared.inbox import Handler
from shared.questions import AskAudit
from shared.streams import LISTENING
from tests.kit.referrals import broken, confirmed, hear, letter, started
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.sessions import waits_for_a_lock

# How each truth could be broken by a hand that goes past every constraint.
BREAK = {
    "what was decided about a receipt agrees with whom its payer is bound to": """
        update rewards set partner = gen_random_uuid()
    """,
    "every reward was told": "update rewards set told_as = gen_random_uuid()",
    "no payment waits longer than ten minutes for the start of its payer": """
        insert into waiting (fact, payer, body, waits_since)
        values (gen_random_uuid(), gen_random_uuid(), '{}', now() - interval '11 minutes')
    """,
    "whoever started leaves no payment waiting": """
        insert into waiting (fact, payer, body) select gen_random_uuid(), person, '{}' from people limit 1
    """,
    "the percent of a reward is that of its scale at its count": "update levels set percent = 11 where paying_from = 0",
    "a reward is the floor of its percent": """
        alter table rewards drop constraint a_reward_is_the_floor_of_its_percent;
        update rewards set reward_minor = reward_minor + 1
    """,
    "no partner rewards himself": """
        alter table rewards drop constraint no_partner_rewards_himself;
        update rewards set partner = payer
    """,
    "the count of a reward is that of the payers decided until then": "update rewards set paying = paying + 1",
    "the count of a partner is that of his activated invitations": "update partners set paying = paying + 1",
    "everybody who is bound is registered, and nobody else": """
        insert into people (person, partner, started_at) values (gen_random_uuid(), gen_random_uuid(), now())
    """,
    "no step of an invitation is older than the one it follows": """
        update invitations set at = at - interval '1 hour' where state = 'activated'
    """,
    "an invitation is activated by a receipt of its invitee": "update invitations set cause = 'a guess'",
    "no chain of invitations comes back to where it began": """
        update people set partner = (select person from people where partner is not null) where partner is null
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


def test_every_truth_of_the_audit_is_broken_once() -> None:
    assert {check.truth for check in CHECKS} == set(BREAK)


@pytest.mark.parametrize("truth", BREAK)
async def test_the_audit_finds_what_breaks_a_truth(database: Database, owner: Database, truth: str) -> None:
    """I6, I7: an audit that finds nothing is worth something only if it would have found it."""
    partner, payer = uuid4(), uuid4()
    await hear(database, started(partner), started(payer, partner))
    await hear(database, confirmed(payer))
    assert await broken(database) == set()
    await owner.execute(BREAK[truth])
    assert truth in await broken(database)


async def test_the_audit_counts_what_payments_must_agree_with(database: Database) -> None:
    """I6: every receipt that is booked for a person is decided or waits, and every reward is booked once."""
    partner, payer = uuid4(), uuid4()
    await hear(database, started(partner), started(payer, partner))
    await hear(database, confirmed(payer, 10_000), confirmed(payer, 5), confirmed(partner), confirmed(uuid4()))
    audit = await answer_audit(AskAudit.of("referrals")(), database)
    assert audit.counts == {"receipts_decided": 3, "receipts_waiting": 1, "rewards": 1, "reward_minor": 1_000}


async def test_poison_is_buried_alone_and_a_repeat_is_met_by_the_inbox(database: Database) -> None:
    listening = next(entry for entry in LISTENING if entry.handler == "referrals_rewards_confirmed")
    handler = Handler(listening, referrals_rewards_confirmed, database)
    partner, payers = uuid4(), [uuid4() for _ in range(20)]
    await hear(database, *(started(payer, partner) for payer in payers))
    letters = [letter(confirmed(payer, -1 if place == 13 else 1_000)) for place, payer in enumerate(payers)]
    first = await handler.absorb(letters)
    again = await handler.absorb(letters)
    assert (first.done, first.buried, again.repeated) == (19, 1, 20)
    assert await broken(database) == {"no letter lies buried"}
    assert await database.fetchval("select sum(reward_minor) from rewards") == 1_900


async def test_a_receipt_that_comes_again_as_another_is_an_alarm_and_no_reward(database: Database) -> None:
    """I12: never a silent success, even when the inbox has forgotten the first."""
    partner, payer, receipt = uuid4(), uuid4(), uuid4()
    await hear(database, started(payer, partner))
    await hear(database, confirmed(payer, 10_000, receipt=receipt))
    await hear(database, confirmed(payer, 999_999, receipt=receipt, cause="another charge"))
    assert await broken(database) == {"the same id never came with other fields"}
    assert await database.fetchval("select sum(reward_minor) from rewards") == 1_000


async def test_a_receipt_of_two_payers_at_one_moment_counts_for_one_partner(database: Database) -> None:
    """Different partners, so no lock is shared: the second transaction writes nothing, and its repeat is an alarm."""
    receipt, first, second = uuid4(), uuid4(), uuid4()
    await hear(database, started(first, uuid4()), started(second, uuid4()))
    other = confirmed(second, receipt=receipt, cause="another charge")
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(first, receipt=receipt)], tx)
        racing = asyncio.create_task(hear(database, other))
        await waits_for_a_lock(racing, database)
    with pytest.raises(ReceiptTakenError):
        await racing
    assert await broken(database) == set()
    await hear(database, other)
    assert await broken(database) == {"the same id never came with other fields"}


async def test_a_receipt_of_two_payers_without_partners_at_one_moment_is_an_alarm_too(database: Database) -> None:
    """I12: where nobody is rewarded nobody is locked either, and still one of the two is not true."""
    receipt, first, second = uuid4(), uuid4(), uuid4()
    await hear(database, started(first), started(second))
    other = confirmed(second, receipt=receipt, cause="another charge")
    async with database.transaction() as tx:
        await referrals_rewards_confirmed([confirmed(first, receipt=receipt)], tx)
        racing = asyncio.create_task(hear(database, other))
        await waits_for_a_lock(racing, database)
    await racing
    assert await broken(database) == {"the same id never came with other fields"}
