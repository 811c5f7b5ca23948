"""The broker's moves of the money machine: messages are delivered, relayed and lost."""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from shared.contracts.payments import OpenedInvoice
from shared.messaging.inbox import Message
from tests.kit import invitations_model
from tests.kit import money_model as model
from tests.kit.money_debts import MoneyWithDebts
from tests.kit.money_world import (
    BOOKED,
    LOSE_INBOX,
    REPORTED,
    RETURNED,
    REVERSED,
    REWARDED,
    STARTED,
    TAKEN_BACK,
    World,
    content_of,
    payment_in,
    returned_in,
    reversal_in,
    reward_in,
)
from tests.kit.mortal import DiedError

# "unacknowledged": the process dies after its commit, before the acknowledgement.
ENDS = (*["done"] * 6, "unacknowledged", "died")
PEOPLE = 6
# The moments of an example are of the 13 days from then on: of the past, whenever it is played.
NOW = datetime.now(UTC) - timedelta(days=13)
Draw = Callable[..., Any]
Act = Callable[[], Coroutine[Any, Any, Any]]


class MoneyDeliveries(RuleBasedStateMachine):
    """Six people that may invite each other, and the messages of all that happens to them."""

    world: ClassVar[World]

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.broker, self.random = self.world.begin_example(), Random(seed)
        self.people = [self._id() for _ in range(PEOPLE)]
        self.unstarted = list(self.people)
        self.money, self.invitations = MoneyWithDebts(), invitations_model.Invitations()
        self.orders: list[tuple[model.Order, model.Invoice, OpenedInvoice]] = []
        """Each invoice of each order, the older ones first."""
        self.charges: list[model.Charge] = []
        self.returned: set[tuple[str, str]] = set()
        self.published: set[object] = set()
        self.statements: dict[str, int] = defaultdict(lambda: 8)
        self.pending_again, self.changed = set[str](), set[str]()

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _moment(self) -> datetime:
        """Each is another, and they come in any order."""
        return NOW + timedelta(microseconds=self.random.getrandbits(40))

    def _done(
        self, move: str, owner: str, act: Act, end: str = "done", draw: Draw | None = None
    ) -> Any:
        """The answer of the act. None when the process died in it: nothing was committed."""
        # Before one of the statements that were counted the last time, or before the commit.
        dies_at = draw(*range(1, self.statements[move] + 2)) if draw and end == "died" else 0
        answer = self.world.survives(move, owner, act, dies_at)
        if isinstance(answer, DiedError):
            return None
        self.statements[move] = self.world.databases[owner].statements
        self.changed.add(owner)
        return answer

    def _expected(self) -> dict[str, dict[object, object]]:
        """By owner: the content of each event that the model publishes, by its key."""
        money: dict[object, object] = dict(self.money.published.items())
        money |= {("refunded", *key): one for key, one in self.money.refunded.items()}
        invitations: dict[object, object] = {
            receipt: one for receipt, one in self.invitations.rewards.items() if one.reward_minor
        }
        invitations |= {
            ("bound", person): partner
            for person, partner in self.invitations.partner_of.items()
            if partner
        }
        invitations |= {
            ("reversed", refund): one for refund, one in self.invitations.reversed.items() if one[1]
        }
        return {"payments": money, "referrals": invitations}

    def _unpublished(self) -> list[str]:
        expected = self._expected()
        return [
            owner
            for owner in expected
            if owner in self.pending_again or expected[owner].keys() - self.published
        ]

    # Messages

    def deliver(self, draw: Draw) -> None:
        """Some waiting and some earlier messages in any order, to a handler that may die."""
        waiting = self.broker.waiting()
        # The last handlers of the path of a payment, and of a refund: messages seldom wait there.
        further = [name for name in waiting if name in (REWARDED, BOOKED)]
        furthest = [name for name in waiting if name in (REVERSED, TAKEN_BACK)]
        name = draw(*waiting * 2, *further * 4, *furthest * 16, *self.broker.delivered())
        consumer = self.broker.consumers[name]
        there = consumer.waiting + consumer.delivered[-5:]
        messages = self.random.sample(there, min(len(there), draw(*range(1, 13))))
        # So seldom that most of its deliveries have to meet a death, or no search would show one.
        deaths = ["died"] * len(ENDS) if name in (REVERSED, TAKEN_BACK) else []
        self._deliver(name, messages, draw(*ENDS, *deaths), draw)

    def _deliver(
        self, name: str, messages: Sequence[Message], end: str = "done", draw: Draw | None = None
    ) -> None:
        consumer = self.broker.consumers[name]
        outcome = self._done(
            name, consumer.owner, lambda: consumer.handler.handle_batch(messages), end, draw
        )
        if outcome is None:
            return
        assert outcome.dead_lettered == outcome.retried == 0, outcome
        self._fold(name, messages)
        if end == "done":
            self.broker.acknowledged(name, messages)

    def _deliver_more(self, name: str) -> None:
        self._deliver(name, self.broker.consumers[name].waiting[:50])

    def _fold(self, name: str, messages: Sequence[Message]) -> None:
        """Apply a committed batch to the model."""
        if name == REPORTED:
            self.money.book(self.broker.sent[message.event_id][1] for message in messages)
        elif name == STARTED:
            self.invitations.start(self.broker.sent[one.event_id][1] for one in messages)
        elif name == RETURNED:
            self.money.give_back(self.broker.sent[one.event_id][1] for one in messages)
        elif name == BOOKED:
            self.money.reward(reward_in(message) for message in messages)
        elif name == TAKEN_BACK:
            self.money.reverse(reversal_in(message) for message in messages)
        elif name == REVERSED:
            self.invitations.reverse([returned_in(message) for message in messages])
        else:
            received = [payment_in(message) for message in messages]
            self.invitations.handle(payment for payment in received if payment)

    def relay(self, draw: Draw) -> None:
        """The relay may die after the broker's acknowledgement, and the broker may refuse."""
        self._relay(draw(*self._unpublished()), draw(*ENDS), draw, draw(0, 0, 0, 1, 2, 3))

    def _relay(
        self, owner: str, end: str = "done", draw: Draw | None = None, refuses: int = 0
    ) -> None:
        pipe = self.broker.pipe
        pipe.refuses = refuses
        done = self._done("relay", owner, lambda: self.world.relay(owner, pipe), end, draw)
        (self.pending_again.discard if done else self.pending_again.add)(owner)
        expected = self._expected()[owner]
        while pipe.messages:
            self.broker.relayed(message := pipe.messages.pop(0))
            key, content = content_of(message)
            assert content == expected.get(key), "a published event has the model's content"
            self.published.add(key)

    def broker_is_wiped(self, draw: Draw) -> None:
        """The broker loses the messages of one owner, and the owner publishes them again."""
        self.broker.wipe(owner := draw("bot", "payments", "referrals"))
        if owner != "bot":
            self.world.run(self.world.republish(owner, self.broker.pipe))
            self.pending_again.add(owner)

    def inbox_is_lost(self, draw: Draw) -> None:
        """As after 45 days: everything comes again, and only natural keys refuse it."""
        consumer = self.broker.consumers[name := draw(*self.broker.delivered())]
        self.world.run(consumer.handler.database.execute(LOSE_INBOX, name))
        self.broker.begin_again(name)
