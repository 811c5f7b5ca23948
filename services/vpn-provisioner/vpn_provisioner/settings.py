"""Settings of vpn-provisioner, read from the environment."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.contracts.message import derived_id
from shared.platform.settings import ServiceSettings, is_public
from vpn_provisioner.domain.nodes import LinkTemplate, Node

FIRST_NODE_GROUP = "default"


class Settings(ServiceSettings):
    """The database, and the first node; further nodes are rows."""

    dsn: SecretStr = Field(
        validation_alias="TURNPIKE_VPN_DSN", description="PostgreSQL, as the role vpn_app"
    )
    telegram_api_url: str = Field(
        default="https://api.telegram.org",
        pattern=r"^https?://[^/\s]+/?$",
        description="Where the Bot API answers: at a local one the keys may be local too",
    )
    vpn_xray_api: str | None = Field(
        default=None,
        pattern=r"^[^:/\s]+:\d{1,5}$",
        description=(
            "host:port of the first node's gRPC API, on loopback or in the same pod: "
            "it knows no password"
        ),
    )
    vpn_xray_inbound: str = Field(
        default="vless", min_length=1, description="The tag of that node's VLESS inbound"
    )
    vpn_xray_link: str | None = Field(
        default=None,
        validate_default=True,
        description="The link of a key on that node: vless://{key}@host:port?…#name",
    )

    @field_validator("vpn_xray_link")
    @classmethod
    def _is_a_template(cls, link: str | None, info: ValidationInfo) -> str | None:
        # An API that was refused is missing in `info.data`: it asks for a link too.
        api = info.data.get("vpn_xray_api", "refused")
        if link is None:
            if api is not None:
                raise ValueError("a node needs a link for its people, beside its API")
            return None
        host = LinkTemplate(link).host
        if api is None:
            raise ValueError("a node needs an API beside its link, in TURNPIKE_VPN_XRAY_API")
        telegram = urlsplit(info.data.get("telegram_api_url", "")).hostname or ""
        if is_public(telegram) and not is_public(host):
            raise ValueError(
                "people cannot reach the address in this link, which belongs to this machine or "
                "to a private network"
            )
        return link

    @property
    def first_node(self) -> Node | None:
        """The node that the environment names, or None."""
        if self.vpn_xray_api is None or self.vpn_xray_link is None:
            return None
        return Node(
            id=derived_id("node", "first"),
            name="first",
            kind="xray",
            node_group=FIRST_NODE_GROUP,
            address=self.vpn_xray_api,
            inbound=self.vpn_xray_inbound,
            link_template=self.vpn_xray_link,
        )
