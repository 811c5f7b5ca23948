"""The window on a plain Xray node: its gRPC API, which keeps users in memory only and knows no limits."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import grpc
import grpc.aio
from google.protobuf.message import Message

from vpn_provisioner.panels import xray_api_pb2 as wire
from vpn_provisioner.panels.protocol import (
    Limit,
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    Vitals,
    Wanted,
    agrees,
    label_of,
    person_of,
)

CALL_TIMEOUT_S = 5.0
CALLS_AT_ONCE = 64

_A = TypeVar("_A")
_B = TypeVar("_B")
_Answer = TypeVar("_Answer", bound=Message)

_HANDLER = "/xray.app.proxyman.command.HandlerService/"
_STATS = "/xray.app.stats.command.StatsService/"
_ADD = "xray.app.proxyman.command.AddUserOperation"
_REMOVE = "xray.app.proxyman.command.RemoveUserOperation"
_VLESS_ACCOUNT = "xray.proxy.vless.Account"
_VLESS_INBOUND = "xray.proxy.vless.inbound.Config"

# One user of ours with a random key that nobody is told: it goes when the node's users go, so its key names the
# incarnation. The node's uptime is no such sign: it has gone up again by the time somebody looks, and needs two clocks.
_MARK = "turnpike-incarnation"

# Reading one user takes 0.5 ms, all of 10 000 takes 25 ms (1.3 MB), measured on Xray 26.10.
_LIST_ABOVE_USERS = 32

_TEMPLATE = re.compile(r"vless://\{key\}@(\[[0-9a-f:.]+\]|[^\s/:?#@]+):[0-9]{1,5}(/?[?#]|$)", re.IGNORECASE)

_CHANNEL: Final = (
    ("grpc.enable_http_proxy", 0),  # The API has no authentication: it is never to leave the machine or the pod.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # A list of some 500 000 users.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # In spite of its name: how long one try to connect may take.
    ("grpc.max_reconnect_backoff_ms", 1_000),  # By default a node that was away is looked for every two minutes.
    ("grpc.keepalive_time_ms", 310_000),  # Go servers hang up on who pings more often than every 5 minutes.
    ("grpc.keepalive_timeout_ms", 10_000),  # Also how long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
)

_MAY_PASS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
    }
)


@dataclass(frozen=True, slots=True)
class LinkTemplate:
    """An operator's VLESS link, `vless://{key}@host:port?…#name`, with `{key}` where a person's key goes.

    Raises `ValueError` with a sentence for anything else.
    """

    text: str

    def __post_init__(self) -> None:
        if not _TEMPLATE.match(self.text) or self.text.count("{key}") != 1:
            raise ValueError("a link's template must look like vless://{key}@host:port?…#name")

    @property
    def flow(self) -> str:
        """The flow that apps will use; the node's users need the same, so it is said in one place only."""
        return parse_qs(urlsplit(self.text).query).get("flow", [""])[0]

    def link(self, key: UUID) -> str:
        """What a person's app imports: a secret."""
        return self.text.replace("{key}", str(key))


class XrayPanel:
    """One inbound of one Xray node. Made inside a running event loop; one connection carries all calls.

    Within a batch one key belongs to one person; across batches that is the caller's constraint to keep. Xray takes a
    second user with the same key, and removing either shuts out both: `remove` lets the other in again.
    """

    enforces: frozenset[Limit] = frozenset()

    def __init__(
        self,
        api: str,
        inbound: str,
        *,
        flow: str,
        call_timeout_s: float = CALL_TIMEOUT_S,
        calls_at_once: int = CALLS_AT_ONCE,
    ) -> None:
        """`api` is host:port of the node's gRPC API, `inbound` the tag, `flow` that of the link's template."""
        self._inbound = inbound
        self._flow = flow
        self._call_timeout_s = call_timeout_s
        self._calls_at_once = calls_at_once
        self._knows_inbound = False
        self._channel = grpc.aio.insecure_channel(api, options=_CHANNEL)
        self._list_inbounds = self._method(_HANDLER + "ListInbounds", wire.ListInboundsResponse)
        self._alter_inbound = self._method(_HANDLER + "AlterInbound", wire.AlterInboundResponse)
        self._get_users = self._method(_HANDLER + "GetInboundUsers", wire.GetInboundUserResponse)
        self._count_users = self._method(_HANDLER + "GetInboundUsersCount", wire.GetInboundUsersCountResponse)
        self._query_stats = self._method(_STATS + "QueryStats", wire.QueryStatsResponse)
        self._get_sys_stats = self._method(_STATS + "GetSysStats", wire.SysStatsResponse)

    async def ensure(self, wanted: Sequence[Wanted]) -> Sequence[PanelUser | PanelError]:
        assert len({w.label for w in wanted}) == len({w.key for w in wanted}) == len(wanted), "one person, one key"
        try:
            held = await self._held([w.label for w in wanted])
            missing = [w for w in wanted if not agrees(held.get(w.label), w, self.enforces)]
            failures = await self._write(missing, replaced=[w.label for w in missing if w.label in held])
            held |= await self._held([w.label for w in missing])
        except PanelError as error:
            return [error] * len(wanted)
        return [self._outcome(w, held.get(w.label), failures.get(w.label)) for w in wanted]

    async def remove(self, person_ids: Sequence[UUID]) -> Sequence[PanelError | None]:
        labels = [label_of(person_id) for person_id in person_ids]
        try:
            failures = await self._take_out(labels)
            left = await self._held(labels)
        except PanelError as error:
            return [error] * len(labels)
        return [failures.get(label, _unlike_written()) if label in left else None for label in labels]

    async def read(self, person_id: UUID) -> PanelUser | None:
        return (await self._held([label_of(person_id)])).get(label_of(person_id))

    async def users(self) -> AsyncIterator[PanelUser]:
        for label, user in (await self._everybody()).items():
            if label != _MARK:
                yield user_from(user, self._flow)

    async def usage(self) -> Mapping[UUID, Usage]:
        return usage_from((await self._query_stats(wire.QueryStatsRequest(pattern="user>>>"))).stat)

    async def vitals(self) -> Vitals:
        """The same as the protocol's; a node without a mark is new to us and is given one."""
        if (mark := await self._mark()) is None:
            self._knows_inbound = False  # A node that was started again may have been given another configuration.
            await self._know_inbound()
            await self._change(adding(user_with(_MARK, uuid4(), self._flow)))
            mark = await self._mark()  # Another replica's, if that was quicker.
        if mark is None:
            raise _unlike_written()
        count = await self._count_users(wire.GetInboundUserRequest(tag=self._inbound))
        sys_stats = await self._get_sys_stats(wire.SysStatsRequest())
        return Vitals(incarnation_from(mark.key), count.count - 1, sys_stats.uptime)

    async def close(self) -> None:
        await self._channel.close()

    async def _mark(self) -> PanelUser | None:
        return (await self._held([_MARK])).get(_MARK)

    async def _write(self, missing: Sequence[Wanted], *, replaced: Collection[str]) -> Mapping[str, PanelError]:
        """Add users, first taking out what has their labels; the failures by label."""
        taken = await self._take_out(replaced)
        return taken | await self._change_all(adding(user_with(w.label, w.key, self._flow)) for w in missing)

    async def _take_out(self, labels: Collection[str]) -> dict[str, PanelError]:
        """Remove users and let in again whoever shared a key with them; the failures by label.

        The sharers leave first with them: should we die in between, they are seen to be missing and are put back. Left
        in the list, they would look well and be shut out.
        """
        if not labels:
            return {}
        everybody = await self._everybody()
        leaving = [label for label in labels if label in everybody]
        sharers = sharing_keys(everybody, leaving)
        failures = await self._change_all(removing(label) for label in (*leaving, *(user.email for user in sharers)))
        if lost := await self._change_all(adding(user) for user in sharers):
            raise next(iter(lost.values()))
        return failures

    async def _held(self, labels: Sequence[str]) -> dict[str, PanelUser]:
        """Those of these labels whom the node holds."""
        if len(labels) > _LIST_ABOVE_USERS:
            everybody = await self._everybody()
            found = {label: everybody[label] for label in labels if label in everybody}
        else:
            found = _by_label(user for users in await self._each(self._get, labels) for user in users)
        return {label: user_from(user, self._flow) for label, user in found.items()}

    async def _everybody(self) -> dict[str, wire.User]:
        return _by_label(await self._get(""))

    async def _get(self, label: str) -> Sequence[wire.User]:
        """The user of that label, or everybody for an empty one. Xray answers an absent user with an empty one."""
        answer = await self._get_users(wire.GetInboundUserRequest(tag=self._inbound, email=label))
        return [user for user in answer.users if user.email]

    async def _change_all(self, changes: Iterable["_Change"]) -> dict[str, PanelError]:
        """Make changes, pipelined; the failures by label. Once the node is away the rest is not tried."""
        away: PanelUnavailable | None = None

        async def attempt(change: _Change) -> PanelError | None:
            nonlocal away
            try:
                if away is None:
                    await self._change(change)
            except PanelUnavailable as error:
                away = error
            except PanelRefused as refusal:
                return refusal
            return away

        if not (changes := list(changes)):
            return {}
        await self._know_inbound()
        outcomes = await self._each(attempt, changes)
        return {change.label: failure for change, failure in zip(changes, outcomes, strict=True) if failure is not None}

    async def _change(self, change: "_Change") -> None:
        try:
            await self._alter_inbound(wire.AlterInboundRequest(tag=self._inbound, operation=change.operation))
        except PanelRefused as refusal:
            if change.done_already not in str(refusal):
                raise

    async def _know_inbound(self) -> None:
        """Be sure that the inbound is VLESS: its accounts given to another protocol's inbound end the whole node.

        (A panic in Xray 26.10, seen with a Trojan inbound.) Asked again after every failure to reach the node.
        """
        if not self._knows_inbound:
            answer = await self._list_inbounds(wire.ListInboundsRequest())
            check_inbound(answer.inbounds, self._inbound)
            self._knows_inbound = True

    async def _each(self, call: Callable[[_A], Awaitable[_B]], values: Sequence[_A]) -> list[_B]:
        """Call for every value, so many at once, and the answers in order. The first exception ends all."""
        answers: dict[int, _B] = {}
        waiting = iter(enumerate(values))

        async def work() -> None:
            for index, value in waiting:
                answers[index] = await call(value)

        workers = [asyncio.create_task(work()) for _ in range(min(self._calls_at_once, len(values)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [answers[index] for index in range(len(values))]

    def _outcome(self, wanted: Wanted, held: PanelUser | None, failure: PanelError | None) -> PanelUser | PanelError:
        """What was read decides: a call that timed out may have done its work."""
        if held is not None and agrees(held, wanted, self.enforces):
            return held
        return failure or _unlike_written()

    def _method(self, path: str, answer: type[_Answer]) -> Callable[[Message], Awaitable[_Answer]]:
        """A method of the node's API whose failures are `PanelError`s and whose every call ends in time."""
        call: grpc.aio.UnaryUnaryMultiCallable[Message, _Answer] = self._channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

        async def ask(request: Message) -> _Answer:
            try:
                return await call(request, timeout=self._call_timeout_s)
            except grpc.aio.AioRpcError as error:
                failure = failure_from(error.code(), error.details() or "")
                if isinstance(failure, PanelUnavailable):
                    self._knows_inbound = False
                raise failure from error

        return ask


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one user, and the words by which Xray says that there was nothing to change."""

    label: str
    operation: wire.TypedMessage
    done_already: str


def adding(user: wire.User) -> _Change:
    """Add a user."""
    operation = wire.AddUserOperation(user=user)
    return _Change(user.email, _typed(_ADD, operation), f"User {user.email} already exists.")


def removing(label: str) -> _Change:
    """Remove whoever has that label."""
    operation = wire.RemoveUserOperation(email=label)
    return _Change(label, _typed(_REMOVE, operation), f"User {label} not found.")


def user_with(label: str, key: UUID, flow: str) -> wire.User:
    """A VLESS user as Xray wants it."""
    account = wire.VlessAccount(id=str(key), flow=flow, encryption="none")
    return wire.User(email=label, account=_typed(_VLESS_ACCOUNT, account))


def user_from(user: wire.User, flow: str) -> PanelUser:
    """A VLESS user as Xray tells it; with another flow than the links' no app gets in."""
    if user.account.type != _VLESS_ACCOUNT:
        raise PanelRefused(f"the node's user {user.email!r} is {user.account.type}, not VLESS")
    account = wire.VlessAccount.FromString(user.account.value)
    return PanelUser(user.email, UUID(account.id), active=account.flow == flow)


def sharing_keys(everybody: Mapping[str, wire.User], leaving: Collection[str]) -> list[wire.User]:
    """Those who stay but have a key in common with somebody who leaves."""
    leavers = set(leaving)
    keys = {_key_of(everybody[label]) for label in leavers}
    return [user for label, user in everybody.items() if label not in leavers and _key_of(user) in keys]


def usage_from(stats: Iterable[wire.Stat]) -> dict[UUID, Usage]:
    """Counters named `user>>>LABEL>>>traffic>>>uplink` and `…downlink`, those of our people."""
    up_bytes: dict[UUID, int] = {}
    down_bytes: dict[UUID, int] = {}
    for stat in stats:
        match stat.name.split(">>>"):
            case ["user", label, "traffic", "uplink" | "downlink" as way] if person_id := person_of(label):
                (up_bytes if way == "uplink" else down_bytes)[person_id] = stat.value
    return {
        person_id: Usage(up_bytes.get(person_id, 0), down_bytes.get(person_id, 0))
        for person_id in up_bytes.keys() | down_bytes.keys()
    }


def incarnation_from(mark: UUID) -> str:
    """The mark's key, hashed: the key itself would open the VPN."""
    return sha256(mark.bytes).hexdigest()[:32]


def check_inbound(inbounds: Iterable[wire.InboundHandlerConfig], tag: str) -> None:
    """Raise `PanelRefused` unless there is a VLESS inbound of that tag."""
    kinds = {inbound.tag: inbound.proxy_settings.type for inbound in inbounds}
    if tag not in kinds:
        raise PanelRefused(f"the node has no inbound {tag!r}, it has {', '.join(sorted(kinds)) or 'none'}")
    if kinds[tag] != _VLESS_INBOUND:
        raise PanelRefused(f"the node's inbound {tag!r} is {kinds[tag]}, not VLESS")


def failure_from(code: grpc.StatusCode, details: str) -> PanelError:
    """A gRPC status as one of ours. Xray says UNKNOWN for whatever it refuses."""
    kind = PanelUnavailable if code in _MAY_PASS else PanelRefused
    return kind(f"{code.name}: {details}")


def _unlike_written() -> PanelUnavailable:
    return PanelUnavailable("the node holds something else than was just written")


def _by_label(users: Iterable[wire.User]) -> dict[str, wire.User]:
    """Labels in small letters: Xray finds and refuses them without regard to case."""
    return {user.email.lower(): user for user in users}


def _typed(name: str, message: Message) -> wire.TypedMessage:
    return wire.TypedMessage(type=name, value=message.SerializeToString())


def _key_of(user: wire.User) -> str:
    return wire.VlessAccount.FromString(user.account.value).id
