"""A handler that dead-letters everything pauses, and goes on by itself."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest

from shared.contracts import streams
from shared.contracts.bot import PaymentReported
from shared.messaging import consumer, inbox
from shared.messaging.jetstream import ensure_stream
from shared.messaging.nats import connect
from shared.platform import telemetry
from shared.platform.db import Database, Tx
from shared.platform.loops import set_within
from shared.service import Service
from tests.kit.living import living, settings
from tests.kit.messaging import message_of
from tests.kit.reports import reported
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import until

HANDLER = "payments_confirms_reported"
PAUSE_S = 0.27  # No other wait of a consumer is as long.
DEAD_LETTERED = "select event_id from dead_letters"


async def test_a_paused_handler_continues(
    place: FreshDatabase, store: Database, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M-08: no restart is needed: once the cause is fixed, the rest is handled."""
    monkeypatch.setattr(consumer, "PAUSE_AFTER_DEAD_LETTERS_S", PAUSE_S)
    client = await connect(wiped_url)
    await ensure_stream(client, "bot")
    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    broken, taken = True, set[UUID]()

    async def receives(events: Sequence[PaymentReported], tx: Tx) -> None:
        if broken:
            raise asyncpg.NumericValueOutOfRangeError("too large")
        tx.after_commit(lambda: taken.update(event.id for event in events))

    subject.subscribes(HANDLER, receives)
    events = [reported() for _ in range(inbox.DEAD_LETTERS_PER_MINUTE + 10)]
    gauge = telemetry.HANDLER_STOPPED.labels(HANDLER)
    gauge.set(0)
    paused = list[float]()

    async def mended_meanwhile(stopping: asyncio.Event, within_s: float) -> bool:
        nonlocal broken
        if within_s == PAUSE_S:
            broken = False
            paused.append(gauge._value.get())
        return await set_within(stopping, within_s)

    monkeypatch.setattr(consumer, "set_within", mended_meanwhile)
    async with living(subject) as life:
        for event in events:
            one = message_of(event)
            await client.request(one.subject, one.body, headers=dict(one.headers))
        await until(lambda: paused == [1] and gauge._value.get() == 0)
        dead = {row["event_id"] for row in await store.fetch(DEAD_LETTERED)}
        await until(lambda: {event.id for event in events} - dead <= taken)
        assert len({event.id for event in events} & dead) == inbox.DEAD_LETTERS_PER_MINUTE + 1
        assert not life.done()
    assert await life == 0
    await client.close()


async def test_a_pausing_handler_gives_back_its_messages(
    place: FreshDatabase, store: Database, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M-08: a fault outside the messages does not dead-letter the whole stream.

    The gauge shows the pause, and another replica goes on. Nothing is left to its time-out, which
    is an hour here.
    """
    monkeypatch.setattr(streams, "ACK_WAIT_S", 3600.0)
    client = await connect(wiped_url)
    await ensure_stream(client, "bot")
    events = [reported() for _ in range(inbox.DEAD_LETTERS_PER_MINUTE + 10)]
    broken, whole = (
        Service("payments", settings(place.dsn("payments_app"), wiped_url)) for _ in range(2)
    )
    seen: set[UUID] = set()

    async def fails(_: Sequence[PaymentReported], tx: Tx) -> None:
        await tx.execute("select 1 / 0")

    async def receives(events: Sequence[PaymentReported], tx: Tx) -> None:
        tx.after_commit(lambda: seen.update(event.id for event in events))

    broken.subscribes(HANDLER, fails)
    whole.subscribes(HANDLER, receives)
    gauge = telemetry.HANDLER_STOPPED.labels(HANDLER)
    gauge.set(0)
    for event in events:
        one = message_of(event)
        await client.request(one.subject, one.body, headers=dict(one.headers))
    async with living(broken) as life:
        await until(lambda: gauge._value.get() == 1)
        assert not life.done(), "the other loops go on"
        dead_lettered_ids = {row["event_id"] for row in await store.fetch(DEAD_LETTERED)}
        safe = {event.id for event in events} - dead_lettered_ids
        assert (
            len({event.id for event in events} & dead_lettered_ids)
            == inbox.DEAD_LETTERS_PER_MINUTE + 1
        )
        async with living(whole):
            await until(lambda: safe <= seen)
        assert seen == safe
    assert await life == 0
    gauge.set(0)
    await client.close()
