"""The fold with undone shares: what a refund leaves of the access of a person."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.payments import PlanTerms
from vpn_provisioner.domain.access import Period, effect_of, fold, prospect

HOUR = timedelta(hours=1)


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def bought(
    day: str, order: int = 1, *, plan: str = "basic", months: int = 1, undone: Fraction | int = 0
) -> Period:
    terms = PlanTerms(
        plan=plan,
        months=months,
        devices=5,
        traffic_bytes=None,
        node_group="default",
        list_month_minor={"basic": 14_900, "plus": 29_900}[plan],
    )
    return Period(UUID(int=order), at(day), terms, Fraction(undone))


def test_an_undone_order_gives_no_time() -> None:
    """R-67: the others are folded as if it had never been bought."""
    kept = bought("2026-03-20", 2)
    assert fold([bought("2026-03-10", undone=1), kept]) == fold([kept])


def test_access_without_orders_ended_at_its_beginning() -> None:
    """R-67: no order is left, so the end is in the past."""
    undone = [bought("2026-03-10", undone=1), bought("2026-03-20", 2, undone=1)]
    assert fold(undone).ends_at == at("2026-03-20")


def test_an_undone_share_shortens_its_order() -> None:
    """R-67: half of the 28 days of February."""
    assert fold([bought("2026-02-01", undone=Fraction(1, 2))]).ends_at == at("2026-02-15")


def test_a_share_is_cut_in_whole_hours() -> None:
    """R-67: a third of 31 days is 10 days and 8 hours; a rest below an hour stays."""
    assert fold([bought("2026-03-01", undone=Fraction(1, 3))]).ends_at == at("2026-03-21T16:00")
    almost_nothing = Fraction(1, 10_000)
    assert fold([bought("2026-03-01", undone=almost_nothing)]).ends_at == at("2026-04-01")


def test_the_next_order_begins_at_the_shorter_end() -> None:
    """R-67: it still extends, by its whole month."""
    halved = bought("2026-02-01", undone=Fraction(1, 2))
    assert fold([halved, bought("2026-02-10", 2)]).ends_at == at("2026-03-15")
    assert fold([halved, bought("2026-02-20", 2)]).ends_at == at("2026-03-20")


def test_an_undone_renewal_leaves_the_first_order() -> None:
    """R-67: the end before the renewal is the end again."""
    renewed = [bought("2026-03-10"), bought("2026-03-20", 2, undone=1)]
    assert fold(renewed).ends_at == at("2026-04-10")


def test_a_share_of_a_renewal_shortens_it() -> None:
    """R-67: half of the 30 days from the 10th of April."""
    renewed = [bought("2026-03-10"), bought("2026-03-20", 2, undone=Fraction(1, 2))]
    assert fold(renewed).ends_at == at("2026-04-25")


def test_an_undone_change_of_plan_is_taken_back() -> None:
    """R-67: the time that had been converted is that of the first plan again."""
    changed = [bought("2026-03-10", months=12), bought("2026-03-20", 2, plan="plus", undone=1)]
    after = fold(changed)
    assert (after.plan, after.ends_at) == ("basic", at("2027-03-10"))


def test_only_time_of_the_order_is_cut() -> None:
    """R-67: the converted time was paid by another order."""
    before = bought("2026-03-10")
    whole = fold([before, bought("2026-03-20", 2, plan="plus")]).ends_at
    half = fold([before, bought("2026-03-20", 2, plan="plus", undone=Fraction(1, 2))]).ends_at
    assert whole - half == timedelta(days=15, hours=12)


def test_buying_after_a_refund_begins_anew() -> None:
    """R-67: the screen foresees no time of an undone order."""
    undone = bought("2026-03-10", undone=1)
    foreseen = prospect([undone], bought("2026-03-20", 2))
    assert (foreseen.effect, foreseen.ends_at) == ("begins", at("2026-04-20"))
    assert effect_of(UUID(int=1), [undone]).effect == "begins"


@given(
    share=st.fractions(min_value=0, max_value=1),
    months=st.integers(min_value=1, max_value=24),
    minutes=st.integers(min_value=0, max_value=2_000_000),
)
def test_more_undone_is_never_longer(share: Fraction, months: int, minutes: int) -> None:
    """R-67: an end lies between the beginning and the whole end, to the hour."""
    begin = at("2026-01-01") + timedelta(minutes=minutes)
    one = bought("2026-01-01", months=months)
    whole, cut = (
        fold([Period(one.order, begin, one.terms, undone)]).ends_at
        for undone in (Fraction(0), share)
    )
    exact = (whole - begin) * (1 - float(share))
    assert begin <= cut <= whole
    assert abs((cut - begin) - exact) <= HOUR + timedelta(seconds=1)
