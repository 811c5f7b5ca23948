"""Receiving from JetStream: natural batches, lost durables, lost brokers, lost databases."""

import asyncio

import pytest

from shared.messaging.consumer import StandingPull
from tests.kit.messaging import STARTED, Pair
from turnpike_local.broker import Broker

END_SESSIONS = """
select pg_terminate_backend(pid)
from pg_stat_activity
where application_name = 'subscriber'
  and pid <> pg_backend_pid()
  and usename = current_user
"""
LOST = "select count(*) from dead_letters where reason like '%connection%'"


async def test_events_are_handled_once_in_natural_batches(pair: Pair) -> None:
    async with pair.open():
        await pair.until_handled(await pair.publish())
        many = [event for _ in range(4) for event in await pair.publish(250)]
        await pair.until_handled(many)
        assert len(pair.handled) == len(set(pair.handled)) == 1001
        assert max(pair.batches) > 1, "under load a batch takes what has arrived"
        await pair.until_published()


async def test_a_cancel_during_an_arrival_ends_the_wait(pair: Pair) -> None:
    """R-15, W-24: a cancelled wait must not go on with a message that arrives at that moment."""
    async with pair.open(consuming=False):
        pull = StandingPull(pair.bus.client, pair.handler(), replicas=1)
        for arrived in (pull._arrived.set, lambda: None):
            waiting = asyncio.create_task(pull.take(1, asyncio.Event()))
            await asyncio.sleep(0)  # It begins, and no time passes: its wait has an end.
            arrived()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting


async def test_a_deleted_durable_begins_at_the_start(pair: Pair) -> None:
    async with pair.open():
        await pair.until_handled(await pair.publish())
        await pair.bus.client.request(
            f"$JS.API.CONSUMER.DELETE.{STARTED.stream}.{STARTED.handler}", b"", 2
        )
        await pair.until_handled(await pair.publish())
        assert len(pair.handled) == len(set(pair.handled))


async def test_a_killed_broker_is_reconnected(pair: Pair, broker: Broker) -> None:
    async with pair.open():
        await pair.until_handled(await pair.publish())
        broker.kill()
        await broker.child.wait()
        events = await pair.publish(5)
        await broker.restart()
        await pair.until_handled(events)
        assert len(pair.handled) == len(set(pair.handled))


async def test_a_lost_database_costs_no_event(pair: Pair) -> None:
    """Lost connections repeat the batch; they dead-letter nothing."""
    async with pair.open():
        await pair.until_handled(await pair.publish())
        for _ in range(5):
            events = await pair.publish(40)
            await pair.subscriber.fetch(END_SESSIONS)
            await pair.until_handled(events)
        assert len(pair.handled) == len(set(pair.handled))
        assert await pair.subscriber.fetchval(LOST) == 0
