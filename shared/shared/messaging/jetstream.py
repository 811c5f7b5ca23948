"""JetStream's API: streams, durable consumers, publishing with acknowledgement.

Nothing else in the project speaks it. Requests go to `$JS.API.…`; see the API reference of NATS.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog

from shared.contracts.owners import OWNERS
from shared.contracts.streams import (
    SUBSCRIPTIONS,
    Subscription,
    stream_config,
    stream_of,
)
from shared.messaging.nats import (
    Client,
    NatsError,
    NoRespondersError,
    connect,
)

log = structlog.get_logger()

API_TIMEOUT_S = 3.0
STREAM_TIMEOUT_S = 5.0
PUBLISH_TIMEOUT_S = 4.0
CAUGHT_UP_WITHIN_S = 10.0
CAUGHT_UP_PAUSE_S = 0.5
INCARNATION = "turnpike-incarnation"

NOT_FOUND = 404
DUPLICATE_IN_BATCH = 10201  # One id of the atomic batch was published before.


class BrokerError(Exception):
    """JetStream refused or did not answer in time."""


async def api(
    client: Client,
    call: str,
    request: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = API_TIMEOUT_S,
) -> dict[str, Any]:
    """One call of the API. The answer may hold an `error`. Raises BrokerError without an answer."""
    body = json.dumps(request).encode() if request else b""
    try:
        answer = await client.request(f"$JS.API.{call}", body, timeout_s)
    except NatsError as error:
        raise BrokerError("JetStream does not answer") from error
    decoded: dict[str, Any] = json.loads(answer.data)
    return decoded


# Streams


async def ensure_stream(client: Client, owner: str, *, replicas: int = 1) -> dict[str, Any]:
    """The stream's info. A missing stream is created; one that exists is never changed.

    The creator writes a random incarnation into its metadata. Raises BrokerError.
    """
    name = stream_of(owner)
    info = await api(client, f"STREAM.INFO.{name}", timeout_s=STREAM_TIMEOUT_S)
    if "error" not in info:
        return info
    config = stream_config(owner, replicas=replicas) | {"metadata": {INCARNATION: uuid4().hex}}
    created = await api(client, f"STREAM.CREATE.{name}", config, timeout_s=STREAM_TIMEOUT_S)
    if "error" in created:  # Another process was faster, or it cannot be created.
        created = await api(client, f"STREAM.INFO.{name}", timeout_s=STREAM_TIMEOUT_S)
    if "error" in created:
        raise BrokerError(f"the stream {name} cannot be created: {created['error']}")
    log.info("stream created", stream=name)
    return created


def incarnation_of(info: Mapping[str, Any]) -> str:
    incarnation: str = info["config"].get("metadata", {}).get(INCARNATION, "none")
    return incarnation


async def create_streams(url: str, *, replicas: int = 1) -> None:
    """Create every owner's missing stream: the job that runs before the services.

    Raises BrokerError.
    """
    try:
        client = await connect(
            url,
            connect_timeout=5,
            max_reconnect_attempts=10,
            reconnect_time_wait=0.5,
            error_cb=_reported_by_the_raise,
        )
    except (NatsError, OSError) as error:
        raise BrokerError(f"NATS does not answer: {error}") from error
    try:
        for owner in OWNERS:
            await ensure_stream(client, owner, replicas=replicas)
    except NatsError as error:
        raise BrokerError(f"the connection to NATS was lost: {error}") from error
    finally:
        await client.close()


async def _reported_by_the_raise(_: Exception) -> None:
    """Without a callback nats-py prints a traceback for each attempt."""


# Durable consumers


@dataclass(frozen=True)
class ConsumerProgress:
    """How far a handler is, in messages of its durable consumer.

    `acknowledged` counts without a gap; `delivered` counts all that the consumer was to deliver
    when it was asked; `pending` is the consumer lag: not delivered or not acknowledged.
    """

    acknowledged: int
    delivered: int
    pending: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "ConsumerProgress":
        delivered = info["delivered"]["consumer_seq"] + info["num_pending"]
        pending = info["num_pending"] + info["num_ack_pending"]
        return cls(info["ack_floor"]["consumer_seq"], delivered, pending)


async def consumer_progress(client: Client) -> dict[str, ConsumerProgress | None]:
    """The progress of every handler; None for a missing durable. Raises BrokerError."""
    progress: dict[str, ConsumerProgress | None] = {}
    for one in SUBSCRIPTIONS:
        info = await consumer_info(client, one)
        progress[one.handler] = None if "error" in info else ConsumerProgress.of(info)
    return progress


async def consumer_lag(client: Client) -> dict[str, int]:
    """How many events each handler has yet to acknowledge; -1 for a missing durable."""
    progress = await consumer_progress(client)
    return {handler: -1 if one is None else one.pending for handler, one in progress.items()}


async def consumer_info(
    client: Client, subscription: Subscription, *, timeout_s: float = API_TIMEOUT_S
) -> dict[str, Any]:
    call = f"CONSUMER.INFO.{subscription.stream}.{subscription.handler}"
    return await api(client, call, timeout_s=timeout_s)


async def ensure_consumer(
    client: Client, subscription: Subscription, *, replicas: int, timeout_s: float
) -> bool:
    """Create a missing durable at the start of its stream; one that exists is never changed.

    Returns whether it exists now. Raises BrokerError.
    """
    info = await consumer_info(client, subscription, timeout_s=timeout_s)
    if "error" in info:
        path = f"{subscription.stream}.{subscription.handler}.{subscription.filter_subject}"
        wanted = {
            "stream_name": subscription.stream,
            "config": subscription.consumer_config(replicas=replicas),
            "action": "create",
        }
        info = await api(client, f"CONSUMER.CREATE.{path}", wanted, timeout_s=timeout_s)
    return "error" not in info


async def pull(
    client: Client,
    subscription: Subscription,
    reply_to: str,
    *,
    messages: int,
    expires_s: float,
    heartbeat_s: float,
) -> None:
    """Ask for so many messages; they come to `reply_to` until the request expires."""
    request = {
        "batch": messages,
        "expires": int(expires_s * 1e9),
        "idle_heartbeat": int(heartbeat_s * 1e9),
    }
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{subscription.stream}.{subscription.handler}"
    await client.publish(subject, json.dumps(request).encode(), reply_to)


async def pause_consumer(
    client: Client,
    subscription: Subscription,
    until: datetime,
    *,
    timeout_s: float = API_TIMEOUT_S,
) -> None:
    """Deliver nothing to a handler before that time. Raises BrokerError."""
    call = f"CONSUMER.PAUSE.{subscription.stream}.{subscription.handler}"
    answer = await api(client, call, {"pause_until": until.isoformat()}, timeout_s=timeout_s)
    if "error" in answer:
        raise BrokerError(f"{call}: {answer['error']['description']}")


async def drop_consumers(client: Client, service: str) -> list[str]:
    """Delete the durables of a service: its handlers begin again at the start of their streams.

    Returns the names of those that existed. Raises BrokerError.
    """
    dropped = []
    for one in SUBSCRIPTIONS:
        if one.service == service:
            call = f"CONSUMER.DELETE.{one.stream}.{one.handler}"
            answer = await api(client, call)
            if "error" not in answer:
                dropped.append(one.handler)
            elif answer["error"]["code"] != NOT_FOUND:
                raise BrokerError(f"{call}: {answer['error']['description']}")
    return dropped


@dataclass(frozen=True)
class CaughtUp:
    """Whether a handler has acknowledged its stream, and whether the stream is below half full."""

    passed: bool
    room: bool


async def caught_up(client: Client, subscription: Subscription) -> CaughtUp:
    """Has the handler acknowledged all that the stream holds at the time of this call?

    It may need some seconds for it: at most 10 are waited. Raises BrokerError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CAUGHT_UP_WITHIN_S
    stream = await api(client, f"STREAM.INFO.{subscription.stream}")
    if "error" in stream:
        return CaughtUp(passed=False, room=False)
    room = stream["state"]["bytes"] < stream["config"]["max_bytes"] / 2
    while True:
        durable = await consumer_info(client, subscription)
        if "error" in durable:
            return CaughtUp(passed=False, room=room)
        idle = durable["num_pending"] == durable["num_ack_pending"] == 0
        if idle or durable["ack_floor"]["stream_seq"] >= stream["state"]["last_seq"]:
            return CaughtUp(passed=True, room=room)
        if loop.time() > deadline:
            return CaughtUp(passed=False, room=room)
        await asyncio.sleep(CAUGHT_UP_PAUSE_S)


# Publishing


@dataclass(frozen=True)
class Outgoing:
    """A message to publish. `headers` hold the id by which the stream drops duplicates."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Acknowledged:
    """The stream has the message. `duplicate` means that it had it before."""

    sequence: int
    duplicate: bool


async def publish_each(client: Client, messages: Sequence[Outgoing]) -> list[Acknowledged | None]:
    """Publish in a pipeline: all are sent before the first acknowledgement is awaited.

    None for a message that was refused or not acknowledged in time. Raises NoRespondersError
    when there is no stream.
    """
    answers = await asyncio.gather(
        *(
            client.request(one.subject, one.body, PUBLISH_TIMEOUT_S, headers=dict(one.headers))
            for one in messages
        ),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, NoRespondersError):
            raise answer
    return [
        None if isinstance(answer, BaseException) else acknowledgement(answer.data)
        for answer in answers
    ]


def acknowledgement(data: bytes) -> Acknowledged | None:
    """JetStream's answer to a publish; None when it refused."""
    decoded = json.loads(data)
    if "error" in decoded:
        log.warning("publish refused", error=decoded["error"])
        return None
    return Acknowledged(decoded["seq"], duplicate=bool(decoded.get("duplicate")))


async def publish_batch(
    client: Client, messages: Sequence[Outgoing]
) -> list[Acknowledged | None] | None:
    """Publish an atomic batch: one fsync for all.

    None when a message of it was published before: the stream rejects the whole batch then.
    Raises BrokerError, and NoRespondersError when there is no stream.
    """
    batch = uuid4().hex
    first, *middle = messages[:-1]
    await _batched(client, first, batch, 1, await_answer=True)
    for position, message in enumerate(middle, start=2):
        await _batched(client, message, batch, position)
    size = len(messages)
    answer = await _batched(client, messages[-1], batch, size, await_answer=True, commit=True)
    if answer.get("error", {}).get("err_code") == DUPLICATE_IN_BATCH:
        return None
    if "error" in answer or "seq" not in answer:
        raise BrokerError(f"the batch was refused: {answer.get('error', answer)}")
    before = answer["seq"] - size
    return [Acknowledged(before + one, duplicate=False) for one in range(1, size + 1)]


async def _batched(
    client: Client,
    message: Outgoing,
    batch: str,
    position: int,
    *,
    await_answer: bool = False,
    commit: bool = False,
) -> dict[str, Any]:
    headers = dict(message.headers)
    headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(position)}
    if commit:
        headers["Nats-Batch-Commit"] = "1"
    if not await_answer:
        await client.publish(message.subject, message.body, headers=headers)
        return {}
    answer = await client.request(message.subject, message.body, PUBLISH_TIMEOUT_S, headers=headers)
    decoded: dict[str, Any] = json.loads(answer.data) if answer.data else {}
    if not commit and "error" in decoded:
        raise BrokerError(f"the batch was refused: {decoded['error']}")
    return decoded
