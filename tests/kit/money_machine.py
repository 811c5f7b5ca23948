"""The money machine: a search over sequences of moves, with the real payments and referrals.

The moves are notices, repeats, late and wrong money, refunds, deaths and reordered events. The
broker is two lists per handler: messages that are not delivered yet, and delivered messages, which
may come again at any time. A real relay fills the lists from the outbox. A death cuts the
connection in a transaction or at its commit, or it loses the acknowledgement afterwards. Then the
message comes again to a handler whose only memory is its tables. After each move the tables hold
exactly the rows of the model.

The contract rules out two cases, and they are not played: two events of payments about one
receipt, and two of referrals. Their ids come from the charge and the receipt. bot-gateway can
publish two events about one charge: they name the payer, and an unknown payer may become known
later. A charge is returned once, as somebody asked or as a chargeback of money that was spent;
larger debts than that leaves are created by hand.
"""

from sys import exc_info

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from shared.contracts.message import derived_id
from tests.kit import money_model as model
from tests.kit import money_world as tables
from tests.kit.invitations_model import Reward
from tests.kit.money_deliveries import Draw
from tests.kit.money_orders import OrderMoves

# By weight. One rule draws the move: of many rules the search switches some off in each example,
# and a payment needs nearly all of them to reach its end.
MOVES = {
    "pay": 8,
    "deliver": 10,
    "start": 4,
    "relay": 7,
    "order": 3,
    "topup": 2,
    "open_invoice": 2,
    "pay_from_balance": 2,
    "reconcile": 3,
    "send_again": 2,
    "report_otherwise": 1,
    "pay_for_nothing": 1,
    "give_back": 3,
    "charge_back": 4,
    "start_by_import": 1,
    "month_passes": 2,
    "orders_end": 2,
    "spend_elsewhere": 2,
    "come_to_owe": 1,
    "pay_debt": 4,
    "debts_restore": 16,
    "broker_is_wiped": 1,
    "inbox_is_lost": 1,
}
MAY_DIE = {
    "order",
    "topup",
    "open_invoice",
    "pay_from_balance",
    "orders_end",
    "reconcile",
    "charge_back",
    "debts_restore",
    "relay",
    *tables.HANDLERS,
}
ROUNDS_TO_REST = 20


class MoneyMachine(OrderMoves):
    """Draws moves, and compares the tables with the model after each."""

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self.step(lambda *among: data.draw(st.sampled_from(among)))

    def step(self, draw: Draw) -> None:
        needs = {
            "pay": self.orders,
            "send_again": self.broker.sent,
            "report_otherwise": self.charges,
            "reconcile": self.charges,
            "give_back": self._returnable(),
            "charge_back": self._spent(),
            "open_invoice": self._lacking(),
            "pay_from_balance": self._for_sale(),
            "start": self.unstarted,
            "deliver": self.broker.waiting() or self.broker.delivered(),
            "relay": self._unpublished(),
            "month_passes": self._ageing(),
            "spend_elsewhere": self._rich(),
            "pay_debt": self._owing(),
            "debts_restore": self.money.settling(),
            "inbox_is_lost": self.broker.delivered(),
        }
        possible = [
            move for move, weight in MOVES.items() if needs.get(move, True) for _ in range(weight)
        ]
        getattr(self, move := draw(*possible))(draw)
        self.world.moves[move] += 1

    @invariant()
    def ledger_equals_the_model(self) -> None:
        """I3, I5, I7, I10: balances equal their entries, and balances and orders the model's."""
        if "payments" not in self.changed:
            return
        self.changed.discard("payments")
        held = {person: model.Balances() for person in self.money.balances}
        for row in self.world.rows("payments", tables.ACCOUNTS):
            assert row["balance_minor"] == row["entries_minor"], row
            balances = held.setdefault(row["owner"], model.Balances())
            setattr(balances, row["kind"], abs(row["balance_minor"]))
        assert held == {person: self.money.balances[person] for person in held}
        orders = [
            (row["id"], row["state"], row["received_minor"], row["undone_minor"])
            for row in self.world.rows("payments", tables.ORDERS)
        ]
        expected = [
            (order.id, order.state, order.received_minor, order.undone_minor)
            for order in self.money.orders
        ]
        assert sorted(orders) == sorted(expected)

    @invariant()
    def rewards_equal_the_model(self) -> None:
        """I6, I7: each handled receipt has its one right decision, or waits for a start."""
        if "referrals" not in self.changed:
            return
        self.changed.discard("referrals")
        rows = self.world.rows("referrals", tables.REWARDS)
        decided = {row["receipt"]: Reward(*list(row.values())[1:]) for row in rows}
        assert decided == self.invitations.rewards
        waiting = {row["receipt"] for row in self.world.rows("referrals", tables.WAITING)}
        assert waiting == set(self.invitations.waiting)
        rows = self.world.rows("referrals", tables.REVERSALS)
        reversals = {row["refund"]: (row["partner"], row["reversed_minor"]) for row in rows}
        assert reversals == self.invitations.reversed
        waiting = {row["refund"] for row in self.world.rows("referrals", tables.WAITING_REFUNDS)}
        assert waiting == {one.refund for one in self.invitations.waiting_refunds.values()}

    def teardown(self) -> None:
        """Reach quiescence. Then the audits hold, and the published events are the model's."""
        if exc_info()[0] is not None:
            return  # A step has failed already, or the search gave the example up.
        self._come_to_rest()
        self.ledger_equals_the_model()
        self.rewards_equal_the_model()
        self._events_equal_the_model()
        rows = self.world.rows("payments", tables.ACCOUNTS_OF_THE_SHOP)
        sums = {(row["kind"], row["currency"]): row["minor"] for row in rows}
        assert sums == self.money.accounts_of_the_shop()
        self._conflicts_equal_the_model()
        for owner in ("payments", "referrals"):
            assert not self.world.rows(owner, tables.OUTBOX)
            assert not self.world.broken(owner)
        self.world.end_example()

    def _come_to_rest(self) -> None:
        while self.unstarted:
            self._start(person := self.unstarted.pop(), self.people[0], cause=person)
        for _ in range(ROUNDS_TO_REST):
            for owner in self._unpublished():
                self._relay(owner)
            for name in self.broker.waiting():
                self._deliver_more(name)
        assert not self._unpublished() + self.broker.waiting()

    def _events_equal_the_model(self) -> None:
        received = {
            key: one for key, one in self.money.published.items() if key[0] != model.FROM_BALANCE
        }
        assert set(received) == {charge.key for charge in self.charges}
        confirmed = [one for one in received.values() if isinstance(one, model.Confirmed)]
        assert len(self.invitations.rewards) == len(confirmed)
        assert self.money.rewarded == {
            receipt for receipt, reward in self.invitations.rewards.items() if reward.reward_minor
        }
        assert set(self.money.refunds) == self.returned
        assert not self.invitations.waiting_refunds
        assert self.money.reversed == {
            refund for refund, (_, minor) in self.invitations.reversed.items() if minor
        }

    def _conflicts_equal_the_model(self) -> None:
        recorded = {tuple(row) for row in self.world.rows("payments", tables.CONFLICTS)}
        assert recorded == {
            ("receipts", derived_id("receipt", *key)) for key in self.money.conflicting
        }
        assert not self.world.rows("referrals", tables.CONFLICTS)
