"""What the demo breaks at the worst moment of a purchase, and how it is seen that it really broke.

before the payment ─▶ a trap is set: what the work must write is locked; what the broker was told is not handed out
while on its way   ─▶ it springs: the service dies in its transaction; the broker loses what it alone still has to tell
afterwards         ─▶ what the keeper started again is another process; holds other streams
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import asyncpg

from shared.bus import Bus
from shared.facts import PaymentConfirmed
from shared.owners import OWNERS
from shared.streams import LISTENING
from turnpike_local.keeper import Part, keep
from turnpike_local.stack import Stack
from turnpike_local.waiting import together, until

SPRING_TIMEOUT_S = 120.0
SPRING_POLL_S = 0.01
HELD_FOR = timedelta(minutes=10)
API_TIMEOUT_S = 5.0

SERVICES = {package.replace("_", "-"): name for name, package in OWNERS.items()}
"""What a service is called on the command line, and its short name."""

# What a service's part of a purchase writes late in its transaction.
WORK = {
    "bot": "bot.facts",
    "payments": "payments.facts",
    "referrals": "referrals.facts",
    "vpn": "vpn.facts",
    "notifier": "notifier.deliveries",
}

HOLD = "lock table {table} in share row exclusive mode"  # Reading and claiming go on.

IS_CAUGHT = """
select exists (
  select from pg_stat_activity
  where application_name = $1 and wait_event_type = 'Lock' and query ~ $2
)
"""

ALL_IS_TOLD = "select not exists (select from payments.untold)"

Spring = Callable[[], Coroutine[Any, Any, None]]
Note = Callable[[str, str], None]
"""Who, and what happened to it: a line of the timeline."""


@dataclass(frozen=True)
class Proof:
    sentence: str
    holds: bool
    seen: str


class Fault(Protocol):
    """One thing that breaks."""

    def struck(self, stack: Stack) -> Part:
        """What has to be started again."""

    def trap(self, stack: Stack, bus: Bus, note: Note) -> AbstractAsyncContextManager[Spring]:
        """Set a trap; what this yields returns once it has sprung. Raises TimeoutError when nothing walks into it."""

    async def proof(self, stack: Stack) -> Proof:
        """Whether it really happened."""


@dataclass
class Kill:
    """SIGKILL to a service, by its short name, while its transaction writes what follows from the payment."""

    service: str
    pid: int = 0

    def struck(self, stack: Stack) -> Part:
        return stack.services[self.service]

    @asynccontextmanager
    async def trap(self, stack: Stack, _: Bus, note: Note) -> AsyncIterator[Spring]:
        program, table = stack.services[self.service], WORK[self.service]
        self.pid = program.child.pid
        holding, watching = [await asyncpg.connect(stack.postgres.dsn()) for _ in range(2)]
        work = f"insert into {table.partition('.')[2]}"

        async def caught() -> bool:
            return bool(await watching.fetchval(IS_CAUGHT, f"turnpike-{self.service}", work))

        async def spring() -> None:
            await until(caught, f"{program.name} is at its work", timeout_s=SPRING_TIMEOUT_S, poll_s=SPRING_POLL_S)
            program.kill()
            await program.child.wait()
            note(self.service, f"killed with SIGKILL in the middle of “{work}” (process {self.pid})")
            await held.rollback()

        held = holding.transaction()
        try:
            await held.start()
            await holding.execute(HOLD.format(table=table))
            yield spring
        finally:
            await asyncio.gather(holding.close(), watching.close())

    async def proof(self, stack: Stack) -> Proof:
        child = stack.services[self.service].child
        return Proof(
            f"{child.name} was killed at its work and is another process now",
            child.alive and child.pid != self.pid > 0,
            f"{self.pid} → {child.pid}",
        )


@dataclass
class WipeBroker:
    """NATS is killed and its disk gone, when it alone still has to tell of the payment: everybody else forgot."""

    incarnations: dict[str, str] = field(default_factory=dict)

    def struck(self, stack: Stack) -> Part:
        return stack.broker

    @asynccontextmanager
    async def trap(self, stack: Stack, bus: Bus, note: Note) -> AsyncIterator[Spring]:
        self.incarnations = await stack.broker.incarnations()
        listeners = [listening for listening in LISTENING if listening.fact is PaymentConfirmed]
        until_when = json.dumps({"pause_until": (datetime.now(UTC) + HELD_FOR).isoformat()}).encode()
        for listening in listeners:
            call = f"$JS.API.CONSUMER.PAUSE.{listening.stream}.{listening.handler}"
            await bus.client.request(call, until_when, API_TIMEOUT_S)
        database = await asyncpg.connect(stack.postgres.dsn())

        async def only_the_broker_has_it() -> bool:
            unheard = await bus.unsettled()
            return all(unheard[each.handler] for each in listeners) and bool(await database.fetchval(ALL_IS_TOLD))

        async def spring() -> None:
            what = "the payment is told and nobody has heard"
            await until(only_the_broker_has_it, what, timeout_s=SPRING_TIMEOUT_S, poll_s=SPRING_POLL_S)
            stack.broker.kill()
            await stack.broker.child.wait()
            stack.broker.lose_disk()
            note("nats", f"killed with SIGKILL and its disk deleted, with a fact that {len(listeners)} had yet to hear")

        try:
            yield spring
        finally:
            await database.close()

    async def proof(self, stack: Stack) -> Proof:
        now = await stack.broker.incarnations()
        strangers = {stream for stream in now if now[stream] != self.incarnations.get(stream)}
        return Proof(
            "the broker lost its disk and every stream was made anew by its owner",
            strangers == self.incarnations.keys() != set(),
            ", ".join(sorted(strangers)),
        )


@asynccontextmanager
async def kept(stack: Stack, faults: Sequence[Fault], note: Note) -> AsyncIterator[None]:
    """As in `turnpike up`: whatever of them ends is started again."""

    def say(part: Part, sentence: str) -> None:
        note(_who(part), sentence.splitlines()[0].removesuffix(", its last lines:"))

    parts = [fault.struck(stack) for fault in faults]
    keepers = [asyncio.create_task(keep(part, partial(say, part))) for part in parts]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


@asynccontextmanager
async def trapped(stack: Stack, bus: Bus, faults: Sequence[Fault], note: Note) -> AsyncIterator[Spring]:
    """Every fault is about to happen; what this yields returns when all have happened."""
    async with AsyncExitStack() as traps:
        springs = [await traps.enter_async_context(fault.trap(stack, bus, note)) for fault in faults]
        yield lambda: together(*(spring() for spring in springs))


def _who(part: Part) -> str:
    names = {package: name for name, package in OWNERS.items()}
    return names.get(part.child.name, part.child.name)
