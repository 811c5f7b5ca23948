"""What a service answers about its dead letters, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.contracts.message import Refused
from shared.contracts.operations import (
    DeadLetter,
    DeadLetterContent,
    DeadLetterQuery,
    DeadLettersQuery,
)
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.inbox import Handler, Message
from shared.operations import inspection
from shared.platform.db import Database, Tx
from tests.kit.referrals import confirmed, message_of
from tests.kit.servers import MakeDatabase

REWARDS = next(entry for entry in SUBSCRIPTIONS if entry.handler == "referrals_rewards_confirmed")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def fail(events: Sequence[Any], tx: Tx) -> None:
    raise asyncpg.NumericValueOutOfRangeError("too large")


async def succeed(events: Sequence[Any], tx: Tx) -> None:
    """Handles everything."""


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("referrals")).dsn("referrals_app"), name="test", size=4)
    await opened.open()
    yield opened
    await opened.close()


async def dead_letter(database: Database, *messages: Message) -> list[DeadLetter]:
    """The dead letters of the database, after these messages in this order."""
    for one in messages:
        assert (await Handler(REWARDS, fail, database).handle_batch([one])).dead_lettered == 1
    return list((await listed(database)).dead_letters)


async def listed(database: Database, **wanted: Any) -> Any:
    query = DeadLettersQuery.of("referrals")(**wanted)
    return await inspection.answer_dead_letters(query, database)


async def opened(database: Database, number: int) -> DeadLetterContent | Refused:
    query = DeadLetterQuery.of("referrals")(dead_letter=number)
    return await inspection.answer_dead_letter(query, database)


async def test_a_dead_letter_names_handler_event_and_reason(database: Database) -> None:
    """R-26: also its subject, its time and its trace."""
    message = message_of(confirmed(uuid4()), trace=TRACE)
    [found] = await dead_letter(database, message)
    assert (found.handler, found.event, found.subject) == (
        REWARDS.handler,
        message.event_id,
        message.subject,
    )
    assert found.reason == "NumericValueOutOfRangeError: too large"
    assert (found.size_bytes, found.replayed_at) == (len(message.body), None)
    assert found.trace == TRACE.split("-")[1]


async def test_a_dead_letter_opens_as_text_or_hexadecimal(database: Database) -> None:
    """Every message can be looked at, an unreadable one as well."""
    message = message_of(confirmed(uuid4()))
    broken = replace(
        message_of(confirmed(uuid4())), body=b"\xff\x00{", headers={"traceparent": "nonsense"}
    )
    texts, bytes_ = await dead_letter(database, message, broken)
    text = await opened(database, texts.id)
    assert isinstance(text, DeadLetterContent)
    assert (text.encoding, text.body) == ("utf-8", message.body.decode())
    other = await opened(database, bytes_.id)
    assert isinstance(other, DeadLetterContent)
    assert (other.encoding, other.body, other.dead_letter.trace) == ("hex", "ff007b", None)
    assert await opened(database, 10**9) == Refused(reason="dead_letter_unknown")


async def test_a_large_dead_letter_is_cut_between_characters(database: Database) -> None:
    most = inspection.MAX_BYTES_SHOWN
    body = "я".encode() * most
    for shift in (b"", b"x"):
        message = replace(message_of(confirmed(uuid4())), body=shift + body)
        [*_, found] = await dead_letter(database, message)
        cut = await opened(database, found.id)
        assert isinstance(cut, DeadLetterContent)
        assert (cut.encoding, found.size_bytes) == ("utf-8", len(shift + body))
        assert most - 2 < len(cut.body.encode()) <= most


async def test_replayed_dead_letters_are_listed_on_request(database: Database) -> None:
    messages = [message_of(confirmed(uuid4())) for _ in range(2)]
    [first, second] = await dead_letter(database, *messages)
    async with database.transaction() as tx:
        assert await Handler(REWARDS, succeed, database).replay(first.id, tx)
    assert [one.id for one in (await listed(database)).dead_letters] == [second.id]
    both = (await listed(database, replayed=True)).dead_letters
    assert [one.replayed_at is None for one in both] == [False, True]


async def test_dead_letters_come_in_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "DEAD_LETTERS_PER_PAGE", 2)
    messages = [message_of(confirmed(uuid4())) for _ in range(3)]
    await dead_letter(database, *messages)
    first = await listed(database)
    assert (len(first.dead_letters), first.more) == (2, True)
    last = await listed(database, after=first.dead_letters[-1].id)
    assert (len(last.dead_letters), last.more) == (1, False)
    assert [one.event for one in (*first.dead_letters, *last.dead_letters)] == [
        message.event_id for message in messages
    ]
