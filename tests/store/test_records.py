"""What a service can say of facts from its own records, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared import records
from shared.contract import Refused
from shared.db import Database, Tx
from shared.inbox import Handler, Letter
from shared.inspection import AskDeadLetter, AskDeadLetters, DeadLetter, OpenedLetter
from shared.streams import LISTENING
from tests.kit.referrals import confirmed, letter
from tests.kit.servers import MakeDatabase

REWARDS = next(entry for entry in LISTENING if entry.handler == "referrals_rewards_confirmed")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def refuse(events: Sequence[Any], tx: Tx) -> None:
    raise asyncpg.NumericValueOutOfRangeError("too large")


async def absorb(events: Sequence[Any], tx: Tx) -> None:
    """Takes everything in."""


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    opened = Database((await fresh_database("referrals")).dsn("referrals_app"), name="test", size=4)
    await opened.open()
    yield opened
    await opened.close()


async def bury(database: Database, *letters: Letter) -> list[DeadLetter]:
    """In the order in which they are given."""
    for one in letters:
        assert (await Handler(REWARDS, refuse, database).absorb([one])).buried == 1
    return list((await dead(database)).letters)


async def dead(database: Database, **wanted: Any) -> Any:
    return await records.answer_dead_letters(AskDeadLetters.of("referrals")(**wanted), database)


async def opened(database: Database, number: int) -> OpenedLetter | Refused:
    return await records.answer_dead_letter(AskDeadLetter.of("referrals")(letter=number), database)


async def test_a_buried_letter_says_where_it_lies_and_why(database: Database) -> None:
    """R-26: with its handler, its fact, its subject, its reason, its time and its story."""
    sent = letter(confirmed(uuid4()), trace=TRACE)
    [found] = await bury(database, sent)
    assert (found.handler, found.fact, found.subject) == (REWARDS.handler, sent.fact_id, sent.subject)
    assert found.reason == "NumericValueOutOfRangeError: too large"
    assert (found.size_bytes, found.replayed_at) == (len(sent.body), None)
    assert found.trace == TRACE.split("-")[1]


async def test_a_letter_opens_as_text_or_as_hexadecimal_digits(database: Database) -> None:
    """Whatever somebody sent can be looked at, also when nobody can read it."""
    sent = letter(confirmed(uuid4()))
    broken = replace(letter(confirmed(uuid4())), body=b"\xff\x00{", headers={"traceparent": "nonsense"})
    texts, bytes_ = await bury(database, sent, broken)
    text = await opened(database, texts.letter)
    assert isinstance(text, OpenedLetter)
    assert (text.encoding, text.body) == ("utf-8", sent.body.decode())
    other = await opened(database, bytes_.letter)
    assert isinstance(other, OpenedLetter)
    assert (other.encoding, other.body, other.letter.trace) == ("hex", "ff007b", None)
    assert await opened(database, 10**9) == Refused(reason="letter_unknown")


async def test_a_letter_too_large_for_an_answer_is_cut_between_its_signs(database: Database) -> None:
    body = "я".encode() * records.MOST_BYTES_SHOWN
    for shift in (b"", b"x"):
        [*_, found] = await bury(database, replace(letter(confirmed(uuid4())), body=shift + body))
        cut = await opened(database, found.letter)
        assert isinstance(cut, OpenedLetter)
        assert (cut.encoding, found.size_bytes) == ("utf-8", len(shift + body))
        assert records.MOST_BYTES_SHOWN - 2 < len(cut.body.encode()) <= records.MOST_BYTES_SHOWN


async def test_a_replayed_letter_is_listed_only_where_it_is_wanted(database: Database) -> None:
    [first, second] = await bury(database, letter(confirmed(uuid4())), letter(confirmed(uuid4())))
    async with database.transaction() as tx:
        assert await Handler(REWARDS, absorb, database).replay(first.letter, tx)
    assert [one.letter for one in (await dead(database)).letters] == [second.letter]
    both = (await dead(database, replayed=True)).letters
    assert [one.replayed_at is None for one in both] == [False, True]


async def test_letters_come_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LETTERS_PER_PAGE", 2)
    letters = [letter(confirmed(uuid4())) for _ in range(3)]
    await bury(database, *letters)
    first = await dead(database)
    assert (len(first.letters), first.more) == (2, True)
    last = await dead(database, after=first.letters[-1].letter)
    assert (len(last.letters), last.more) == (1, False)
    assert [one.fact for one in (*first.letters, *last.letters)] == [sent.fact_id for sent in letters]
