"""The decision about a paid debt, as values: what comes back, and what it costs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.domain import ledger
from payments.domain.confirmation import Batch, Order, buy
from payments.domain.debts import RESTORED_FOR, Debt, next_step, restoring
from payments.domain.ledger import Holdings
from payments.domain.provider import Sum
from payments.domain.refunds import Payment, Purchase, Refund, RefundBatch, book
from shared.contracts.payments import PlanTerms

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
PERSON, REFUND = UUID(int=1), UUID(int=2)
TERMS = PlanTerms(
    plan="basic",
    months=1,
    devices=5,
    traffic_bytes=None,
    node_group="default",
    list_month_minor=100,
)
MONTH = timedelta(days=30)
DEBT = Debt(REFUND, PERSON, NOON)


def order(number: int, price_minor: int = 100) -> Order:
    until = NOON + MONTH
    return Order(UUID(int=number), PERSON, price_minor, 0, "refunded", TERMS, NOON, until, None)


def decided(
    wallet: int = 100,
    earned: int = 0,
    owed: int = 0,
    reserved: int = 0,
    *,
    bought_since: bool = False,
    later: timedelta = timedelta(0),
) -> object:
    held = Holdings(PERSON, wallet, earned, owed, ((UUID(int=9), reserved),))
    lost = [order(3), order(4)]
    return next_step(DEBT, held, lost, bought_since=bought_since, now=NOON + later)


def test_the_oldest_lost_order_comes_first() -> None:
    """R-142: at its price, with its terms, and with an id that only it has."""
    again = restoring(order(3))
    assert decided() == again
    assert (again.state, again.price_minor, again.terms) == ("open", 100, TERMS)
    assert (again.restores, again.bought.restores) == (UUID(int=3), UUID(int=3))
    assert again.id == restoring(order(3)).id != restoring(order(4)).id


@pytest.mark.parametrize(
    ("held", "because"),
    [
        ({"owed": 1}, "owed"),
        ({"wallet": 99}, "short"),
        ({"wallet": 99, "earned": 500}, "short"),
        ({"wallet": 150, "reserved": 51}, "short"),
        ({"bought_since": True}, "bought_since"),
        ({"later": RESTORED_FOR + timedelta(seconds=1)}, "too_late"),
    ],
)
def test_what_brings_nothing_back(held: dict[str, int], because: str) -> None:
    """R-144: and each case has its name."""
    assert decided(**held) == because  # type: ignore[arg-type]  # Each has the type of its name.


class Shop:
    """One person's money and orders, by the functions that decide about them."""

    def __init__(self) -> None:
        self.held = Holdings(PERSON)
        self.payments: list[Payment] = []
        self.purchases: dict[UUID, Purchase] = {}
        self.orders: list[tuple[Order, int]] = []
        """Each with the number of payments before it."""
        self.debts: list[list[Order]] = []
        """Of each that is open: the orders that its refund undid whole."""
        self.restored: list[UUID] = []
        self.given_minor = 0
        """Rewards, less what an operator took."""
        self.causes = 0

    def pay(self, amount_minor: int) -> None:
        number = len(self.payments)
        refund = self._refund(number, 1)
        came = Sum("RUB", amount_minor)
        self.payments.append(
            Payment(refund.receipt, PERSON, "RUB", amount_minor, amount_minor, None, came)
        )
        self._apply(ledger.receipt(self.held, f"card:{number}", "card", *came, amount_minor))
        self._settle(f"card:{number}")

    def reward(self, amount_minor: int) -> None:
        self.causes += 1
        receipt = UUID(int=10_000 + self.causes)
        self._apply(ledger.reward(self.held, receipt, amount_minor))
        self.given_minor += amount_minor
        self._settle(f"reward:{receipt}")

    def take(self, amount_minor: int) -> None:
        """An operator's debit: a refund finds that less there."""
        self.causes += 1
        taken_minor = min(amount_minor, self.held.wallet_minor)
        if taken_minor:
            self._apply(ledger.adjustment(self.held, f"act:{self.causes}", -taken_minor))
            self.given_minor -= taken_minor

    def buy(self, price_minor: int) -> None:
        if self.held.wallet_minor + self.held.earned_minor >= price_minor:
            self._buy(replace(order(100 + len(self.orders), price_minor), state="open"))

    def give_back(self, number: int) -> None:
        if not self.payments:
            return
        number %= len(self.payments)
        payment = self.payments[number]
        since = [one.id for one, before in reversed(self.orders) if before > number]
        since = [one for one in since if self.purchases[one].left_minor]
        batch = RefundBatch(
            NOON,
            {payment.receipt: payment},
            {PERSON: self.held},
            self.purchases,
            {},
            {payment.receipt: since},
        )
        book([self._refund(number, payment.amount_minor)], batch)
        self.held, [booking] = batch.holdings[PERSON], batch.bookings
        self.payments[number] = batch.payments[payment.receipt]
        if booking.lost_minor:
            undone = {one.purchase.order for one in booking.undone}
            self.debts.append([one for one, _ in self.orders if one.id in undone])

    def _settle(self, cause: str) -> None:
        settled = ledger.owed_settled(self.held, cause)
        if settled is not None:
            self._apply(settled)
            self._restore()

    def _restore(self) -> None:
        for lost in self.debts if not self.held.owed_minor else []:
            while True:
                left = [one for one in lost if one.id not in self.restored]
                step = next_step(DEBT, self.held, left, bought_since=False, now=NOON)
                if not isinstance(step, Order):
                    break
                assert step.restores is not None
                self.restored.append(step.restores)
                self._buy(step)
        self.debts = self.debts if self.held.owed_minor else []

    def _buy(self, wanted: Order) -> None:
        batch = Batch(NOON, {}, {wanted.id: wanted}, {}, {PERSON: self.held})
        buy(wanted, 0, batch)
        before, self.held = self.held, batch.held_by(PERSON)
        parts = (
            before.wallet_minor - self.held.wallet_minor,
            before.earned_minor - self.held.earned_minor,
        )
        self.purchases[wanted.id] = Purchase(wanted.id, *parts, 0, "basic", 1)
        self.orders.append((wanted, len(self.payments)))

    def _apply(self, transfer: ledger.Transfer) -> None:
        self.held = self.held.after(transfer)

    def _refund(self, number: int, amount_minor: int) -> Refund:
        return Refund("card", str(number), "", PERSON, "RUB", amount_minor, NOON)


AMOUNTS = st.integers(min_value=1, max_value=300)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["pay", "pay", "buy", "buy", "reward", "take", "give_back"]), AMOUNTS
    ),
    max_size=30,
)


@given(moves=MOVES)
def test_no_sequence_gives_unpaid_access(moves: list[tuple[str, int]]) -> None:
    """R-145: the orders that stand cost what was kept of the money, less the balance.

    So no money is taken twice either. An order comes back once, and only after it was lost.
    """
    shop = Shop()
    for move, amount in moves:
        getattr(shop, move)(amount)
        kept = sum(one.amount_minor - one.returned_minor for one in shop.payments)
        held = shop.held.wallet_minor + shop.held.earned_minor - shop.held.owed_minor
        standing = sum(one.left_minor for one in shop.purchases.values())
        assert standing + held == kept + shop.given_minor
        assert len(shop.restored) == len(set(shop.restored))
        assert all(shop.purchases[lost].left_minor == 0 for lost in shop.restored)


def test_a_sequence_brings_access_back() -> None:
    """R-142: else the property above would be about sequences that restore nothing."""
    shop = Shop()
    moves = [("pay", 200), ("buy", 100), ("take", 100), ("give_back", 0), ("pay", 250)]
    for move, amount in moves:
        getattr(shop, move)(amount)
    assert len(shop.restored) == 1
    assert (shop.held.wallet_minor, shop.held.owed_minor) == (50, 0)
