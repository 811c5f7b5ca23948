"""The money machine over a real broker: relays publish to JetStream, and consumers deliver."""

import asyncio
import json
from asyncio import Runner
from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.client import Client

from shared.contracts.streams import stream_config, stream_of
from shared.messaging.consumer import StandingPull, consume
from shared.messaging.inbox import Handler, Message, Outcome
from shared.messaging.jetstream import ConsumerProgress, api
from shared.messaging.rpc import Bus
from tests.kit.money_deliveries import ENDS, Draw
from tests.kit.money_machine import MoneyMachine
from tests.kit.money_world import Broker, World
from tests.kit.mortal import REFUSED, DiedError, MortalDatabase, Pipe
from tests.kit.waiting import HANG_S

LOOK_EVERY_S = 0.3
# The minimum of JetStream. It drops a repeat within this time and delivers any later one.
SHORTEST_WINDOW_S = 0.1


class Wire(Pipe):
    """Publishes to JetStream, and keeps acknowledged messages to compare them with the model."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    async def publish(self, subject: str, body: bytes, *, headers: Mapping[str, str]) -> None:
        await self._client.publish(subject, body, headers=dict(headers))
        await super().publish(subject, body, headers=headers)

    async def request(
        self, subject: str, body: bytes, timeout_s: float, *, headers: Mapping[str, str]
    ) -> Any:
        if self._refused():
            return REFUSED
        answer = await self._client.request(subject, body, timeout_s, headers=dict(headers))
        if b'"error"' in answer.data:
            self._batch = []
        else:
            self._keep(Message(subject, dict(headers), body))
        return answer


class OneBatch(Handler):
    """Handles one batch and stops. It may die after the commit, before the acknowledgement."""

    dies_unacknowledged = False

    def begin(self, *, dies_unacknowledged: bool) -> asyncio.Event:
        self.dies_unacknowledged = dies_unacknowledged
        self.batches = list[Sequence[Message]]()
        self.stopping = asyncio.Event()
        return self.stopping

    async def handle_batch(
        self, messages: Sequence[Message], stopping: asyncio.Event | None = None
    ) -> Outcome:
        outcome = await super().handle_batch(messages, stopping)
        assert outcome.dead_lettered == outcome.retried == 0, outcome
        self.batches.append(messages)
        self.stopping.set()
        if self.dies_unacknowledged:
            raise DiedError
        return outcome


class BusBroker(Broker):
    """Empty streams, and the consumers of the handlers."""

    def __init__(self, databases: dict[str, MortalDatabase], runner: Runner, bus: Bus) -> None:
        super().__init__(databases)
        self.run, self.bus, self.pipe = runner.run, bus, Wire(bus.client)
        self.handlers: dict[str, OneBatch] = {}
        for name, consumer in self.consumers.items():
            plain = consumer.handler
            self.handlers[name] = consumer.handler = OneBatch(
                plain.subscription, plain.handle, plain.database
            )
        for owner in {one.subscription.owner for one in self.handlers.values()}:
            self._begin_stream(owner)

    def _begin_stream(self, owner: str) -> None:
        self.run(self._call(f"STREAM.DELETE.{stream_of(owner)}"))
        config = stream_config(owner) | {"duplicate_window": int(SHORTEST_WINDOW_S * 1e9)}
        made = self.run(self._call(f"STREAM.CREATE.{stream_of(owner)}", config))
        assert "error" not in made, made
        for name, handler in self.handlers.items():
            if handler.subscription.owner == owner:
                self.begin_again(name)

    async def _call(self, call: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return await api(self.bus.client, call, request, timeout_s=HANG_S)

    async def _progress(self, name: str) -> ConsumerProgress:
        stream = self.handlers[name].subscription.stream
        return ConsumerProgress.of(await self._call(f"CONSUMER.INFO.{stream}.{name}"))

    def waiting(self) -> list[str]:
        return [name for name in self.handlers if self.run(self._progress(name)).pending]

    def delivered(self) -> list[str]:
        return [name for name in self.handlers if self.run(self._progress(name)).acknowledged]

    def put(self, message: Message) -> None:
        publish = self.bus.client.request(
            message.subject, message.body, HANG_S, headers=dict(message.headers)
        )
        answer = json.loads(self.run(publish).data)
        assert "error" not in answer, answer

    def relayed(self, message: Message) -> None:
        """JetStream has it already."""

    def wipe(self, owner: str) -> None:
        self._begin_stream(owner)
        for message, _ in self.sent.values() if owner == "bot" else ():
            self.put(message)

    def begin_again(self, name: str) -> None:
        handler = self.handlers[name]
        self.run(self._call(f"CONSUMER.DELETE.{handler.subscription.stream}.{name}"))
        self.run(StandingPull(self.bus.client, handler, replicas=1)._ensure_durable())

    async def consume_one(self, name: str, *, dies_unacknowledged: bool) -> None:
        """One batch of any size, to a new consumer. The rest comes again."""
        stopping = self.handlers[name].begin(dies_unacknowledged=dies_unacknowledged)
        consuming = asyncio.create_task(consume(self.bus, self.handlers[name], stopping))
        async with asyncio.timeout(HANG_S):
            while not (await asyncio.wait([consuming], timeout=LOOK_EVERY_S))[0]:
                if not (await self._progress(name)).pending:
                    stopping.set()  # The last acknowledgement was still on its way.
        await consuming


class BusWorld(World):
    """Each example finds empty streams as well."""

    def __init__(
        self, runner: Runner, admin: Any, databases: dict[str, MortalDatabase], bus: Bus
    ) -> None:
        super().__init__(runner, admin, databases)
        self._runner, self._bus = runner, bus

    def broker(self) -> Broker:
        return BusBroker(self.databases, self._runner, self._bus)


class BusMachine(MoneyMachine):
    """The bus decides which messages are delivered, and in which batches."""

    broker: BusBroker

    def begin(self, seed: int) -> None:
        super().begin(seed)
        self.handled = set[str]()
        """The handlers that committed a batch: which ones a step reaches depends on time."""

    def deliver(self, draw: Draw) -> None:
        if not self.broker.waiting():
            self.broker.begin_again(draw(*self.broker.delivered()))
        self._consume(draw(*self.broker.waiting()), draw(*ENDS), draw)

    def _deliver_more(self, name: str) -> None:
        while name in self.broker.waiting():
            self._consume(name)

    def _consume(self, name: str, end: str = "done", draw: Draw | None = None) -> None:
        owner = self.broker.consumers[name].owner
        dies = end == "unacknowledged"

        async def act() -> None:
            await self.broker.consume_one(name, dies_unacknowledged=dies)

        self._done(name, owner, act, end, draw)
        for messages in self.broker.handlers[name].batches:
            self.changed.add(owner)
            self.handled.add(name)
            self._fold(name, messages)
