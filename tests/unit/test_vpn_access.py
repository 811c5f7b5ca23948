"""The fold of purchases: calendar months, changes of the plan, and any order of arrival."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.payments import PlanTerms
from vpn_provisioner.domain.access import (
    OrderEffect,
    Period,
    Prospect,
    after_months,
    effect_of,
    fold,
    prospect,
)

HOUR = timedelta(hours=1)


def terms(
    plan: str = "basic", months: int = 1, list_month_minor: int = 14_900, **others: Any
) -> PlanTerms:
    fields: dict[str, Any] = {"devices": 5, "traffic_bytes": None, "node_group": "default"}
    return PlanTerms(
        plan=plan, months=months, list_month_minor=list_month_minor, **(fields | others)
    )


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def bought(day: str, order: int = 1, **fields: Any) -> Period:
    return Period(UUID(int=order), at(day), terms(**fields))


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2026-01-31T10:30", 1, "2026-02-28T10:30"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-01-31", 2, "2026-03-31"),
        ("2026-11-30", 3, "2027-02-28"),
        ("2026-12-15", 12, "2027-12-15"),
        ("2028-02-29", 12, "2029-02-28"),
    ],
)
def test_months_end_at_the_last_day(start: str, months: int, end: str) -> None:
    assert after_months(at(start), months) == at(end)


def test_an_early_renewal_extends_from_the_end() -> None:
    assert fold([bought("2026-03-10"), bought("2026-03-20", 2)]).ends_at == at("2026-05-10")


def test_a_late_renewal_extends_from_the_payment() -> None:
    assert fold([bought("2026-03-10"), bought("2026-05-01", 2)]).ends_at == at("2026-06-01")


def test_a_renewal_at_the_end_leaves_no_gap() -> None:
    """A short February begins no new run: months from a 31st end on a 31st where possible."""
    assert fold([bought("2026-01-31"), bought("2026-02-28", 2)]).ends_at == at("2026-03-31")


def test_months_count_from_the_first_day() -> None:
    """The first day of an unbroken run."""
    periods = [bought("2026-01-31", 1), bought("2026-02-10", 2), bought("2026-03-15", 3)]
    assert [fold(periods[: count + 1]).ends_at for count in range(3)] == [
        at("2026-02-28"),
        at("2026-03-31"),
        at("2026-04-30"),
    ]


def test_another_plan_converts_the_time_left() -> None:
    """It begins at once. 30 days left at 149 a month are worth 14 days and 22 hours at 299.

    The rest of an hour is dropped.
    """
    first = bought("2026-04-01", months=1)
    second = bought("2026-04-01", 2, plan="plus", list_month_minor=29_900, devices=10)
    entitlement = fold([first, second])
    assert (entitlement.plan, entitlement.devices) == ("plus", 10)
    converted = timedelta(hours=30 * 24 * 14_900 // 29_900)
    assert entitlement.ends_at == at("2026-05-01") + converted


def test_each_stretch_converts_at_its_own_price() -> None:
    """A month bought at 100 and one at 200 are worth three months at 100: not two, not four."""
    periods = [
        bought("2026-04-01", 1, list_month_minor=10_000),
        bought("2026-04-01T00:00:01", 2, list_month_minor=20_000),
        bought("2026-05-01", 3, plan="plus", list_month_minor=10_000),
    ]
    assert fold(periods).ends_at == at("2026-06-01") + timedelta(days=31 * 2)


def test_used_time_does_not_convert() -> None:
    periods = [bought("2026-04-01"), bought("2026-06-01", 2, plan="plus")]
    assert fold(periods).ends_at == at("2026-07-01")


def test_a_renewal_keeps_the_converted_time() -> None:
    switched = [bought("2026-04-01"), bought("2026-04-16", 2, plan="plus")]
    renewed = [*switched, bought("2026-04-20", 3, plan="plus")]
    assert fold(switched).ends_at == at("2026-05-16") + timedelta(days=15)
    assert fold(renewed).ends_at == after_months(at("2026-05-31"), 1)


def test_switching_back_and_forth_gains_nothing() -> None:
    """Each conversion floors to the hour of its plan: both together lose a little."""
    periods = [
        bought("2026-04-01", 1),
        bought("2026-04-01", 2, plan="plus", list_month_minor=29_900),
        bought("2026-04-01", 3),
    ]
    plus_month_in_basic = timedelta(days=30) * 29_900 / 14_900
    fair = at("2026-05-01") + timedelta(days=30) + plus_month_in_basic
    assert timedelta(0) <= fair - fold(periods).ends_at < 3 * HOUR


def test_a_renewal_extends_from_converted_time() -> None:
    """Months differ in length: added before the converted hours they would end elsewhere."""
    before = [bought("2026-01-01", plan="basic"), bought("2026-01-22", 2, plan="plus", months=12)]
    end = fold(before).ends_at
    renewed = fold([*before, bought("2026-12-01", 3, plan="plus", months=6)])
    assert renewed.ends_at == after_months(end, 6) > after_months(at("2027-01-22"), 6)


def test_a_plan_without_a_price_converts_nothing() -> None:
    periods = [bought("2026-04-01"), bought("2026-04-16", 2, plan="gift", list_month_minor=0)]
    assert fold(periods).ends_at == at("2026-05-16") + timedelta(days=15)


def test_the_newest_order_gives_the_terms() -> None:
    entitlement = fold(
        [
            bought("2026-04-01"),
            bought("2026-04-16", 2, devices=6, node_group="fast", traffic_bytes=7),
        ]
    )
    assert (entitlement.devices, entitlement.node_group, entitlement.traffic_bytes) == (
        6,
        "fast",
        7,
    )


MOMENTS = st.integers(0, 3 * 365 * 24 * 60).map(
    lambda minutes: at("2026-01-01") + timedelta(minutes=minutes)
)
PLANS = {"basic": 14_900, "plus": 29_900, "max": 77_777}
PERIODS = st.lists(
    st.builds(
        lambda order, moment, plan, months: Period(order, moment, terms(plan, months, PLANS[plan])),
        st.uuids(),
        MOMENTS,
        st.sampled_from(sorted(PLANS)),
        st.sampled_from([1, 3, 6, 12]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda period: period.order,
)


@given(PERIODS, st.randoms())
def test_the_order_of_arrival_does_not_matter(
    periods: list[Period], shuffle: random.Random
) -> None:
    shuffled = list(periods)
    shuffle.shuffle(shuffled)
    assert fold(shuffled) == fold(periods)


@given(PERIODS)
def test_a_payment_is_never_cut_short(periods: list[Period]) -> None:
    """A payment gives at least its own months from its own moment, among any other payments."""
    newest = max(periods, key=lambda period: (period.booked_at, period.order))
    assert fold(periods).ends_at >= after_months(newest.booked_at, newest.terms.months)


@given(PERIODS, st.sampled_from([1, 3, 6, 12]))
def test_another_payment_never_shortens_the_access(periods: list[Period], months: int) -> None:
    before = fold(periods)
    moment = max(period.booked_at for period in periods) + HOUR
    more = Period(UUID(int=2**128 - 1), moment, terms(before.plan, months, PLANS[before.plan]))
    assert fold([*periods, more]).ends_at >= max(before.ends_at, after_months(moment, months))


# The outlook of one more purchase


def test_the_prospect_is_the_result_of_the_fold() -> None:
    """With nothing, the same plan, another plan, and an end that has passed."""
    basic, plus = (
        bought("2026-03-10"),
        bought("2026-03-20", 2, plan="plus", list_month_minor=29_900),
    )
    assert prospect([], basic) == Prospect("begins", None, timedelta(0), at("2026-04-10"))
    assert prospect([basic], bought("2026-03-20", 2)) == Prospect(
        "extends", "basic", timedelta(0), at("2026-05-10")
    )
    assert prospect([basic], bought("2026-04-11", 2)).effect == "begins"
    foreseen = prospect([basic], plus)
    assert (foreseen.effect, foreseen.plan, foreseen.ends_at) == (
        "converts",
        "basic",
        fold([basic, plus]).ends_at,
    )
    assert foreseen.converted == timedelta(days=21) * 14_900 // 29_900 // HOUR * HOUR


# The effect of an order among all purchases


def test_each_order_has_its_own_effect() -> None:
    """R-51: by booking time, whichever of them was announced first."""
    first = bought("2026-03-10")
    renewed = bought("2026-03-20", 2)
    changed = bought("2026-03-30", 3, plan="plus", list_month_minor=29_900)
    again = bought("2026-12-30", 4, plan="plus", list_month_minor=29_900)
    made = {
        period.order.int: effect_of(period.order, [again, changed, first, renewed])
        for period in (first, renewed, changed, again)
    }
    converted = prospect([first, renewed], changed).converted
    assert converted > timedelta(0)
    assert made == {
        1: OrderEffect("begins", None, timedelta(0), new_link=False),
        2: OrderEffect("extends", "basic", timedelta(0), new_link=False),
        3: OrderEffect("converts", "basic", converted, new_link=False),
        4: OrderEffect("begins", None, timedelta(0), new_link=False),
    }


def test_another_node_group_needs_another_link() -> None:
    """R-51: the key of the old nodes stops working, so the new one must be sent."""
    first = bought("2026-03-10")
    moved = bought("2026-03-20", 2, plan="plus", node_group="fast")
    assert effect_of(moved.order, [first, moved]).new_link
    assert not effect_of(first.order, [first, moved]).new_link


def test_only_the_newest_order_tells_of_a_change() -> None:
    """R-51: granted together, each message would name the plan of the end as its own."""
    plus = bought("2026-03-05", 2, plan="plus", list_month_minor=29900)
    periods = [bought("2026-03-01", 1), plus, bought("2026-03-06", 3)]
    assert [effect_of(UUID(int=order), periods).effect for order in (1, 2, 3)] == [
        "begins",
        "extends",
        "converts",
    ]


def test_a_late_order_moves_no_servers() -> None:
    """R-51: it is booked between two others and arrives last; the links are those of the newest."""
    periods = [
        bought("2026-03-01", 1, node_group="x"),
        bought("2026-03-10", 2, node_group="x"),
        bought("2026-03-05", 3, node_group="y"),
    ]
    assert not effect_of(UUID(int=3), periods).new_link
