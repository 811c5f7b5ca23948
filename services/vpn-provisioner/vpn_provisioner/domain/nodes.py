"""A node as the operator describes it, and the template of its links."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

_TEMPLATE = re.compile(
    r"vless://\{key\}@(\[[0-9a-f:.]+\]|[^\s/:?#@]+):[0-9]{1,5}(/?[?#]|$)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Node:
    """A panel: its address and how to speak with it. Equal nodes share one connection."""

    id: UUID
    name: str
    kind: str
    node_group: str
    address: str
    inbound: str
    link_template: str


@dataclass(frozen=True, slots=True)
class LinkTemplate:
    """An operator's VLESS link, `vless://{key}@host:port?…#name`; `{key}` marks the person's key.

    Raises `ValueError` with a sentence for anything else.
    """

    text: str

    def __post_init__(self) -> None:
        if not _TEMPLATE.match(self.text) or self.text.count("{key}") != 1:
            raise ValueError("a link's template must look like vless://{key}@host:port?…#name")

    @property
    def host(self) -> str:
        """The name or address that people's apps connect to."""
        return urlsplit(self.text).hostname or ""

    @property
    def flow(self) -> str:
        """The flow that apps use. The node's users need the same one, so only the link names it."""
        return parse_qs(urlsplit(self.text).query).get("flow", [""])[0]

    def link(self, key: UUID) -> str:
        """The link that a person's app imports: a secret."""
        return self.text.replace("{key}", str(key))
