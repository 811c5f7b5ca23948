"""The environment of vpn-provisioner: the first node is whole or absent, and mistakes are sentences."""

import pytest
from pydantic import ValidationError

from shared.settings import mistakes
from vpn_provisioner.settings import Settings

LINK = "vless://{key}@127.0.0.1:443?security=none#Turnpike"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API", "INBOUND", "LINK"):
        monkeypatch.delenv(f"TURNPIKE_VPN_XRAY_{name}", raising=False)
    monkeypatch.setenv("TURNPIKE_VPN_DSN", "postgresql://vpn_app@127.0.0.1/turnpike")
    monkeypatch.setenv("TURNPIKE_NATS_URL", "nats://127.0.0.1")


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"TURNPIKE_VPN_XRAY_{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return mistakes(Settings, caught.value)


def test_without_a_node_in_the_environment_there_is_none() -> None:
    assert Settings().first_node is None


def test_the_first_node_is_the_same_row_whatever_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE_VPN_XRAY_LINK", LINK)
    ids = set()
    for port in (1, 2):
        monkeypatch.setenv("TURNPIKE_VPN_XRAY_API", f"127.0.0.1:{port}")
        node = Settings().first_node
        assert node is not None
        assert (node.address, node.inbound, node.node_group) == (f"127.0.0.1:{port}", "vless", "default")
        ids.add(node.id)
    assert len(ids) == 1


def test_an_api_without_a_link_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, API="127.0.0.1:1") == [
        "TURNPIKE_VPN_XRAY_LINK is not usable: a node needs the link that its people get, beside its API."
    ]


def test_a_link_without_a_place_for_the_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = refused(monkeypatch, API="127.0.0.1:1", LINK="vless://me@127.0.0.1:443")
    assert [sentence.split()[0] for sentence in sentences] == ["TURNPIKE_VPN_XRAY_LINK"]


def test_an_api_without_a_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("TURNPIKE_VPN_XRAY_API" in sentence for sentence in refused(monkeypatch, API="node", LINK=LINK))
