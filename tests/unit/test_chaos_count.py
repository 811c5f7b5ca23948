"""The count of the chaos matrix finds whatever is short, double or somebody else's."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.commands import Invoice
from tests.chaos.count import Count, as_levels_say, hold
from tests.chaos.load import Kind, Member, Paid, Wanted

PARTNER = uuid4()
ADA = Member(uuid4(), 7_000_000_001, "ada", PARTNER)
INVOICE = Invoice(
    order=uuid4(),
    invoice=uuid4(),
    payload="payload",
    plan="basic",
    months=1,
    price_minor=14_900,
    asked_minor=99,
    currency="XTR",
    expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_in_s=900,
)
RIGHT: dict[str, Any] = {
    "payer": ADA.person,
    "order_id": INVOICE.order,
    "outcome": "bought",
    "worth_minor": 14_900,
    "price_minor": 14_900,
    "decided": "rewarded",
    "partner": PARTNER,
    "percent": 10,
    "reward_minor": 1_490,
    "receipts": 1,
    "stars": 99,
    "bought": 1,
    "periods": [(ADA.person, "basic", 1)],
    "granted": 1,
    "keys": 1,
    "acknowledged": 0,
    "rewards": 1,
    "rewards_told": 1,
}
NOT_BOUGHT: dict[str, Any] = {
    "outcome": "wallet",
    "bought": 0,
    "periods": None,
    "granted": 0,
    "keys": 0,
    "acknowledged": 1,
}
TOO_MUCH = RIGHT | {"stars": 106, "worth_minor": 15_953, "reward_minor": 1_595, "acknowledged": 1}
TOO_LITTLE = RIGHT | NOT_BOUGHT | {"stars": 49, "worth_minor": 7_374, "reward_minor": 737}


def counted(kind: Kind, member: Member = ADA, **seen: Any) -> tuple[int, int]:
    """How many are lost and doubled of one charge of which the shop shows this."""
    count = Count()
    hold(Paid("charge", Wanted(member, INVOICE, kind)), seen, count)
    return count.lost, count.doubled


@pytest.mark.parametrize("kind", ["right", "overdue"])
def test_a_charge_with_all_its_effects_is_whole(kind: Kind) -> None:
    assert counted(kind, **RIGHT) == (0, 0)


def test_money_that_is_too_much_is_also_said_so() -> None:
    assert counted("too much", **TOO_MUCH) == (0, 0)
    assert counted("too much", **TOO_MUCH | {"acknowledged": 0}) == (1, 0)


@pytest.mark.parametrize(("kind", "seen"), [("too little", TOO_LITTLE), ("late", RIGHT | NOT_BOUGHT)])
def test_money_that_buys_nothing_is_acknowledged(kind: Kind, seen: dict[str, Any]) -> None:
    assert counted(kind, **seen) == (0, 0)
    assert counted(kind, **seen | {"acknowledged": 0}) == (1, 0)


def test_late_money_may_still_buy_and_too_little_may_not() -> None:
    assert counted("late", **RIGHT) == (0, 0)
    bought = {name: RIGHT[name] for name in NOT_BOUGHT}
    assert counted("too little", **TOO_LITTLE | bought) == (1, 1)


def test_right_money_that_buys_nothing_is_lost() -> None:
    assert counted("right", **RIGHT | NOT_BOUGHT)[0] == 1


def test_who_came_alone_gives_nobody_a_reward() -> None:
    alone = Member(ADA.person, ADA.chat, ADA.code, None)
    nothing = {
        "decided": "no_partner",
        "partner": None,
        "percent": None,
        "reward_minor": 0,
        "rewards": 0,
        "rewards_told": 0,
    }
    assert counted("right", alone, **RIGHT | nothing) == (0, 0)
    assert counted("right", alone, **RIGHT)[1] == 1
    assert counted("right", ADA, **RIGHT | nothing)[0] == 1


@pytest.mark.parametrize(
    "effect", ["receipts", "stars", "bought", "periods", "granted", "keys", "rewards", "rewards_told"]
)
def test_each_effect_is_missed_and_seen_twice(effect: str) -> None:
    none, twice = (None, RIGHT[effect] * 2) if effect == "periods" else (0, RIGHT[effect] * 2)
    assert counted("right", **RIGHT | {effect: none}) == (1, 0)
    assert counted("right", **RIGHT | {effect: twice})[1] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"payer": uuid4()},
        {"order_id": uuid4()},
        {"partner": uuid4()},
        {"decided": None},
        {"worth_minor": 14_899},
        {"price_minor": 14_901},
        {"percent": 25},
        {"reward_minor": 1_491},
        {"stars": -99},
        {"periods": [(uuid4(), "basic", 1)]},
        {"periods": [(ADA.person, "plus", 1)]},
        {"periods": [(ADA.person, "basic", 12)]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_somebody_else_s_or_something_else_is_lost(wrong: dict[str, Any]) -> None:
    assert counted("right", **RIGHT | wrong)[0] == 1


@pytest.mark.parametrize(
    ("paying", "earned"),
    [
        (2, {10: 2}),
        (2, {10: 30}),  # Who pays again makes nobody one more.
        (25, {10: 24, 25: 1}),
        (25, {10: 26, 25: 3}),
        (50, {10: 24, 25: 25, 45: 1}),
    ],
)
def test_rewards_rise_with_the_friends_who_pay(paying: int, earned: dict[int | None, int]) -> None:
    assert as_levels_say(paying, Counter(earned))


@pytest.mark.parametrize(
    ("paying", "earned"),
    [
        (2, {10: 1}),
        (2, {10: 1, None: 1}),
        (2, {10: 2, None: 1}),
        (2, {10: 1, 25: 1}),
        (24, {10: 24, 25: 1}),
        (25, {10: 25}),
        (25, {10: 23, 25: 2}),
        (50, {10: 24, 25: 26}),
    ],
)
def test_a_level_that_is_missed_or_reached_early_is_seen(paying: int, earned: dict[int | None, int]) -> None:
    assert not as_levels_say(paying, Counter(earned))
