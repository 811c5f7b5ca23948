"""Who is bound to whom on a real PostgreSQL: once, for ever, without circles, whoever races."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from referrals.answers import answer_invitations
from shared.db import Database
from shared.questions import AskInvitations
from tests.kit.referrals import broken, hear, started
from tests.kit.servers import MakeDatabase

PARTNER_OF = "select partner from people where person = $1"
REASON_OF = "select reason from refusals where person = $1"
TOLD = "select body->>'about' as about, trace from facts where topic = $1 and body->>'invitee' = $2"


@pytest.fixture(scope="module")
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("referrals")).dsn("referrals_app"), name="test", size=20)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
async def _invariants_hold(database: Database) -> AsyncIterator[None]:
    yield
    assert await broken(database) == set()


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("turnpike_invitations_refused_total", {"reason": reason}) or 0


async def test_an_invitee_is_bound_registered_and_told_of(database: Database) -> None:
    """D-02, D-03, D-04: the invitation that a first /start carries is stored on a fresh database."""
    partner, invitee = uuid4(), uuid4()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await hear(database, started(partner))
    await hear(database, started(invitee, partner, code="r_code").continuing(trace))
    assert await database.fetchval(PARTNER_OF, invitee) == partner
    told = await database.fetchrow(TOLD, "referrals.invitation.registered", str(invitee))
    assert told is not None
    assert (told["about"], told["trace"]) == (str(partner), trace)
    standing = await answer_invitations(AskInvitations(person=partner), database)
    assert (standing.invited, standing.paying, standing.percent) == (1, 0, 10)


async def test_a_binding_is_never_changed_by_a_later_start(database: Database) -> None:
    first, second, invitee = uuid4(), uuid4(), uuid4()
    await hear(database, started(first), started(second), started(invitee, first))
    counted = refused("started_before")
    again = started(invitee, second, cause="another life", after_s=1)
    await hear(database, again)
    await hear(database, again)
    assert await database.fetchval(PARTNER_OF, invitee) == first
    assert await database.fetchval(REASON_OF, invitee) == "started_before"
    assert refused("started_before") == counted + 1


@pytest.mark.parametrize(
    "statement", ["update people set partner = gen_random_uuid()", "delete from people", "delete from rewards"]
)
async def test_the_service_may_not_rewrite_who_invited_whom(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(statement)


async def test_every_refusal_is_kept_and_counted_by_its_name(database: Database) -> None:
    """S-11."""
    oneself, guessing = uuid4(), uuid4()
    before = refused("oneself"), refused("code_unknown")
    await hear(database, started(oneself, oneself, code="r_mine"), started(guessing, code="r_guessed"))
    assert await database.fetchval(REASON_OF, oneself) == "oneself"
    assert await database.fetchval(REASON_OF, guessing) == "code_unknown"
    assert (refused("oneself"), refused("code_unknown")) == (before[0] + 1, before[1] + 1)


async def test_a_partner_whose_start_comes_later_is_a_partner(database: Database) -> None:
    partner, invitee = uuid4(), uuid4()
    await hear(database, started(invitee, partner))
    await hear(database, started(partner))
    assert await database.fetchval(PARTNER_OF, invitee) == partner


async def test_the_start_that_was_missing_does_not_close_a_circle(database: Database) -> None:
    a, b, c = uuid4(), uuid4(), uuid4()
    await hear(database, started(a, b))
    await hear(database, started(b, c))
    await hear(database, started(c, a))
    assert await database.fetchval(PARTNER_OF, c) is None
    assert await database.fetchval(REASON_OF, c) == "loop"


@pytest.mark.parametrize("length", [2, 3, 7])
async def test_starts_at_the_same_moment_do_not_close_a_circle(database: Database, length: int) -> None:
    for _ in range(10):
        circle = [uuid4() for _ in range(length)]
        pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
        await asyncio.gather(*(hear(database, started(person, inviter)) for person, inviter in pairs))
        partners = [await database.fetchval(PARTNER_OF, person) for person in circle]
        assert partners.count(None) == 1


async def test_ten_replicas_that_hear_one_start_bind_it_once(database: Database) -> None:
    partner, invitee = uuid4(), uuid4()
    await asyncio.gather(*(hear(database, started(invitee, partner)) for _ in range(10)))
    standing = await answer_invitations(AskInvitations(person=partner), database)
    assert standing.invited == 1
    assert len(await database.fetch(TOLD, "referrals.invitation.registered", str(invitee))) == 1


async def test_a_chain_of_two_thousand_is_walked_to_its_end(database: Database) -> None:
    chain = [uuid4() for _ in range(2_000)]
    pairs: list[tuple[UUID, UUID | None]] = [(chain[0], None), *zip(chain[1:], chain, strict=False)]
    await hear(database, *(started(person, inviter, after_s=place) for place, (person, inviter) in enumerate(pairs)))
    began = time.perf_counter()
    await hear(database, *(started(uuid4(), chain[-1]) for _ in range(100)))
    assert time.perf_counter() - began < 3  # Some 0.1 s; a hang limit.
    standing = await answer_invitations(AskInvitations(person=chain[-1]), database)
    assert standing.invited == 100
