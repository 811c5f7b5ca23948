"""The database's clock steps back when it loses time beside the clock of the process."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from shared.platform.waits import DatabaseClock

BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


def steps(readings: Iterable[tuple[float, float, float]]) -> list[int]:
    """Which of these readings found a step: the database's seconds, and those of the process."""
    clock = DatabaseClock()
    return [
        number
        for number, (now_s, asked_s, answered_s) in enumerate(readings)
        if clock.stepped_back(BEGAN_AT + timedelta(seconds=now_s), asked_s, answered_s)
    ]


def test_equal_clocks_find_no_step() -> None:
    """W-38: however long an answer takes."""
    assert steps((n, n - 0.01, n + n % 7) for n in range(0, 10_000, 10)) == []


def test_a_step_back_is_found_once() -> None:
    """W-38: as in a failover to a server whose clock is behind."""
    assert steps((n if n < 50 else n - 2, n, n) for n in range(0, 100, 10)) == [5]


def test_a_step_forward_is_none() -> None:
    """W-38: its end is one, also if it ends where it began."""
    assert steps((n + 3600 * (n in (30, 40)), n, n) for n in range(0, 100, 10)) == [5]


def test_a_slow_slew_back_adds_up() -> None:
    """W-38: 500 ppm are 5 ms in a round, and a second in 200 of them."""
    found = steps((n * 0.9995, n, n) for n in range(0, 10_000, 10))
    assert len(found) == 4
    assert found[0] in (200, 201)
