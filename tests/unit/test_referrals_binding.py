"""Who is bound to whom, without a database."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referrals.binding import Line, Refusal, Roll, Start, Welcome, bind

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ANNA, BORIS, CLARA = UUID(int=1), UUID(int=2), UUID(int=3)


def start(person: UUID, invited_by: UUID | None = None, code: str | None = None, *, after_s: int = 0) -> Start:
    return Start(uuid4(), person, invited_by, code, LONG_AGO + timedelta(seconds=after_s))


def bound(*starts: Start, roll: Roll | None = None) -> Welcome:
    """What became of the last of these starts."""
    return bind(starts, roll or Roll([]))[-1]


def partners(welcomes: list[Welcome]) -> dict[UUID, UUID | None]:
    return {one.line.person: one.line.partner for one in welcomes if one.line}


def test_who_is_invited_is_bound_to_the_partner() -> None:
    assert bound(start(BORIS, ANNA, "r_anna")).line == Line(BORIS, ANNA)


def test_a_partner_whose_own_start_is_not_known_yet_is_a_partner() -> None:
    one = bound(start(BORIS, ANNA), roll=Roll([]))
    assert one.line == Line(BORIS, ANNA)
    assert one.refusal is None


@pytest.mark.parametrize("code", [None, "", "g_0123456789ab", "p_SPRING", "c_blog", "hello"])
def test_a_start_that_names_no_invitation_binds_nobody_and_is_refused_nothing(code: str | None) -> None:
    one = bound(start(BORIS, None, code))
    assert (one.line, one.refusal) == (Line(BORIS, None), None)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [(start(ANNA, None, "r_nobodys"), "code_unknown"), (start(ANNA, ANNA, "r_anna"), "oneself")],
)
def test_an_invitation_of_nobody_or_of_oneself_is_refused_by_name(refused: Start, reason: Refusal) -> None:
    """S-11."""
    one = bound(refused)
    assert (one.line, one.refusal) == (Line(ANNA, None), reason)


def test_a_second_start_that_names_another_partner_is_refused() -> None:
    one = bound(start(CLARA, BORIS, "r_boris"), roll=Roll([Line(CLARA, ANNA)]))
    assert (one.line, one.refusal) == (None, "started_before")


@pytest.mark.parametrize("again", [None, ANNA])
def test_a_second_start_that_names_nobody_else_is_only_a_repeat(again: UUID | None) -> None:
    one = bound(start(CLARA, again), roll=Roll([Line(CLARA, ANNA)]))
    assert (one.line, one.refusal) == (None, None)


def test_of_two_starts_that_invite_each_other_the_first_is_bound() -> None:
    later, earlier = start(ANNA, BORIS, after_s=1), start(BORIS, ANNA)
    assert partners(bind([later, earlier], Roll([]))) == {BORIS: ANNA, ANNA: None}


@pytest.mark.parametrize("length", [1, 2, 3, 50, 5_000])
def test_no_chain_of_any_length_comes_back_to_where_it_began(length: int) -> None:
    chain = [UUID(int=place) for place in range(length + 1)]
    roll = Roll(Line(below, above) for below, above in pairwise(chain))
    closing = bound(start(chain[-1], chain[0], "r_circle"), roll=roll)
    assert (closing.line, closing.refusal) == (Line(chain[-1], None), "loop")


def test_a_batch_below_a_long_chain_is_walked_once() -> None:
    chain = [UUID(int=place) for place in range(100_000)]
    roll = Roll(Line(below, above) for below, above in pairwise(chain))
    began = time.perf_counter()
    welcomes = bind([start(uuid4(), chain[0]) for _ in range(500)], roll)
    assert {one.refusal for one in welcomes} == {None}
    assert time.perf_counter() - began < 2  # Walked once it takes some 0.1 s, for each newcomer anew some 5 s.


people = st.integers(min_value=0, max_value=7).map(lambda number: UUID(int=number))
starts_of_a_village = st.lists(st.tuples(people, st.none() | people), max_size=30).map(
    lambda pairs: [start(person, inviter, after_s=place) for place, (person, inviter) in enumerate(pairs)]
)


@given(starts_of_a_village)
def test_whatever_starts_come_every_chain_ends(starts: list[Start]) -> None:
    above = partners(bind(starts, Roll([])))
    for person in above:
        passed, at = set(), person
        while (partner := above.get(at)) is not None:
            assert at not in passed
            passed.add(at)
            at = partner


@given(starts_of_a_village)
def test_a_newcomer_is_refused_only_where_binding_would_have_closed_a_circle(starts: list[Start]) -> None:
    above: dict[UUID, UUID | None] = {}
    for one in bind(starts, Roll([])):
        if one.line and one.refusal == "loop":
            at = one.start.invited_by
            while at is not None and at != one.start.person:
                at = above.get(at)
            assert at == one.start.person
        if one.line:
            above[one.line.person] = one.line.partner


@given(starts_of_a_village, st.lists(st.integers(min_value=0, max_value=30)), st.randoms(use_true_random=False))
def test_starts_bind_alike_however_they_are_cut_into_batches(
    starts: list[Start], cuts: list[int], dice: Random
) -> None:
    whole = partners(bind(starts, Roll([])))
    edges = sorted({0, len(starts), *(cut for cut in cuts if cut < len(starts))})
    known: dict[UUID, UUID | None] = {}
    for begin, end in pairwise(edges):
        batch = starts[begin:end]
        dice.shuffle(batch)
        known |= partners(bind(batch, Roll(Line(*line) for line in known.items())))
    assert known == whole


def test_the_same_moment_is_ordered_by_the_facts_id() -> None:
    first = replace(start(ANNA, BORIS), fact=UUID(int=1))
    second = replace(start(BORIS, ANNA), fact=UUID(int=2))
    assert bind([second, first], Roll([])) == bind([first, second], Roll([]))
