"""The count of the chaos matrix finds effects that are missing, doubled or wrong."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.contracts.payments import OpenedInvoice
from tests.chaos.count import check_charge, rewards_match_levels
from tests.chaos.counted import Count
from tests.chaos.load import Buyer, Kind, PaidPurchase, Purchase

PARTNER = uuid4()
ADA = Buyer(uuid4(), 7_000_000_001, "ada", PARTNER)
INVOICE = OpenedInvoice(
    order=uuid4(),
    invoice=uuid4(),
    what="subscription",
    payload="payload",
    plan="basic",
    months=1,
    list_month_minor=14_900,
    price_minor=14_900,
    way="stars",
    state="open",
    asked_minor=99,
    currency="XTR",
    worth_minor=14_900,
    expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_in_s=900,
)
RIGHT: dict[str, Any] = {
    "payer": ADA.person,
    "order_id": INVOICE.order,
    "outcome": "bought",
    "because": "paid",
    "worth_minor": 14_900,
    "price_minor": 14_900,
    "decided": "rewarded",
    "partner": PARTNER,
    "percent": 10,
    "reward_minor": 1_490,
    "receipts": 1,
    "cleared": 99,
    "bought": 1,
    "periods": [(ADA.person, "basic", 1)],
    "granted": 1,
    "keys": 1,
    "acknowledged": 0,
    "rewards": 1,
    "reward_messages": 1,
}
NOT_BOUGHT: dict[str, Any] = {
    "outcome": "wallet",
    "because": "order_closed",
    "bought": 0,
    "periods": None,
    "granted": 0,
    "keys": 0,
    "acknowledged": 1,
}
TOO_MUCH = RIGHT | {"cleared": 106, "worth_minor": 15_953, "reward_minor": 1_595}
TOO_LITTLE = RIGHT | NOT_BOUGHT | {"cleared": 49, "worth_minor": 7_374, "reward_minor": 737}


def counted(kind: Kind, buyer: Buyer = ADA, reference: str = "", **seen: Any) -> tuple[int, int]:
    """How many are lost and doubled, of one charge that has these effects."""
    count, purchase = Count(), Purchase(buyer, INVOICE, kind, reference=reference)
    check_charge(PaidPurchase("charge", purchase), seen, count)
    return count.lost, count.doubled


@pytest.mark.parametrize("kind", ["right", "overdue"])
def test_charge_with_all_effects_is_right(kind: Kind) -> None:
    assert counted(kind, **RIGHT) == (0, 0)


def test_payment_of_too_much_has_one_message() -> None:
    """That of its order names the rest; a second one would be too many."""
    assert counted("too much", **TOO_MUCH) == (0, 0)
    assert counted("too much", **TOO_MUCH | {"acknowledged": 1}) == (0, 1)


@pytest.mark.parametrize(
    ("kind", "seen"), [("too little", TOO_LITTLE), ("late", RIGHT | NOT_BOUGHT)]
)
def test_payment_without_purchase_is_acknowledged(kind: Kind, seen: dict[str, Any]) -> None:
    assert counted(kind, **seen) == (0, 0)
    assert counted(kind, **seen | {"acknowledged": 0}) == (1, 0)


def test_late_payment_may_buy_and_partial_not() -> None:
    assert counted("late", **RIGHT) == (0, 0)
    bought = {name: RIGHT[name] for name in NOT_BOUGHT}
    assert counted("too little", **TOO_LITTLE | bought) == (1, 1)


@pytest.mark.parametrize(("kind", "reference"), [("late", ""), ("right", "p-1")])
def test_only_a_closed_order_excuses_the_wallet(kind: Kind, reference: str) -> None:
    """Money that came after the next purchase; for any other reason its order was to be bought."""
    seen = RIGHT | NOT_BOUGHT
    assert counted(kind, reference=reference, **seen) == (0, 0)
    assert counted(kind, reference=reference, **seen | {"because": "too_little"})[0] == 1


def test_right_payment_without_purchase_is_lost() -> None:
    assert counted("right", **RIGHT | NOT_BOUGHT)[0] == 1


def test_payer_without_inviter_earns_no_reward() -> None:
    alone = Buyer(ADA.person, ADA.chat, ADA.code, None)
    nothing = {
        "decided": "no_partner",
        "partner": None,
        "percent": None,
        "reward_minor": 0,
        "rewards": 0,
        "reward_messages": 0,
    }
    assert counted("right", alone, **RIGHT | nothing) == (0, 0)
    assert counted("right", alone, **RIGHT)[1] == 1
    assert counted("right", ADA, **RIGHT | nothing)[0] == 1


@pytest.mark.parametrize(
    "effect",
    ["receipts", "cleared", "bought", "periods", "granted", "keys", "rewards", "reward_messages"],
)
def test_missing_and_double_effects_are_counted(effect: str) -> None:
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
        {"cleared": -99},
        {"periods": [(uuid4(), "basic", 1)]},
        {"periods": [(ADA.person, "plus", 1)]},
        {"periods": [(ADA.person, "basic", 12)]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_effect_counts_as_lost(wrong: dict[str, Any]) -> None:
    """Another person's, another order's or of another amount."""
    assert counted("right", **RIGHT | wrong)[0] == 1


@pytest.mark.parametrize(
    ("paying", "earned"),
    [
        (2, {10: 2}),
        (2, {10: 30}),  # A friend who pays again does not raise the count.
        (25, {10: 24, 25: 1}),
        (25, {10: 26, 25: 3}),
        (50, {10: 24, 25: 25, 45: 1}),
    ],
)
def test_rewards_rise_with_paying_friends(paying: int, earned: dict[int | None, int]) -> None:
    assert rewards_match_levels(paying, Counter(earned))


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
def test_missed_and_early_levels_are_found(paying: int, earned: dict[int | None, int]) -> None:
    assert not rewards_match_levels(paying, Counter(earned))
