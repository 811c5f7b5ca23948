"""The configuration of the local Xray node: loopback only, one page, keys of its own."""

from dataclasses import replace
from uuid import UUID

from turnpike_local.xray import client_config, link_template, new_identity, node_config
from vpn_provisioner.domain.nodes import LinkTemplate

KEY = UUID("5c6b5cea-da8f-476d-804a-3b8439d436c9")
FLOW = "xtls-rprx-vision"


def test_a_client_config_matches_the_node() -> None:
    identity = new_identity()
    (outbound,) = client_config(LinkTemplate(link_template(identity)).link(KEY), 1080)["outbounds"]
    (server,) = outbound["settings"]["vnext"]
    assert (server["port"], server["users"]) == (
        identity.port,
        [{"id": str(KEY), "encryption": "none", "flow": FLOW}],
    )
    assert outbound["streamSettings"]["realitySettings"]["publicKey"] == identity.public_key


def test_a_node_reaches_its_page_only() -> None:
    """Without a port in the rule, or without a last rule, the node would be an open proxy."""
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
