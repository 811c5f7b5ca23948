"""The rounds of the anti-entropy check: which replica compares, when, and how much at once."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from shared.contracts.streams import SUBSCRIPTIONS
from shared.operations import anti_entropy
from shared.operations.anti_entropy import HOUR, Compared
from tests.kit.anti_entropy import STARTED, Sides

ALL_DUE = "update comparisons set due_at = now()"
REPUBLISHES = "select count(*) from commands where topic = 'bot.republish' and outcome = 'done'"


async def test_two_replicas_make_one_try(sides: Sides, closed_hour: datetime) -> None:
    ids = await sides.publish(5, closed_hour)
    await sides.consume()
    await sides.stop_relay()
    await sides.forget(ids[:2])
    both = await asyncio.gather(sides.compare(), sides.compare())
    assert both[0] is not None
    assert both[0].differing == 1
    assert await sides.publisher.fetchval(REPUBLISHES) == 1
    assert await sides.subscriber.fetchval("select tries from differences") == 1


async def test_one_replica_compares_at_a_time(sides: Sides, closed_hour: datetime) -> None:
    """The recent hours each hour, and all 30 days once a day."""
    old = closed_hour - 10 * 24 * HOUR
    long_ago = replace(STARTED, since="2026-01-01")
    await sides.publish(1, old)
    await sides.consume()
    rounds: list[Compared] = []

    async def three_replicas() -> None:
        with capture_logs() as logs:
            await asyncio.gather(
                *(
                    anti_entropy.compare_due([long_ago], sides.subscriber, sides.bus)
                    for _ in range(3)
                )
            )
        rounds.extend(
            Compared(**{name: entry[name] for name in vars(Compared())})
            for entry in logs
            if entry["event"] == "hours compared"
        )

    await three_replicas()
    assert rounds == [], "not at once after the start of a service"
    await sides.subscriber.execute(ALL_DUE)
    await three_replicas()
    assert rounds == [Compared(hours=1)], "one of three, and all days"
    await three_replicas()
    await sides.subscriber.execute(ALL_DUE)
    await three_replicas()
    assert rounds[1:] == [Compared(hours=0)], "only the recent hours"


async def test_an_unresponsive_owner_is_due_after_the_lease(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "QUERY_TIMEOUT_S", 0.3)
    (foreign,) = [
        entry for entry in SUBSCRIPTIONS if entry.handler == "referrals_rewards_confirmed"
    ]
    for statement in ("select 1", ALL_DUE):
        await sides.subscriber.execute(statement)
        await anti_entropy.compare_due([foreign], sides.subscriber, sides.bus)
    row = await sides.subscriber.fetchrow("select *, due_at - now() as rest from comparisons")
    assert row is not None
    assert timedelta(minutes=5) < row["rest"] <= anti_entropy.LEASED_FOR
    assert row["whole_due_at"] < row["due_at"]


async def test_a_large_hour_is_searched_in_pages(
    sides: Sides, closed_hour: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "IDS_PER_QUERY", 10)
    monkeypatch.setattr(anti_entropy, "IDS_PER_COMMAND", 3)
    ids = [*await sides.publish(55, closed_hour), *await sides.publish(4, closed_hour - 20 * HOUR)]
    await sides.consume()
    await sides.stop_relay()
    await sides.forget(ids[:8])
    await sides.as_owner("delete from events where id = any($1)", ids[50:55])
    assert await sides.compare() == Compared(hours=2, differing=1, republished=8, unknown_events=5)
    pending = await sides.publisher.fetch("select id from outbox join events using (seq)")
    assert {row["id"] for row in pending} == set(ids[:8])
    assert await sides.publisher.fetchval(REPUBLISHES) == 3


async def test_a_half_full_stream_gets_nothing_republished(
    sides: Sides, closed_hour: datetime
) -> None:
    """Live events must find room: a full stream refuses them."""
    ids = await sides.publish(5, closed_hour)
    await sides.consume()
    await sides.forget(ids[:1])
    used = (await sides.api(f"STREAM.INFO.{STARTED.stream}"))["state"]["bytes"]
    await sides.change_stream(max_bytes=used * 2 - 1)
    assert await sides.compare() == Compared(hours=1, differing=1, cut_short=True)
    await sides.change_stream(max_bytes=used * 2 + 2)
    await sides.republishes(1)
