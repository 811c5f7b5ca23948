"""The steps before an end of access, and which of them a person is to be reminded of now."""

from dataclasses import dataclass
from datetime import datetime, timedelta

STEPS_H = (3, 24, 72)
"""Hours before the end, the shortest first."""

LONGEST = timedelta(hours=STEPS_H[-1])


@dataclass(frozen=True, slots=True)
class Expiring:
    """A subscription whose next step may have begun. `moved_at`: its end was set or changed."""

    ends_at: datetime
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Reminder:
    """The step to publish now, in hours before the end, and the time of the next step."""

    hours: int | None
    next_at: datetime | None


def remind(expiring: Expiring, now: datetime) -> Reminder:
    """After an outage only the nearest step is published: the longer ones are no longer true.

    A step that had begun when the end was set is outside the period: a day has no step of 24 h.
    """
    begun = ends_within_h(expiring.ends_at, now)
    inside = begun is not None and _begins(expiring, begun) > expiring.moved_at
    ahead = [at for hours in STEPS_H if (at := _begins(expiring, hours)) > now]
    return Reminder(begun if inside else None, min(ahead, default=None))


def ends_within_h(ends_at: datetime, now: datetime) -> int | None:
    """The shortest step that has begun. None if the end is later than all, or has passed."""
    left = ends_at - now
    if left <= timedelta(0):
        return None
    return next((hours for hours in STEPS_H if left <= timedelta(hours=hours)), None)


def _begins(expiring: Expiring, hours: int) -> datetime:
    return expiring.ends_at - timedelta(hours=hours)
