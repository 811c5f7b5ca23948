"""Hearing facts from JetStream in natural batches, and asking and telling other services what to do."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
from faststream.nats import NatsBroker
from faststream.nats.annotations import NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from shared import crash, telemetry
from shared.contract import Answer, Command, Question, Refused, Value
from shared.inbox import Handler, Letter, TooManyBurialsError
from shared.streams import ACK_WAIT_S, LISTENING, Listening
from shared.waiting import happens

log = structlog.get_logger()

ASK_AHEAD = 1_000
MOST_PER_BATCH = 500
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
ASK_TIMEOUT_S = 3.0
DO_TIMEOUT_S = 4.0
DO_ATTEMPT_S = 2.0
NOBODY_THERE_PAUSE_S = 0.1
DURABLE_RETRY_S = 0.3
WORKERS_PER_SUBJECT = 16
PASSED_TIMEOUT_S = 10.0
PASSED_PAUSE_S = 0.5
NOT_FOUND = 404
REST_AFTER_BURIALS_S = 180.0

Asked = TypeVar("Asked", bound=Value)
Respond = Callable[[Any], Awaitable[Value]]


@dataclass(frozen=True)
class Place:
    """What a handler has acknowledged without a gap, what it was told, and what is left, all in messages."""

    acknowledged: int
    told: int
    left: int

    @classmethod
    def of(cls, info: dict[str, Any]) -> "Place":
        told = info["delivered"]["consumer_seq"] + info["num_pending"]
        return cls(info["ack_floor"]["consumer_seq"], told, info["num_pending"] + info["num_ack_pending"])


@dataclass(frozen=True)
class Standing:
    """How far a handler is, and whether its stream is less than half full."""

    passed: bool
    room: bool


class UnansweredError(Exception):
    """Nobody answered in time. A question may be asked again; a command may have been obeyed: repeat it, same id."""


class Bus:
    """One connection to NATS: questions and commands ride on FastStream, facts on a pull of our own."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_disconnect: list[Callable[[], None]] = []
        self.broker = NatsBroker(
            url,
            name=name,
            max_reconnect_attempts=-1,
            ping_interval=10,
            reconnect_time_wait=cast(int, 0.5),  # nats-py takes fractions; FastStream's annotation does not.
            pending_size=64 * 1024 * 1024,
            error_cb=self._note_error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            logger=None,
        )
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None, "the bus is used before it is open"
        return self._client

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def open(self) -> None:
        """Connect, for as long as it takes, and begin to answer."""
        self._client = await self.broker.connect()
        await self.broker.start()

    async def close(self) -> None:
        await self.broker.stop()

    def on_disconnect(self, call: Callable[[], None]) -> None:
        self._on_disconnect.append(call)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        self._on_reconnect.append(call)

    async def _disconnected(self) -> None:
        for call in self._on_disconnect:
            call()

    async def _reconnected(self) -> None:
        log.warning("bus reconnected", bus=self.name)
        for call in self._on_reconnect:
            call()

    async def _note_error(self, error: Exception) -> None:
        log.warning("bus error", bus=self.name, error=repr(error))

    # Questions and commands

    def answers(self, asked: type[Question[Any]] | type[Command[Any]], respond: Respond) -> None:
        """Answer this type in every replica of the service; one of them gets each request."""

        async def serve(message: NatsMessage) -> bytes:
            headers = message.headers
            with telemetry.span(asked.topic, following=headers.get("traceparent"), kind=SpanKind.SERVER) as span:
                try:
                    wanted = asked.model_validate_json(message.body)
                except ValidationError as error:
                    return _reply(Refused(reason="malformed", detail=str(error)[:500]))
                try:
                    return _reply(await respond(wanted))
                except Exception as error:  # The asker gets no answer in time and repeats; we keep answering others.
                    telemetry.failed(span, error)
                    log.exception("answer failed", topic=asked.topic)
                    raise

        self.broker.subscriber(asked.subject(), queue=self.name, max_workers=WORKERS_PER_SUBJECT)(serve)

    async def ask(self, question: Question[Answer], *, timeout_s: float = ASK_TIMEOUT_S) -> Answer | Refused:
        """Ask the owner. Raises UnansweredError when nobody answered within `timeout_s`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await self._request(question, deadline, attempt_s=timeout_s)

    async def is_answered(self, asked: type[Question[Any]] | type[Command[Any]]) -> bool:
        """Is somebody there who answers this, however slowly? NATS itself says when nobody is."""
        try:
            await self.client.request(asked.subject(), b"", ASK_TIMEOUT_S)
        except NoRespondersError:
            return False
        except NatsTimeoutError:
            return True
        return True

    async def do(self, command: Command[Answer], *, timeout_s: float = DO_TIMEOUT_S) -> Answer | Refused:
        """Have the owner act, once: unanswered attempts are repeated with the same id, for `timeout_s`.

        Whether the command came too late is the owner's to say, by its database's clock. Raises UnansweredError.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await self._request(command, deadline, attempt_s=DO_ATTEMPT_S)

    async def _request(
        self, message: Question[Answer] | Command[Answer], deadline: float, *, attempt_s: float
    ) -> Answer | Refused:
        loop = asyncio.get_running_loop()
        body = message.model_dump_json().encode()
        with telemetry.span(message.topic, kind=SpanKind.CLIENT):
            headers = {"traceparent": telemetry.current_trace() or ""}
            while (left_s := deadline - loop.time()) > 0:
                try:
                    answer = await self.client.request(message.subject(), body, min(attempt_s, left_s), headers=headers)
                    return cast(Answer | Refused, _read_reply(answer.data, message.answer))
                except NoRespondersError:
                    await asyncio.sleep(NOBODY_THERE_PAUSE_S)
                except (NatsTimeoutError, NatsError):
                    if isinstance(message, Question):
                        break
                    await asyncio.sleep(NOBODY_THERE_PAUSE_S)  # A closed or full connection refuses at once.
        raise UnansweredError(message.topic)

    # Facts

    async def unsettled(self) -> dict[str, int]:
        """How many facts each handler has yet to hear or to acknowledge; a missing durable counts as -1."""
        return {handler: -1 if place is None else place.left for handler, place in (await self.places()).items()}

    async def places(self) -> dict[str, Place | None]:
        """How far each handler is, by its durable's own count; None for a missing durable. Raises UnansweredError."""
        places: dict[str, Place | None] = {}
        for listening in LISTENING:
            call = f"$JS.API.CONSUMER.INFO.{listening.stream}.{listening.handler}"
            try:
                info = json.loads((await self.client.request(call, b"", ASK_TIMEOUT_S)).data)
            except NatsError as error:
                raise UnansweredError("JetStream") from error
            places[listening.handler] = None if "error" in info else Place.of(info)
        return places

    async def standing(self, listening: Listening) -> Standing:
        """Has a handler acknowledged all that stood in its stream a moment ago? It may need some seconds for it.

        Raises UnansweredError when JetStream does not answer.
        """
        deadline = asyncio.get_running_loop().time() + PASSED_TIMEOUT_S
        stream = await self._info(f"STREAM.INFO.{listening.stream}")
        if "error" in stream:
            return Standing(passed=False, room=False)
        room = stream["state"]["bytes"] < stream["config"]["max_bytes"] / 2
        while True:
            durable = await self._info(f"CONSUMER.INFO.{listening.stream}.{listening.handler}")
            if "error" in durable:
                return Standing(passed=False, room=room)
            settled = durable["num_pending"] == durable["num_ack_pending"] == 0
            if settled or durable["ack_floor"]["stream_seq"] >= stream["state"]["last_seq"]:
                return Standing(passed=True, room=room)
            if asyncio.get_running_loop().time() > deadline:
                return Standing(passed=False, room=room)
            await asyncio.sleep(PASSED_PAUSE_S)

    async def _info(self, call: str) -> dict[str, Any]:
        try:
            answer = await self.client.request(f"$JS.API.{call}", b"", ASK_TIMEOUT_S)
        except NatsError as error:
            raise UnansweredError(call) from error
        decoded: dict[str, Any] = json.loads(answer.data)
        return decoded

    async def drop_durables(self, service: str) -> list[str]:
        """Forget how far the handlers of a service have heard: they begin again at the start of their streams.

        Answers the names of those that were there. Raises UnansweredError when JetStream does not answer or refuses.
        """
        dropped = []
        for listening in LISTENING:
            if listening.service == service:
                call = f"CONSUMER.DELETE.{listening.stream}.{listening.handler}"
                answer = await self._info(call)
                if "error" not in answer:
                    dropped.append(listening.handler)
                elif answer["error"]["code"] != NOT_FOUND:
                    raise UnansweredError(f"{call}: {answer['error']['description']}")
        return dropped

    async def listen(self, handler: Handler, stopping: asyncio.Event, *, replicas: int = 1) -> None:
        """Hear until `stopping`. A handler that buries everything rests, so that somebody can look, and begins anew."""
        while not stopping.is_set():
            try:
                await self._hear(handler, stopping, replicas)
            except TooManyBurialsError:
                await _rest(handler, stopping)

    async def _hear(self, handler: Handler, stopping: asyncio.Event, replicas: int) -> None:
        """One message, then all that have arrived, one transaction, acknowledged; and again."""
        pull = StandingPull(self.client, handler, replicas=replicas)
        self.on_reconnect(pull.ask_anew)
        keep = asyncio.create_task(pull.keep_asking(stopping))
        try:
            while not stopping.is_set():
                batch = await pull.take(MOST_PER_BATCH, stopping)
                if batch:
                    await _absorb(handler, batch, pull, stopping)
                elif keep.done():
                    keep.result()
        finally:
            self._on_reconnect.remove(pull.ask_anew)
            keep.cancel()
            with suppress(asyncio.CancelledError):
                await keep
            await pull.give_back()


async def _rest(handler: Handler, stopping: asyncio.Event) -> None:
    """Another replica may have what was given back; the gauge and the log tell an operator."""
    telemetry.HANDLER_STOPPED.labels(handler.name).set(1)
    log.critical("handler rests: it buries everything", handler=handler.name, rest_s=REST_AFTER_BURIALS_S)
    await happens(stopping, REST_AFTER_BURIALS_S)
    telemetry.HANDLER_STOPPED.labels(handler.name).set(0)


async def _absorb(handler: Handler, batch: list[Msg], pull: "StandingPull", stopping: asyncio.Event) -> None:
    letters = [Letter(message.subject, message.headers or {}, message.data) for message in batch]
    outcome = await handler.absorb(letters, stopping)
    crash.passing("handler_committed", handler.name)
    for message, letter in zip(batch, letters, strict=True):
        await pull.settle(message, outcome.again.get(letter.fact_id))


class StandingPull:
    """A pull request that is always open. What it holds is kept alive while the handler works.

    nats-py's own `fetch(n)` now and then waits a second for a full batch; a pull that never closes hands over what is
    there and nothing waits.
    """

    def __init__(self, client: Client, handler: Handler, *, replicas: int) -> None:
        self.client = client
        self.listening = handler.listening
        self.replicas = replicas
        self._queue: deque[Msg] = deque()
        self._held: dict[str, Msg] = {}
        self._held_before: set[str] = set()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._open = 0
        self._heard_at = 0.0
        self._durable_is_there = False
        self._subscription: Any = None

    def ask_anew(self) -> None:
        """After a reconnect the server has forgotten our request, and may never have had our durable."""
        self._durable_is_there = False
        self._open = 0
        self._changed.set()

    async def take(self, most: int, stopping: asyncio.Event) -> list[Msg]:
        """Wait for one message, then answer all that are there; empty after a second without any, and when stopping."""
        if not self._queue:
            self._arrived.clear()
            await happens(self._arrived, 1.0)
        if stopping.is_set():
            return []
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    async def settle(self, message: Msg, again_after_s: float | None) -> None:
        self._held.pop(message.reply, None)
        with suppress(NatsError):  # Unsettled it comes back by itself, and the inbox knows it.
            if again_after_s is None:
                await message.ack()
            else:
                await message.nak(delay=again_after_s)

    async def give_back(self) -> None:
        """What was not begun goes to another replica at once."""
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()
        self._subscription = None
        for message in list(self._held.values()):
            await self.settle(message, 0.0)
        self._queue.clear()

    async def keep_asking(self, stopping: asyncio.Event) -> None:
        """Keep the request open, the durable in being, and what is held from being handed to somebody else."""
        loop = asyncio.get_running_loop()
        inbox = self.client.new_inbox()
        self._subscription = await self.client.subscribe(inbox, cb=self._on_message, pending_msgs_limit=-1)
        alive_at = loop.time()
        while not stopping.is_set():
            if not self._durable_is_there:
                await self._ensure_durable()
            if loop.time() - self._heard_at > 2 * HEARTBEAT_S:
                self._open = 0
                await self._ensure_durable()
            if self._durable_is_there and self._open <= ASK_AHEAD // 2:
                await self._ask(inbox, ASK_AHEAD - self._open)
                self._heard_at = loop.time()
            if loop.time() - alive_at > ACK_WAIT_S / 3:
                await self._say_working()
                alive_at = loop.time()
            self._changed.clear()
            await happens(self._changed, ACK_WAIT_S / 3 if self._durable_is_there else DURABLE_RETRY_S)

    async def _ask(self, inbox: str, count: int) -> None:
        request = {
            "batch": count,
            "expires": int(PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        self._open += count
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.listening.stream}.{self.listening.handler}"
        await self.client.publish(subject, json.dumps(request).encode(), inbox)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._open -= 1
            self._queue.append(message)
            self._held[message.reply] = message
            self._arrived.set()
            if self._open <= ASK_AHEAD // 2:
                self._changed.set()
        elif status != "100":
            # 408: a request ran out, with so many messages left to it. Anything else: consumer or stream is gone.
            left = (message.headers or {}).get("Nats-Pending-Messages")
            self._open = max(0, self._open - int(left)) if status == "408" and left else 0
            self._durable_is_there = status == "408"
            self._changed.set()

    async def _say_working(self) -> None:
        """Of what was held a third of the wait ago already; what came since has time until the next round."""
        for message in [self._held[reply] for reply in self._held_before & self._held.keys()]:
            with suppress(NatsError):
                await message.in_progress()
        self._held_before = set(self._held)

    async def _ensure_durable(self) -> None:
        """Make the durable when it is missing, from the start of the stream; never change one that is there."""
        listening = self.listening
        try:
            path = f"{listening.stream}.{listening.handler}"
            info = json.loads((await self.client.request(f"$JS.API.CONSUMER.INFO.{path}", b"", 2)).data)
            if "error" in info:
                wanted = {
                    "stream_name": listening.stream,
                    "config": listening.consumer_config(replicas=self.replicas),
                    "action": "create",
                }
                call = f"$JS.API.CONSUMER.CREATE.{path}.{listening.filter_subject}"
                info = json.loads((await self.client.request(call, json.dumps(wanted).encode(), 2)).data)
            self._durable_is_there = "error" not in info
        except NatsError:  # No broker, no JetStream or no stream yet: the relay of its owner makes it.
            self._durable_is_there = False
        if self._durable_is_there:
            self._open = 0


def _reply(value: Value) -> bytes:
    kind = "refused" if isinstance(value, Refused) else "answer"
    return b'{"%s":%s}' % (kind.encode(), value.model_dump_json().encode())


def _read_reply(data: bytes, answer: type[Value]) -> Value:
    decoded = json.loads(data)
    if "refused" in decoded:
        return Refused.model_validate(decoded["refused"])
    return answer.model_validate(decoded["answer"])
