"""The verdicts about answers, without a database."""

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.deliveries import (
    LONGEST_PAUSE_S,
    LONGEST_RETRY_AFTER_S,
    MAX_TRIES,
    Answer,
    Claimed,
    Counts,
    NotYet,
    Outdated,
    Reachability,
    Rejected,
    Sent,
    Settled,
    SlowDown,
    Unavailable,
    Unclear,
    Unreachable,
    revised,
    verdict,
)
from notifier.domain.messages import Kind

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_message_that_telegram_has_is_sent() -> None:
    assert verdict(Sent(7), "topped_up", Counts(3, 2)).message_id == 7


def test_a_429_is_no_failed_try() -> None:
    """W-20: `retry_after` pauses the chat, and no message of it waits on its own."""
    found = verdict(SlowDown(35), "topped_up", Counts(4))
    assert (found.state, found.pause_s, found.chat_pause_s) == ("waiting", 0, 35)
    assert found.counts == Counts(4)


def test_a_429_pauses_for_15_minutes_at_most() -> None:
    """W-20: whatever number stands in Telegram's answer."""
    assert verdict(SlowDown(10**9), "topped_up", Counts()).chat_pause_s == LONGEST_RETRY_AFTER_S


def test_a_refused_chat_costs_one_try() -> None:
    """W-20, W-40: and no token, so people who blocked the bot delay nobody."""
    found = verdict(Unreachable("bot was blocked by the user"), "topped_up", Counts())
    assert (found.state, found.reachable, found.spent) == ("unreachable", False, False)
    assert verdict(Rejected("message is too long"), "topped_up", Counts()).spent


def test_a_message_waits_for_its_key_without_limit() -> None:
    found = verdict(NotYet("issuing"), "access_ready", Counts(waits=10_000))
    assert (found.state, found.counts.tries, found.called) == ("waiting", 0, False)
    assert found.pause_s <= 30


def test_an_outage_is_retried_for_a_day() -> None:
    waited_s, counts = 0.0, Counts()
    while (found := verdict(Unavailable("401"), "topped_up", counts)).state == "waiting":
        waited_s, counts = waited_s + found.pause_s, found.counts
        assert found.pause_s <= LONGEST_PAUSE_S
    assert (found.state, found.counts.tries) == ("failed", MAX_TRIES)
    assert 20 * 3600 < waited_s < 30 * 3600


@pytest.mark.parametrize(
    ("kind", "tries"),
    [
        ("access_ready", 5),
        ("paid_issuing", 5),
        ("topped_up", 5),
        ("missing", 5),
        ("left_over", 5),
        ("reward_earned", 1),
        ("friend_registered", 1),
        ("access_ended", 1),
        ("access_expiring", 1),
    ],
)
def test_an_unclear_answer_repeats_keys_and_receipts(kind: Kind, tries: int) -> None:
    """N-01: each call may have arrived. Five of them for a key or a receipt, one for the others."""
    counts, calls = Counts(tries=7), 1
    while (found := verdict(Unclear("TimeoutError"), kind, counts)).state == "waiting":
        counts, calls = found.counts, calls + 1
    assert (found.state, calls) == ("unknown", tries)


@given(
    st.sampled_from(
        [
            Sent(1),
            Unreachable("b"),
            SlowDown(1),
            Rejected("r"),
            Unavailable("a"),
            Unclear("u"),
            NotYet("n"),
            Outdated("o"),
        ]
    ),
    st.sampled_from(get_args(Kind)),
    st.builds(Counts, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_an_unsettled_delivery_has_a_next_step(answer: Answer, kind: Kind, counts: Counts) -> None:
    found = verdict(answer, kind, counts)
    assert (found.pause_s + found.chat_pause_s > 0) == (found.state == "waiting")
    assert (found.message_id is not None) == (found.state == "sent")


def claimed_at(changed_at: datetime | None) -> Claimed:
    return Claimed(
        uuid4(), uuid4(), "topped_up", {}, None, None, Counts(), None, None, changed_at=changed_at
    )


@pytest.mark.parametrize(
    ("answer", "known", "state"),
    [
        (Unreachable("403"), Reachability(reachable=True, changed_at=NOW), "waiting"),
        (Unreachable("403"), Reachability(reachable=False, changed_at=NOW), "unreachable"),
        (Unreachable("403"), Reachability(reachable=True, changed_at=None), "unreachable"),
        (Rejected("400"), Reachability(reachable=True, changed_at=NOW), "failed"),
    ],
)
def test_only_a_new_unblock_revises_a_block(
    answer: Answer, known: Reachability, state: str
) -> None:
    """N-15: nothing had been published about the person when the delivery was claimed."""
    settled = Settled(claimed_at(None), verdict(answer, "topped_up", Counts()))
    assert revised(settled, known).verdict.state == state


def test_an_older_change_is_no_unblock() -> None:
    """The change was known at the claim: Telegram's answer is newer."""
    known = Reachability(reachable=True, changed_at=NOW - timedelta(hours=1))
    found = verdict(Unreachable("403"), "topped_up", Counts())
    settled = Settled(claimed_at(known.changed_at), found)
    assert revised(settled, known) == settled
