"""The relay: it publishes what is pending, and republishes three days to a stream that changed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.messaging import jetstream, outbox
from shared.messaging.jetstream import Acknowledged, Outgoing
from shared.messaging.nats import Client
from shared.messaging.relay import Relay
from shared.messaging.rpc import Bus
from shared.platform import telemetry
from tests.kit.messaging import STARTED, Pair
from tests.kit.proxy import Proxy
from tests.kit.waiting import HANG_S, until
from turnpike_local.broker import Broker

SEQ_OF = "select seq from events where id = $1"
ALL_PENDING = "select seq from outbox"


async def test_a_faster_relay_causes_no_republication(pair: Pair) -> None:
    """A second replica publishes and remembers while this one still compares the stream."""
    async with pair.open(consuming=False):
        await pair.publish(5)
        await pair.until_published()
        relay = Relay(pair.publisher, pair.bus.client, "bot")
        async with pair.publisher.held() as connection:
            await relay.compare_stream(connection)

            class Behind:
                """A connection whose second read finds what another relay remembered meanwhile."""

                async def fetchval(self, sql: str, *args: object) -> object:
                    return await connection.fetchval(sql, *args)

                async def fetchrow(self, sql: str, *args: object) -> object:
                    await connection.execute(
                        "update streams set sequence = sequence + 3 where name = 'EVT_BOT'"
                    )
                    return await connection.fetchrow(sql, *args)

                def __getattr__(self, name: str) -> Any:
                    return getattr(connection, name)

            await relay.compare_stream(Behind())
            await connection.execute(
                "update streams set sequence = sequence - 3 where name = 'EVT_BOT'"
            )
        assert await pair.publisher.fetchval("select count(*) from outbox") == 0


async def test_a_lost_connection_ends_the_round(
    pair: Pair, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-04: the link goes silent during a round and then drops.

    The round ends at once, and is repeated after the reconnect.
    """
    monkeypatch.setattr("shared.messaging.relay.ROUND_TIMEOUT_S", 10 * HANG_S)
    monkeypatch.setattr(jetstream, "PUBLISH_TIMEOUT_S", 10 * HANG_S)
    async with Proxy(broker.port) as link:
        through = Pair(
            pair.publisher, pair.subscriber, pair.url.replace(f":{broker.port}", f":{link.port}")
        )
        async with through.open(consuming=False):
            await through.publish()
            await pair.until_published()
            link.cut("silent")
            await through.publish()
            await until(lambda: _relay_holds_events(pair))
            link.cut("severed")
            link.mend()
            await pair.until_published()


async def _relay_holds_events(pair: Pair) -> bool:
    """A relay has locked the pending events."""
    async with pair.publisher.transaction() as tx:
        return not await tx.fetch("select from outbox for update skip locked")


async def test_only_clearing_the_outbox_skips_the_flush(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-33: the relay's connection does not wait for a flush.

    A transaction that publishes or republishes does.
    """
    asked = asyncio.Queue[str]()
    relay_over = Relay._relay_over

    async def ask_first(relay: Relay, connection: Any, stopping: asyncio.Event) -> None:
        asked.put_nowait(await connection.fetchval("show synchronous_commit"))
        await relay_over(relay, connection, stopping)

    async def put_back(_: Relay, connection: Any) -> int:
        asked.put_nowait(await connection.fetchval("show synchronous_commit"))
        return 0

    monkeypatch.setattr(Relay, "_relay_over", ask_first)
    monkeypatch.setattr(Relay, "_republish_recent", put_back)
    await pair.publisher.execute(outbox.FORGET_STREAMS)
    async with pair.open():
        assert await asyncio.wait_for(asked.get(), HANG_S) == "off"
        assert await asyncio.wait_for(asked.get(), HANG_S) == "on", (
            "a republication waits for the flush"
        )
        async with pair.publisher.transaction() as tx:
            assert await tx.fetchval("show synchronous_commit") != "off"


async def test_a_refused_event_stays_pending_alone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that the broker refuses is put back in the same transaction, and blocks no other."""
    events = await pair.publish(2)
    refused = await pair.publisher.fetchval(SEQ_OF, events[0].id)
    publish_each = jetstream.publish_each

    async def refusing(client: Client, messages: Sequence[Outgoing]) -> list[Acknowledged | None]:
        ids = [one.headers["Nats-Msg-Id"] for one in messages]
        refuse = [one == str(events[0].id) for one in ids]
        sent = [one for one, no in zip(messages, refuse, strict=True) if not no]
        answers = await publish_each(client, sent)
        return [None if no else answers.pop(0) for no in refuse]

    monkeypatch.setattr(jetstream, "publish_each", refusing)
    async with pair.open():
        await pair.until_handled(events[1:])

        # The handler may be done before the relay has committed. In a new stream the event is
        # pending twice: live, and republished.
        async def alone() -> bool:
            return {row["seq"] for row in await pair.publisher.fetch(ALL_PENDING)} == {refused}

        await until(alone)
        monkeypatch.undo()
        await pair.until_handled(events)


async def test_a_wiped_broker_gets_everything_republished(pair: Pair, broker: Broker) -> None:
    async with pair.open():
        before = await pair.publish(300)
        await pair.until_handled(before)
        await broker.wipe()
        after = await pair.publish(3)
        await pair.until_handled(after)
        await pair.until_published()
        assert (await pair.stream())["state"]["messages"] >= 303, (
            "the recreated stream holds the last three days"
        )
        assert len(pair.handled) == len(set(pair.handled))


async def test_a_stream_restored_from_a_copy_is_refilled(pair: Pair) -> None:
    """The broker's disk is an older copy: same incarnation, fewer messages than it acknowledged."""
    async with pair.open(consuming=False):
        await pair.publish(5)
        await pair.until_published()
        config, state = (await pair.stream())["config"], (await pair.stream())["state"]

        async def remembered() -> bool:
            known = await pair.publisher.fetchval(
                "select sequence from streams where name = 'EVT_BOT'"
            )
            return bool(known == state["last_seq"])

        await until(remembered)
        await pair.replace_stream(config)
        assert (await pair.stream())["config"]["metadata"] == config["metadata"], (
            "the same incarnation"
        )
    async with pair.open(consuming=False):
        events = await pair.publisher.fetchval("select count(*) from events")

        async def republished() -> bool:
            return bool((await pair.stream())["state"]["messages"] == events)

        await until(republished)


async def test_a_stream_that_went_back_is_republished(
    pair: Pair,
) -> None:
    """W-27: new events lift an older copy above the remembered sequence, and hide what it lost."""
    async with pair.open(consuming=False):
        await pair.publish(5)
        await pair.until_published()
        config = (await pair.stream())["config"]
        await pair.replace_stream(config)
        await pair.publish(100)
        events = await pair.publisher.fetchval("select count(*) from events")

        async def republished() -> bool:
            return bool((await pair.stream())["state"]["messages"] == events)

        await until(republished)


async def test_one_of_two_relays_republishes_in_pages(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-27: after a stream is deleted, one relay republishes it, page by page.

    The other ignores its own sequences of the deleted stream.
    """
    monkeypatch.setattr("shared.messaging.relay.REPUBLISHED_PER_STATEMENT", 3)
    bus = Bus(pair.url, "relays")
    await bus.open()
    pair.bus = bus
    first, second = (Relay(pair.publisher, bus.client, "bot") for _ in range(2))
    async with pair.publisher.held() as connection:
        for relay in (first, second):
            await relay.compare_stream(connection)
            await pair.publish(50)
            while await relay.publish_pending(connection):
                pass
        for relay in (first, second):
            relay._highest = relay._acknowledged = (
                1_000_000  # As of a stream that is older than what is republished.
            )
        await pair.api(f"STREAM.DELETE.{STARTED.stream}")
        events = await pair.publisher.fetchval("select count(*) from events")
        before = telemetry.EVENTS_REPUBLISHED.labels("bot")._value.get()
        for relay in (second, first):
            await relay.compare_stream(connection)
        while await second.publish_pending(connection):
            pass
        assert (await pair.stream())["state"]["messages"] == events
        await pair.publish(1)
        assert await first.publish_pending(connection) == 1
        await first.compare_stream(connection)
    await bus.close()
    assert telemetry.EVENTS_REPUBLISHED.labels("bot")._value.get() == before + events
