"""Refunds take back their share of a reward, without a database."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from referrals.domain.reversals import RefundedValue, Rewarded, decide

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
RECEIPT, PAYER, PARTNER = UUID(int=1), UUID(int=2), UUID(int=3)


def refund(value_minor: int, *, id_: UUID | None = None, after_s: int = 0) -> RefundedValue:
    at = NOON + timedelta(seconds=after_s)
    return RefundedValue(id_ or uuid4(), uuid4(), RECEIPT, PAYER, value_minor, at)


def rewarded(value_minor: int, percent: int | None) -> Rewarded:
    reward_minor = value_minor * (percent or 0) // 100
    return Rewarded(RECEIPT, PAYER, PARTNER, value_minor, percent, reward_minor)


@given(
    value_minor=st.integers(min_value=0, max_value=10**9),
    percent=st.sampled_from([None, 0, 10, 25, 45, 100]),
    parts=st.lists(st.integers(min_value=0, max_value=10**9), max_size=8),
)
def test_a_reward_is_the_percentage_of_the_rest(
    value_minor: int, percent: int | None, parts: list[int]
) -> None:
    """R-66: after any refunds, and never less than nothing."""
    before = rewarded(value_minor, percent)
    decided = decide([refund(part) for part in parts], {RECEIPT: before}, {}).decided
    assert all(one.reversed_minor >= 0 for one in decided)
    left_minor = before.reward_minor - sum(one.reversed_minor for one in decided)
    assert left_minor == max(0, value_minor - sum(parts)) * (percent or 0) // 100


def test_repeated_refunds_take_once() -> None:
    """R-66: in a batch, and after a commit. Another value is a conflict."""
    once = refund(400, id_=UUID(int=9))
    other = refund(500, id_=UUID(int=9), after_s=1)
    found = decide([other, once, once], {RECEIPT: rewarded(1_000, 10)}, {})
    assert [one.reversed_minor for one in found.decided] == [40]
    assert [one.refund for one in found.conflicts] == [other]
    known = decide([once], {RECEIPT: rewarded(1_000, 10)}, {once.id: 400})
    assert (known.decided, known.conflicts) == ((), ())
