"""Any order of notices, repeats, late and wrong money, deaths and reordered facts, against the real book and rewards.

What travels is kept as the broker would keep it: two lists per handler, of letters not delivered yet and of letters
delivered before, which may come again at any time; a real relay fills them from `untold`. A death takes the connection
away in the middle of a transaction or at its commit, or the acknowledgement after it; the letter then comes again, to a
handler that remembers nothing but its tables. After each step the tables hold what the model says, and nothing else.

Two things the contract rules out, and they are not played: two facts of payments about one receipt, and two of
referrals, for their ids come from the charge and the receipt. Two facts of the bot about one charge can be: they name
the payer, who may become known. There are no refunds yet, so what is owed is put there by hand.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from random import Random
from sys import exc_info
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from payments.answers import answer_checkout, place_order
from payments.confirmation import Receipt
from payments.subscribers import confirm_receipts
from shared.commands import Invoice, PlaceOrder
from shared.contract import derived_id
from shared.facts import PaymentReported, PersonStarted
from shared.inbox import Letter
from shared.obey import obey
from shared.questions import AskCheckout
from tests.kit import money_model as model
from tests.kit import money_world as tables
from tests.kit.money_world import BOOKED, REPORTED, REWARDED, STARTED, World, payment_in, reward_in, told_in
from tests.kit.mortal import DiedError

# Of one rule, for of many the search switches some off in each example, and a story needs nearly all. By weight.
MOVES = {
    "pay": 8,
    "deliver": 10,
    "start": 4,
    "relay": 7,
    "order": 3,
    "reconcile": 3,
    "send_again": 2,
    "report_otherwise": 1,
    "pay_for_nothing": 1,
    "start_by_import": 1,
    "month_passes": 1,
    "spend_elsewhere": 2,
    "come_to_owe": 1,
    "broker_is_wiped": 1,
    "inbox_is_lost": 1,
}
MAY_DIE = {"order", "reconcile", "relay", *tables.HEARS}
ENDS = (*["done"] * 6, "unheard", "died")  # "unheard": nobody hears of the commit.
PEOPLE = 6
ROUNDS_TO_REST = 20
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Draw = Callable[..., Any]
Act = Callable[[], Coroutine[Any, Any, Any]]
PRICES = {("basic", 1): (14900, 99), ("basic", 3): (39900, 269), ("plus", 1): (29900, 199)}


class MoneyMachine(RuleBasedStateMachine):
    """Six people, who may invite each other, and whatever may happen to their money."""

    world: ClassVar[World]

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.broker, self.random = self.world.begin_example(), Random(seed)
        self.people = [self._id() for _ in range(PEOPLE)]
        self.unstarted = list(self.people)
        self.money, self.roll = model.Money(), model.Invitations()
        self.orders: list[tuple[model.Order, Invoice]] = []
        self.charges: list[model.Charge] = []
        self.told: set[object] = set()
        self.statements: dict[str, int] = defaultdict(lambda: 8)
        self.untold_again, self.changed = set[str](), set[str]()

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _moment(self) -> datetime:
        """No two are the same, and they are in any order."""
        return NOW + timedelta(microseconds=self.random.getrandbits(40))

    def _done(self, move: str, owner: str, act: Act, end: str = "done", draw: Draw | None = None) -> Any:
        """What the act answered; None when it died of it, and then nothing was committed."""
        # Before one of the statements that were counted the last time, or before the commit.
        dies_at = draw(*range(1, self.statements[move] + 2)) if draw and end == "died" else 0
        answer = self.world.survives(move, owner, act, dies_at)
        if isinstance(answer, DiedError):
            return None
        self.statements[move] = self.world.databases[owner].statements
        self.changed.add(owner)
        return answer

    def _to_tell(self) -> dict[str, dict[object, object]]:
        """By owner: what was confirmed or parked; who was bound to whom, and every reward."""
        money: dict[object, object] = dict(self.money.told.items())
        roll: dict[object, object] = {receipt: one for receipt, one in self.roll.rewards.items() if one.reward_minor}
        roll |= {("bound", person): partner for person, partner in self.roll.partner_of.items() if partner}
        return {"payments": money, "referrals": roll}

    def _untold(self) -> list[str]:
        wanted = self._to_tell()
        return [owner for owner in wanted if owner in self.untold_again or wanted[owner].keys() - self.told]

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self.step(lambda *among: data.draw(st.sampled_from(among)))

    def step(self, draw: Draw) -> None:
        needs = {
            "pay": self.orders,
            "send_again": self.broker.sent,
            "report_otherwise": self.charges,
            "reconcile": self.charges,
            "start": self.unstarted,
            "deliver": self.broker.waiting() or self.broker.delivered(),
            "relay": self._untold(),
            "month_passes": self._open(),
            "spend_elsewhere": self._rich(),
            "inbox_is_lost": self.broker.delivered(),
        }
        possible = [move for move, weight in MOVES.items() if needs.get(move, True) for _ in range(weight)]
        getattr(self, move := draw(*possible))(draw)
        self.world.moves[move] += 1

    def _open(self) -> list[tuple[model.Order, Invoice]]:
        return [(order, invoice) for order, invoice in self.orders if order.state == "open"]

    def _rich(self) -> list[UUID]:
        return [person for person in self.people if self.money.purses[person].wallet]

    def order(self, draw: Draw) -> None:
        """Whoever gets no answer asks again, with the same id."""
        id_, person, (plan, months) = self._id(), draw(*self.people), draw(*PRICES)
        actor, deadline = f"person:{person}", datetime.now(UTC) + timedelta(minutes=1)
        wish = PlaceOrder(
            id=id_, actor=actor, deadline_at=deadline, person=person, plan=plan, months=months, way="stars"
        )

        async def act() -> Any:
            return await obey(self.world.book, wish, place_order)

        end = draw(*ENDS)
        answer = self._done("order", "payments", act, end, draw)
        if end != "done":
            answer = self._done("order", "payments", act)
        assert (answer.order, answer.price_minor, answer.asked_minor) == (id_, *PRICES[plan, months])
        order = model.Order(id_, person, *PRICES[plan, months])
        self.money.orders.append(order)
        self.money.named[answer.payload] = order, True
        self.orders.append((order, answer))

    def pay(self, draw: Draw) -> None:
        """In full, in part or too much, by anybody; for an order that is open, paid long ago, closed or overdue."""
        order, invoice = draw(*self._open() * 2, *self.orders)
        payer = draw(*[order.person] * 12, *self.people, None)
        beside = draw(*[invoice] * 8, draw(*self.orders)[1])  # No payload of ours names another order's invoice.
        payload = f"{order.id.hex}.{beside.invoice.hex}.{'0' * 16}"
        self.money.named[payload] = order, beside is invoice
        currency = draw(*["XTR"] * 8, "RUB", "USD")
        asked = order.asked_minor if currency == "XTR" else order.price_minor
        charge = self._report(payer, currency, asked * draw(100, 100, 100, 100, 50, 90, 140) // 100, payload)
        fits = payer == order.person and beside is invoice and (currency, charge.amount_minor) == ("XTR", asked)
        question = AskCheckout(payer=payer, currency=currency, amount_minor=charge.amount_minor, payload=payload)
        checkout = self.world.run(answer_checkout(question, self.world.book))
        assert checkout.ok == (fits and order.state == "open" and not order.overdue), checkout

    def pay_for_nothing(self, draw: Draw) -> None:
        self._report(draw(*self.people), draw("XTR", "RUB", "USD"), draw(1, 9, 99, 200), "gone")

    def _report(self, payer: UUID | None, currency: str, amount: int, payload: str) -> model.Charge:
        acquirer = "telegram_stars" if currency == "XTR" else "telegram_card"
        charge = model.Charge(acquirer, self._id().hex, payer, currency, amount, payload, self._moment())
        self.charges.append(charge)
        self._say(charge)
        return charge

    def _say(self, charge: model.Charge) -> None:
        about = charge.payer or derived_id("payer", charge.charge)
        fact = PaymentReported.because(":".join(charge.key), about=about, at=NOW, **asdict(charge))
        self.broker.send(fact, charge)

    def send_again(self, draw: Draw) -> None:
        letter, _ = self.broker.sent[draw(*self.broker.sent)]
        self.broker.put(letter)

    def report_otherwise(self, draw: Draw) -> None:
        """The payer was not known at one time, and is at another: one of the two is booked, the other is an alarm."""
        charge = draw(*self.charges)
        later = charge.paid_at + timedelta(microseconds=1)  # By it the order within a batch is no matter of ids.
        self._say(replace(charge, payer=None if charge.payer else self.people[0], paid_at=later))

    def reconcile(self, draw: Draw) -> None:
        """A provider's listing knocks at the door behind the inbox, and tells another moment of payment."""
        drawn = {draw(*self.charges) for _ in range(draw(1, 2, 3))}
        listed = [replace(charge, paid_at=self._moment()) for charge in sorted(drawn, key=lambda one: one.key)]

        async def act() -> bool:
            async with self.world.book.transaction() as tx:
                await confirm_receipts([Receipt(**asdict(charge)) for charge in listed], tx)
            return True

        if self._done("reconcile", "payments", act, draw(*ENDS), draw):
            self.money.book(listed)

    def start(self, draw: Draw) -> None:
        """Perhaps long after the first payment was confirmed."""
        person = draw(*self.unstarted)
        self.unstarted.remove(person)
        self._start(person, draw(*self.people[:1] * 4, *self.people, None, self._id()), cause=person)

    def start_by_import(self, draw: Draw) -> None:
        """Another fact about somebody who starts, or started, with another inviter: who is heard first counts."""
        self._start(draw(*self.people), draw(*self.people, None, self._id()), cause=self._id())

    def _start(self, person: UUID, invited_by: UUID | None, *, cause: UUID) -> None:
        said = model.Start(person, invited_by, self._moment())
        fact = PersonStarted.because(cause, about=person, at=said.at, code=None, invited_by=invited_by)
        self.broker.send(fact, said)

    def month_passes(self, draw: Draw) -> None:
        person = draw(*[order.person for order, _ in self._open()])
        self.world.run(self.world.book.execute(tables.A_MONTH_PASSES, person))
        for order in self.money.orders:
            order.overdue |= order.person == person

    def spend_elsewhere(self, draw: Draw) -> None:
        person = draw(*self._rich())
        amount = -(-self.money.purses[person].wallet * draw(1, 20, 90, 100) // 100)
        self._flow("spend_elsewhere", person, amount, owed=False)
        self.money.purses[person].wallet -= amount

    def come_to_owe(self, draw: Draw) -> None:
        person, amount = draw(*self.people), draw(50, 2_000, 20_000)
        self._flow("come_to_owe", person, amount, owed=True)
        self.money.purses[person].owed += amount

    def _flow(self, move: str, person: UUID, amount: int, *, owed: bool) -> None:
        self._done(move, "payments", lambda: self.world.flow(person, amount, f"by hand:{self._id()}", owed=owed))

    def deliver(self, draw: Draw) -> None:
        """Some of what waits and some of what came before, in any order, perhaps to somebody who dies of it."""
        waiting = self.broker.waiting()
        further = [name for name in waiting if name in (REWARDED, BOOKED)]  # Where what came a long way waits.
        ear = self.broker.ears[name := draw(*waiting * 2, *further * 4, *self.broker.delivered())]
        there = ear.waiting + ear.delivered[-5:]
        self._deliver(name, self.random.sample(there, min(len(there), draw(*range(1, 13)))), draw(*ENDS), draw)

    def _deliver(self, name: str, letters: Sequence[Letter], end: str = "done", draw: Draw | None = None) -> None:
        ear = self.broker.ears[name]
        outcome = self._done(name, ear.owner, lambda: ear.handler.absorb(letters), end, draw)
        if outcome is None:
            return
        assert outcome.buried == outcome.retried == 0, outcome
        self._fold(name, letters)
        if end == "done":
            self.broker.acknowledged(name, letters)

    def _deliver_more(self, name: str) -> None:
        self._deliver(name, self.broker.ears[name].waiting[:50])

    def _fold(self, name: str, letters: Sequence[Letter]) -> None:
        if name == REPORTED:
            self.money.book(self.broker.sent[letter.fact_id][1] for letter in letters)
        elif name == STARTED:
            self.roll.start(self.broker.sent[letter.fact_id][1] for letter in letters)
        elif name == BOOKED:
            self.money.reward(reward_in(letter) for letter in letters)
        else:
            self.roll.hear(payment_in(letter) for letter in letters)

    def relay(self, draw: Draw) -> None:
        """It may die between what the broker took and what it forgets, and the broker may refuse."""
        self._relay(draw(*self._untold()), draw(*ENDS), draw, draw(0, 0, 0, 1, 2, 3))

    def _relay(self, owner: str, end: str = "done", draw: Draw | None = None, refuses: int = 0) -> None:
        pipe = self.broker.pipe
        pipe.refuses = refuses
        done = self._done("relay", owner, lambda: self.world.relay(owner, pipe), end, draw)
        (self.untold_again.discard if done else self.untold_again.add)(owner)
        wanted = self._to_tell()[owner]
        while pipe.letters:
            self.broker.told(letter := pipe.letters.pop(0))
            key, told = told_in(letter)
            assert told == wanted.get(key), "what is told is what the model says"
            self.told.add(key)

    def broker_is_wiped(self, draw: Draw) -> None:
        """What it held of one owner is gone, and the owner tells its facts again."""
        self.broker.wipe(owner := draw("bot", "payments", "referrals"))
        if owner != "bot":
            self.world.run(self.world.tell_again(owner, self.broker.pipe))
            self.untold_again.add(owner)

    def inbox_is_lost(self, draw: Draw) -> None:
        """As after 45 days: everything comes again, and only the natural keys know."""
        ear = self.broker.ears[name := draw(*self.broker.delivered())]
        self.world.run(ear.handler.database.execute(tables.LOSE_INBOX, name))
        self.broker.begin_again(name)

    # What holds after every step

    @invariant()
    def the_book_is_the_models(self) -> None:
        """I3, I5, I7, I10: balances are their entries, and wallets, rewards, debts and orders are the model's."""
        if "payments" not in self.changed:
            return
        self.changed.discard("payments")
        held = {person: model.Purse() for person in self.money.purses}
        for row in self.world.rows("payments", tables.ACCOUNTS):
            assert row["balance_minor"] == row["entries_minor"], row
            purse = held.setdefault(row["owner"], model.Purse())
            setattr(purse, row["kind"], abs(row["balance_minor"]))
        assert held == {person: self.money.purses[person] for person in held}
        orders = [
            (row["id"], row["state"], row["received_minor"]) for row in self.world.rows("payments", tables.ORDERS)
        ]
        wanted = [(order.id, order.state, order.received_minor) for order in self.money.orders]
        assert sorted(orders) == sorted(wanted)

    @invariant()
    def the_rewards_are_the_models(self) -> None:
        """I6, I7: each receipt that was heard has its one right decision, or waits for a start."""
        if "referrals" not in self.changed:
            return
        self.changed.discard("referrals")
        rows = self.world.rows("referrals", tables.REWARDS)
        decided = {row["receipt"]: model.Reward(*list(row.values())[1:]) for row in rows}
        assert decided == self.roll.rewards
        assert {row["receipt"] for row in self.world.rows("referrals", tables.WAITING)} == set(self.roll.waiting)

    def teardown(self) -> None:
        """Everything comes to rest; then the audits hold, and what was told is what happened."""
        if exc_info()[0] is not None:  # A step has failed already, or the search gave the example up.
            return
        while self.unstarted:
            self._start(person := self.unstarted.pop(), self.people[0], cause=person)
        for _ in range(ROUNDS_TO_REST):
            for owner in self._untold():
                self._relay(owner)
            for name in self.broker.waiting():
                self._deliver_more(name)
        assert not self._untold() + self.broker.waiting()
        self.the_book_is_the_models()
        self.the_rewards_are_the_models()
        assert set(self.money.told) == {charge.key for charge in self.charges}
        assert len(self.roll.rewards) == sum(isinstance(told, model.Confirmed) for told in self.money.told.values())
        assert self.money.rewarded == {receipt for receipt, reward in self.roll.rewards.items() if reward.reward_minor}
        rows = self.world.rows("payments", tables.SHOPS)
        assert {(row["kind"], row["currency"]): row["minor"] for row in rows} == self.money.shops()
        noted = {tuple(row) for row in self.world.rows("payments", tables.CONTRADICTIONS)}
        assert noted == {("receipts", derived_id("receipt", *key)) for key in self.money.contradicted}
        assert not self.world.rows("referrals", tables.CONTRADICTIONS)
        for owner in ("payments", "referrals"):
            assert not self.world.rows(owner, tables.UNTOLD)
            assert not self.world.broken(owner)
        self.world.came_to_rest()
