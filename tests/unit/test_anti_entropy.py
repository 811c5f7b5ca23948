"""The decisions of the anti-entropy check: which hours are closed, and which of them differ."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from shared.contracts import streams
from shared.contracts.operations import HourlyChecksum, HourlyChecksums, HourlyChecksumsQuery
from shared.operations import anti_entropy
from shared.operations.anti_entropy import HOUR, differing, hours_to_answer

NOON = datetime(2026, 12, 10, 12, tzinfo=UTC)
ONE = HourlyChecksum(hour=NOON, count=1, bits=5)


def query(hours: int = 6, before: datetime | None = None) -> HourlyChecksumsQuery:
    return HourlyChecksumsQuery(event="bot.person.started", hours=hours, before=before)


def test_an_hour_closes_15_minutes_after_its_end() -> None:
    assert hours_to_answer(query(1), NOON + timedelta(minutes=14)) == (NOON - 2 * HOUR, NOON - HOUR)
    assert hours_to_answer(query(1), NOON + timedelta(minutes=15)) == (NOON - HOUR, NOON)


def test_pages_reach_the_oldest_whole_hour() -> None:
    """Events are dropped row by row after 30 days: an hour that lost rows is not compared."""
    pages = [hours_to_answer(query(24), NOON + HOUR / 2)]
    while pages[-1][0] < pages[-1][1]:
        pages.append(hours_to_answer(query(24, before=pages[-1][0]), NOON + HOUR / 2))
    for newer, older in pairwise(pages):
        assert older[1] == newer[0]
    assert pages[0][1] == NOON
    assert pages[-1][0] == NOON - timedelta(days=30) + 2 * HOUR


def test_a_page_from_the_future_is_the_newest() -> None:
    future = query(1, before=NOON + 50 * HOUR)
    assert hours_to_answer(future, NOON + HOUR / 2) == (NOON - HOUR, NOON)


def answered(*checksums: HourlyChecksum, pending: tuple[datetime, ...] = ()) -> HourlyChecksums:
    return HourlyChecksums(
        at=NOON, from_at=NOON - 6 * HOUR, until_at=NOON + HOUR, checksums=checksums, pending=pending
    )


def test_hours_differ_by_count_bits_or_presence() -> None:
    since = NOON - 100 * HOUR
    more = HourlyChecksum(hour=NOON, count=2, bits=5)
    others = HourlyChecksum(hour=NOON, count=1, bits=4)
    assert differing(answered(ONE), {NOON: ONE}, since) == []
    assert differing(answered(ONE), {NOON: more}, since) == [NOON]
    assert differing(answered(ONE), {NOON: others}, since) == [NOON]
    assert differing(answered(ONE), {}, since) == [NOON]
    assert differing(answered(), {NOON: ONE}, since) == [NOON]


def test_some_hours_cannot_be_compared() -> None:
    assert differing(answered(ONE, pending=(NOON,)), {}, NOON - HOUR) == [], "an event is pending"
    assert differing(answered(ONE), {}, NOON + HOUR) == [], "the handler is younger"


def test_margins_are_longer_than_the_duplicate_window() -> None:
    """So the broker keeps a republished event, and in any case that of the next try."""
    for margin in (anti_entropy.CLOSED_AFTER, anti_entropy.TRY_AGAIN_AFTER):
        assert margin > streams.DUPLICATE_WINDOW
