"""Bindings to partners on a real PostgreSQL: once, for ever, without circles, also in races."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from referrals.queries import answer_invitations
from shared.contracts.referrals import InvitationsQuery
from shared.platform.db import Database
from tests.kit.referrals import broken, handle, started
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import HANG_S

PARTNER_OF = "select partner from people where person = $1"
REASON_OF = "select reason from refusals where person = $1"
PUBLISHED = """
select body ->> 'about' as about, trace
from events
where topic = 'referrals.invitation.registered' and body ->> 'invitee' = $1
"""


@pytest.fixture(scope="module")
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    fresh = await fresh_database("referrals")
    opened = Database(fresh.dsn("referrals_app"), name="test", size=20)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
async def _invariants_hold(database: Database) -> AsyncIterator[None]:
    yield
    assert await broken(database) == set()


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("turnpike_invitations_refused_total", {"reason": reason}) or 0


async def test_an_invitee_is_bound_registered_and_published(database: Database) -> None:
    """D-02, D-03, D-04: the invitation of a first /start is stored on a fresh database."""
    partner, invitee = uuid4(), uuid4()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await handle(database, started(partner))
    await handle(database, started(invitee, partner, code="r_code").continuing(trace))
    assert await database.fetchval(PARTNER_OF, invitee) == partner
    event = await database.fetchrow(PUBLISHED, str(invitee))
    assert event is not None
    assert (event["about"], event["trace"]) == (str(partner), trace)
    counts = await answer_invitations(InvitationsQuery(person=partner), database)
    assert (counts.invited, counts.paying, counts.percent) == (1, 0, 10)


async def test_a_later_start_never_changes_a_binding(database: Database) -> None:
    first, second, invitee = uuid4(), uuid4(), uuid4()
    await handle(database, started(first), started(second), started(invitee, first))
    counted = refused("started_before")
    again = started(invitee, second, cause="another life", after_s=1)
    await handle(database, again)
    await handle(database, again)
    assert await database.fetchval(PARTNER_OF, invitee) == first
    assert await database.fetchval(REASON_OF, invitee) == "started_before"
    assert refused("started_before") == counted + 1


@pytest.mark.parametrize(
    "statement",
    ["update people set partner = gen_random_uuid()", "delete from people", "delete from rewards"],
)
async def test_the_service_cannot_rewrite_its_history(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(statement)


async def test_refusals_are_kept_and_counted_by_reason(database: Database) -> None:
    """S-11."""
    oneself, guessing = uuid4(), uuid4()
    before = refused("oneself"), refused("code_unknown")
    await handle(
        database, started(oneself, oneself, code="r_mine"), started(guessing, code="r_guessed")
    )
    assert await database.fetchval(REASON_OF, oneself) == "oneself"
    assert await database.fetchval(REASON_OF, guessing) == "code_unknown"
    assert (refused("oneself"), refused("code_unknown")) == (before[0] + 1, before[1] + 1)


async def test_a_partner_may_start_after_the_invitee(database: Database) -> None:
    partner, invitee = uuid4(), uuid4()
    await handle(database, started(invitee, partner))
    await handle(database, started(partner))
    assert await database.fetchval(PARTNER_OF, invitee) == partner


async def test_a_missing_start_closes_no_circle(database: Database) -> None:
    a, b, c = uuid4(), uuid4(), uuid4()
    await handle(database, started(a, b))
    await handle(database, started(b, c))
    await handle(database, started(c, a))
    assert await database.fetchval(PARTNER_OF, c) is None
    assert await database.fetchval(REASON_OF, c) == "loop"


@pytest.mark.parametrize("length", [2, 3, 7])
async def test_racing_starts_close_no_circle(database: Database, length: int) -> None:
    for _ in range(10):
        circle = [uuid4() for _ in range(length)]
        pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
        await asyncio.gather(
            *(handle(database, started(person, inviter)) for person, inviter in pairs)
        )
        partners = [await database.fetchval(PARTNER_OF, person) for person in circle]
        assert partners.count(None) == 1


async def test_ten_replicas_bind_one_start_once(database: Database) -> None:
    partner, invitee = uuid4(), uuid4()
    await asyncio.gather(*(handle(database, started(invitee, partner)) for _ in range(10)))
    counts = await answer_invitations(InvitationsQuery(person=partner), database)
    assert counts.invited == 1
    assert len(await database.fetch(PUBLISHED, str(invitee))) == 1


async def test_a_chain_of_two_thousand_is_walked(database: Database) -> None:
    """It takes some 0.1 s."""
    chain = [uuid4() for _ in range(2_000)]
    pairs: list[tuple[UUID, UUID | None]] = [(chain[0], None), *zip(chain[1:], chain, strict=False)]
    await handle(
        database,
        *(
            started(person, inviter, after_s=second)
            for second, (person, inviter) in enumerate(pairs)
        ),
    )
    async with asyncio.timeout(HANG_S):
        await handle(database, *(started(uuid4(), chain[-1]) for _ in range(100)))
    counts = await answer_invitations(InvitationsQuery(person=chain[-1]), database)
    assert counts.invited == 100
