"""The rewards of receipts, without a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referrals.domain.rewards import (
    Level,
    Partner,
    ReceiptConflict,
    Reward,
    RewardableReceipt,
    RewardState,
    Scale,
    decide,
    terms_of,
)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SCALE = Scale(1, (Level(0, 10), Level(25, 25), Level(50, 45)))
ANNA, BORIS = UUID(int=1), UUID(int=2)


def state_of(*partners: Partner, scale: Scale = SCALE) -> RewardState:
    return RewardState(scale, {partner.person: partner for partner in partners})


def receipt(
    value_minor: int = 10_000,
    *,
    payer: UUID | None = None,
    partner: UUID | None = ANNA,
    id_: UUID | None = None,
    after_s: int = 0,
) -> RewardableReceipt:
    booked_at = LONG_AGO + timedelta(seconds=after_s)
    return RewardableReceipt(
        uuid4(), id_ or uuid4(), payer or uuid4(), partner, value_minor, booked_at
    )


def reward_for(one: RewardableReceipt, *partners: Partner) -> Reward:
    [reward] = decide([one], state_of(*partners)).rewards
    return reward


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
def test_the_percent_rises_with_paying_invitees(
    paying: int, percent: int, next_level: Level | None
) -> None:
    terms = terms_of(Partner(ANNA, paying), SCALE)
    assert (terms.percent, terms.next_level, terms.scale) == (percent, next_level, SCALE.id)


def test_a_payer_counts_for_their_own_reward() -> None:
    reward = reward_for(receipt(), Partner(ANNA, paying=24))
    assert (reward.paying, reward.reward_minor, reward.activates) == (25, 2_500, True)


def test_a_payer_is_counted_once() -> None:
    receipts = [receipt(payer=BORIS, after_s=second) for second in range(5)]
    rewards = decide(receipts, state_of(Partner(ANNA, paying=23))).rewards
    assert [reward.paying for reward in rewards] == [24] * 5
    assert [reward.activates for reward in rewards] == [True] + [False] * 4


def test_a_fixed_percent_takes_precedence_over_levels() -> None:
    reward = reward_for(receipt(), Partner(ANNA, paying=60, fixed_percent=7))
    assert reward.terms is not None
    assert (reward.reward_minor, reward.terms.scale, reward.terms.next_level) == (700, None, None)


def test_a_payer_without_a_partner_is_decided() -> None:
    assert reward_for(receipt(partner=None)).outcome == "no_partner"


def test_a_missing_partner_means_no_reward() -> None:
    """M-18: it is no failure either."""
    reward = reward_for(receipt(partner=BORIS), Partner(ANNA))
    assert (reward.outcome, reward.reward_minor, reward.activates) == ("partner_gone", 0, False)


def test_a_reward_below_a_kopeck_counts_its_payer() -> None:
    reward = reward_for(receipt(9), Partner(ANNA))
    assert (reward.outcome, reward.reward_minor, reward.paying) == ("below_a_kopeck", 0, 1)


def test_money_of_no_value_raises_no_level() -> None:
    """M-14."""
    reward = reward_for(receipt(0), Partner(ANNA, paying=24))
    assert (reward.outcome, reward.paying, reward.activates) == ("below_a_kopeck", 24, False)


def test_a_receipt_twice_in_a_batch_counts_once() -> None:
    twice = uuid4()
    decisions = decide(
        [receipt(payer=BORIS, id_=twice), receipt(payer=BORIS, id_=twice)],
        state_of(Partner(ANNA)),
    )
    assert len(decisions.rewards) == 1
    assert decisions.conflicts == ()


@pytest.mark.parametrize(("payer", "value_minor"), [(BORIS, 20_000), (uuid4(), 10_000)])
def test_a_receipt_with_other_fields_is_a_conflict(payer: UUID, value_minor: int) -> None:
    twice = uuid4()
    first = receipt(10_000, payer=BORIS, id_=twice)
    again = receipt(value_minor, payer=payer, id_=twice, after_s=1)
    decisions = decide([again, first], state_of(Partner(ANNA)))
    assert [reward.receipt for reward in decisions.rewards] == [first]
    assert decisions.conflicts == (ReceiptConflict(again, first.fields),)


def test_a_receipt_decided_elsewhere_is_no_reward() -> None:
    """Another transaction was faster: the same fields are a repeat, other fields are a conflict."""
    repeat, conflict, own = receipt(partner=None), receipt(partner=None), receipt(partner=None)
    other = conflict.fields._replace(value_minor=1)
    decisions = decide([repeat, conflict, own], state_of())
    left = decisions.without_lost_races({repeat.id: repeat.fields, conflict.id: other})
    assert [reward.receipt for reward in left.rewards] == [own]
    assert left.conflicts == (ReceiptConflict(conflict, other),)


@pytest.mark.parametrize(
    "levels", [(), (Level(1, 10),), (Level(0, 10), Level(0, 25)), (Level(5, 10), Level(0, 25))]
)
def test_a_scale_begins_at_zero_and_rises(levels: tuple[Level, ...]) -> None:
    with pytest.raises(AssertionError):
        Scale(1, levels)


@given(value_minor=st.integers(0, 10**12), percent=st.integers(0, 100))
def test_a_reward_is_the_floor_of_its_percent(value_minor: int, percent: int) -> None:
    """M-20."""
    partner = Partner(ANNA, fixed_percent=percent)
    reward_minor = reward_for(receipt(value_minor), partner).reward_minor
    assert reward_minor * 100 <= value_minor * percent < (reward_minor + 1) * 100


PAYERS = [UUID(int=10 + number) for number in range(12)]
NARROW = Scale(1, (Level(0, 10), Level(2, 25), Level(4, 45)))
PARTNERS = {
    person: [ANNA, BORIS, None, UUID(int=9)][number % 4] for number, person in enumerate(PAYERS)
}
receipts_of_a_group = st.lists(
    st.builds(
        lambda payer, value, number, after_s: receipt(
            value,
            payer=payer,
            partner=PARTNERS[payer],
            id_=UUID(int=1_000 + number),
            after_s=after_s,
        ),
        st.sampled_from(PAYERS),
        st.integers(0, 100),
        st.integers(0, 25),
        st.integers(0, 10),
    ),
    max_size=40,
).map(lambda receipts: sorted(receipts, key=lambda one: (one.booked_at, one.event)))


def group() -> RewardState:
    return state_of(Partner(ANNA), Partner(BORIS, fixed_percent=7), scale=NARROW)


def folded(batches: Sequence[list[RewardableReceipt]]) -> list[Reward]:
    """The rewards of batches, each decided on the state after the batch before it."""
    state, rewards = group(), list[Reward]()
    for batch in batches:
        decisions = decide(batch, state)
        state = decisions.state
        rewards += decisions.rewards
    return rewards


@given(receipts_of_a_group, st.lists(st.integers(0, 40)), st.randoms(use_true_random=False))
def test_batching_does_not_change_the_rewards(
    receipts: list[RewardableReceipt], cuts: list[int], dice: Random
) -> None:
    edges = sorted({0, len(receipts), *(cut for cut in cuts if cut < len(receipts))})
    batches = [receipts[begin:end] for begin, end in pairwise(edges)]
    one_by_one = folded([[one] for one in receipts])
    for batch in batches:
        dice.shuffle(batch)
    assert folded(batches) == one_by_one


@given(receipts_of_a_group)
def test_each_receipt_is_decided_and_each_payer_counted(
    receipts: list[RewardableReceipt],
) -> None:
    decisions = decide(receipts, group())
    decided = [reward.receipt for reward in decisions.rewards]
    assert len({one.id for one in decided}) == len(decided)
    assert {one.id for one in decided} == {one.id for one in receipts}
    for partner in decisions.state.partners.values():
        worth = [one for one in decided if one.value_minor]
        assert partner.paying == len({one.payer for one in worth if one.partner == partner.person})
