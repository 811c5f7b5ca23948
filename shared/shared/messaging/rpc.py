"""The connection to NATS, and queries and commands over it: request and reply."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import structlog
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from shared.contracts.message import Answer, Command, Query, Refused, Value
from shared.messaging.admission import Admission
from shared.messaging.nats import (
    Client,
    LastingBroker,
    NatsError,
    NatsMessage,
    NatsTimeoutError,
    NoRespondersError,
    SkipMessage,
)
from shared.platform import telemetry
from shared.platform.loops import set_within

log = structlog.get_logger()

QUERY_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 4.0
COMMAND_ATTEMPT_S = 2.0
NO_RESPONDERS_PAUSE_S = 0.1
WORKERS_PER_SUBJECT = 16
WATCH_EVERY_S = 1.0
SILENT_S = 30.0  # An attempt to reconnect takes at most 16 s.
WAITING_PER_SUBJECT = 1000
NO_RESPONDERS = "503"

TIMEOUT_HEADER = "Turnpike-Timeout-Ms"
"""How long the caller of a query still waits, in milliseconds from its arrival.

A moment would be compared by two clocks. What the way takes is not counted: NATS keeps no request
for later.
"""

Request = type[Query[Any]] | type[Command[Any]]
Respond = Callable[[Any], Awaitable[Value]]


class UnansweredError(Exception):
    """No answer came in time.

    A query may be repeated. A command may have been executed: repeat it with the same id.
    """


class BusLostError(Exception):
    """The client has ended, or does not try to reconnect any more."""


class Bus:
    """One connection to NATS. FastStream serves queries and commands over it."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_disconnect: list[Callable[[], None]] = []
        self.refusal = ""
        """What NATS said when it refused the last attempt to connect."""
        self._silent_s = 0.0
        self.broker = LastingBroker(
            url,
            name=name,
            max_reconnect_attempts=-1,
            ping_interval=10,
            # nats-py takes fractions of a second; FastStream's annotation does not.
            reconnect_time_wait=cast(int, 0.5),
            pending_size=64 * 1024 * 1024,
            error_cb=self._log_error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            logger=None,
            # Injecting arguments by their types took half of a query's processor time, and a
            # thread for each message.
            apply_types=False,
            decoder=_undecoded,
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

    async def watch(self, stopping: asyncio.Event) -> None:
        """Raises BusLostError when nothing will reconnect: only a new process helps.

        A client that is at work reports each attempt that fails.
        """
        while not stopping.is_set():
            if self.client.is_closed:
                raise BusLostError("the connection to NATS is closed")
            # Counted in turns: a process that was suspended has not been silent.
            self._silent_s = 0.0 if self.connected else self._silent_s + WATCH_EVERY_S
            if self._silent_s > SILENT_S:
                raise BusLostError(f"no attempt to reconnect within {SILENT_S:g} s")
            await set_within(stopping, WATCH_EVERY_S)

    def on_disconnect(self, call: Callable[[], None]) -> None:
        self._on_disconnect.append(call)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        self._on_reconnect.append(call)

    @contextmanager
    def reconnecting(self, call: Callable[[], None]) -> Iterator[None]:
        """Call this at each reconnect within the block."""
        self._on_reconnect.append(call)
        try:
            yield
        finally:
            self._on_reconnect.remove(call)

    async def _disconnected(self) -> None:
        for call in self._on_disconnect:
            call()

    async def _reconnected(self) -> None:
        self.refusal = ""
        log.warning("bus reconnected", bus=self.name)
        for call in self._on_reconnect:
            call()

    async def _log_error(self, error: Exception) -> None:
        refused = isinstance(error, NatsError)
        self.refusal = str(error).removeprefix("nats: ") if refused else ""
        self._silent_s = 0.0
        log.warning("bus error", bus=self.name, error=repr(error))

    @property
    def server(self) -> tuple[str, str]:
        """The version of the NATS server, and its address without credentials."""
        known, url = self.client.connected_server_version, self.client.connected_url
        address = "" if url is None else f"{url.hostname}:{url.port}"
        return f"{known.major}.{known.minor}.{known.patch}", address

    def answers(
        self, request: Request, respond: Respond, *, by_every_replica: bool = False
    ) -> None:
        """Answer requests of this type. One replica of the service gets each request, or every one.

        A query whose caller has left gets no answer, and no work once it has expired. The end of
        a command is decided by its row.
        """
        admission = Admission(WORKERS_PER_SUBJECT, WAITING_PER_SUBJECT)
        clock = asyncio.get_running_loop

        async def serve(message: NatsMessage) -> bytes:
            timeout_s = _timeout_s_in(message)
            expires_at = None if timeout_s is None else clock().time() + timeout_s
            entered = await admission.enter(expires_at)
            if entered != "admitted":
                raise _dropped(request, entered)
            try:
                reply = await _answer(request, respond, message)
            finally:
                admission.leave()
            if expires_at is not None and clock().time() > expires_at:
                raise _dropped(request, "late")
            return reply

        # Each message reaches `serve` at its arrival: FastStream's own queue stays empty.
        subscriber = self.broker.subscriber(
            request.subject(),
            queue="" if by_every_replica else self.name,
            max_workers=2 * WAITING_PER_SUBJECT,
        )
        subscriber(serve)

    async def is_answered(self, request: Request) -> bool:
        """Does any process answer this type, however slowly? NATS itself reports when none does."""
        try:
            await self.client.request(request.subject(), b"", QUERY_TIMEOUT_S)
        except NoRespondersError:
            return False
        except NatsTimeoutError:
            return True
        return True

    async def query(
        self, query: Query[Answer], *, timeout_s: float = QUERY_TIMEOUT_S
    ) -> Answer | Refused:
        """Ask the owner. Raises UnansweredError without an answer within `timeout_s`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await self._request(query, deadline, attempt_s=timeout_s)

    async def query_every_replica(
        self, query: Query[Answer], *, timeout_s: float, quiet_s: float
    ) -> list[Answer | Refused]:
        """The answers of all replicas; none where no process answers this type.

        Ends `quiet_s` after the last answer, and at the latest after `timeout_s`: NATS does not
        say how many will come.
        """
        loop = asyncio.get_running_loop()
        ends_at, wait_s = loop.time() + timeout_s, timeout_s
        inbox = self.client.new_inbox()
        replies = await self.client.subscribe(inbox)
        answers: list[Answer | Refused] = []
        try:
            await self.client.publish(
                query.subject(),
                query.model_dump_json().encode(),
                inbox,
                headers={TIMEOUT_HEADER: str(int(timeout_s * 1000))},
            )
            while (left_s := min(wait_s, ends_at - loop.time())) > 0:
                reply = await replies.next_msg(left_s)
                if (reply.headers or {}).get("Status") == NO_RESPONDERS:
                    break
                answers.append(cast(Answer | Refused, _read_reply(reply.data, query.answer)))
                wait_s = quiet_s
        except NatsTimeoutError:
            pass
        finally:
            await replies.unsubscribe()
        return answers

    async def execute(
        self, command: Command[Answer], *, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Answer | Refused:
        """Have the owner act once. Unanswered attempts are repeated with the same id.

        The owner decides by its database's clock whether the command is late. Raises
        UnansweredError without an answer within `timeout_s`.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await self._request(command, deadline, attempt_s=COMMAND_ATTEMPT_S)

    async def _request(
        self, message: Query[Answer] | Command[Answer], deadline: float, *, attempt_s: float
    ) -> Answer | Refused:
        loop = asyncio.get_running_loop()
        subject, body = message.subject(), message.model_dump_json().encode()
        with telemetry.span(message.topic, kind=SpanKind.CLIENT):
            headers = {"traceparent": telemetry.current_trace() or ""}
            while (left_s := deadline - loop.time()) > 0:
                within_s = min(attempt_s, left_s)
                if isinstance(message, Query):
                    headers[TIMEOUT_HEADER] = str(int(within_s * 1000))
                try:
                    reply = await self.client.request(subject, body, within_s, headers=headers)
                    return cast(Answer | Refused, _read_reply(reply.data, message.answer))
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    # Its text may show the answer, which may be a key.
                    log.error("unreadable answer", topic=message.topic, error=type(error).__name__)
                    break
                except NoRespondersError:
                    await asyncio.sleep(NO_RESPONDERS_PAUSE_S)
                except (NatsTimeoutError, NatsError):
                    if isinstance(message, Query):
                        break
                    # A closed or full connection refuses at once.
                    await asyncio.sleep(NO_RESPONDERS_PAUSE_S)
        raise UnansweredError(message.topic)


async def _undecoded(message: NatsMessage) -> NatsMessage:
    """The contract of a subject reads the body itself."""
    return message


async def _answer(request: Request, respond: Respond, message: NatsMessage) -> bytes:
    trace = message.headers.get("traceparent")
    with telemetry.span(request.topic, following=trace, kind=SpanKind.SERVER) as span:
        try:
            wanted = request.model_validate_json(message.body)
        except ValidationError as error:
            return _reply(Refused(reason="malformed", detail=str(error)[:500]))
        try:
            return _reply(await respond(wanted))
        except Exception as error:
            # The caller gets no answer in time and repeats; others are still answered.
            telemetry.failed(span, error)
            log.exception("answer failed", topic=request.topic)
            raise


def _dropped(request: Request, why: str) -> SkipMessage:
    """Counted, and not logged: an overload would fill the log."""
    telemetry.REQUESTS_DROPPED.labels(request.topic, why).inc()
    return SkipMessage()


def _timeout_s_in(message: NatsMessage) -> float | None:
    """None for a command, and for a caller that states no timeout."""
    stated = message.headers.get(TIMEOUT_HEADER, "")
    return int(stated) / 1000 if stated.isascii() and stated.isdecimal() else None


def _reply(value: Value) -> bytes:
    kind = "refused" if isinstance(value, Refused) else "answer"
    return b'{"%s":%s}' % (kind.encode(), value.model_dump_json().encode())


def _read_reply(data: bytes, answer: type[Value]) -> Value:
    decoded = json.loads(data)
    if "refused" in decoded:
        return Refused.model_validate(decoded["refused"])
    return answer.model_validate(decoded["answer"])
