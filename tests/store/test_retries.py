"""Messages that failed wait as rows: they fill no limit of the broker, and replicas share them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.contracts import streams
from shared.contracts.bot import PersonStarted
from shared.messaging import failures, retries
from shared.messaging.inbox import Handler
from shared.messaging.jetstream import consumer_lag
from shared.messaging.retries import retry_due
from shared.platform import iterations
from shared.platform.db import Tx
from tests.kit.messaging import ALL_ARE_DUE, STARTED, Pair, message_of
from tests.kit.sessions import waits_for_a_lock
from tests.kit.waiting import until

WAITING = "select count(*) from failed_attempts"
ROW_OF = """
select a.*, a.headers::text as headers_text, a.run_at > now() as later, i.outcome
from failed_attempts a
join inbox i using (handler, event_id)
where event_id = $1
"""
OUTCOME_OF = "select outcome from inbox where event_id = $1"


@pytest.fixture(autouse=True)
async def nothing_waits(pair: Pair) -> None:
    await pair.subscriber.execute("delete from failed_attempts")


async def test_waiting_messages_do_not_starve_a_handler(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-42: more of them than the broker delivers unacknowledged; a later event is handled."""
    monkeypatch.setattr(streams, "MAX_ACK_PENDING", 50)
    monkeypatch.setattr(failures, "RETRY_S", (3600.0,) * 4)
    pair.fails = lambda event: RuntimeError("ours") if event.code == "r_failing" else None
    async with pair.open():
        await pair.publish(60, code="r_failing")
        await pair.until_published()
        await pair.until_handled(await pair.publish())

        async def all_wait() -> bool:
            return bool(await pair.subscriber.fetchval(WAITING) == 60)

        await until(all_wait)
        assert (await consumer_lag(pair.bus.client))[STARTED.handler] == 0
        pair.fails = lambda _: None
        await pair.subscriber.execute(ALL_ARE_DUE)

        async def none_waits() -> bool:
            return bool(await pair.subscriber.fetchval(WAITING) == 0)

        await until(none_waits)
        assert len(pair.handled) == len(set(pair.handled)) == 61


async def test_a_waiting_message_keeps_its_bytes(pair: Pair) -> None:
    """W-42: the broker may forget it. Its repeat from the broker is a repeat, and no try."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        message = message_of(event, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
        pair.fails = lambda _: RuntimeError("ours")
        assert (await pair.handler().handle_batch([message])).retried == 1
        row = await pair.subscriber.fetchrow(ROW_OF, event.id)
        assert row is not None
        assert (row["tries"], row["later"], row["outcome"]) == (1, True, "waiting")
        assert (row["subject"], bytes(row["body"])) == (message.subject, message.body)
        assert message.headers["traceparent"] in row["headers_text"]
        assert (await pair.handler().handle_batch([message])).repeated == 1
        assert pair.calls == 1
        assert await retry_due(pair.handler()) == 0, "it is not due yet"


async def test_replicas_share_what_is_due(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-08, W-09: each message is handled once, and a lease keeps it from the others."""
    monkeypatch.setattr(retries, "MAX_PER_BATCH", 7)
    async with pair.open(consuming=False):
        events = await pair.publish(20)
        pair.fails = lambda _: RuntimeError("ours")
        await pair.handler().handle_batch([message_of(event) for event in events])
        pair.fails = lambda _: None
        await pair.subscriber.execute(ALL_ARE_DUE)
        taken = await asyncio.gather(*(retry_due(pair.handler()) for _ in range(4)))
        assert sum(taken) == 20
        assert sorted(pair.handled) == sorted(event.id for event in events)


async def test_an_expired_lease_handles_nothing_twice(pair: Pair) -> None:
    """W-08: two replicas hold one message; the second waits for the first, and finds a repeat."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        pair.fails = lambda _: RuntimeError("ours")
        await pair.handler().handle_batch([message_of(event)])
        pair.fails = lambda _: None
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(events: Sequence[PersonStarted], tx: Tx) -> None:
            begun.set()
            await go_on.wait()
            await pair.handle(events, tx)

        await pair.subscriber.execute(ALL_ARE_DUE)
        first = asyncio.create_task(retry_due(Handler(STARTED, slowly, pair.subscriber)))
        await begun.wait()
        message = replace(message_of(event), waited=True)
        second = asyncio.create_task(pair.handler().handle_batch([message]))
        await waits_for_a_lock(second, pair.subscriber)
        go_on.set()
        assert (await first, (await second).repeated) == (1, 1)
        assert pair.handled == [event.id]
        assert await pair.subscriber.fetchval(OUTCOME_OF, event.id) == "done"


async def test_each_try_is_a_sign_of_life(pair: Pair) -> None:
    """W-85: a batch that is bisected, or waits for its database, may take longer than the limit."""
    turned: set[float] = set()
    async with pair.open(consuming=False):
        events = await pair.publish(2)
        with iterations.working("retry") as worker:

            def fails(_: PersonStarted) -> Exception:
                turned.add(worker.turned_at)
                return RuntimeError("ours")

            pair.fails = fails
            await pair.handler().handle_batch([message_of(event) for event in events])
    assert len(turned) == pair.calls == 3
