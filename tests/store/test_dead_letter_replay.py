"""Replaying a dead letter: once, in one transaction, over the bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from shared.contracts.bot import PaymentReported
from shared.contracts.message import Refused, derived_id
from shared.contracts.operations import ReplayDeadLetter
from shared.contracts.vpn import Replayed
from shared.messaging.rpc import Bus
from shared.platform.db import Database, Tx
from shared.service import Service
from tests.kit.living import living, settings
from tests.kit.messaging import message_of
from tests.kit.operators import by_operator
from tests.kit.reports import reported
from tests.kit.servers import FreshDatabase

HANDLER = "payments_confirms_reported"

# A row that the app role of any service may write and that no other test reads.
WRITE = """
insert into conflicts (where_seen, event_id, digest_known, digest_received)
values ('test', $1, 0, 0)
"""
WRITTEN = "select count(*) from conflicts where where_seen = 'test' and event_id = $1"
DEAD_LETTER_OF = "select id, replayed_at from dead_letters where event_id = $1"
OUTCOME_OF = "select outcome from inbox where event_id = $1"
REFUSALS = """
select outcome, answer ->> 'reason' as reason
from commands
where request ->> 'dead_letter' = $1
"""


class Counting:
    """A handler that writes one row per event, and may fail after that."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    async def __call__(self, events: Sequence[PaymentReported], tx: Tx) -> None:
        for event in events:
            await tx.execute(WRITE, derived_id("written by", event.id))
        if self.fails is not None:
            raise self.fails


def replay(dead_letter: int) -> ReplayDeadLetter:
    return ReplayDeadLetter.of("payments")(**by_operator("support"), dead_letter=dead_letter)


@asynccontextmanager
async def asking(wiped_url: str) -> AsyncIterator[Bus]:
    bus = Bus(wiped_url, "test")
    await bus.open()
    yield bus
    await bus.close()


async def dead_lettered(subject: Service, handle: Counting) -> PaymentReported:
    """An event that was dead-lettered for a data error."""
    event = reported()
    handle.fails = asyncpg.NumericValueOutOfRangeError("too large")
    outcome = await subject.handlers[HANDLER].handle_batch([message_of(event)])
    assert outcome.dead_lettered == 1
    handle.fails = None
    return event


async def test_a_dead_letter_is_replayed_over_the_bus(
    place: FreshDatabase, store: Database, wiped_url: str
) -> None:
    """M-08: it is handled once its cause is fixed, once, however often the operator asks."""
    subject, handle = (
        Service("payments", settings(place.dsn("payments_app"), wiped_url)),
        Counting(),
    )
    subject.subscribes(HANDLER, handle)
    async with living(subject), asking(wiped_url) as bus:
        event = await dead_lettered(subject, handle)
        written = derived_id("written by", event.id)
        assert await store.fetchval(WRITTEN, written) == 0, "what failed left nothing"
        dead_letter = await store.fetchval(DEAD_LETTER_OF, event.id)
        first = replay(dead_letter)
        assert await bus.execute(first) == Replayed(replayed=1)
        assert await bus.execute(first) == Replayed(replayed=1), "a repeat gets the stored answer"
        assert await bus.execute(replay(dead_letter)) == Refused(reason="dead_letter_unknown")
        assert await store.fetchval(WRITTEN, written) == 1
        assert await store.fetchval(OUTCOME_OF, event.id) == "done"
        assert await bus.execute(replay(10**9)) == Refused(reason="dead_letter_unknown")


async def test_concurrent_replays_act_once(
    place: FreshDatabase, store: Database, wiped_url: str
) -> None:
    subject, handle = (
        Service("payments", settings(place.dsn("payments_app"), wiped_url)),
        Counting(),
    )
    subject.subscribes(HANDLER, handle)
    async with living(subject), asking(wiped_url) as bus:
        event = await dead_lettered(subject, handle)
        dead_letter = await store.fetchval(DEAD_LETTER_OF, event.id)

        async def replayed() -> Replayed | Refused:
            return await bus.execute(replay(dead_letter))

        answers = await asyncio.gather(*(replayed() for _ in range(5)))
        assert answers.count(Replayed(replayed=1)) == 1
        assert answers.count(Refused(reason="dead_letter_unknown")) == 4
        assert await store.fetchval(WRITTEN, derived_id("written by", event.id)) == 1


async def test_a_failing_replay_leaves_nothing_half_done(
    place: FreshDatabase, store: Database, wiped_url: str
) -> None:
    """M-17: the operator sees the cause; the dead letter stays and can be replayed later."""
    subject, handle = (
        Service("payments", settings(place.dsn("payments_app"), wiped_url)),
        Counting(),
    )
    subject.subscribes(HANDLER, handle)
    async with living(subject), asking(wiped_url) as bus:
        event = await dead_lettered(subject, handle)
        dead_letter = await store.fetchval(DEAD_LETTER_OF, event.id)
        handle.fails = ValueError("not yet mended")
        again = await bus.execute(replay(dead_letter))
        assert again == Refused(reason="still_failing", detail="ValueError: not yet mended")
        assert await store.fetchval(WRITTEN, derived_id("written by", event.id)) == 0
        row = await store.fetchrow(DEAD_LETTER_OF, event.id)
        assert row is not None
        assert row["replayed_at"] is None
        assert await store.fetchval(OUTCOME_OF, event.id) == "dead_lettered"
        assert [tuple(one) for one in await store.fetch(REFUSALS, str(dead_letter))] == [
            ("refused", "still_failing")
        ]
        handle.fails = None
        assert await bus.execute(replay(dead_letter)) == Replayed(replayed=1)
