"""When nothing is under way between the services of a whole shop."""

from dataclasses import dataclass

import asyncpg

from shared.contracts.owners import OWNERS
from shared.messaging.jetstream import consumer_progress
from shared.messaging.rpc import Bus
from turnpike_cli.audit import Found, audit
from turnpike_local.stack import Stack

PENDING = "select " + " or ".join(f"exists (select from {owner}.outbox)" for owner in OWNERS)


async def no_event_waits(stack: Stack, bus: Bus) -> bool:
    """Neither at the broker, nor in a handler, nor in an outbox.

    The broker is asked before the outboxes and after them. A message that was handled before
    left its own events in an outbox, and an event that left an outbox meanwhile makes the second
    answer another one.
    """
    before = await consumer_progress(bus.client)
    if any(one is None or one.pending for one in before.values()):
        return False
    connection = await asyncpg.connect(stack.postgres.dsn())
    try:
        pending = await connection.fetchval(PENDING)
    finally:
        await connection.close()
    return not pending and await consumer_progress(bus.client) == before


@dataclass
class Quiescence:
    """Whether nothing is under way and every invariant holds; and which one did not."""

    stack: Stack
    bus: Bus
    violated: tuple[Found, ...] = ()

    async def holds(self) -> bool:
        found = await audit(self.bus)
        self.violated = tuple(one for one in found if one.finding.violations)
        return not self.violated and await no_event_waits(self.stack, self.bus)
