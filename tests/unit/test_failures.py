"""Whether a message that failed alone waits for its next try or is dead-lettered."""

import asyncpg
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.failures import RETRY_S, Blame, blame_for, is_given_up

TRIES = st.integers(min_value=1, max_value=1_000)


@given(TRIES, st.booleans())
def test_a_data_error_has_one_try(tries: int, others_passed: bool) -> None:
    """M-08: a repeat fails again."""
    assert is_given_up("data", tries, others_passed=others_passed)


@given(TRIES)
def test_a_lone_refusal_waits_for_ever(tries: int) -> None:
    """M-08: while the database refuses everything, nothing is dead-lettered."""
    assert not is_given_up("database", tries, others_passed=False)


@given(TRIES, st.booleans(), st.sampled_from(["database", "us"]))
def test_each_message_has_all_its_tries(tries: int, others_passed: bool, blame: Blame) -> None:
    """M-08, M-17: and no more, where the others passed."""
    given_up = is_given_up(blame, tries, others_passed=others_passed)
    assert not given_up or tries > len(RETRY_S)
    assert given_up or tries <= len(RETRY_S) or not others_passed


def test_a_time_out_is_blamed_on_the_database() -> None:
    """M-08: so it is bisected and waits, and is no data error."""
    assert blame_for(asyncpg.QueryCanceledError("statement timeout")) == "database"
    assert blame_for(asyncpg.ProgramLimitExceededError("index row")) == "data"
    assert blame_for(KeyError("ours")) == "us"
