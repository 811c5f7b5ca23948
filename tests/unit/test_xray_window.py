"""The window on Xray without a node: requests from values, values from recorded payloads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest

from turnpike_local.xray import client_config, link_template, new_identity, node_config
from vpn_provisioner.panels import xray_api_pb2 as wire
from vpn_provisioner.panels.protocol import (
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Usage,
    Wanted,
    agrees,
    label_of,
    person_of,
)
from vpn_provisioner.panels.xray import (
    LinkTemplate,
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
UNTIL = datetime(2027, 1, 31, 12, tzinfo=UTC)

# As Xray 26.10.10 answered: GetInboundUsers, and QueryStats after one page of one byte.
RECORDED_USERS = (
    b"\n\x82\x01\x12$0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59\x1aZ\n\x18xray.proxy.vless.Account"
    b"\x12>\n$5c6b5cea-da8f-476d-804a-3b8439d436c9\x12\x10xtls-rprx-vision\x1a\x04none"
)
RECORDED_STATS = (
    b"\nB\n>user>>>0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59>>>traffic>>>uplink\x10~"
    b"\nE\n@user>>>0d7c4f8e-3a52-4b1e-9a0f-6f1d2c3b4a59>>>traffic>>>downlink\x10\x99\x01"
)


def test_a_label_is_the_person_id_and_leads_back_to_it() -> None:
    assert person_of(label_of(ALICE)) == ALICE


@pytest.mark.parametrize("label", ["", "alice", str(ALICE).upper(), ALICE.hex, f"{{{ALICE}}}", f"dev_{ALICE}"])
def test_a_label_of_another_form_is_nobody_of_ours(label: str) -> None:
    assert person_of(label) is None


def test_an_end_without_a_time_zone_is_refused() -> None:
    with pytest.raises(AssertionError):
        Wanted(ALICE, KEY, UNTIL.replace(tzinfo=None))


@pytest.mark.parametrize(
    "held",
    [
        None,
        PanelUser(label_of(ALICE), UUID(int=1), until=UNTIL, devices=5),
        PanelUser(label_of(ALICE), KEY, active=False, until=UNTIL, devices=5),
        PanelUser(label_of(ALICE).upper(), KEY, until=UNTIL, devices=5),
        PanelUser(label_of(ALICE), KEY, until=UNTIL, devices=10),
        PanelUser(label_of(ALICE), KEY, until=UNTIL - timedelta(days=30), devices=5),
        PanelUser(label_of(ALICE), KEY, until=None, devices=5),
    ],
)
def test_a_panel_that_holds_anything_else_does_not_agree(held: PanelUser | None) -> None:
    """P-15: a renewal that left the old date on the panel is not done."""
    assert not agrees(held, Wanted(ALICE, KEY, UNTIL, devices=5), frozenset({"until", "devices"}))


def test_a_limit_that_the_panel_does_not_keep_is_not_compared() -> None:
    wanted = Wanted(ALICE, KEY, UNTIL, devices=5, traffic_bytes=1)
    assert agrees(PanelUser(label_of(ALICE), KEY), wanted, frozenset())


def test_ends_agree_by_the_second() -> None:
    held = PanelUser(label_of(ALICE), KEY, until=UNTIL)
    assert agrees(held, Wanted(ALICE, KEY, UNTIL + timedelta(milliseconds=999)), frozenset({"until"}))


def test_a_user_as_we_write_it_is_what_xray_gives_back() -> None:
    recorded = wire.GetInboundUserResponse.FromString(RECORDED_USERS)
    assert list(recorded.users) == [user_with(label_of(ALICE), KEY, FLOW)]
    assert user_from(recorded.users[0], FLOW) == PanelUser(label_of(ALICE), KEY)


def test_a_user_with_another_flow_than_the_links_is_not_active() -> None:
    assert not user_from(user_with(label_of(ALICE), KEY, ""), FLOW).active


def test_a_user_of_another_protocol_is_refused_by_name() -> None:
    user = wire.User(email="alice", account=wire.TypedMessage(type="xray.proxy.trojan.Account", value=b"\n\x01x"))
    with pytest.raises(PanelRefused, match=r"'alice' is xray\.proxy\.trojan\.Account"):
        user_from(user, FLOW)


def test_usage_is_read_from_both_counters() -> None:
    recorded = wire.QueryStatsResponse.FromString(RECORDED_STATS)
    assert usage_from(recorded.stat) == {ALICE: Usage(up_bytes=126, down_bytes=153)}
    assert usage_from(recorded.stat[:1]) == {ALICE: Usage(up_bytes=126, down_bytes=0)}


def test_counters_of_others_are_passed_over() -> None:
    names = (
        "inbound>>>people>>>traffic>>>uplink",
        "user>>>operator@home>>>traffic>>>uplink",
        f"user>>>{ALICE}>>>online",
    )
    assert usage_from(wire.Stat(name=name, value=7) for name in names) == {}


def test_those_who_share_a_key_with_a_leaver_are_found_by_key() -> None:
    other = UUID(int=1)
    everybody = {label: user_with(label, key, FLOW) for label, key in (("a", KEY), ("b", KEY), ("c", other))}
    assert sharing_keys(everybody, ["a"]) == [everybody["b"]]
    assert sharing_keys(everybody, ["a", "b"]) == []
    assert sharing_keys(everybody, ["c"]) == []


def test_an_incarnation_does_not_show_the_mark_s_key() -> None:
    assert incarnation_from(KEY) != incarnation_from(ALICE)
    assert KEY.hex not in incarnation_from(KEY)


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [("peoples", "no inbound 'peoples', it has decoy, people"), ("decoy", "'decoy' is xray.proxy.http")],
)
def test_an_inbound_that_is_missing_or_not_vless_is_refused_by_name(tag: str, sentence: str) -> None:
    inbounds = [
        wire.InboundHandlerConfig(tag=name, proxy_settings=wire.TypedMessage(type=kind))
        for name, kind in (("decoy", "xray.proxy.http.ServerConfig"), ("people", "xray.proxy.vless.inbound.Config"))
    ]
    check_inbound(inbounds, "people")
    with pytest.raises(PanelRefused, match=sentence):
        check_inbound(inbounds, tag)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
def test_a_status_that_may_pass_is_unavailable(code: str) -> None:
    assert isinstance(failure_from(grpc.StatusCode[code], ""), PanelUnavailable)


@pytest.mark.parametrize("code", ["UNKNOWN", "UNIMPLEMENTED", "INVALID_ARGUMENT"])
def test_a_status_that_will_not_pass_is_refused(code: str) -> None:
    assert isinstance(failure_from(grpc.StatusCode[code], ""), PanelRefused)


def test_a_link_is_the_template_with_the_key_in_its_place() -> None:
    links = LinkTemplate("vless://{key}@vpn.example:443?security=reality&flow=xtls-rprx-vision#Home")
    assert links.link(KEY) == f"vless://{KEY}@vpn.example:443?security=reality&flow=xtls-rprx-vision#Home"
    assert links.flow == FLOW


def test_a_link_without_a_flow_means_users_without_one() -> None:
    assert LinkTemplate("vless://{key}@vpn.example:443?type=ws").flow == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vless://vpn.example:443",
        "vless://{key}@vpn.example",
        "vless://{key}@vpn.example:port",
        "vless://{key}@vpn.example:443#{key}",
        "vmess://{key}@vpn.example:443",
        "https://vpn.example/{key}",
    ],
)
def test_a_template_that_is_not_a_vless_link_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="vless://"):
        LinkTemplate(text)


def test_a_client_takes_from_the_link_what_the_node_was_given() -> None:
    identity = new_identity()
    (outbound,) = client_config(LinkTemplate(link_template(identity)).link(KEY), 1080)["outbounds"]
    (server,) = outbound["settings"]["vnext"]
    assert (server["port"], server["users"]) == (identity.port, [{"id": str(KEY), "encryption": "none", "flow": FLOW}])
    assert outbound["streamSettings"]["realitySettings"]["publicKey"] == identity.public_key


def test_a_node_lets_nothing_out_but_to_its_page() -> None:
    """A rule without a port, or no last rule, would open the machine or make it an open proxy."""
    (outbound,) = node_config(new_identity(), decoy_port=1, page_port=8088)["outbounds"]
    allowed, rest = outbound["settings"]["finalRules"]
    assert allowed == {"action": "allow", "network": "tcp", "ip": ["127.0.0.1/32"], "port": "8088"}
    assert rest == {"action": "block"}


def test_a_node_listens_on_loopback_only() -> None:
    config = node_config(new_identity(), decoy_port=1, page_port=2)
    assert {inbound["listen"] for inbound in config["inbounds"]} == {"127.0.0.1"}
    assert config["api"]["listen"].startswith("127.0.0.1:")


def test_two_nodes_share_no_key() -> None:
    one, other = new_identity(), new_identity()
    assert one.private_key != other.private_key
    assert one != replace(other, port=one.port, api_port=one.api_port)
