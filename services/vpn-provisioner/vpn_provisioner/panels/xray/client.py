"""The gRPC API of one inbound of an Xray node. Every call ends in time and fails as PanelError."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import grpc.aio
from google.protobuf.message import Message

from vpn_provisioner.domain.panel import PanelRefused, PanelUnavailable
from vpn_provisioner.panels.xray import xray_api_pb2 as wire
from vpn_provisioner.panels.xray.messages import Change, by_label, check_inbound, failure_from

CALL_TIMEOUT_S = 5.0

_Answer = TypeVar("_Answer", bound=Message)

_HANDLER = "/xray.app.proxyman.command.HandlerService/"
_STATS = "/xray.app.stats.command.StatsService/"

_CHANNEL: Final = (
    # The API has no authentication, so it must never leave the machine or the pod.
    ("grpc.enable_http_proxy", 0),
    # A list of about 500 000 users.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name: the bound of one attempt to connect.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # By default gRPC looks for an absent node every two minutes only.
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Go servers close connections that are pinged more often than every 5 minutes.
    ("grpc.keepalive_time_ms", 310_000),
    # Also the bound for unacknowledged sent bytes (TCP_USER_TIMEOUT).
    ("grpc.keepalive_timeout_ms", 10_000),
)


class XrayClient:
    """Made inside a running event loop. One connection carries all calls."""

    def __init__(self, api: str, inbound: str, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        """`api` is host:port of the node's gRPC API, `inbound` the tag."""
        self._inbound = inbound
        self._call_timeout_s = call_timeout_s
        self._inbound_is_vless = False
        self._channel = grpc.aio.insecure_channel(api, options=_CHANNEL)
        self._list_inbounds = self._method(_HANDLER + "ListInbounds", wire.ListInboundsResponse)
        self._alter_inbound = self._method(_HANDLER + "AlterInbound", wire.AlterInboundResponse)
        self._get_users = self._method(_HANDLER + "GetInboundUsers", wire.GetInboundUserResponse)
        self._count_users = self._method(
            _HANDLER + "GetInboundUsersCount", wire.GetInboundUsersCountResponse
        )
        self._query_stats = self._method(_STATS + "QueryStats", wire.QueryStatsResponse)

    async def everybody(self) -> dict[str, wire.User]:
        """All users by lower-case label."""
        return by_label(await self.users(""))

    async def users(self, label: str) -> Sequence[wire.User]:
        """The user with that label, if there is one; all users for an empty label.

        Xray answers an absent user with an empty one.
        """
        answer = await self._get_users(wire.GetInboundUserRequest(tag=self._inbound, email=label))
        return [user for user in answer.users if user.email]

    async def count_users(self) -> int:
        answer = await self._count_users(wire.GetInboundUserRequest(tag=self._inbound))
        return answer.count

    async def stats_of_users(self) -> Sequence[wire.Stat]:
        return (await self._query_stats(wire.QueryStatsRequest(pattern="user>>>"))).stat

    async def change(self, change: Change) -> None:
        """Make a change, or find it made already."""
        request = wire.AlterInboundRequest(tag=self._inbound, operation=change.operation)
        try:
            await self._alter_inbound(request)
        except PanelRefused as refusal:
            if change.done_already not in str(refusal):
                raise

    async def check_inbound(self, *, again: bool = False) -> None:
        """Raise `PanelRefused` unless the inbound is VLESS. To be called before any change.

        A VLESS account that is given to an inbound of another protocol ends the whole node: a
        panic in Xray 26.10, seen with a Trojan inbound. The answer is kept until the node is
        unavailable; `again` asks anew.
        """
        if again or not self._inbound_is_vless:
            self._inbound_is_vless = False
            answer = await self._list_inbounds(wire.ListInboundsRequest())
            check_inbound(answer.inbounds, self._inbound)
            self._inbound_is_vless = True

    async def close(self) -> None:
        await self._channel.close()

    def _method(self, path: str, answer: type[_Answer]) -> Callable[[Message], Awaitable[_Answer]]:
        """A method of the API: each call has a time-out, and each failure is a `PanelError`."""
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
                    self._inbound_is_vless = False
                raise failure from error

        return ask
