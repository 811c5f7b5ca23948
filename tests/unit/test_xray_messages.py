"""Messages of Xray's API: requests from values, and values from recorded payloads."""

from uuid import UUID

import grpc
import pytest

from vpn_provisioner.domain.panel import (
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    label_of,
)
from vpn_provisioner.panels.xray import xray_api_pb2 as wire
from vpn_provisioner.panels.xray.messages import (
    check_inbound,
    failure_from,
    incarnation_from,
    sharing_keys,
    usage_from,
    user_from,
    user_with,
)

ALICE = UUID("0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59")
KEY = UUID("5c6b5cea-da8f-476d-804a-3b8439d436c9")
FLOW = "xtls-rprx-vision"

# As Xray 26.10.10 answered: GetInboundUsers, and QueryStats after one page of one byte.
RECORDED_USERS = (
    b"\n\x82\x01\x12$0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59\x1aZ\n\x18xray.proxy.vless.Account"
    b"\x12>\n$5c6b5cea-da8f-476d-804a-3b8439d436c9\x12\x10xtls-rprx-vision\x1a\x04none"
)
RECORDED_STATS = (
    b"\nB\n>user>>>0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59>>>traffic>>>uplink\x10~"
    b"\nE\n@user>>>0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59>>>traffic>>>downlink\x10\x99\x01"
)


def test_a_user_reads_back_as_written() -> None:
    recorded = wire.GetInboundUserResponse.FromString(RECORDED_USERS)
    assert list(recorded.users) == [user_with(label_of(ALICE), KEY, FLOW)]
    assert user_from(recorded.users[0], FLOW) == PanelUser(label_of(ALICE), KEY)


def test_a_user_with_another_flow_is_inactive() -> None:
    assert not user_from(user_with(label_of(ALICE), KEY, ""), FLOW).active


def test_a_user_of_another_protocol_is_refused() -> None:
    user = wire.User(
        email="alice", account=wire.TypedMessage(type="xray.proxy.trojan.Account", value=b"\n\x01x")
    )
    with pytest.raises(PanelRefused, match=r"'alice' is xray\.proxy\.trojan\.Account"):
        user_from(user, FLOW)


def test_usage_is_read_from_both_counters() -> None:
    recorded = wire.QueryStatsResponse.FromString(RECORDED_STATS)
    assert usage_from(recorded.stat) == {ALICE: Usage(up_bytes=126, down_bytes=153)}
    assert usage_from(recorded.stat[:1]) == {ALICE: Usage(up_bytes=126, down_bytes=0)}


def test_counters_of_others_are_ignored() -> None:
    names = (
        "inbound>>>people>>>traffic>>>uplink",
        "user>>>operator@home>>>traffic>>>uplink",
        f"user>>>{ALICE}>>>online",
    )
    assert usage_from(wire.Stat(name=name, value=7) for name in names) == {}


def test_users_with_a_leaving_key_are_found() -> None:
    other = UUID(int=1)
    everybody = {
        label: user_with(label, key, FLOW) for label, key in (("a", KEY), ("b", KEY), ("c", other))
    }
    assert sharing_keys(everybody, ["a"]) == [everybody["b"]]
    assert sharing_keys(everybody, ["a", "b"]) == []
    assert sharing_keys(everybody, ["c"]) == []


def test_an_incarnation_hides_the_key_of_its_mark() -> None:
    assert incarnation_from(KEY) != incarnation_from(ALICE)
    assert KEY.hex not in incarnation_from(KEY)


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("peoples", "no inbound 'peoples', it has decoy, people"),
        ("decoy", "'decoy' is xray.proxy.http"),
    ],
)
def test_an_unusable_inbound_is_refused_by_name(tag: str, sentence: str) -> None:
    inbounds = [
        wire.InboundHandlerConfig(tag=name, proxy_settings=wire.TypedMessage(type=kind))
        for name, kind in (
            ("decoy", "xray.proxy.http.ServerConfig"),
            ("people", "xray.proxy.vless.inbound.Config"),
        )
    ]
    check_inbound(inbounds, "people")
    with pytest.raises(PanelRefused, match=sentence):
        check_inbound(inbounds, tag)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
def test_a_passing_status_is_unavailable(code: str) -> None:
    assert isinstance(failure_from(grpc.StatusCode[code], ""), PanelUnavailable)


@pytest.mark.parametrize("code", ["UNKNOWN", "UNIMPLEMENTED", "INVALID_ARGUMENT"])
def test_a_lasting_status_is_refused(code: str) -> None:
    assert isinstance(failure_from(grpc.StatusCode[code], ""), PanelRefused)
