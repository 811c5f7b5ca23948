"""The tables of payments and referrals, their handlers, a relay that may die, and what all examples did to them."""

from asyncio import Runner
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg
from nats.aio.client import Client

from payments import ledger
from payments.audit import CHECKS as BOOK_CHECKS
from payments.store import book as book_store
from payments.subscribers import payments_books_rewards, payments_confirms_reported
from referrals.audit import CHECKS as ROLL_CHECKS
from referrals.subscribers import referrals_registers_started, referrals_rewards_confirmed
from shared import outbox
from shared.audit import STREET_CHECKS, Check
from shared.contract import Fact
from shared.db import Row
from shared.facts import InvitationRegistered, PaymentConfirmed, ReceiptParked, RewardEarned
from shared.inbox import Handle, Handler, Letter
from shared.streams import LISTENING
from tests.kit.money_model import LEVELS, Confirmed, Parked, Payment, Reward
from tests.kit.mortal import DiedError, MortalDatabase, Pipe
from tests.kit.servers import FreshDatabase

REPORTED, BOOKED = "payments_confirms_reported", "payments_books_rewards"
STARTED, REWARDED = "referrals_registers_started", "referrals_rewards_confirmed"
HEARS: dict[str, Handle] = {
    REPORTED: payments_confirms_reported,
    BOOKED: payments_books_rewards,
    STARTED: referrals_registers_started,
    REWARDED: referrals_rewards_confirmed,
}
TELLS = {fact.subject(): fact for fact in (PaymentConfirmed, ReceiptParked, RewardEarned, InvitationRegistered)}
CHECKS = {"payments": BOOK_CHECKS, "referrals": ROLL_CHECKS}

SHIPPED = {"migrations", "plans", "prices", "rates", "levels"}
TABLES = "select schemaname, tablename from pg_tables where schemaname in ('payments', 'referrals')"
ADD_LEVEL = "insert into referrals.levels (scale, paying_from, percent) values (2, $1, $2) on conflict do nothing"

ACCOUNTS = """
select a.owner, a.kind, a.balance_minor, coalesce(sum(e.amount_minor), 0)::bigint as entries_minor
from accounts a
left join entries e on e.account = a.id
where a.owner is not null
group by a.id
"""

SHOPS = """
select a.kind, a.currency, sum(e.amount_minor)::bigint as minor
from accounts a
join entries e on e.account = a.id
where a.kind like 'clearing:%' or a.kind = 'suspense'
group by a.kind, a.currency
"""

ORDERS = "select id, state, received_minor from orders order by placed_at"

REWARDS = "select receipt, partner, paying, percent, reward_minor from rewards"

WAITING = "select (body #>> '{received,receipt}')::uuid as receipt from waiting"

CONTRADICTIONS = "select where_seen, fact_id from contradictions"

UNTOLD = "select seq from untold"

LOSE_INBOX = "delete from inbox where handler = $1"

A_MONTH_PASSES = """
with theirs as (
  update orders
  set placed_at = placed_at - interval '31 days', honoured_until = honoured_until - interval '31 days'
  where person = $1
  returning id
)
update invoices
set opened_at = opened_at - interval '31 days', expires_at = expires_at - interval '31 days'
where order_id in (select id from theirs)
"""

Answer = TypeVar("Answer")


@dataclass
class Ear:
    """A handler, and what the broker holds for it."""

    handler: Handler
    owner: str
    waiting: list[Letter] = field(default_factory=list)
    delivered: list[Letter] = field(default_factory=list)


class Broker:
    """What lies before each handler; `sent` is what bot-gateway told, by the fact, with what it says."""

    def __init__(self, databases: dict[str, MortalDatabase]) -> None:
        self.ears = {
            one.handler: Ear(Handler(one, HEARS[one.handler], databases[one.service]), one.service)
            for one in LISTENING
            if one.handler in HEARS
        }
        self.pipe = Pipe()
        self.sent: dict[UUID, tuple[Letter, Any]] = {}

    def waiting(self) -> list[str]:
        return [name for name, ear in self.ears.items() if ear.waiting]

    def delivered(self) -> list[str]:
        return [name for name, ear in self.ears.items() if ear.delivered]

    def send(self, fact: Fact, said: object) -> None:
        headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest())}
        headers["Turnpike-Hour"] = outbox.hour_of(fact.at)
        letter = Letter(fact.subject(), headers, fact.model_dump_json().encode())
        self.sent[fact.id] = letter, said
        self.put(letter)

    def put(self, letter: Letter) -> None:
        for ear in self.ears.values():
            if ear.handler.listening.fact.subject() == letter.subject:
                ear.waiting.append(letter)

    def told(self, letter: Letter) -> None:
        """A relay has put it into the pipe."""
        self.put(letter)

    def begin_again(self, name: str) -> None:
        """The handler hears everything once more."""
        ear = self.ears[name]
        ear.waiting, ear.delivered = ear.waiting + ear.delivered, []

    def acknowledged(self, name: str, letters: Sequence[Letter]) -> None:
        ear = self.ears[name]
        ear.waiting = [letter for letter in ear.waiting if letter not in letters]
        ear.delivered = [letter for letter in ear.delivered if letter not in letters] + list(letters)

    def wipe(self, owner: str) -> None:
        """What it held of this owner is gone; bot-gateway tells its facts again."""
        for ear in self.ears.values():
            if ear.handler.listening.owner == owner:
                ear.waiting, ear.delivered = [], []
        for letter, _ in self.sent.values() if owner == "bot" else ():
            self.put(letter)


@asynccontextmanager
async def opened(both: FreshDatabase) -> AsyncIterator[tuple[Any, dict[str, MortalDatabase]]]:
    """The superuser's connection, and the two services' databases."""
    admin = await asyncpg.connect(both.dsn("postgres"))
    databases = {name: MortalDatabase(both.dsn(f"{name}_app"), name=name, size=2) for name in CHECKS}
    for database in databases.values():
        await database.open()
    yield admin, databases
    for database in databases.values():
        await database.close()
    await admin.close()


class World:
    """One for all examples, each of which finds the tables empty."""

    def __init__(self, runner: Runner, admin: Any, databases: dict[str, MortalDatabase]) -> None:
        self.run = runner.run
        self.admin, self.databases = admin, databases
        self.book, self.roll = databases["payments"], databases["referrals"]
        self.moves: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.examples = self.steps = 0
        """Those that came to rest, and their moves; the search gives up some in the middle."""
        self._moves_before = 0
        self._empty = ""

    async def begin(self) -> None:
        rows = await self.admin.fetch(TABLES)
        names = [f"{row['schemaname']}.{row['tablename']}" for row in rows if row["tablename"] not in SHIPPED]
        self._empty = "; ".join(f"delete from {name}" for name in names)  # In 1 ms; to truncate them takes 100.
        await self.admin.execute("set session_replication_role = replica")  # Of what refers to what, nothing is left.
        await self.admin.executemany(ADD_LEVEL, list(LEVELS.items()))

    def begin_example(self) -> Broker:
        """Empty tables, and handlers that remember nothing."""
        self.run(self.admin.execute(self._empty))
        self._moves_before = self.moves.total()
        return self.broker()

    def broker(self) -> Broker:
        return Broker(self.databases)

    def came_to_rest(self) -> None:
        self.examples += 1
        self.steps += self.moves.total() - self._moves_before

    def survives(
        self, move: str, owner: str, act: Callable[[], Coroutine[Any, Any, Answer]], dies_at: int = 0
    ) -> Answer | DiedError:
        """What the act came to; it may die before the `dies_at`-th statement of its transaction."""
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
        """One round of a relay just started; False when the broker did not take everything."""
        async with self.databases[owner].transaction() as tx:
            try:
                await self._relay(owner, pipe).tell_some(tx.connection)
            except outbox.BrokerError:
                return False
        return True

    async def tell_again(self, owner: str, pipe: Pipe) -> None:
        """What a relay does that meets a stranger in its stream's place."""
        async with self.databases[owner].transaction() as tx:
            await self._relay(owner, pipe)._put_back(tx.connection)

    def _relay(self, owner: str, pipe: Pipe) -> outbox.Relay:
        return outbox.Relay(self.databases[owner], cast(Client, pipe), owner)

    async def flow(self, person: UUID, amount_minor: int, cause: str, *, owed: bool) -> None:
        """Some of the wallet is spent elsewhere, or comes to be owed."""
        async with self.book.transaction() as tx:
            holdings = (await book_store.lock_holdings([person], tx))[person]
            source = holdings.owed if owed else holdings.wallet
            flow = ledger.moved(cause, "purchase", person, (source, ledger.REVENUE, amount_minor))
            await book_store.write_transfers([flow], tx)

    def rows(self, owner: str, sql: str) -> list[Row]:
        return self.run(self.databases[owner].fetch(sql))

    def broken(self, owner: str) -> list[tuple[str, list[str]]]:
        """The truths that do not hold, with examples; contradictions are held against the model instead."""
        return self.run(self._broken(self.databases[owner], (*CHECKS[owner], *STREET_CHECKS)))

    async def _broken(self, database: MortalDatabase, checks: Sequence[Check]) -> list[tuple[str, list[str]]]:
        found = []
        for check in checks:
            rows = await database.fetch(check.sql, *check.arguments(None))
            if rows and check.invariant != "I12":
                found.append((check.truth, [row["example"] for row in rows]))
        return found


# What letters say, in the model's words.


def reward_in(letter: Letter) -> tuple[UUID, UUID, int]:
    fact = RewardEarned.model_validate_json(letter.body)
    return fact.receipt, fact.about, fact.reward_minor


def payment_in(letter: Letter) -> Payment:
    fact = PaymentConfirmed.model_validate_json(letter.body)
    assert fact.received is not None
    return Payment(fact.received.receipt, fact.about, fact.received.value_minor, fact.booked_at, fact.id)


def told_in(letter: Letter) -> tuple[object, object]:
    """Of what it tells, and what."""
    fact = TELLS[letter.subject].model_validate_json(letter.body)
    if isinstance(fact, PaymentConfirmed) and fact.received:
        bought = fact.bought.order if fact.bought else None
        sums = (fact.missing_minor, fact.over_minor, fact.wallet_minor)
        told = Confirmed(fact.about, fact.received.value_minor, bought, fact.reason, *sums)
        return (fact.received.acquirer, fact.received.charge), told
    if isinstance(fact, ReceiptParked):
        return (fact.acquirer, fact.charge), Parked(fact.reason)
    if isinstance(fact, RewardEarned):
        return fact.receipt, Reward(fact.about, fact.paying, fact.percent, fact.reward_minor)
    assert isinstance(fact, InvitationRegistered), fact
    return ("bound", fact.invitee), fact.about
