"""The count of the chaos matrix finds whatever is short, double or somebody else's."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.commands import Invoice
from tests.chaos.count import Count, hold
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
    "decided": "rewarded",
    "partner": PARTNER,
    "receipts": 1,
    "stars": -99,
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


def counted(kind: Kind, member: Member = ADA, **seen: Any) -> tuple[int, int]:
    """How many are lost and doubled of one charge of which the shop shows this."""
    count, wanted = Count(), Wanted(member, INVOICE, kind)
    hold(Paid("charge", wanted), {"stars": -wanted.charge.stars} | seen, count)
    return count.lost, count.doubled


@pytest.mark.parametrize("kind", ["right", "overdue"])
def test_a_charge_with_all_its_effects_is_whole(kind: Kind) -> None:
    assert counted(kind, **RIGHT) == (0, 0)


def test_money_that_is_too_much_is_also_said_so() -> None:
    assert counted("too much", **RIGHT | {"stars": -106, "acknowledged": 1}) == (0, 0)
    assert counted("too much", **RIGHT | {"stars": -106}) == (1, 0)


@pytest.mark.parametrize("kind", ["too little", "late"])
def test_money_that_buys_nothing_is_acknowledged(kind: Kind) -> None:
    stars = -49 if kind == "too little" else -99
    assert counted(kind, **RIGHT | NOT_BOUGHT | {"stars": stars}) == (0, 0)
    assert counted(kind, **RIGHT | NOT_BOUGHT | {"stars": stars, "acknowledged": 0}) == (1, 0)


def test_late_money_may_still_buy_and_too_little_may_not() -> None:
    assert counted("late", **RIGHT) == (0, 0)
    assert counted("too little", **RIGHT | {"stars": -49}) != (0, 0)


def test_right_money_that_buys_nothing_is_lost() -> None:
    assert counted("right", **RIGHT | NOT_BOUGHT)[0] == 1


def test_who_came_alone_gives_nobody_a_reward() -> None:
    alone = Member(ADA.person, ADA.chat, ADA.code, None)
    nothing = {"decided": "no_partner", "partner": None, "rewards": 0, "rewards_told": 0}
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
        {"periods": [(uuid4(), "basic", 1)]},
        {"periods": [(ADA.person, "plus", 1)]},
        {"periods": [(ADA.person, "basic", 12)]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_somebody_else_s_or_something_else_is_lost(wrong: dict[str, Any]) -> None:
    assert counted("right", **RIGHT | wrong)[0] == 1
