"""The inbox: each event is handled once, and a poison message is dead-lettered alone."""

import asyncio
import hashlib
from collections.abc import Sequence

import pytest

from shared.contracts.bot import PersonStarted
from shared.messaging import failures, inbox
from shared.messaging.inbox import Handler, Message
from shared.platform import telemetry
from shared.platform.db import Tx
from tests.kit.messaging import STARTED, Pair, message_of
from tests.kit.sessions import waits_for_a_lock
from tests.kit.waiting import HANG_S

CONFLICTS_OF = "select count(*) from conflicts where event_id = $1"
DEAD_LETTER_OF = "select * from dead_letters where event_id = $1"
TRIES_OF = "select tries from failed_attempts where event_id = $1"

NOISE = hashlib.shake_256(b"").hexdigest(4_500)
"""9 000 characters that do not compress into an index row."""


async def test_a_message_delivered_thirty_times_acts_once(pair: Pair) -> None:
    """M-02: redelivery is the ordinary case; the inbox makes it harmless."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        handler = pair.handler()
        outcomes = await asyncio.gather(
            *(handler.handle_batch([message_of(event)] * 3) for _ in range(10))
        )
        assert (sum(o.done for o in outcomes), sum(o.repeated for o in outcomes)) == (1, 29)
        assert pair.handled == [event.id]


async def test_same_id_with_other_fields_is_a_conflict(pair: Pair) -> None:
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        handler = pair.handler()
        await handler.handle_batch([message_of(event)])
        other = event.model_copy(update={"code": "r_other"})
        counted = telemetry.CONFLICTS.labels(handler.name)._value.get()
        for _ in range(3):
            await handler.handle_batch([message_of(other)])
        assert telemetry.CONFLICTS.labels(handler.name)._value.get() == counted + 1, (
            "the same conflict counts once"
        )
        assert pair.handled == [event.id]
        row = await pair.subscriber.fetchrow(
            "select * from conflicts where event_id = $1", event.id
        )
        assert row is not None
        assert row["digest_known"] != row["digest_received"]


async def test_one_batch_with_two_contents_is_a_conflict(pair: Pair) -> None:
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        handler = pair.handler()
        outcome = await handler.handle_batch(
            [message_of(event), message_of(event.model_copy(update={"code": "r_other"}))]
        )
        assert (outcome.done, outcome.repeated) == (1, 1)
        assert await pair.subscriber.fetchval(CONFLICTS_OF, event.id) == 1


async def test_a_concurrent_replica_compares_with_committed_fields(
    pair: Pair,
) -> None:
    """M-22: a replica that waited for another's transaction compares with what that one wrote."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(events: Sequence[PersonStarted], tx: Tx) -> None:
            begun.set()
            await go_on.wait()
            await pair.handle(events, tx)

        first = asyncio.create_task(
            Handler(STARTED, slowly, pair.subscriber).handle_batch([message_of(event)])
        )
        await begun.wait()
        other = message_of(event.model_copy(update={"code": "r_other"}))
        second = asyncio.create_task(pair.handler().handle_batch([other]))
        await waits_for_a_lock(second, pair.subscriber)
        go_on.set()
        assert ((await first).done, (await second).repeated) == (1, 1)
        assert pair.handled == [event.id]
        assert await pair.subscriber.fetchval(CONFLICTS_OF, event.id) == 1


async def test_one_poison_message_among_500_is_isolated(pair: Pair) -> None:
    """M-08, P-10: a data error is bisected: 499 applied, few calls, one dead letter."""
    async with pair.open(consuming=False):
        events = await pair.publish(500)
        poison = events[137]

        async def handle(events: Sequence[PersonStarted], tx: Tx) -> None:
            pair.calls += 1
            for event in events:
                await tx.execute("select 1 / $1::int", 0 if event.id == poison.id else 1)

        handler = Handler(STARTED, handle, pair.subscriber)
        outcome = await handler.handle_batch([message_of(event) for event in events])
        assert (outcome.done, outcome.dead_lettered, outcome.again) == (499, 1, set())
        assert pair.calls <= 20
        dead_lettered = await pair.subscriber.fetchrow(
            "select * from dead_letters where event_id = $1", poison.id
        )
        assert dead_lettered is not None
        assert "division by zero" in dead_lettered["reason"]
        assert bytes(dead_lettered["body"]) == poison.model_dump_json().encode()
        assert (await handler.handle_batch([message_of(poison)])).repeated == 1, (
            "a dead letter is not handled again"
        )


async def test_an_over_long_key_is_dead_lettered(pair: Pair) -> None:
    """M-08: no index row holds it, so a repeat of the batch would fail for ever."""
    async with pair.open(consuming=False):
        events = await pair.publish(20)
        poison = events[7]

        async def handle(events: Sequence[PersonStarted], tx: Tx) -> None:
            keys = [NOISE if event.id == poison.id else str(event.id) for event in events]
            await tx.execute("insert into comparisons (handler) select unnest($1::text[])", keys)

        handler = Handler(STARTED, handle, pair.subscriber)
        async with asyncio.timeout(HANG_S):
            outcome = await handler.handle_batch([message_of(event) for event in events])
        assert (outcome.done, outcome.dead_lettered) == (19, 1)
        dead_lettered = await pair.subscriber.fetchrow(DEAD_LETTER_OF, poison.id)
        assert dead_lettered is not None
        assert "index row" in dead_lettered["reason"]
        assert bytes(dead_lettered["body"]) == poison.model_dump_json().encode()


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        (b"not json", None),
        (b'{"id": 5}', None),
        (b"\xff\xfe", None),
        (b"x" * 1_000_000, None),
        (None, "evt.bot.person.started.v9"),
    ],
    ids=["no json", "wrong types", "bad utf-8", "one megabyte", "unknown version"],
)
async def test_unreadable_messages_are_dead_lettered(
    pair: Pair, body: bytes | None, subject: str | None
) -> None:
    async with pair.open(consuming=False):
        (good,) = await pair.publish()
        (other,) = await pair.publish()
        bad = Message(
            subject or good.subject(),
            message_of(other).headers,
            body or other.model_dump_json().encode(),
        )
        handler = pair.handler()
        outcome = await handler.handle_batch([bad, message_of(good)])
        assert (outcome.done, outcome.dead_lettered) == (1, 1)
        kept = await pair.subscriber.fetchval(
            "select body from dead_letters where event_id = $1", other.id
        )
        assert bytes(kept) == bad.body


async def test_our_fault_is_retried_then_dead_lettered(
    pair: Pair,
) -> None:
    """M-17: an error of ours is not taken for a data error; tries are counted across restarts."""
    async with pair.open(consuming=False):
        events = await pair.publish(3)
        pair.fails = lambda event: RuntimeError("ours") if event.id == events[1].id else None
        outcome = await pair.handler().handle_batch([message_of(event) for event in events])
        assert (outcome.done, outcome.retried, outcome.again) == (2, 1, set())
        for tries in range(1, len(failures.RETRY_S) + 1):
            assert await pair.subscriber.fetchval(TRIES_OF, events[1].id) == tries
            await pair.retry()  # By a new handler each time, as after a restart.
        assert set(pair.handled) == {events[0].id, events[2].id}
        assert await pair.subscriber.fetchval(TRIES_OF, events[1].id) is None
        assert await pair.subscriber.fetchrow(DEAD_LETTER_OF, events[1].id) is not None


async def test_success_clears_the_attempts(pair: Pair) -> None:
    """M-17, I13: a fault that passed leaves no finding, and the next fault has all its tries."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        handler = pair.handler()
        pair.fails = lambda _: RuntimeError("once")
        assert (await handler.handle_batch([message_of(event)])).retried == 1
        assert await pair.subscriber.fetchval(TRIES_OF, event.id) == 1
        pair.fails = lambda _: None
        await pair.retry()
        assert pair.handled == [event.id]
        assert await pair.subscriber.fetchval(TRIES_OF, event.id) is None


async def test_an_unstorable_error_text_is_escaped(
    pair: Pair,
) -> None:
    """M-08, M-17: the text of an error must not become an error that ends the process."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        pair.fails = lambda _: RuntimeError("a\0b \ud800")
        handler = pair.handler()
        assert (await handler.handle_batch([message_of(event)])).retried == 1
        for _ in failures.RETRY_S:
            await pair.retry()
        reason = await pair.subscriber.fetchval(
            "select reason from dead_letters where event_id = $1", event.id
        )
        assert reason == r"RuntimeError: a\x00b \ud800"


async def test_malformed_headers_do_not_stop_a_handler(
    pair: Pair,
) -> None:
    """M-08: headers deserve no more trust than bytes; none of them ends the process."""
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        handler = pair.handler()
        odd = {"Turnpike-Hour": "0001-01-01T00:00:00+14:00", "Turnpike-Digest": "9" * 5_000}
        assert (await handler.handle_batch([message_of(event, **odd)])).done == 1


async def test_a_repeated_unreadable_message_is_a_repeat(pair: Pair) -> None:
    """M-08: republished unreadable messages are not dead-lettered twice, and pause no handler."""
    async with pair.open(consuming=False):
        events = await pair.publish(inbox.DEAD_LETTERS_PER_MINUTE - 5)
        handler = pair.handler()
        unreadable = [Message(f.subject(), message_of(f).headers, b"?") for f in events]
        assert (await handler.handle_batch(unreadable)).dead_lettered == len(events)
        for _ in range(3):
            again = await handler.handle_batch(unreadable)
            assert (again.dead_lettered, again.repeated) == (0, len(events))


async def test_a_dead_letter_is_replayed_once(pair: Pair) -> None:
    async with pair.open(consuming=False):
        (event,) = await pair.publish()
        pair.fails = lambda _: ValueError("bad")
        handler = pair.handler()
        await handler.handle_batch([message_of(event)])
        for _ in failures.RETRY_S:
            await pair.retry()
        number = await pair.subscriber.fetchval(
            "select id from dead_letters where event_id = $1", event.id
        )
        pair.fails = lambda _: None
        async with pair.subscriber.transaction() as tx:
            assert await handler.replay(number, tx)
        async with pair.subscriber.transaction() as tx:
            assert not await handler.replay(number, tx), "a second replay finds nothing to do"
        assert pair.handled == [event.id]


async def test_too_many_dead_letters_stop_the_handler(pair: Pair) -> None:
    async with pair.open(consuming=False):
        events = await pair.publish(inbox.DEAD_LETTERS_PER_MINUTE + 5)
        handler = pair.handler()
        unreadable = [Message(f.subject(), message_of(f).headers, b"?") for f in events]
        with pytest.raises(inbox.TooManyDeadLettersError):
            await handler.handle_batch(unreadable)
