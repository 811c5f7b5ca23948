"""Which hours the anti-entropy check compares, on a real NATS and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.bot import PersonStarted
from shared.contracts.message import Refused
from shared.contracts.operations import HourlyChecksumsQuery
from shared.messaging import jetstream
from shared.messaging.inbox import Handler
from shared.messaging.jetstream import consumer_lag
from shared.messaging.nats import Client
from shared.messaging.retries import retry_due
from shared.operations import anti_entropy
from shared.operations.anti_entropy import HOUR, Compared, start_of_hour
from shared.operations.audit import FAILING
from tests.kit.anti_entropy import HANDLER, STARTED, Sides
from tests.kit.messaging import ALL_ARE_DUE

PENDING = "select id, republished from outbox join events using (seq)"


async def test_an_open_hour_is_not_compared(sides: Sides) -> None:
    """An event on its way is not a missing event."""
    hour = start_of_hour(await sides.publisher.fetchval("select now()"))
    await sides.publish(4, hour)
    assert await sides.compare() is None, "the handler has no durable yet"
    await sides.consume()
    await sides.subscriber.execute("delete from inbox")
    compared = await sides.compare()
    now = await sides.publisher.fetchval("select now()")
    assert compared == Compared() or start_of_hour(now) > hour, "unless it has closed meanwhile"


async def test_an_hour_with_pending_events_is_not_compared(
    sides: Sides, closed_hour: datetime
) -> None:
    """The broker was away for hours: no subscriber can have an event that is still pending."""
    await sides.publish(2, closed_hour)
    await sides.publish(2, closed_hour - HOUR)
    await sides.consume()
    await sides.stop_relay()
    (pending,) = await sides.publish(1, closed_hour, relayed=False)
    compared = await sides.compare()
    assert compared == Compared(hours=2), "two hours with events, one of them left out"
    await sides.publisher.execute("delete from outbox")
    assert await sides.compare() == Compared(hours=2, differing=1, republished=1)
    (row,) = await sides.publisher.fetch(PENDING)
    assert tuple(row) == (pending, True), "behind the live events"


async def test_an_unpassed_hour_is_not_compared(
    sides: Sides, closed_hour: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the handler has not acknowledged is not missing yet."""
    monkeypatch.setattr(jetstream, "CAUGHT_UP_WITHIN_S", 0.0)
    await sides.publish(1, closed_hour)
    await sides.consume()
    ids = await sides.publish(2, closed_hour)
    held = await sides.pull(2)
    assert await sides.compare() is None
    for message in held:
        await message.nak()
    await sides.consume()
    assert await sides.settled([*sides.handled])
    assert set(ids) <= set(sides.handled)


async def test_a_waiting_message_is_not_missing(sides: Sides, closed_hour: datetime) -> None:
    """W-42: it counts in its hour, so it is retried here and never republished."""
    ids = await sides.publish(3, closed_hour)
    sides.fails = RuntimeError("ours")
    await sides.consume()
    compared = await sides.compare()
    assert compared is not None
    assert (compared.hours, compared.differing, compared.republished) == (1, 0, 0)
    assert len(await sides.examples(FAILING)) == 3
    sides.fails = None
    await sides.subscriber.execute(ALL_ARE_DUE)
    assert await retry_due(Handler(STARTED, sides.handle, sides.subscriber)) == 3
    assert await sides.settled(ids)


async def test_a_handler_under_load_passes_its_hours(
    sides: Sides, closed_hour: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never quiescent.

    It must acknowledge what the stream held when it was asked, and no more.
    """
    await sides.publish(3, closed_hour)
    await sides.consume()
    (first,) = await sides.publish(1, closed_hour)
    held = await sides.pull(1)
    asked = asyncio.Event()
    api = jetstream.api

    async def watched(client: Client, call: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        answer = await api(client, call, *args, **kwargs)
        if call.startswith("CONSUMER"):
            asked.set()
        return answer

    monkeypatch.setattr(jetstream, "api", watched)
    caught_up = asyncio.create_task(jetstream.caught_up(sides.bus.client, STARTED))
    await asked.wait()
    assert not caught_up.done(), "one is not acknowledged"
    await sides.publish(5, closed_hour)
    await held[0].ack()
    assert (await caught_up).passed
    lag = (await consumer_lag(sides.bus.client))[HANDLER]
    assert lag == 5, f"the five after {first} are not handled"


async def test_hours_before_the_subscription_are_left_out(
    sides: Sides, closed_hour: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new handler receives what its stream holds; 30 days are not republished because of it."""
    monkeypatch.setattr(anti_entropy, "HOURS_PER_QUERY", 24)
    old, young = closed_hour.replace(hour=0) - HOUR, closed_hour
    ids = [*await sides.publish(2, old), *await sides.publish(2, young)]
    await sides.consume()
    await sides.forget([ids[0], ids[2]])
    added = replace(STARTED, since=f"{young:%Y-%m-%d}")
    compared = await sides.compare(subscription=added)
    assert compared is not None
    assert (compared.differing, compared.republished) == (1, 1)
    assert ids[0] not in [row["id"] for row in await sides.publisher.fetch(PENDING)]


async def test_checksums_of_foreign_events_are_refused(sides: Sides) -> None:
    """An answer of zero events would make every handled event an unknown one."""
    refused = await sides.bus.query(
        HourlyChecksumsQuery.of("bot")(event="payments.payment.confirmed", hours=1)
    )
    assert refused == Refused(reason="not_mine")


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        (anti_entropy.CHECKSUMS, (PersonStarted.topic, "closed", "closed"), "events_by_time"),
        (
            anti_entropy.PUBLISHED_IDS,
            (PersonStarted.topic, "closed", UUID(int=0), 10),
            "events_by_time",
        ),
        (anti_entropy.OWN, (HANDLER, "closed", "closed"), "inbox_by_hour"),
    ],
    ids=["the owner's checksums", "the owner's ids", "the subscriber's checksums"],
)
async def test_the_statements_of_an_hour_use_an_index(
    sides: Sides, closed_hour: datetime, statement: str, arguments: tuple[object, ...], index: str
) -> None:
    """An hour costs what its rows cost, however long the history is."""
    given = [closed_hour if argument == "closed" else argument for argument in arguments]
    async with sides.subscriber.transaction() as tx:
        await tx.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in await tx.fetch(f"explain {statement}", *given))
    assert index in plan, plan
