"""Faults that the demo injects at the worst moment of a purchase, and the proof that each happened.

before the payment ─▶ arm: a table of the service is locked; the broker's consumers are paused
during the payment ─▶ inject: the service dies in its transaction; the broker loses pending events
afterwards         ─▶ prove: the restarted part is another process, or has other streams
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import asyncpg

from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.jetstream import consumer_lag, pause_consumer
from shared.messaging.rpc import Bus
from turnpike_local import services
from turnpike_local.stack import Stack
from turnpike_local.supervisor import Part, supervise
from turnpike_local.waiting import together, until

INJECT_TIMEOUT_S = 120.0
INJECT_POLL_S = 0.01
PAUSED_FOR = timedelta(minutes=10)
PAUSE_TIMEOUT_S = 5.0

SERVICES = {service.title: service.name for service in services.SERVICES}
"""The owner of each service, by the name on the command line."""

# The table that a service writes late in the transaction of its part of a purchase.
WORK = {
    "bot": "bot.events",
    "payments": "payments.events",
    "referrals": "referrals.events",
    "vpn": "vpn.events",
    "notifier": "notifier.deliveries",
}

HOLD = "lock table {table} in share row exclusive mode"  # Reads and claims still succeed.

IS_BLOCKED = """
select exists (
  select from pg_stat_activity
  where application_name = $1 and wait_event_type = 'Lock' and query ~ $2
)
"""

RUNNING_AGAIN = "is running again."

OUTBOX_IS_EMPTY = "select not exists (select from payments.outbox)"

Inject = Callable[[], Coroutine[Any, Any, None]]


class Note(Protocol):
    """Takes a line of the timeline: a part, and what happened to it."""

    def __call__(self, part: str, what: str, *, intermediate: bool = False) -> None: ...


@dataclass(frozen=True)
class Proof:
    sentence: str
    holds: bool
    seen: str


class Fault(Protocol):
    """One thing that breaks."""

    def target(self, stack: Stack) -> Part:
        """The part that has to be restarted."""

    def arm(self, stack: Stack, bus: Bus, note: Note) -> AbstractAsyncContextManager[Inject]:
        """Prepare the fault. Yields a function that returns once the fault has happened.

        That function raises TimeoutError when its moment does not come.
        """

    async def proof(self, stack: Stack) -> Proof:
        """Whether the fault really happened."""


@dataclass
class Kill:
    """SIGKILL to a service, by its owner, while its transaction writes what the payment caused."""

    service: str
    pid: int = 0

    def target(self, stack: Stack) -> Part:
        return stack.services[self.service]

    @asynccontextmanager
    async def arm(self, stack: Stack, _: Bus, note: Note) -> AsyncIterator[Inject]:
        program, table = stack.services[self.service], WORK[self.service]
        self.pid = program.child.pid
        holding, watching = [await asyncpg.connect(stack.postgres.dsn()) for _ in range(2)]
        work = f"insert into {table.partition('.')[2]}"

        async def is_blocked() -> bool:
            return bool(await watching.fetchval(IS_BLOCKED, SERVICE_NAMES[self.service], work))

        async def inject() -> None:
            await until(
                is_blocked,
                f"{program.name} waits for the lock",
                timeout_s=INJECT_TIMEOUT_S,
                poll_s=INJECT_POLL_S,
            )
            program.kill()
            await program.child.wait()
            note(self.service, f"is killed in its transaction: {work}")
            await lock.rollback()

        lock = holding.transaction()
        try:
            await lock.start()
            await holding.execute(HOLD.format(table=table))
            yield inject
        finally:
            await asyncio.gather(holding.close(), watching.close())

    async def proof(self, stack: Stack) -> Proof:
        child = stack.services[self.service].child
        return Proof(
            f"{child.name} died and restarted",
            child.alive and child.pid != self.pid > 0,
            f"{self.pid} → {child.pid}",
        )


@dataclass
class WipeBroker:
    """NATS is killed and loses its disk while only the broker holds the payment's event.

    The publisher's outbox is empty, and no handler has received the event.
    """

    incarnations: dict[str, str] = field(default_factory=dict)

    def target(self, stack: Stack) -> Part:
        return stack.broker

    @asynccontextmanager
    async def arm(self, stack: Stack, bus: Bus, note: Note) -> AsyncIterator[Inject]:
        self.incarnations = await stack.broker.incarnations()
        paused = [one for one in SUBSCRIPTIONS if one.event is PaymentConfirmed]
        ends_at = datetime.now(UTC) + PAUSED_FOR
        for subscription in paused:
            await pause_consumer(bus.client, subscription, ends_at, timeout_s=PAUSE_TIMEOUT_S)
        database = await asyncpg.connect(stack.postgres.dsn())

        async def only_the_broker_has_it() -> bool:
            lag = await consumer_lag(bus.client)
            return all(lag[each.handler] for each in paused) and bool(
                await database.fetchval(OUTBOX_IS_EMPTY)
            )

        async def inject() -> None:
            await until(
                only_the_broker_has_it,
                "the payment is published and no handler has received it",
                timeout_s=INJECT_TIMEOUT_S,
                poll_s=INJECT_POLL_S,
            )
            stack.broker.kill()
            await stack.broker.child.wait()
            stack.broker.lose_disk()
            note("nats", "is killed and loses its disk, with the payment in it")

        try:
            yield inject
        finally:
            await database.close()

    async def proof(self, stack: Stack) -> Proof:
        now = await stack.broker.incarnations()
        changed = {stream for stream in now if now[stream] != self.incarnations.get(stream)}
        return Proof(
            "every stream was created again",
            changed == self.incarnations.keys() != set(),
            ", ".join(sorted(changed)),
        )


@asynccontextmanager
async def supervised(stack: Stack, faults: Sequence[Fault], note: Note) -> AsyncIterator[None]:
    """Restart the targets of the faults when they end, like `turnpike up` does."""

    def report(part: Part, sentence: str) -> None:
        name = part.child.name
        what = sentence.splitlines()[0].removesuffix(", its last lines:").removeprefix(f"{name} ")
        note(name, what.rstrip("."), intermediate=what != RUNNING_AGAIN)

    parts = [fault.target(stack) for fault in faults]
    supervisors = [asyncio.create_task(supervise(part, partial(report, part))) for part in parts]
    try:
        yield
    finally:
        for supervisor in supervisors:
            supervisor.cancel()
        await asyncio.gather(*supervisors, return_exceptions=True)


@asynccontextmanager
async def armed(
    stack: Stack, bus: Bus, faults: Sequence[Fault], note: Note
) -> AsyncIterator[Inject]:
    """Arm every fault. Yields a function that returns once all of them have happened."""
    async with AsyncExitStack() as arms:
        injects = [await arms.enter_async_context(fault.arm(stack, bus, note)) for fault in faults]
        yield lambda: together(*(inject() for inject in injects))
