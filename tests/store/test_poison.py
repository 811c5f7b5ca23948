"""A poison message costs a bounded number of calls and transactions, and holds nobody back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from shared.contracts.bot import PersonStarted
from shared.messaging import failures, inbox
from shared.messaging.inbox import Handler
from shared.messaging.retries import retry_due
from shared.platform import telemetry
from shared.platform.db import Database, Tx
from tests.kit.messaging import ALL_ARE_DUE, STARTED, Pair, message_of
from tests.kit.waiting import HANG_S, until

TRIES_OF = "select tries from failed_attempts where event_id = $1"
REASON_OF = "select reason from dead_letters where event_id = $1"
WAITING = "select count(*) from failed_attempts"
SHORT = "set local statement_timeout = '50ms'"
SHORT_LOCK = "set local lock_timeout = '50ms'"

Fail = Callable[[Tx], Awaitable[None]]


async def data_error(tx: Tx) -> None:
    await tx.execute("select 1 / 0")


async def error_of_ours(_: Tx) -> None:
    raise KeyError("ours")


async def time_out(tx: Tx) -> None:
    await tx.execute(SHORT)
    await tx.execute("select pg_sleep(10)")


async def lock_time_out(tx: Tx) -> None:
    """Another session holds this row."""
    await tx.execute(SHORT_LOCK)
    await tx.execute("select from comparisons where handler = 'held' for update")


class CountingDatabase(Database):
    transactions = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        self.transactions += 1
        async with super().transaction() as tx:
            yield tx


class Poison:
    """A handler that fails for one event, in a way of the test's choice."""

    def __init__(self, database: Database, poison: PersonStarted, fail: Fail) -> None:
        self.handler = Handler(STARTED, self.handle, database)
        self.poison = poison
        self.fail = fail
        self.calls = 0

    async def handle(self, events: Sequence[PersonStarted], tx: Tx) -> None:
        self.calls += 1
        if any(event.id == self.poison.id for event in events):
            await self.fail(tx)


@pytest.fixture
async def counting(pair: Pair) -> AsyncIterator[CountingDatabase]:
    await pair.subscriber.execute("delete from failed_attempts")
    database = CountingDatabase(pair.subscriber.dsn, name="subscriber")
    await database.open()
    yield database
    await database.close()


@asynccontextmanager
async def held_row(database: Database) -> AsyncIterator[None]:
    """Another session locks the row that `lock_time_out` wants."""
    async with database.transaction() as tx:
        await tx.execute("insert into comparisons (handler) values ('held') on conflict do nothing")
    async with database.transaction() as tx:
        await tx.execute("set local idle_in_transaction_session_timeout = 0")
        await tx.execute("select from comparisons where handler = 'held' for update")
        yield


@pytest.mark.parametrize("fail", [data_error, error_of_ours, time_out, lock_time_out])
async def test_one_poison_among_500_costs_few_transactions(
    pair: Pair, counting: CountingDatabase, fail: Fail
) -> None:
    """M-08, P-10: whatever fails; 499 are done, and the poison is dead-lettered or waits."""
    async with pair.open(consuming=False), held_row(pair.subscriber):
        events = await pair.publish(500)
        subject = Poison(counting, events[137], fail)
        async with asyncio.timeout(HANG_S):
            outcome = await subject.handler.handle_batch([message_of(event) for event in events])
        assert (outcome.done, outcome.dead_lettered + outcome.retried) == (499, 1)
        assert (outcome.dead_lettered == 1) is (fail is data_error)
        # 9 levels, two halves each, the first refusals, and the dead letter.
        assert subject.calls <= 2 * 9 + inbox.REFUSALS_BEFORE_BISECTING
        assert counting.transactions <= subject.calls + 1


async def test_a_lone_time_out_waits_then_ends(pair: Pair, counting: CountingDatabase) -> None:
    """M-08: dead-lettered after its last try, and only because others passed meanwhile."""
    async with pair.open(consuming=False):
        event, other = await pair.publish(2)
        subject = Poison(counting, event, time_out)
        assert (await subject.handler.handle_batch([message_of(event)])).retried == 1
        for tries in range(2, len(failures.RETRY_S) + 4):
            await pair.subscriber.execute(ALL_ARE_DUE)
            assert await retry_due(subject.handler) == 1
            assert await pair.subscriber.fetchval(TRIES_OF, event.id) == tries
        assert (await subject.handler.handle_batch([message_of(other)])).done == 1
        calls = subject.calls
        await pair.subscriber.execute(ALL_ARE_DUE)
        assert await retry_due(subject.handler) == 1
        assert subject.calls == calls + 1, "a try is one call"
        assert "statement timeout" in await pair.subscriber.fetchval(REASON_OF, event.id)
        assert await pair.subscriber.fetchval(WAITING) == 0


async def test_an_absent_database_bisects_nothing(pair: Pair, counting: CountingDatabase) -> None:
    """M-08: the whole batch is repeated until the database is back, and no message waits."""
    async with pair.open(consuming=False):
        events = await pair.publish(4)
        subject = Poison(counting, events[0], time_out)
        subject.poison = (await pair.publish())[0]
        refused = telemetry.HANDLED.labels(STARTED.handler, "retried")
        before = refused._value.get()
        await counting.close()
        handling = asyncio.create_task(
            subject.handler.handle_batch([message_of(event) for event in events])
        )
        await until(lambda: refused._value.get() > before + inbox.REFUSALS_BEFORE_BISECTING + 1)
        await counting.open()
        outcome = await asyncio.wait_for(handling, HANG_S)
        assert (outcome.done, outcome.retried, subject.calls) == (4, 0, 1)
        assert await pair.subscriber.fetchval(WAITING) == 0
