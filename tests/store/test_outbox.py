"""The outbox: one id with two contents is a conflict at its owner."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

from shared.contracts.bot import PersonStarted
from shared.messaging import outbox
from tests.kit.messaging import Pair
from tests.kit.sessions import waits_for_a_lock

CONFLICTS_OF = "select count(*) from conflicts where event_id = $1"
CODE_OF = "select body ->> 'code' from events where id = $1"


async def test_two_transactions_with_two_contents_conflict(
    pair: Pair,
) -> None:
    """M-22: two transactions of the owner publish one id with different fields at once."""
    person = uuid4()

    def event(code: str) -> PersonStarted:
        return PersonStarted.caused_by(
            person, about=person, at=datetime.now(UTC), code=code, invited_by=None
        )

    async def publish(code: str) -> None:
        async with pair.publisher.transaction() as tx:
            await outbox.publish(tx, [event(code)])

    async with pair.publisher.transaction() as tx:
        await outbox.publish(tx, [event("r_1")])
        second = asyncio.create_task(publish("r_2"))
        await waits_for_a_lock(second, pair.publisher)
    await second
    id_ = event("r_1").id
    assert await pair.publisher.fetchval(CODE_OF, id_) == "r_1"
    assert await pair.publisher.fetchval(CONFLICTS_OF, id_) == 1


async def test_one_publication_with_two_contents_conflicts(pair: Pair) -> None:
    person = uuid4()
    async with pair.publisher.transaction() as tx:
        now = await tx.now()
        events = [
            PersonStarted.caused_by(person, about=person, at=now, code=c, invited_by=None)
            for c in ("r_1", "r_2")
        ]
        await outbox.publish(tx, events)
    code = await pair.publisher.fetchval(CODE_OF, events[0].id)
    assert code == "r_1", "the first counts"
    assert await pair.publisher.fetchval(CONFLICTS_OF, events[0].id) == 1


async def test_a_later_publication_with_other_fields_conflicts(pair: Pair) -> None:
    person = uuid4()
    for code in ("r_one", "r_two"):
        async with pair.publisher.transaction() as tx:
            event = PersonStarted.caused_by(
                person, about=person, at=await tx.now(), code=code, invited_by=None
            )
            await outbox.publish(tx, [event])
    told = await pair.publisher.fetch("select body from events where id = $1", event.id)
    assert [json.loads(row["body"])["code"] for row in told] == ["r_one"]
    assert await pair.publisher.fetchval(CONFLICTS_OF, event.id) == 1
