"""How fast the bot may send."""

from datetime import UTC, datetime, timedelta

import pytest

from notifier.domain.token_bucket import Allowance, Bucket, allowance

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_nothing_is_sent_during_a_pause() -> None:
    bucket = Bucket(5.0, NOW + timedelta(seconds=35))
    assert bucket.messages(NOW) == 0
    assert bucket.wait_s(NOW, 20) == 35
    assert bucket.messages(NOW + timedelta(seconds=35)) == 5


@pytest.mark.parametrize(
    ("tokens", "most", "next_due_s", "messages", "wait_s"),
    [
        (5.0, 64, 0.0, 5, 0.0),
        (5.0, 2, 0.0, 2, 0.0),
        (5.0, 64, 7.0, 0, 7.0),
        (0.5, 64, 0.0, 0, 0.025),
        (5.0, 64, float("inf"), 0, float("inf")),
    ],
)
def test_an_allowance_is_messages_or_a_wait(
    tokens: float, most: int, next_due_s: float, messages: int, wait_s: float
) -> None:
    bucket = Bucket(tokens, NOW)
    found = allowance(bucket, NOW, per_s=20, most=most, next_due_s=next_due_s)
    assert found == Allowance(messages, wait_s)
