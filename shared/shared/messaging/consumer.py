"""Receiving events from JetStream in natural batches, and acknowledging them after the commit."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import structlog

from shared.contracts.streams import ACK_WAIT_S
from shared.messaging import jetstream
from shared.messaging.inbox import Handler, Message, TooManyDeadLettersError
from shared.messaging.jetstream import BrokerError
from shared.messaging.nats import Client, Msg, NatsError
from shared.messaging.rpc import Bus
from shared.platform import telemetry
from shared.platform.failpoints import failpoint
from shared.platform.loops import set_within

log = structlog.get_logger()

ASK_AHEAD = 1_000
MAX_PER_BATCH = 500
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
DURABLE_RETRY_S = 0.3
DURABLE_TIMEOUT_S = 2.0
PAUSE_AFTER_DEAD_LETTERS_S = 180.0


async def consume(
    bus: Bus, handler: Handler, stopping: asyncio.Event, *, replicas: int = 1
) -> None:
    """Handle events until `stopping`.

    A handler that dead-letters everything pauses, so that an operator can look, and goes on.
    """
    while not stopping.is_set():
        try:
            await _consume(bus, handler, stopping, replicas)
        except TooManyDeadLettersError:
            await pause(handler, stopping)


async def _consume(bus: Bus, handler: Handler, stopping: asyncio.Event, replicas: int) -> None:
    """All messages that have arrived, one transaction, acknowledged; and again."""
    pull = StandingPull(bus.client, handler, replicas=replicas)
    asking = asyncio.create_task(pull.keep_asking(stopping))
    with bus.reconnecting(pull.ask_anew):
        try:
            while not stopping.is_set():
                batch = await pull.take(MAX_PER_BATCH, stopping)
                if batch:
                    await _handle(handler, batch, pull, stopping)
                elif asking.done():
                    asking.result()
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            await pull.give_back()


async def pause(handler: Handler, stopping: asyncio.Event) -> None:
    """Another replica may take what was given back. The gauge and the log show the pause."""
    telemetry.HANDLER_STOPPED.labels(handler.name).set(1)
    pause_s = PAUSE_AFTER_DEAD_LETTERS_S
    log.critical("handler pauses: too many dead letters", handler=handler.name, pause_s=pause_s)
    await set_within(stopping, pause_s)
    telemetry.HANDLER_STOPPED.labels(handler.name).set(0)


async def _handle(
    handler: Handler, batch: list[Msg], pull: "StandingPull", stopping: asyncio.Event
) -> None:
    messages = [Message(one.subject, one.headers or {}, one.data) for one in batch]
    outcome = await handler.handle_batch(messages, stopping)
    failpoint("handler_committed", handler.name)
    for received, message in zip(batch, messages, strict=True):
        await pull.settle(received, again=message.event_id in outcome.again)


class StandingPull:
    """A pull request that is always open. What it holds is extended while the handler works.

    nats-py's own `fetch(n)` sometimes waits a second for a full batch. A pull that never closes
    delivers what is there, and nothing waits.
    """

    def __init__(self, client: Client, handler: Handler, *, replicas: int) -> None:
        self.client = client
        self.subscription = handler.subscription
        self.replicas = replicas
        self._queue: deque[Msg] = deque()
        self._held: dict[str, Msg] = {}
        self._held_before: set[str] = set()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._open = 0
        self._received_at = 0.0
        self._durable_exists = False
        self._inbox: Any = None

    def ask_anew(self) -> None:
        """After a reconnect the server has forgotten the request, and may lack the durable."""
        self._durable_exists = False
        self._open = 0
        self._changed.set()

    async def take(self, most: int, stopping: asyncio.Event) -> list[Msg]:
        """Wait for a message, then answer all that are there.

        Empty after a second without any, and when stopping.
        """
        if not self._queue:
            self._arrived.clear()
            await set_within(self._arrived, 1.0)
        if stopping.is_set():
            return []
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    async def settle(self, message: Msg, *, again: bool) -> None:
        """Acknowledge a message, or have it redelivered at once.

        Nothing is redelivered later: what waits would count against MAX_ACK_PENDING, and 5 000 of
        it would stop the handler.
        """
        self._held.pop(message.reply, None)
        with suppress(NatsError):  # It is redelivered then, and the inbox knows it.
            await (message.nak() if again else message.ack())

    async def give_back(self) -> None:
        """Messages that were not begun go to another replica at once."""
        if self._inbox is not None:
            with suppress(NatsError):
                await self._inbox.unsubscribe()
        self._inbox = None
        for message in list(self._held.values()):
            await self.settle(message, again=True)
        self._queue.clear()

    async def keep_asking(self, stopping: asyncio.Event) -> None:
        """Keep the request open, the durable in being, and the held messages extended."""
        loop = asyncio.get_running_loop()
        inbox = self.client.new_inbox()
        self._inbox = await self.client.subscribe(inbox, cb=self._on_message, pending_msgs_limit=-1)
        extended_at = loop.time()
        while not stopping.is_set():
            if not self._durable_exists:
                await self._ensure_durable()
            if loop.time() - self._received_at > 2 * HEARTBEAT_S:
                self._open = 0
                await self._ensure_durable()
            if self._durable_exists and self._open <= ASK_AHEAD // 2:
                await self._ask(inbox, ASK_AHEAD - self._open)
                self._received_at = loop.time()
            if loop.time() - extended_at > ACK_WAIT_S / 3:
                await self._extend()
                extended_at = loop.time()
            self._changed.clear()
            pause_s = ACK_WAIT_S / 3 if self._durable_exists else DURABLE_RETRY_S
            await set_within(self._changed, pause_s)

    async def _ask(self, inbox: str, count: int) -> None:
        self._open += count
        await jetstream.pull(
            self.client,
            self.subscription,
            inbox,
            messages=count,
            expires_s=PULL_EXPIRES_S,
            heartbeat_s=HEARTBEAT_S,
        )

    async def _on_message(self, message: Msg) -> None:
        self._received_at = asyncio.get_running_loop().time()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._open -= 1
            self._queue.append(message)
            self._held[message.reply] = message
            self._arrived.set()
            if self._open <= ASK_AHEAD // 2:
                self._changed.set()
        elif status != "100":
            # 408: a request expired, with this many messages left to it.
            # Anything else: the consumer or the stream is gone.
            left = (message.headers or {}).get("Nats-Pending-Messages")
            self._open = max(0, self._open - int(left)) if status == "408" and left else 0
            self._durable_exists = status == "408"
            self._changed.set()

    async def _extend(self) -> None:
        """Extend what was held a third of the wait ago; later messages have time until the next."""
        for message in [self._held[reply] for reply in self._held_before & self._held.keys()]:
            with suppress(NatsError):
                await message.in_progress()
        self._held_before = set(self._held)

    async def _ensure_durable(self) -> None:
        try:
            self._durable_exists = await jetstream.ensure_consumer(
                self.client,
                self.subscription,
                replicas=self.replicas,
                timeout_s=DURABLE_TIMEOUT_S,
            )
        except BrokerError:
            # No broker, no JetStream or no stream yet: the relay of the owner creates it.
            self._durable_exists = False
        if self._durable_exists:
            self._open = 0
