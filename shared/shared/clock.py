"""The process's own clock, for time-outs and deadlines only; what is booked carries the database's time."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
