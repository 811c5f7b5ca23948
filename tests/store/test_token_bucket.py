"""The arithmetic of token buckets, which bot-gateway and notifier share."""

import random
from datetime import timedelta

import pytest

from shared.platform.db import Database

FILLED = "select tokens_now($1, clock_timestamp() - $2::interval, $3, $4)"


async def filled(
    database: Database, tokens: float, passed_s: float, *, per_s: float, burst: float
) -> float:
    passed = timedelta(seconds=passed_s)
    answer: float = await database.fetchval(FILLED, tokens, passed, per_s, burst)
    return answer


@pytest.mark.parametrize("per_s", [0.5, 20.0, 1000.0])
async def test_takers_never_exceed_the_rate(publisher: Database, per_s: float) -> None:
    lot, burst = random.Random(7), max(1.0, per_s / 4)
    tokens = taken = passed_s = 0.0
    for _ in range(200):
        pause_s, wanted = lot.uniform(0, 5), lot.randrange(100)
        tokens = await filled(publisher, tokens, pause_s, per_s=per_s, burst=burst)
        leaving = min(wanted, int(tokens))
        tokens, taken, passed_s = tokens - leaving, taken + leaving, passed_s + pause_s
        assert 0 <= tokens <= burst
    # Each statement takes some milliseconds of its own.
    assert 0 < taken <= per_s * (passed_s + 10) + 1


async def test_an_earlier_time_fills_no_bucket(publisher: Database) -> None:
    """W-16: a clock that went back."""
    assert await filled(publisher, 3.0, -3600, per_s=20, burst=5) == 3


async def test_a_bucket_is_never_fuller_than_its_burst(publisher: Database) -> None:
    assert await filled(publisher, 0.0, 3600, per_s=20, burst=5) == 5
