"""Verdicts on attempts: tries are bounded, pauses grow, and an absent node costs no try."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpn_provisioner.domain.attempts import MAX_TRIES, judge
from vpn_provisioner.domain.breaker import Breaker
from vpn_provisioner.domain.drift import ListedJob, find_drift
from vpn_provisioner.domain.panel import PanelRefused, PanelUnavailable
from vpn_provisioner.domain.pauses import (
    FIRST_PAUSE_S,
    LONGEST_JOB_PAUSE_S,
    LONGEST_PROBE_PAUSE_S,
    pause_s,
)

JITTER = st.floats(0, 1, exclude_max=True)


def test_earlier_failures_do_not_change_an_agreement() -> None:
    assert judge(None, tries=MAX_TRIES, node_lives=True, pause_s=1).verdict == "agreed"


@given(st.integers(0, 10_000))
def test_an_absent_node_costs_no_tries(tries: int) -> None:
    """P-09: after a day without the panel every job is as it was, and none is dead."""
    attempt = judge(PanelUnavailable("away"), tries=tries, node_lives=False, pause_s=1)
    assert (attempt.verdict, attempt.after_s) == ("given_back", 0)


@pytest.mark.parametrize("failure", [PanelUnavailable("silent"), PanelRefused("no")])
def test_a_job_dies_on_a_living_node(failure: PanelUnavailable | PanelRefused) -> None:
    """P-09: it is neither pending for ever nor tried for ever."""
    verdicts = [
        judge(failure, tries=tries, node_lives=True, pause_s=1).verdict
        for tries in range(MAX_TRIES)
    ]
    assert verdicts == ["retry"] * (MAX_TRIES - 1) + ["dead"]


def test_a_retry_comes_after_the_given_pause() -> None:
    assert judge(PanelRefused("no"), tries=0, node_lives=True, pause_s=7).after_s == 7


def test_a_refusal_counts_on_an_absent_node() -> None:
    """The node went away after it had refused."""
    assert judge(PanelRefused("no"), tries=0, node_lives=False, pause_s=1).verdict == "retry"


def test_a_failed_attempt_keeps_the_panels_text() -> None:
    """P-08: attempts and their reasons are visible afterwards."""
    refused = PanelRefused("no such inbound" + "!" * 1_000)
    attempt = judge(refused, tries=0, node_lives=True, pause_s=1)
    assert attempt.error is not None
    assert attempt.error.startswith("PanelRefused: no such inbound")
    assert len(attempt.error) == 500


@given(st.integers(0, 10_000), JITTER)
def test_pauses_grow_to_a_bound(failures: int, jitter: float) -> None:
    """And they are never zero."""
    pause = pause_s(failures, jitter, longest_s=LONGEST_JOB_PAUSE_S)
    assert FIRST_PAUSE_S / 2 <= pause <= LONGEST_JOB_PAUSE_S
    assert pause_s(failures + 1, jitter, longest_s=LONGEST_JOB_PAUSE_S) >= pause


def test_a_breaker_opens_at_the_first_failure() -> None:
    breaker = Breaker()
    assert breaker.closed
    for failures in range(1, 7):
        breaker = breaker.failed()
        assert (breaker.closed, breaker.failures) == (False, failures)


def test_probes_become_rarer_to_a_bound() -> None:
    pauses = [pause_s(failures, 1.0, longest_s=LONGEST_PROBE_PAUSE_S) for failures in range(6)]
    assert pauses == [1, 2, 4, 5, 5, 5]


PERSON, KEY = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("held", "present", "settled", "missing", "unwanted"),
    [
        ({PERSON: KEY}, True, True, False, False),
        ({}, True, True, True, False),
        ({PERSON: UUID(int=3)}, True, True, True, False),
        ({PERSON: KEY}, False, True, False, True),
        ({}, False, True, False, False),
        ({}, True, False, False, False),
        ({PERSON: KEY}, False, False, False, False),
    ],
)
def test_only_settled_jobs_can_drift(
    held: dict[UUID, UUID], present: bool, settled: bool, missing: bool, unwanted: bool
) -> None:
    """P-13: a change that was committed after the listing began is never taken for drift."""
    drift = find_drift(held, [ListedJob(PERSON, KEY, present, settled)])
    assert (bool(drift.missing), bool(drift.unwanted)) == (missing, unwanted)
