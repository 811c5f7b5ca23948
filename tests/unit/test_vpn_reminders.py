"""The steps before an end of access: which of them is published, and when the next one begins."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpn_provisioner.domain.reminders import STEPS_H, Expiring, Reminder, ends_within_h, remind

END = datetime(2026, 12, 31, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


def before(hours: float) -> datetime:
    return END - timedelta(hours=hours)


def of(hours: float, period: timedelta = MONTH) -> Reminder:
    """The decision so many hours before the end of a period of this length."""
    return remind(Expiring(END, END - period), before(hours))


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (73, Reminder(None, before(72))),
        (72, Reminder(72, before(24))),
        (24, Reminder(24, before(3))),
        (3, Reminder(3, None)),
        (0, Reminder(None, None)),
        (-1, Reminder(None, None)),
    ],
)
def test_each_step_begins_at_its_time(hours: int, expected: Reminder) -> None:
    """N-05: three days, one day and three hours before the end."""
    assert of(hours) == expected


@pytest.mark.parametrize(("hours", "step"), [(71, 72), (25, 72), (23, 24), (4, 24), (1, 3)])
def test_a_late_step_is_the_nearest(hours: int, step: int) -> None:
    """N-06: after an outage one step holds, and no longer one is sent with it."""
    assert of(hours).hours == step


@pytest.mark.parametrize(
    ("period_h", "steps"), [(2, []), (24, [3]), (72, [24, 3]), (73, [72, 24, 3])]
)
def test_a_period_has_its_own_steps(period_h: int, steps: list[int]) -> None:
    """N-43: a day has one reminder; a step that began with the period says nothing new."""
    period = timedelta(hours=period_h)
    found = [of(hours, period).hours for hours in reversed(STEPS_H)]
    assert [one for one in found if one is not None] == steps


def test_the_end_is_within_its_shortest_step() -> None:
    """N-07: notifier compares it with the step of a reminder when it sends one."""
    found = [ends_within_h(END, before(hours)) for hours in (80, 72, 30, 24, 3, 0.1, 0, -5)]
    assert found == [None, 72, 72, 24, 3, 3, None, None]


@given(
    st.timedeltas(timedelta(minutes=1), timedelta(days=4)),
    st.lists(st.timedeltas(timedelta(0), timedelta(days=4)), max_size=40),
)
def test_no_step_is_decided_twice(period: timedelta, looks: list[timedelta]) -> None:
    """N-05, N-06: looks at any times, each only when the one before said so."""
    expiring, steps = Expiring(END, END - period), []
    due: datetime | None = END - period
    for now in sorted(END - period + after for after in looks):
        if due is None or now < due:
            continue
        found = remind(expiring, now)
        steps += [found.hours] if found.hours is not None else []
        assert found.next_at is None or now < found.next_at < END
        due = found.next_at
    assert steps == sorted(set(steps), reverse=True)
