"""A clock for the stand-ins of payment providers that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta


class MovedClock:
    def __init__(self) -> None:
        self._now = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)

    def now_ms(self) -> int:
        return int(self._now.timestamp() * 1000)

    def move(self, **by: float) -> None:
        self._now += timedelta(**by)
