"""Settings of vpn-provisioner: the first node is whole or absent, and mistakes are sentences."""

import pytest
from pydantic import ValidationError

from shared.platform.settings import mistakes
from vpn_provisioner.settings import Settings

LINK = "vless://{key}@127.0.0.1:443?security=none#Turnpike"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API", "INBOUND", "LINK"):
        monkeypatch.delenv(f"TURNPIKE_VPN_XRAY_{name}", raising=False)
    monkeypatch.setenv("TURNPIKE_VPN_DSN", "postgresql://vpn_app@127.0.0.1/turnpike")
    monkeypatch.setenv("TURNPIKE_NATS_URL", "nats://127.0.0.1")
    monkeypatch.setenv("TURNPIKE_TELEGRAM_API_URL", "http://127.0.0.1:8088")


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"TURNPIKE_VPN_XRAY_{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return mistakes(Settings, caught.value)


def test_an_environment_without_a_node_names_none() -> None:
    assert Settings().first_node is None


def test_the_first_node_keeps_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new address does not change its id."""
    monkeypatch.setenv("TURNPIKE_VPN_XRAY_LINK", LINK)
    ids = set()
    for port in (1, 2):
        monkeypatch.setenv("TURNPIKE_VPN_XRAY_API", f"127.0.0.1:{port}")
        node = Settings().first_node
        assert node is not None
        assert (node.address, node.inbound, node.node_group) == (
            f"127.0.0.1:{port}",
            "vless",
            "default",
        )
        ids.add(node.id)
    assert len(ids) == 1


def test_an_api_without_a_link_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, API="127.0.0.1:1") == [
        "TURNPIKE_VPN_XRAY_LINK is not usable: a node needs a link for its people, beside its API."
    ]


def test_a_link_without_the_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = refused(monkeypatch, API="127.0.0.1:1", LINK="vless://me@127.0.0.1:443")
    assert [sentence.split()[0] for sentence in sentences] == ["TURNPIKE_VPN_XRAY_LINK"]


def test_an_api_without_a_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(
        "TURNPIKE_VPN_XRAY_API" in sentence
        for sentence in refused(monkeypatch, API="node", LINK=LINK)
    )


def test_a_link_without_an_api_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-41: the node would be ignored, and every purchase would wait for one."""
    assert refused(monkeypatch, LINK=LINK) == [
        "TURNPIKE_VPN_XRAY_LINK is not usable: "
        "a node needs an API beside its link, in TURNPIKE_VPN_XRAY_API."
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "192.168.0.9", "0.0.0.0", "[::1]"])
def test_a_local_node_is_refused_to_buyers(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """R-41: the sandbox alone may sell keys of this machine."""
    monkeypatch.delenv("TURNPIKE_TELEGRAM_API_URL")
    link = f"vless://{{key}}@{host}:443?security=none"
    [sentence] = refused(monkeypatch, API="127.0.0.1:1", LINK=link)
    assert sentence.startswith("TURNPIKE_VPN_XRAY_LINK is not usable: people cannot reach")


def test_a_public_node_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURNPIKE_TELEGRAM_API_URL")
    monkeypatch.setenv("TURNPIKE_VPN_XRAY_API", "127.0.0.1:1")
    monkeypatch.setenv("TURNPIKE_VPN_XRAY_LINK", "vless://{key}@vpn.example.org:443?security=none")
    assert Settings().first_node is not None
