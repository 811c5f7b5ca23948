"""Which hours are closed, and which of them differ: the second net's decisions, as values."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from shared import streams, tally
from shared.questions import AskTold, Tally, Told
from shared.tally import HOUR, differing, hours_asked_for

NOON = datetime(2026, 12, 10, 12, tzinfo=UTC)
ONE = Tally(hour=NOON, count=1, bits=5)


def asked(hours: int = 6, before: datetime | None = None) -> AskTold:
    return AskTold(fact="bot.person.started", hours=hours, before=before)


def test_an_hour_closes_a_quarter_after_its_end() -> None:
    assert hours_asked_for(asked(1), NOON + timedelta(minutes=14)) == (NOON - 2 * HOUR, NOON - HOUR)
    assert hours_asked_for(asked(1), NOON + timedelta(minutes=15)) == (NOON - HOUR, NOON)


def test_pages_follow_each_other_until_the_oldest_hour_that_is_whole() -> None:
    """Facts are dropped row by row after thirty days: an hour that is half gone is not compared."""
    pages = [hours_asked_for(asked(24), NOON + HOUR / 2)]
    while pages[-1][0] < pages[-1][1]:
        pages.append(hours_asked_for(asked(24, before=pages[-1][0]), NOON + HOUR / 2))
    for newer, older in pairwise(pages):
        assert older[1] == newer[0]
    assert pages[0][1] == NOON
    assert pages[-1][0] == NOON - timedelta(days=30) + 2 * HOUR


def test_a_page_from_the_future_is_the_newest_closed_one() -> None:
    assert hours_asked_for(asked(1, before=NOON + 50 * HOUR), NOON + HOUR / 2) == (NOON - HOUR, NOON)


def told(*tallies: Tally, waiting: tuple[datetime, ...] = ()) -> Told:
    return Told(at=NOON, from_at=NOON - 6 * HOUR, until_at=NOON + HOUR, tallies=tallies, waiting=waiting)


def test_hours_differ_by_count_by_bits_and_when_only_one_side_has_them() -> None:
    since = NOON - 100 * HOUR
    assert differing(told(ONE), {NOON: ONE}, since) == []
    assert differing(told(ONE), {NOON: Tally(hour=NOON, count=2, bits=5)}, since) == [NOON]
    assert differing(told(ONE), {NOON: Tally(hour=NOON, count=1, bits=4)}, since) == [NOON]
    assert differing(told(ONE), {}, since) == [NOON]
    assert differing(told(), {NOON: ONE}, since) == [NOON]


def test_of_some_hours_nothing_can_be_said() -> None:
    assert differing(told(ONE, waiting=(NOON,)), {}, NOON - HOUR) == [], "it is not told to its end"
    assert differing(told(ONE), {}, NOON + HOUR) == [], "nobody listened yet"


def test_margins_are_longer_than_the_duplicate_window() -> None:
    """So that what was told in its hour is taken when it is told again, and the next try in any case."""
    for margin in (tally.CLOSED_AFTER, tally.TRY_AGAIN_AFTER):
        assert margin > streams.DUPLICATE_WINDOW
