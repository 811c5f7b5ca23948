"""What comes of attempts: pauses that grow, tries that end, and a node that is away blames nobody."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpn_provisioner.attempts import FIRST_PAUSE_S, LONGEST_PAUSE_S, MOST_TRIES, judge, pause_s
from vpn_provisioner.breaker import LONGEST_PROBE_PAUSE_S, Breaker
from vpn_provisioner.drift import Listed, compare
from vpn_provisioner.panels.protocol import PanelRefused, PanelUnavailable

JITTER = st.floats(0, 1, exclude_max=True)


def test_an_agreement_is_an_agreement_however_often_it_failed_before() -> None:
    assert judge(None, tries=MOST_TRIES, node_lives=True, jitter=0).verdict == "agreed"


@given(st.integers(0, 10_000), JITTER)
def test_a_node_that_is_away_costs_no_tries(tries: int, jitter: float) -> None:
    """P-09: a panel that is down for a day leaves every job where it was, and nothing dies of it."""
    attempt = judge(PanelUnavailable("away"), tries=tries, node_lives=False, jitter=jitter)
    assert (attempt.verdict, attempt.after_s) == ("given_back", 0)


@pytest.mark.parametrize("failure", [PanelUnavailable("silent"), PanelRefused("no")])
def test_a_job_that_fails_on_a_living_node_dies_at_last(failure: PanelUnavailable | PanelRefused) -> None:
    """P-09: neither for ever pending nor for ever tried."""
    verdicts = [judge(failure, tries=tries, node_lives=True, jitter=0.5).verdict for tries in range(MOST_TRIES)]
    assert verdicts == ["again"] * (MOST_TRIES - 1) + ["dead"]


def test_a_refusal_counts_even_when_the_node_went_away_since() -> None:
    assert judge(PanelRefused("no"), tries=0, node_lives=False, jitter=0).verdict == "again"


def test_a_failed_attempt_keeps_the_panels_words() -> None:
    """P-08: attempts and their reasons are visible afterwards."""
    attempt = judge(PanelRefused("no such inbound" + "!" * 1_000), tries=0, node_lives=True, jitter=0)
    assert attempt.error is not None
    assert attempt.error.startswith("PanelRefused: no such inbound")
    assert len(attempt.error) == 500


@given(st.integers(0, 10_000), JITTER)
def test_pauses_grow_to_a_bound_and_are_never_nothing(failures: int, jitter: float) -> None:
    assert FIRST_PAUSE_S / 2 <= pause_s(failures, jitter) <= LONGEST_PAUSE_S
    assert pause_s(failures + 1, jitter) >= pause_s(failures, jitter)


def test_a_breaker_opens_at_once_and_probes_more_rarely_to_a_bound() -> None:
    breaker = Breaker()
    assert breaker.closed
    pauses = []
    for _ in range(6):
        breaker = breaker.failed()
        assert not breaker.closed
        pauses.append(breaker.probe_after_s(1.0))
    assert pauses == [1, 2, 4, 5, 5, 5]
    assert pauses[-1] == LONGEST_PROBE_PAUSE_S


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
def test_only_what_was_agreed_before_the_look_can_drift(
    held: dict[UUID, UUID], present: bool, settled: bool, missing: bool, unwanted: bool
) -> None:
    """P-13: what was committed after the listing began is never mistaken for drift."""
    drift = compare(held, [Listed(PERSON, KEY, present, settled)])
    assert (bool(drift.missing), bool(drift.unwanted)) == (missing, unwanted)
