"""The world of the money machine: two databases, their handlers, and a broker in memory."""

from asyncio import Runner
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg
from nats.aio.client import Client

from payments.audit import CHECKS as PAYMENTS_CHECKS
from payments.domain import ledger
from payments.store import accounts, orders
from payments.subscribers import (
    payments_books_reversals,
    payments_books_rewards,
    payments_confirms_reported,
    payments_records_refunds,
)
from payments.ticks import MAX_ORDERS_AT_ONCE, PRUNED_AFTER
from referrals.audit import CHECKS as REFERRALS_CHECKS
from referrals.subscribers import (
    referrals_registers_started,
    referrals_reverses_refunded,
    referrals_rewards_confirmed,
)
from shared.contracts.message import Event
from shared.contracts.payments import PaymentConfirmed, PaymentRefunded, ReceiptParked
from shared.contracts.referrals import InvitationRegistered, RewardEarned, RewardReversed
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.inbox import Handle, Handler, Message
from shared.messaging.jetstream import BrokerError
from shared.messaging.relay import Relay, hour_of
from shared.operations.audit import audited
from shared.platform.db import Row
from tests.kit.invitations_model import LEVELS, Payment, Returned, Reward
from tests.kit.money_model import FROM_BALANCE, Confirmed, Parked, Refunded
from tests.kit.mortal import DiedError, MortalDatabase, Pipe
from tests.kit.servers import FreshDatabase

REPORTED, BOOKED = "payments_confirms_reported", "payments_books_rewards"
RETURNED, TAKEN_BACK = "payments_records_refunds", "payments_books_reversals"
STARTED, REWARDED = "referrals_registers_started", "referrals_rewards_confirmed"
REVERSED = "referrals_reverses_refunded"
HANDLERS: dict[str, Handle] = {
    REPORTED: payments_confirms_reported,
    RETURNED: payments_records_refunds,
    BOOKED: payments_books_rewards,
    TAKEN_BACK: payments_books_reversals,
    STARTED: referrals_registers_started,
    REWARDED: referrals_rewards_confirmed,
    REVERSED: referrals_reverses_refunded,
}
EVENTS = {
    event.subject(): event
    for event in (
        PaymentConfirmed,
        PaymentRefunded,
        ReceiptParked,
        RewardEarned,
        RewardReversed,
        InvitationRegistered,
    )
}
CHECKS = {"payments": PAYMENTS_CHECKS, "referrals": REFERRALS_CHECKS}

SHIPPED = {"migrations", "plans", "prices", "rates", "ways", "levels", "ledger_closing"}
"""Tables that no example empties."""

TABLES = "select schemaname, tablename from pg_tables where schemaname in ('payments', 'referrals')"

ADD_LEVEL = """
insert into referrals.levels (scale, paying_from, percent)
values (2, $1, $2)
on conflict do nothing
"""

# Deleting from tables in any order leaves no row behind, so foreign keys need no check.
SKIP_FOREIGN_KEYS = "set session_replication_role = replica"

ACCOUNTS = """
select a.owner, a.kind, a.balance_minor, coalesce(sum(e.amount_minor), 0)::bigint as entries_minor
from accounts a
left join entries e on e.account = a.id
where a.owner is not null
group by a.id
"""

ACCOUNTS_OF_THE_SHOP = """
select a.kind, a.currency, sum(e.amount_minor)::bigint as minor
from accounts a
join entries e on e.account = a.id
where a.kind like 'clearing:%' or a.kind = 'suspense'
group by a.kind, a.currency
"""

ORDERS = "select id, state, received_minor, undone_minor from orders order by placed_at"

REWARDS = "select receipt, partner, paying, percent, reward_minor from rewards"

WAITING = "select (body #>> '{received,receipt}')::uuid as receipt from waiting"

REVERSALS = "select refund, partner, reversed_minor from reversals"

WAITING_REFUNDS = "select refund from waiting_refunds"

CONFLICTS = "select where_seen, event_id from conflicts"

OUTBOX = "select seq from outbox"

LOSE_INBOX = "delete from inbox where handler = $1"

A_MONTH_PASSES = """
with aged as (
  update orders
  set placed_at = placed_at - interval '31 days',
      honoured_until = honoured_until - interval '31 days'
  where person = $1
  returning id
)
update invoices
set opened_at = opened_at - interval '31 days', expires_at = expires_at - interval '31 days'
where order_id in (select id from aged)
"""

Answer = TypeVar("Answer")


@dataclass
class Consumer:
    """A handler, with the messages that the broker holds for it."""

    handler: Handler
    owner: str
    waiting: list[Message] = field(default_factory=list)
    delivered: list[Message] = field(default_factory=list)


class Broker:
    """The messages of each handler.

    `sent` holds the events of bot-gateway by id: the message, and its content in the model's words.
    """

    def __init__(self, databases: dict[str, MortalDatabase]) -> None:
        self.consumers = {
            one.handler: Consumer(
                Handler(one, HANDLERS[one.handler], databases[one.service]), one.service
            )
            for one in SUBSCRIPTIONS
            if one.handler in HANDLERS
        }
        self.pipe = Pipe()
        self.sent: dict[UUID, tuple[Message, Any]] = {}

    def waiting(self) -> list[str]:
        return [name for name, consumer in self.consumers.items() if consumer.waiting]

    def delivered(self) -> list[str]:
        return [name for name, consumer in self.consumers.items() if consumer.delivered]

    def send(self, event: Event, content: object) -> None:
        headers = {
            "Nats-Msg-Id": str(event.id),
            "Turnpike-Digest": str(event.digest()),
            "Turnpike-Hour": hour_of(event.at),
        }
        message = Message(event.subject(), headers, event.model_dump_json().encode())
        self.sent[event.id] = message, content
        self.put(message)

    def put(self, message: Message) -> None:
        for consumer in self.consumers.values():
            if consumer.handler.subscription.event.subject() == message.subject:
                consumer.waiting.append(message)

    def relayed(self, message: Message) -> None:
        """A relay has put the message into the pipe."""
        self.put(message)

    def begin_again(self, name: str) -> None:
        """The handler receives everything once more."""
        consumer = self.consumers[name]
        consumer.waiting, consumer.delivered = consumer.waiting + consumer.delivered, []

    def acknowledged(self, name: str, messages: Sequence[Message]) -> None:
        consumer = self.consumers[name]
        consumer.waiting = [one for one in consumer.waiting if one not in messages]
        others = [one for one in consumer.delivered if one not in messages]
        consumer.delivered = [*others, *messages]

    def wipe(self, owner: str) -> None:
        """Lose the messages of this owner. bot-gateway publishes its events again."""
        for consumer in self.consumers.values():
            if consumer.handler.subscription.owner == owner:
                consumer.waiting, consumer.delivered = [], []
        for message, _ in self.sent.values() if owner == "bot" else ():
            self.put(message)


@asynccontextmanager
async def opened(both: FreshDatabase) -> AsyncIterator[tuple[Any, dict[str, MortalDatabase]]]:
    """The superuser's connection, and the two services' databases."""
    admin = await asyncpg.connect(both.dsn("postgres"))
    databases = {
        name: MortalDatabase(both.dsn(f"{name}_app"), name=name, size=2) for name in CHECKS
    }
    for database in databases.values():
        await database.open()
    yield admin, databases
    for database in databases.values():
        await database.close()
    await admin.close()


class World:
    """The world of all examples. Each example finds the tables empty."""

    def __init__(self, runner: Runner, admin: Any, databases: dict[str, MortalDatabase]) -> None:
        self.run = runner.run
        self.admin, self.databases = admin, databases
        self.payments, self.referrals = databases["payments"], databases["referrals"]
        self.moves: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.examples = self.steps = 0
        """Examples that reached their end, and their moves. The search gives up some earlier."""
        self._moves_before = 0
        self._empty = ""

    async def begin(self) -> None:
        rows = await self.admin.fetch(TABLES)
        names = [
            f"{row['schemaname']}.{row['tablename']}"
            for row in rows
            if row["tablename"] not in SHIPPED
        ]
        # This takes 1 ms; `truncate` takes 100 ms.
        self._empty = "; ".join(f"delete from {name}" for name in names)
        await self.admin.execute(SKIP_FOREIGN_KEYS)
        await self.admin.executemany(ADD_LEVEL, list(LEVELS.items()))

    def begin_example(self) -> Broker:
        """Empty tables, and handlers without memory."""
        self.run(self.admin.execute(self._empty))
        self._moves_before = self.moves.total()
        return self.broker()

    def broker(self) -> Broker:
        return Broker(self.databases)

    def end_example(self) -> None:
        self.examples += 1
        self.steps += self.moves.total() - self._moves_before

    def survives(
        self,
        move: str,
        owner: str,
        act: Callable[[], Coroutine[Any, Any, Answer]],
        dies_at: int = 0,
    ) -> Answer | DiedError:
        """The result of the act. The process dies before the `dies_at`-th statement; 0 is never."""
        database = self.databases[owner]
        database.dies_at = dies_at
        try:
            return self.run(act())
        except DiedError as death:
            self.deaths[move] += 1
            return death
        finally:
            database.dies_at = 0

    async def relay(self, owner: str, pipe: Pipe) -> bool:
        """One round of a new relay. False when the broker did not take everything."""
        async with self.databases[owner].transaction() as tx:
            try:
                await self._relay(owner, pipe).publish_pending(tx.connection)
            except BrokerError:
                return False
        return True

    async def republish(self, owner: str, pipe: Pipe) -> None:
        """The reaction of a relay to a new stream in the place of its own."""
        async with self.databases[owner].transaction() as tx:
            await self._relay(owner, pipe)._republish_recent(tx.connection)

    def _relay(self, owner: str, pipe: Pipe) -> Relay:
        return Relay(self.databases[owner], cast(Client, pipe), owner)

    async def end_orders(self) -> bool:
        """As the tick does it, in one transaction."""
        async with self.payments.transaction() as tx:
            await tx.execute(orders.EXPIRE, MAX_ORDERS_AT_ONCE)
            await tx.execute(orders.PRUNE, PRUNED_AFTER, MAX_ORDERS_AT_ONCE)
        return True

    async def flow(self, person: UUID, amount_minor: int, cause: str, *, owed: bool) -> None:
        """Spend a part of the wallet elsewhere, or add a debt."""
        async with self.payments.transaction() as tx:
            holdings = (await accounts.lock_holdings([person], tx))[person]
            source = holdings.owed if owed else holdings.wallet
            flow = (source, ledger.REVENUE, amount_minor)
            transfer = ledger.transfer_of(cause, "purchase", person, flow)
            await accounts.write_transfers([transfer], tx)

    def rows(self, owner: str, sql: str) -> list[Row]:
        return self.run(self.databases[owner].fetch(sql))

    def broken(self, owner: str) -> list[tuple[str, list[str]]]:
        """Violated truths with examples. Conflicts are compared with the model instead."""
        audit = self.run(audited(self.databases[owner], CHECKS[owner], "select 0 as nothing"))
        return [
            (one.truth, list(one.examples))
            for one in audit.findings
            if one.violations and one.invariant != "I12"
        ]


# The content of messages in the model's words.


def reward_in(message: Message) -> tuple[UUID, UUID, int]:
    event = RewardEarned.model_validate_json(message.body)
    return event.receipt, event.about, event.reward_minor


def reversal_in(message: Message) -> tuple[UUID, UUID, int]:
    event = RewardReversed.model_validate_json(message.body)
    return event.refund, event.about, event.reversed_minor


def returned_in(message: Message) -> Returned:
    event = PaymentRefunded.model_validate_json(message.body)
    returned = event.returned
    return Returned(returned.refund, returned.receipt, event.about, returned.value_minor)


def payment_in(message: Message) -> Payment | None:
    """None for a purchase from the balance: no money came from outside."""
    event = PaymentConfirmed.model_validate_json(message.body)
    if event.received is None:
        return None
    return Payment(
        event.received.receipt, event.about, event.received.value_minor, event.booked_at, event.id
    )


def content_of(message: Message) -> tuple[object, object]:
    """The key of the event in the model, and its content."""
    event = EVENTS[message.subject].model_validate_json(message.body)
    if isinstance(event, PaymentConfirmed):
        received, bought = event.received, event.bought.order if event.bought else None
        value_minor = received.value_minor if received else 0
        sums = (event.missing_minor, event.over_minor, event.wallet_minor)
        content = Confirmed(event.about, value_minor, bought, event.reason, *sums)
        key = (received.acquirer, received.charge) if received else (FROM_BALANCE, str(bought))
        return key, content
    if isinstance(event, ReceiptParked):
        return (event.acquirer, event.charge), Parked(event.reason)
    if isinstance(event, PaymentRefunded):
        undone = tuple((one.order, one.undone_minor) for one in event.undone)
        figures = (event.returned.value_minor, undone, event.owed_minor, event.wallet_minor)
        charge = event.returned.acquirer, event.returned.charge
        return ("refunded", *charge), Refunded(event.about, *figures)
    if isinstance(event, RewardReversed):
        return ("reversed", event.refund), (event.about, event.reversed_minor)
    if isinstance(event, RewardEarned):
        return event.receipt, Reward(event.about, event.paying, event.percent, event.reward_minor)
    assert isinstance(event, InvitationRegistered), event
    return ("bound", event.invitee), event.about
