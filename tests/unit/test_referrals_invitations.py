"""Bindings to partners, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referrals.domain.invitations import Binding, Refusal, Start, StartOutcome, Tree, bind

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ANNA, BORIS, CLARA = UUID(int=1), UUID(int=2), UUID(int=3)


def start(
    person: UUID, invited_by: UUID | None = None, code: str | None = None, *, after_s: int = 0
) -> Start:
    return Start(uuid4(), person, invited_by, code, LONG_AGO + timedelta(seconds=after_s))


def bound(*starts: Start, tree: Tree | None = None) -> StartOutcome:
    """The outcome of the last of these starts."""
    return bind(starts, tree or Tree([]))[-1]


def partners(outcomes: list[StartOutcome]) -> dict[UUID, UUID | None]:
    return {one.binding.person: one.binding.partner for one in outcomes if one.binding}


def test_an_invited_person_is_bound() -> None:
    assert bound(start(BORIS, ANNA, "r_anna")).binding == Binding(BORIS, ANNA)


def test_an_inviter_without_a_start_is_a_partner() -> None:
    one = bound(start(BORIS, ANNA), tree=Tree([]))
    assert one.binding == Binding(BORIS, ANNA)
    assert one.refusal is None


@pytest.mark.parametrize("code", [None, "", "g_0123456789ab", "p_SPRING", "c_blog", "hello"])
def test_other_deep_links_bind_and_refuse_nothing(code: str | None) -> None:
    one = bound(start(BORIS, None, code))
    assert (one.binding, one.refusal) == (Binding(BORIS, None), None)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [(start(ANNA, None, "r_nobodys"), "code_unknown"), (start(ANNA, ANNA, "r_anna"), "oneself")],
)
def test_unknown_and_own_codes_are_refused(refused: Start, reason: Refusal) -> None:
    """S-11."""
    one = bound(refused)
    assert (one.binding, one.refusal) == (Binding(ANNA, None), reason)


def test_a_second_start_with_another_partner_is_refused() -> None:
    one = bound(start(CLARA, BORIS, "r_boris"), tree=Tree([Binding(CLARA, ANNA)]))
    assert (one.binding, one.refusal) == (None, "started_before")


@pytest.mark.parametrize("again", [None, ANNA])
def test_a_repeated_start_is_no_refusal(again: UUID | None) -> None:
    one = bound(start(CLARA, again), tree=Tree([Binding(CLARA, ANNA)]))
    assert (one.binding, one.refusal) == (None, None)


def test_the_first_of_two_mutual_invitations_is_bound() -> None:
    later, earlier = start(ANNA, BORIS, after_s=1), start(BORIS, ANNA)
    assert partners(bind([later, earlier], Tree([]))) == {BORIS: ANNA, ANNA: None}


@pytest.mark.parametrize("length", [1, 2, 3, 50, 5_000])
def test_a_chain_of_any_length_closes_no_circle(length: int) -> None:
    chain = [UUID(int=number) for number in range(length + 1)]
    tree = Tree(Binding(below, above) for below, above in pairwise(chain))
    closing = bound(start(chain[-1], chain[0], "r_circle"), tree=tree)
    assert (closing.binding, closing.refusal) == (Binding(chain[-1], None), "loop")


def test_a_batch_walks_a_long_chain_once() -> None:
    """Each link is read once. A walk for each new person would read it five hundred times."""
    chain = [UUID(int=number) for number in range(100_000)]
    tree = Tree(Binding(below, above) for below, above in pairwise(chain))
    tree._above = links = CountingLinks(tree._above)
    outcomes = bind([start(uuid4(), chain[0]) for _ in range(500)], tree)
    assert {one.refusal for one in outcomes} == {None}
    assert links.reads < 2 * len(chain)


class CountingLinks(dict[UUID, UUID]):
    reads = 0

    def get(self, *args: Any) -> Any:
        self.reads += 1
        return super().get(*args)


people = st.integers(min_value=0, max_value=7).map(lambda number: UUID(int=number))
starts_of_a_group = st.lists(st.tuples(people, st.none() | people), max_size=30).map(
    lambda pairs: [
        start(person, inviter, after_s=second) for second, (person, inviter) in enumerate(pairs)
    ]
)


@given(starts_of_a_group)
def test_every_chain_ends(starts: list[Start]) -> None:
    above = partners(bind(starts, Tree([])))
    for person in above:
        passed, at = set(), person
        while (partner := above.get(at)) is not None:
            assert at not in passed
            passed.add(at)
            at = partner


@given(starts_of_a_group)
def test_a_loop_is_refused_only_for_a_circle(starts: list[Start]) -> None:
    above: dict[UUID, UUID | None] = {}
    for one in bind(starts, Tree([])):
        if one.binding and one.refusal == "loop":
            at = one.start.invited_by
            while at is not None and at != one.start.person:
                at = above.get(at)
            assert at == one.start.person
        if one.binding:
            above[one.binding.person] = one.binding.partner


@given(
    starts_of_a_group,
    st.lists(st.integers(min_value=0, max_value=30)),
    st.randoms(use_true_random=False),
)
def test_batching_does_not_change_the_bindings(
    starts: list[Start], cuts: list[int], dice: Random
) -> None:
    whole = partners(bind(starts, Tree([])))
    edges = sorted({0, len(starts), *(cut for cut in cuts if cut < len(starts))})
    known: dict[UUID, UUID | None] = {}
    for begin, end in pairwise(edges):
        batch = starts[begin:end]
        dice.shuffle(batch)
        known |= partners(bind(batch, Tree(Binding(*binding) for binding in known.items())))
    assert known == whole


def test_the_event_id_orders_equal_times() -> None:
    first = replace(start(ANNA, BORIS), event=UUID(int=1))
    second = replace(start(BORIS, ANNA), event=UUID(int=2))
    assert bind([second, first], Tree([])) == bind([first, second], Tree([]))
