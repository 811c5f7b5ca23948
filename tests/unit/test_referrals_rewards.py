"""Who earns what, without a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referrals.rewards import Level, Partner, Payment, Reward, Scale, Tally, decide, terms_of

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SCALE = Scale(1, (Level(0, 10), Level(25, 25), Level(50, 45)))
ANNA, BORIS = UUID(int=1), UUID(int=2)


def tally(*partners: Partner, scale: Scale = SCALE) -> Tally:
    return Tally(scale, {partner.person: partner for partner in partners}, paying=set(), decided={})


def payment(
    value_minor: int = 10_000,
    *,
    payer: UUID | None = None,
    partner: UUID | None = ANNA,
    receipt: UUID | None = None,
    after_s: int = 0,
) -> Payment:
    booked_at = LONG_AGO + timedelta(seconds=after_s)
    return Payment(uuid4(), receipt or uuid4(), payer or uuid4(), partner, value_minor, booked_at)


def reward_of(one: Payment, *partners: Partner) -> Reward:
    state = tally(*partners)
    decide([one], state)
    return state.rewards[0]


@pytest.mark.parametrize(
    ("paying", "percent", "next_level"),
    [
        (0, 10, Level(25, 25)),
        (24, 10, Level(25, 25)),
        (25, 25, Level(50, 45)),
        (49, 25, Level(50, 45)),
        (50, 45, None),
        (10_000, 45, None),
    ],
)
def test_the_percent_rises_with_the_paying_invitees(paying: int, percent: int, next_level: Level | None) -> None:
    terms = terms_of(Partner(ANNA, paying), SCALE)
    assert (terms.percent, terms.next_level, terms.scale) == (percent, next_level, SCALE.id)


def test_the_payer_is_counted_before_his_reward_is_decided() -> None:
    reward = reward_of(payment(), Partner(ANNA, paying=24))
    assert (reward.paying, reward.reward_minor, reward.activates) == (25, 2_500, True)


def test_who_pays_again_is_counted_once() -> None:
    state = tally(Partner(ANNA, paying=23))
    decide([payment(payer=BORIS, after_s=place) for place in range(5)], state)
    assert [reward.paying for reward in state.rewards] == [24] * 5
    assert [reward.activates for reward in state.rewards] == [True] + [False] * 4


def test_a_fixed_percent_wins_over_every_level_and_has_no_next_one() -> None:
    reward = reward_of(payment(), Partner(ANNA, paying=60, fixed_percent=7))
    assert reward.terms is not None
    assert (reward.reward_minor, reward.terms.scale, reward.terms.next_level) == (700, None, None)


def test_a_payer_without_a_partner_is_decided_too() -> None:
    assert reward_of(payment(partner=None)).outcome == "no_partner"


def test_a_partner_who_is_gone_means_no_reward_and_no_failure() -> None:
    """M-18."""
    reward = reward_of(payment(partner=BORIS), Partner(ANNA))
    assert (reward.outcome, reward.reward_minor, reward.activates) == ("partner_gone", 0, False)


def test_a_reward_below_a_kopeck_is_decided_and_counts_its_payer() -> None:
    reward = reward_of(payment(9), Partner(ANNA))
    assert (reward.outcome, reward.reward_minor, reward.paying) == ("below_a_kopeck", 0, 1)


def test_money_that_is_worth_nothing_lifts_nobody_to_a_level() -> None:
    """M-14."""
    reward = reward_of(payment(0), Partner(ANNA, paying=24))
    assert (reward.outcome, reward.paying, reward.activates) == ("below_a_kopeck", 24, False)


def test_a_receipt_in_two_facts_of_a_batch_is_decided_once() -> None:
    receipt, state = uuid4(), tally(Partner(ANNA))
    decide([payment(payer=BORIS, receipt=receipt), payment(payer=BORIS, receipt=receipt)], state)
    assert len(state.rewards) == 1
    assert state.contradicted == []


@pytest.mark.parametrize(("payer", "value_minor"), [(BORIS, 20_000), (uuid4(), 10_000)])
def test_a_receipt_that_comes_again_as_another_is_a_contradiction(payer: UUID, value_minor: int) -> None:
    receipt, state = uuid4(), tally(Partner(ANNA))
    first = payment(10_000, payer=BORIS, receipt=receipt)
    again = payment(value_minor, payer=payer, receipt=receipt, after_s=1)
    decide([again, first], state)
    assert [reward.payment for reward in state.rewards] == [first]
    assert state.contradicted == [(again, first.business)]


@pytest.mark.parametrize("levels", [(), (Level(1, 10),), (Level(0, 10), Level(0, 25)), (Level(5, 10), Level(0, 25))])
def test_a_scale_with_a_hole_or_out_of_order_is_refused(levels: tuple[Level, ...]) -> None:
    with pytest.raises(AssertionError):
        Scale(1, levels)


@given(value_minor=st.integers(0, 10**12), percent=st.integers(0, 100))
def test_a_reward_is_the_floor_of_its_percent_in_kopecks(value_minor: int, percent: int) -> None:
    """M-20."""
    reward_minor = reward_of(payment(value_minor), Partner(ANNA, fixed_percent=percent)).reward_minor
    assert reward_minor * 100 <= value_minor * percent < (reward_minor + 1) * 100


VILLAGE = [UUID(int=10 + number) for number in range(12)]
NARROW = Scale(1, (Level(0, 10), Level(2, 25), Level(4, 45)))
BOUND = {person: [ANNA, BORIS, None, UUID(int=9)][number % 4] for number, person in enumerate(VILLAGE)}
payments_of_a_village = st.lists(
    st.builds(
        lambda payer, value, receipt, after_s: payment(
            value, payer=payer, partner=BOUND[payer], receipt=UUID(int=1_000 + receipt), after_s=after_s
        ),
        st.sampled_from(VILLAGE),
        st.integers(0, 100),
        st.integers(0, 25),
        st.integers(0, 10),
    ),
    max_size=40,
).map(lambda payments: sorted(payments, key=lambda one: (one.booked_at, one.fact)))


def village() -> Tally:
    return tally(Partner(ANNA), Partner(BORIS, fixed_percent=7), scale=NARROW)


def folded(batches: Sequence[list[Payment]]) -> list[Reward]:
    """What batches come to, each from the state that the rows of those before it give."""
    state, rewards = village(), list[Reward]()
    for batch in batches:
        state = Tally(NARROW, dict(state.partners), set(state.paying), dict(state.decided))
        decide(batch, state)
        rewards += state.rewards
    return rewards


@given(payments_of_a_village, st.lists(st.integers(0, 40)), st.randoms(use_true_random=False))
def test_any_cut_into_batches_gives_the_same_rewards(payments: list[Payment], cuts: list[int], dice: Random) -> None:
    edges = sorted({0, len(payments), *(cut for cut in cuts if cut < len(payments))})
    batches = [payments[begin:end] for begin, end in pairwise(edges)]
    one_by_one = folded([[one] for one in payments])
    for batch in batches:
        dice.shuffle(batch)
    assert folded(batches) == one_by_one


@given(payments_of_a_village)
def test_every_receipt_has_one_decision_and_every_count_its_payers(payments: list[Payment]) -> None:
    state = village()
    decide(payments, state)
    assert len({reward.payment.receipt for reward in state.rewards}) == len(state.rewards)
    assert {reward.payment.receipt for reward in state.rewards} == {one.receipt for one in payments}
    for partner in state.partners.values():
        worth = [reward.payment for reward in state.rewards if reward.payment.value_minor]
        assert partner.paying == len({one.payer for one in worth if one.partner == partner.person})
