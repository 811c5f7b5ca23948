"""The money machine over a real broker: relays publish to JetStream, and the bus hands over what it has."""

import asyncio
import json
from asyncio import Runner
from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.client import Client

from shared.bus import Bus, Place, StandingPull
from shared.inbox import Handler, Letter, Outcome
from shared.streams import stream_config, stream_of
from tests.kit.money_machine import ENDS, Draw, MoneyMachine
from tests.kit.money_world import Broker, World
from tests.kit.mortal import REFUSED, DiedError, MortalDatabase, Pipe

HANG_S = 30.0
LOOK_EVERY_S = 0.3
CALL_TIMEOUT_S = 2.0
SHORTEST_WINDOW_S = 0.1  # JetStream takes none below it; a repeat within it is dropped, any later one comes.


class Wire(Pipe):
    """What a relay publishes goes to JetStream; what that acknowledged is kept, to be held against the model."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    async def publish(self, subject: str, body: bytes, *, headers: Mapping[str, str]) -> None:
        await self._client.publish(subject, body, headers=dict(headers))
        await super().publish(subject, body, headers=headers)

    async def request(self, subject: str, body: bytes, timeout_s: float, *, headers: Mapping[str, str]) -> Any:
        if self._refused():
            return REFUSED
        answer = await self._client.request(subject, body, timeout_s, headers=dict(headers))
        if b'"error"' in answer.data:
            self._batch = []
        else:
            self._keep(Letter(subject, dict(headers), body))
        return answer


class Hearing(Handler):
    """Takes one batch in and stops; it may die when that is committed and nobody has heard of it."""

    dies_unheard = False

    def begin(self, *, dies_unheard: bool) -> asyncio.Event:
        self.dies_unheard, self.batches, self.stopping = dies_unheard, list[Sequence[Letter]](), asyncio.Event()
        return self.stopping

    async def absorb(self, letters: Sequence[Letter], stopping: asyncio.Event | None = None) -> Outcome:
        outcome = await super().absorb(letters, stopping)
        assert outcome.buried == outcome.retried == 0, outcome
        self.batches.append(letters)
        self.stopping.set()
        if self.dies_unheard:
            raise DiedError
        return outcome


class BusBroker(Broker):
    """Empty streams, and a bus that hears them."""

    def __init__(self, databases: dict[str, MortalDatabase], runner: Runner, bus: Bus) -> None:
        super().__init__(databases)
        self.run, self.bus, self.pipe = runner.run, bus, Wire(bus.client)
        self.hearing: dict[str, Hearing] = {}
        for name, ear in self.ears.items():
            before = ear.handler
            self.hearing[name] = ear.handler = Hearing(before.listening, before.handle, before.database)
        for owner in {ear.handler.listening.owner for ear in self.ears.values()}:
            self._begin_stream(owner)

    def _begin_stream(self, owner: str) -> None:
        self.run(self._call(f"STREAM.DELETE.{stream_of(owner)}"))
        config = stream_config(owner) | {"duplicate_window": int(SHORTEST_WINDOW_S * 1e9)}
        made = self.run(self._call(f"STREAM.CREATE.{stream_of(owner)}", config))
        assert "error" not in made, made
        for name, handler in self.hearing.items():
            if handler.listening.owner == owner:
                self.begin_again(name)

    async def _call(self, call: str, request: object = None) -> Any:
        body = json.dumps(request).encode() if request else b""
        return json.loads((await self.bus.client.request(f"$JS.API.{call}", body, CALL_TIMEOUT_S)).data)

    async def _place(self, name: str) -> Place:
        return Place.of(await self._call(f"CONSUMER.INFO.{self.hearing[name].listening.stream}.{name}"))

    def waiting(self) -> list[str]:
        return [name for name in self.hearing if self.run(self._place(name)).left]

    def delivered(self) -> list[str]:
        return [name for name in self.hearing if self.run(self._place(name)).acknowledged]

    def put(self, letter: Letter) -> None:
        publish = self.bus.client.request(letter.subject, letter.body, CALL_TIMEOUT_S, headers=dict(letter.headers))
        answer = json.loads(self.run(publish).data)
        assert "error" not in answer, answer

    def told(self, letter: Letter) -> None:
        """JetStream has it."""

    def wipe(self, owner: str) -> None:
        self._begin_stream(owner)
        for letter, _ in self.sent.values() if owner == "bot" else ():
            self.put(letter)

    def begin_again(self, name: str) -> None:
        handler = self.hearing[name]
        self.run(self._call(f"CONSUMER.DELETE.{handler.listening.stream}.{name}"))
        self.run(StandingPull(self.bus.client, handler, replicas=1)._ensure_durable())

    async def hear(self, name: str, *, dies_unheard: bool) -> None:
        """One batch, as large as it comes, to a listener that has just begun; what it leaves comes again."""
        stopping = self.hearing[name].begin(dies_unheard=dies_unheard)
        listening = asyncio.create_task(self.bus.listen(self.hearing[name], stopping))
        async with asyncio.timeout(HANG_S):
            while not (await asyncio.wait([listening], timeout=LOOK_EVERY_S))[0]:
                if not (await self._place(name)).left:  # Its last acknowledgement was on its way.
                    stopping.set()
        await listening


class BusWorld(World):
    """Each of its examples finds the streams empty, too."""

    def __init__(self, runner: Runner, admin: Any, databases: dict[str, MortalDatabase], bus: Bus) -> None:
        super().__init__(runner, admin, databases)
        self._runner, self._bus = runner, bus

    def broker(self) -> Broker:
        return BusBroker(self.databases, self._runner, self._bus)


class BusMachine(MoneyMachine):
    """What is delivered, and in what batches, is the bus's to say."""

    broker: BusBroker

    def deliver(self, draw: Draw) -> None:
        if not self.broker.waiting():
            self.broker.begin_again(draw(*self.broker.delivered()))
        self._hear(draw(*self.broker.waiting()), draw(*ENDS), draw)

    def _deliver_more(self, name: str) -> None:
        while name in self.broker.waiting():
            self._hear(name)

    def _hear(self, name: str, end: str = "done", draw: Draw | None = None) -> None:
        owner = self.broker.ears[name].owner
        self._done(name, owner, lambda: self.broker.hear(name, dies_unheard=end == "unheard"), end, draw)
        for letters in self.broker.hearing[name].batches:
            self.changed.add(owner)
            self._fold(name, letters)
