"""Link templates: the key goes into its place, and other texts are refused."""

from uuid import UUID

import pytest

from vpn_provisioner.domain.nodes import LinkTemplate

KEY = UUID("5c6b5cea-da8f-476d-804a-3b8439d436c9")


def test_a_link_is_the_template_with_the_key() -> None:
    links = LinkTemplate(
        "vless://{key}@vpn.example:443?security=reality&flow=xtls-rprx-vision#Home"
    )
    link = f"vless://{KEY}@vpn.example:443?security=reality&flow=xtls-rprx-vision#Home"
    assert links.link(KEY) == link
    assert links.flow == "xtls-rprx-vision"


def test_a_link_without_a_flow_has_none() -> None:
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
def test_another_text_is_no_link_template(text: str) -> None:
    with pytest.raises(ValueError, match="vless://"):
        LinkTemplate(text)
