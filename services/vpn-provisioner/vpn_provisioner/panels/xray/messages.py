"""Requests from values and values from responses of Xray's API. No I/O."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import grpc
from google.protobuf.message import Message

from vpn_provisioner.domain.panel import (
    PanelError,
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    person_of,
)
from vpn_provisioner.panels.xray import xray_api_pb2 as wire

_ADD = "xray.app.proxyman.command.AddUserOperation"
_REMOVE = "xray.app.proxyman.command.RemoveUserOperation"
_VLESS_ACCOUNT = "xray.proxy.vless.Account"
_VLESS_INBOUND = "xray.proxy.vless.inbound.Config"

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
class Change:
    """A change of one user, and Xray's message when there was nothing to change."""

    label: str
    operation: wire.TypedMessage
    done_already: str


def adding(user: wire.User) -> Change:
    """Add a user."""
    operation = wire.AddUserOperation(user=user)
    return Change(user.email, _typed(_ADD, operation), f"User {user.email} already exists.")


def removing(label: str) -> Change:
    """Remove the user with that label."""
    operation = wire.RemoveUserOperation(email=label)
    return Change(label, _typed(_REMOVE, operation), f"User {label} not found.")


def user_with(label: str, key: UUID, flow: str) -> wire.User:
    """A VLESS user in the form that Xray expects."""
    account = wire.VlessAccount(id=str(key), flow=flow, encryption="none")
    return wire.User(email=label, account=_typed(_VLESS_ACCOUNT, account))


def user_from(user: wire.User, flow: str) -> PanelUser:
    """A VLESS user as Xray returns it. No app gets in with a flow that the links do not name."""
    if user.account.type != _VLESS_ACCOUNT:
        raise PanelRefused(f"the node's user {user.email!r} is {user.account.type}, not VLESS")
    account = wire.VlessAccount.FromString(user.account.value)
    return PanelUser(user.email, UUID(account.id), active=account.flow == flow)


def by_label(users: Iterable[wire.User]) -> dict[str, wire.User]:
    """Users by lower-case label: Xray finds and refuses labels without regard to case."""
    return {user.email.lower(): user for user in users}


def sharing_keys(everybody: Mapping[str, wire.User], leaving: Collection[str]) -> list[wire.User]:
    """Users who stay but have a key in common with a user who leaves."""
    leavers = set(leaving)
    keys = {_key_of(everybody[label]) for label in leavers}
    return [
        user for label, user in everybody.items() if label not in leavers and _key_of(user) in keys
    ]


def usage_from(stats: Iterable[wire.Stat]) -> dict[UUID, Usage]:
    """Traffic of our people, from counters `user>>>LABEL>>>traffic>>>uplink` and `…downlink`."""
    up_bytes: dict[UUID, int] = {}
    down_bytes: dict[UUID, int] = {}
    for stat in stats:
        match stat.name.split(">>>"):
            case ["user", label, "traffic", "uplink" | "downlink" as way] if person_id := person_of(
                label
            ):
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
        present = ", ".join(sorted(kinds)) or "none"
        raise PanelRefused(f"the node has no inbound {tag!r}, it has {present}")
    if kinds[tag] != _VLESS_INBOUND:
        raise PanelRefused(f"the node's inbound {tag!r} is {kinds[tag]}, not VLESS")


def failure_from(code: grpc.StatusCode, details: str) -> PanelError:
    """A gRPC status as a panel error. Xray answers UNKNOWN for every request that it refuses."""
    kind = PanelUnavailable if code in _MAY_PASS else PanelRefused
    return kind(f"{code.name}: {details}")


def _typed(name: str, message: Message) -> wire.TypedMessage:
    return wire.TypedMessage(type=name, value=message.SerializeToString())


def _key_of(user: wire.User) -> str:
    return wire.VlessAccount.FromString(user.account.value).id
