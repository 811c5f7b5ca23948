"""What vpn-provisioner needs from its environment."""

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.contract import derived_id
from shared.settings import ServiceSettings
from vpn_provisioner.panels.xray import LinkTemplate
from vpn_provisioner.store.nodes import Node

FIRST_NODE_GROUP = "default"


class Settings(ServiceSettings):
    """The database, and the first node; further nodes are rows."""

    dsn: SecretStr = Field(validation_alias="TURNPIKE_VPN_DSN", description="PostgreSQL, as the role vpn_app")
    vpn_xray_api: str | None = Field(
        default=None,
        pattern=r"^[^:/\s]+:\d{1,5}$",
        description="host:port of the first node's gRPC API, on loopback or in the same pod: it knows no password",
    )
    vpn_xray_inbound: str = Field(default="vless", min_length=1, description="The tag of that node's VLESS inbound")
    vpn_xray_link: str | None = Field(
        default=None,
        validate_default=True,
        description="The link of a key on that node: vless://{key}@host:port?…#name",
    )

    @field_validator("vpn_xray_link")
    @classmethod
    def _is_a_template(cls, link: str | None, info: ValidationInfo) -> str | None:
        if link is None and info.data.get("vpn_xray_api") is not None:
            raise ValueError("a node needs the link that its people get, beside its API")
        if link is not None:
            LinkTemplate(link)
        return link

    @property
    def first_node(self) -> Node | None:
        """The node that the environment names; None where it names none."""
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
