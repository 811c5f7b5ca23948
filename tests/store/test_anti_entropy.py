"""The anti-entropy check finds and repairs differences, on a real NATS and PostgreSQL."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.contracts import streams
from shared.operations import anti_entropy
from shared.operations.anti_entropy import HOUR, Compared
from shared.operations.audit import MISSING, UNKNOWN_EVENTS
from tests.kit.anti_entropy import HANDLER, RECORD, Sides


async def test_published_and_handled_events_agree(sides: Sides, closed_hour: datetime) -> None:
    ids = [*await sides.publish(5, closed_hour), *await sides.publish(3, closed_hour - HOUR)]
    await sides.consume()
    assert await sides.compare() == Compared(hours=2)
    assert await sides.settled(ids)


async def test_lost_messages_are_republished_and_handled(
    sides: Sides, closed_hour: datetime
) -> None:
    """W-25: nothing restarts, and the sequence of the stream goes on; only the count shows it."""
    ids = [*await sides.publish(40, closed_hour), *await sides.publish(2, closed_hour - HOUR)]
    await sides.lose(ids[7:10])
    await sides.consume()
    assert len(sides.handled) == 39
    assert await sides.compare() == Compared(hours=2, differing=1, republished=3)
    assert await sides.examples(MISSING) == [
        f"{HANDLER} lacks 3 of {closed_hour:%Y-%m-%d %H:%M:%S}+00 after 1 republish attempt(s)"
    ]
    await sides.until_published()
    await sides.consume()
    assert set(sides.handled) == set(ids)
    assert await sides.settled(ids)


async def test_a_forgotten_event_has_no_second_effect(sides: Sides, closed_hour: datetime) -> None:
    """W-25: an inbox from before its effects is filled again.

    Natural keys recognise effects that are there already.
    """
    ids = await sides.publish(6, closed_hour)
    await sides.consume()
    await sides.forget(ids[:4])
    await sides.republishes(4)
    await sides.until_published()
    await sides.consume()
    assert len(sides.handled) == 10, "the handler was called again"
    assert await sides.settled(ids), "and wrote nothing twice"


async def test_an_unknown_event_is_found_once(sides: Sides, closed_hour: datetime) -> None:
    """W-26: an effect without a cause is listed for a person.

    Otherwise the hour agrees, and it is not searched again.
    """
    ids = await sides.publish(6, closed_hour)
    await sides.consume()
    await sides.as_owner("delete from events where id = $1", ids[2])
    assert await sides.compare() == Compared(hours=1, differing=1, unknown_events=1)
    assert await sides.examples(UNKNOWN_EVENTS) == [
        f"{HANDLER} handled {ids[2]} in {closed_hour:%Y-%m-%d %H:%M:%S}+00"
    ]
    assert await sides.compare() == Compared(hours=1), "the finding stays, the search is over"
    assert len(await sides.examples(UNKNOWN_EVENTS)) == 1
    assert await sides.publisher.fetchval("select count(*) from commands") == 0


async def test_the_same_event_recorded_again_ends_the_finding(
    sides: Sides, closed_hour: datetime
) -> None:
    """W-26: a restored owner records the same cause with the same id, in a later hour.

    The subscriber's row takes that hour, and nothing is republished.
    """
    (known, again) = await sides.publish(2, closed_hour - HOUR)
    await sides.consume()
    (event,) = await sides.as_owner(
        "delete from events where id = $1 returning topic, body::text, digest", again
    )
    assert await sides.compare() == Compared(hours=1, differing=1, unknown_events=1)
    recorded_at = closed_hour + timedelta(minutes=5)
    await sides.publisher.execute(
        RECORD, [again], event["topic"], [event["body"]], [event["digest"]], [recorded_at]
    )
    await sides.until_published()
    await sides.consume()
    assert await sides.compare() == Compared(hours=2, differing=1)
    assert await sides.settled([known, again])
    hour = await sides.subscriber.fetchval("select hour from inbox where event_id = $1", again)
    assert hour == closed_hour


async def test_another_digest_is_one_conflict(sides: Sides, closed_hour: datetime) -> None:
    """The restored owner made another event of the same cause: I12, though no id came twice."""
    (one, other) = await sides.publish(2, closed_hour)
    await sides.consume()
    await sides.as_owner("update events set digest = 7 where id = $1", one)
    assert await sides.compare() == Compared(hours=1, differing=1)
    recorded = await sides.subscriber.fetch(
        "select event_id, digest_received from conflicts where where_seen = $1", HANDLER
    )
    assert [tuple(row) for row in recorded] == [(one, 7)]
    assert await sides.settled([one, other]), "a recorded conflict is not found again"


GIVEN_UP = "select count(*) from differences where given_up_at is not null"
REPUBLISHES = "select actor, outcome from commands where topic = 'bot.republish'"


async def test_three_tries_then_an_alert(sides: Sides, closed_hour: datetime) -> None:
    """W-25: where republishing does not help, it ends."""
    ids = await sides.publish(3, closed_hour)

    async def consume_and_forget_one() -> None:
        await sides.until_published()
        await sides.consume()
        await sides.forget(ids[:1])

    await consume_and_forget_one()
    with capture_logs() as logs:
        for _ in range(anti_entropy.MAX_TRIES):
            await sides.republishes(1)
            await consume_and_forget_one()
            again = await sides.compare()
            assert again == Compared(hours=1, differing=1), "not again within 15 minutes"
            await sides.let_time_pass()
        for _ in range(3):
            assert await sides.compare() == Compared(hours=1, differing=1)
            await sides.let_time_pass()
    alerts = [entry for entry in logs if entry["log_level"] == "critical"]
    assert [(entry["handler"], entry["examples"]) for entry in alerts] == [(HANDLER, [str(ids[0])])]
    commands = [tuple(row) for row in await sides.publisher.fetch(REPUBLISHES)]
    assert commands == [("service:referrals", "done")] * anti_entropy.MAX_TRIES
    assert await sides.subscriber.fetchval(GIVEN_UP) == 1
    event = await sides.publisher.fetchval("select seq from events where id = $1", ids[0])
    await sides.publisher.execute("insert into outbox (seq) values ($1)", event)
    await sides.until_published()
    await sides.consume()
    assert await sides.settled(ids), "once it is handled, the difference is deleted"


@pytest.mark.parametrize("duplicate_window", [streams.DUPLICATE_WINDOW])
async def test_a_later_try_outlives_the_duplicate_window(
    sides: Sides, closed_hour: datetime
) -> None:
    """The broker lost the message and still knows its id.

    It acknowledges what is republished, and drops it.
    """
    ids = await sides.publish(3, closed_hour)
    await sides.lose(ids[:1])
    await sides.consume()
    for _ in range(2):
        await sides.republishes(1)
        await sides.until_published()
        await sides.consume()
        assert len(sides.handled) == 2, "dropped by the broker"
        await sides.let_time_pass()
    await sides.outlive_the_duplicate_window()
    await sides.republishes(1)
    await sides.until_published()
    await sides.consume()
    assert await sides.settled(ids)


async def test_unreadable_messages_count_by_their_header(
    sides: Sides, closed_hour: datetime
) -> None:
    """They are dead letters and wait for a replay; republished they would fail again."""
    await sides.publish(2, closed_hour)
    await sides.consume()
    await sides.stop_relay()
    (broken,) = await sides.publish(1, closed_hour, relayed=False)
    await sides.publisher.execute("delete from outbox")
    digest = await sides.publisher.fetchval("select digest from events where id = $1", broken)
    headers = {
        "Nats-Msg-Id": str(broken),
        "Turnpike-Digest": str(digest),
        "Turnpike-Hour": closed_hour.isoformat(),
    }
    subject = "evt.bot.person.started.v1"
    messages: list[tuple[bytes, dict[str, Any]]] = [
        (b"\xff", headers),
        (b"no header at all", {"Nats-Msg-Id": "x"}),
    ]
    for body, with_headers in messages:
        await sides.bus.client.request(subject, body, headers=with_headers)
    await sides.consume()
    assert await sides.subscriber.fetchval("select count(*) from dead_letters") == 2
    assert await sides.compare() == Compared(hours=1)
