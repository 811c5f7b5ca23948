"""Any order of notices, repeats, late and wrong money, deaths and reordered facts, against the real book and rewards.

What travels is kept as the broker would keep it: two lists per handler, of letters not delivered yet and of letters
delivered before, which may come again at any time. A death takes the connection away in the middle of a transaction, or
the acknowledgement after it; the letter then comes again, to a handler that remembers nothing but its tables.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from payments.answers import place_order
from payments.audit import CHECKS as BOOK_CHECKS
from payments.audit import COUNTS as BOOK_COUNTS
from payments.subscribers import payments_books_rewards, payments_confirms_reported
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared import outbox
from shared.audit import audited
from shared.commands import Invoice, PlaceOrder
from shared.contract import Fact, Value
from shared.db import Database, Tx
from shared.facts import PaymentConfirmed, PaymentReported, PersonStarted, RewardEarned
from shared.inbox import Handle, Handler, Letter
from shared.obey import obey
from shared.streams import LISTENING
from tests.kit.servers import MakeDatabase

EXAMPLES = 260 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 25
STEPS = 80  # The long run takes more than 20 000.
MOST_STATEMENTS = 24
PEOPLE = 3
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class DiedError(BaseException):
    """The process is gone: nothing in it may catch this."""


class MortalDatabase(Database):
    """Its user dies before the `dies_at`-th statement of a transaction, once; 0 is "never"."""

    dies_at = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        mortal = Mortal(self.dies_at)
        try:
            async with super().transaction() as tx:
                mortal.connection, tx.connection = tx.connection, mortal
                yield tx
        except BaseException:
            if mortal.died:  # What a cut connection says of its end is nothing that a dead process hears.
                self.dies_at = 0
                raise DiedError from None
            raise


class Mortal:
    """A connection that counts; the statement at which its owner dies is never sent, and the connection is cut."""

    connection: Any

    def __init__(self, dies_at: int) -> None:
        self.died = False
        self._left = dies_at

    def __getattr__(self, name: str) -> Any:
        if name in ("fetch", "fetchrow", "fetchval", "execute"):
            self._left -= 1
            if self._left == 0:
                self.died = True
                self.connection.terminate()
                raise DiedError
        return getattr(self.connection, name)


@dataclass
class Ear:
    """A handler, and what the broker holds for it."""

    handler: Handler
    waiting: list[Letter] = field(default_factory=list)
    delivered: list[Letter] = field(default_factory=list)


FACTS_AFTER = """
select seq, id, topic, version, body::text as body, digest, trace, told_at
from facts
where seq > $1
order by seq
"""

BOOKED = """
select r.payer, b.value_minor, b.outcome, o.price_minor
from receipts r
join bookings b on b.receipt = r.id
left join orders o on o.id = b.order_id and b.outcome = 'bought'
where r.payer = any($1::uuid[])
"""

HELD = "select owner, kind, balance_minor from accounts where owner = any($1::uuid[])"

UNEVEN = """
select a.id
from accounts a
left join entries e on e.account = a.id
where a.owner = any($1::uuid[])
group by a.id
having a.balance_minor <> coalesce(sum(e.amount_minor), 0)
"""

UNSPENT = """
select o.id
from orders o
join accounts a on a.owner = o.person and a.kind = 'wallet'
where o.person = any($1::uuid[]) and o.state = 'open'
  and o.received_minor >= o.price_minor and a.balance_minor >= o.price_minor
"""

CLOSED_BY_NOBODY = """
select o.id
from orders o
where o.person = any($1::uuid[]) and o.state = 'closed'
  and not exists (
    select from orders n where n.person = o.person and n.state = 'paid' and (n.placed_at, n.id) > (o.placed_at, o.id)
  )
"""


class World:
    """The two services' tables and handlers: one for all examples, each of which has people of its own."""

    def __init__(self, runner: asyncio.Runner, payments: MortalDatabase, referrals: MortalDatabase) -> None:
        self.run = runner.run
        self.payments, self.referrals = payments, referrals
        self.hears: dict[str, tuple[Handle, MortalDatabase]] = {
            "payments_confirms_reported": (payments_confirms_reported, payments),
            "payments_books_rewards": (payments_books_rewards, payments),
            "referrals_registers_started": (referrals_registers_started, referrals),
            "referrals_rewards_confirmed": (referrals_rewards_confirmed, referrals),
        }
        self._told = {payments: 0, referrals: 0}

    def ears(self) -> dict[str, Ear]:
        """Handlers that remember nothing: those of processes just started."""
        return {
            entry.handler: Ear(Handler(entry, *self.hears[entry.handler]))
            for entry in LISTENING
            if entry.handler in self.hears
        }

    async def told(self) -> list[Letter]:
        """What was told since the last time, as the relay would put it."""
        letters = []
        for database in (self.payments, self.referrals):
            for row in await database.fetch(FACTS_AFTER, self._told[database]):
                letters.append(Letter(outbox.subject_of(row), outbox.headers_of(row), outbox.body_of(row)))
                self._told[database] = row["seq"]
        return letters


@dataclass(frozen=True)
class Charge:
    payer: UUID
    value_minor: int


class MoneyMachine(RuleBasedStateMachine):
    """Three people, of whom two were invited by a partner, and whatever may happen to their money."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.ears = self.world.ears()
        self.partner = uuid4()
        self.people = [uuid4() for _ in range(PEOPLE)]
        self.invited = set(self.people[1:])
        self.unstarted = list(self.people)
        self.orders: list[tuple[UUID, Invoice]] = []
        self.charges: dict[str, Charge] = {}
        self.reports: list[Fact] = []
        self.changed = False

    @initialize()
    def partner_starts(self) -> None:
        self._send("referrals_registers_started", self._start_of(self.partner, None))
        self._deliver("referrals_registers_started", self.ears["referrals_registers_started"].waiting)

    @rule(who=st.integers(0, PEOPLE - 1), months=st.sampled_from([1, 3]))
    def order(self, who: int, months: int) -> None:
        person = self.people[who]
        wish = PlaceOrder(
            id=uuid4(),
            actor=f"person:{person}",
            deadline_at=datetime.now(UTC) + timedelta(minutes=1),
            person=person,
            plan="basic",
            months=months,
            way="stars",
        )
        invoice = self.world.run(self._obeyed(wish))
        self.orders.append((person, invoice))

    async def _obeyed(self, wish: PlaceOrder) -> Invoice:
        answer: Value = await obey(self.world.payments, wish, place_order)
        assert isinstance(answer, Invoice)
        return answer

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), share=st.sampled_from([1, 1, 1, 0.5, 0.9, 1.4]))
    def pay(self, data: st.DataObject, share: float) -> None:
        """In full, in part or too much; for an order that is open, paid long ago or closed."""
        person, invoice = data.draw(st.sampled_from(self.orders))
        stars = int(invoice.asked_minor * share)
        self._report(person, stars, invoice.payload, stars * invoice.price_minor // invoice.asked_minor)

    @rule(who=st.integers(0, PEOPLE - 1), stars=st.integers(1, 200))
    def pay_for_nothing(self, who: int, stars: int) -> None:
        self._report(self.people[who], stars, "gone", stars * 150)

    def _report(self, payer: UUID, stars: int, payload: str, value_minor: int) -> None:
        charge = uuid4().hex
        fact = PaymentReported.because(
            f"telegram_stars:{charge}",
            about=payer,
            at=NOW,
            acquirer="telegram_stars",
            charge=charge,
            payer=payer,
            payload=payload,
            currency="XTR",
            amount_minor=stars,
            paid_at=NOW,
        )
        self.charges[charge] = Charge(payer, value_minor)
        self.reports.append(fact)
        self._send("payments_confirms_reported", fact)

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def report_again(self, data: st.DataObject) -> None:
        self._send("payments_confirms_reported", data.draw(st.sampled_from(self.reports)))

    @precondition(lambda self: self.unstarted)
    @rule()
    def start(self) -> None:
        """Perhaps long after the first payment was confirmed."""
        person = self.unstarted.pop()
        fact = self._start_of(person, self.partner if person in self.invited else None)
        self._send("referrals_registers_started", fact)

    def _start_of(self, person: UUID, invited_by: UUID | None) -> PersonStarted:
        return PersonStarted.because(person, about=person, at=NOW, code=None, invited_by=invited_by)

    @rule(
        draw=st.integers(0, 2**32),
        name=st.sampled_from(
            ["payments_confirms_reported"] * 2 + ["payments_books_rewards", "referrals_rewards_confirmed"]
        ),
        end=st.sampled_from(["acknowledged"] * 3 + ["not acknowledged", "died"]),
    )
    def deliver(self, draw: int, name: str, end: str) -> None:
        """Some of what waits and some of what came before, in any order, perhaps to somebody who dies of it."""
        ear = self.ears[name]
        random, there = Random(draw), ear.waiting + ear.delivered[-5:]
        batch = random.sample(there, min(len(there), random.randint(1, 12)))
        dies_at = random.randint(1, MOST_STATEMENTS) if end == "died" else 0
        self._deliver(name, batch, acknowledged=end == "acknowledged", dies_at=dies_at)

    @rule()
    def deliver_starts(self) -> None:
        self._deliver("referrals_registers_started", self.ears["referrals_registers_started"].waiting)

    def _send(self, name: str, fact: Fact) -> None:
        headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest())}
        headers["Turnpike-Hour"] = outbox.hour_of(fact.at)
        self.ears[name].waiting.append(Letter(fact.subject(), headers, fact.model_dump_json().encode()))

    def _deliver(self, name: str, batch: list[Letter], *, acknowledged: bool = True, dies_at: int = 0) -> None:
        ear, letters = self.ears[name], list(batch)
        if not letters:
            return
        ear.handler.database.dies_at = dies_at  # type: ignore[attr-defined]  # It is a MortalDatabase.
        try:
            outcome = self.world.run(ear.handler.absorb(letters))
        except DiedError:
            acknowledged = False
        else:
            assert outcome.buried == outcome.retried == 0, outcome
        self.changed = ear.handler.database is self.world.payments
        ear.handler.database.dies_at = 0  # type: ignore[attr-defined]  # As above.
        if acknowledged:
            ear.waiting = [letter for letter in ear.waiting if letter not in letters]
            ear.delivered = [letter for letter in ear.delivered if letter not in letters] + letters
        for letter in self.world.run(self.world.told()):
            self._route(letter)

    def _route(self, letter: Letter) -> None:
        topics = {
            PaymentConfirmed.subject(): "referrals_rewards_confirmed",
            RewardEarned.subject(): "payments_books_rewards",
        }
        if letter.subject in topics:
            self.ears[topics[letter.subject]].waiting.append(letter)

    @invariant()
    def balances_are_their_entries(self) -> None:
        if self.changed:
            assert not self.world.run(self.world.payments.fetch(UNEVEN, [*self.people, self.partner]))
            self.changed = False

    def teardown(self) -> None:
        """Everything comes to rest; then each charge was booked once, and its value is where it belongs."""
        while self.unstarted:
            self.start()
        for name in (*self.ears, *self.ears):  # Twice: what waited for a start is told by it.
            while self.ears[name].waiting:
                self._deliver(name, self.ears[name].waiting[:50])
        self.world.run(self._settled())

    async def _settled(self) -> None:
        book, everybody = self.world.payments, [*self.people, self.partner]
        booked = await book.fetch(BOOKED, self.people)
        assert sorted((row["payer"], row["value_minor"]) for row in booked) == sorted(
            (charge.payer, charge.value_minor) for charge in self.charges.values()
        )
        held = {(row["owner"], row["kind"]): row["balance_minor"] for row in await book.fetch(HELD, everybody)}
        for person in self.people:
            came = sum(charge.value_minor for charge in self.charges.values() if charge.payer == person)
            spent = sum(row["price_minor"] for row in booked if row["payer"] == person and row["outcome"] == "bought")
            assert held.get((person, "wallet"), 0) == came - spent
        rewards = sum(charge.value_minor // 10 for charge in self.charges.values() if charge.payer in self.invited)
        assert held.get((self.partner, "earned"), 0) == rewards
        assert not await book.fetch(UNSPENT, self.people), "an order that could be paid stays open"
        assert not await book.fetch(CLOSED_BY_NOBODY, self.people)


@pytest.fixture(scope="module")
async def both(fresh_database: MakeDatabase) -> Any:
    return await fresh_database("payments", "referrals")


@pytest.fixture
def world(both: Any) -> Iterator[World]:
    """In a loop of its own: the machine is not asynchronous, its rules run the loop."""
    with asyncio.Runner() as runner:
        databases = [MortalDatabase(both.dsn(f"{name}_app"), name=name, size=2) for name in ("payments", "referrals")]
        for database in databases:
            runner.run(database.open())
        yield World(runner, *databases)
        for database in databases:
            runner.run(database.close())


def test_whatever_happens_to_notices_and_facts_money_is_neither_lost_nor_doubled(world: World) -> None:
    """M-02, R-01, W-24: conservation of each person's money, one booking per charge, one reward per receipt."""
    machine = type("MoneyMachineHere", (MoneyMachine,), {"world": world})
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    audit = world.run(audited(world.payments, BOOK_CHECKS, BOOK_COUNTS))
    wrong = [found for found in audit.findings if found.violations and found.truth != "no fact is waiting to be told"]
    assert not wrong
