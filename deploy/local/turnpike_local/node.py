"""The VPN node of the local shop, with the variables that name a node."""

from pathlib import Path
from typing import Self

from turnpike_local.processes import Child
from turnpike_local.xray import XrayNode

NODE_API = "TURNPIKE_VPN_XRAY_API"
NODE_INBOUND = "TURNPIKE_VPN_XRAY_INBOUND"
NODE_LINK = "TURNPIKE_VPN_XRAY_LINK"


class Node:
    """The VPN node. Its identity is kept, so it can be restarted."""

    def __init__(self, xray: XrayNode, folder: Path, page_port: int) -> None:
        self.xray = xray
        self._folder = folder
        self._page_port = page_port

    @classmethod
    async def start(cls, folder: Path, *, page_port: int) -> Self:
        """Start the node of this folder. Raises `StartError`."""
        return cls(await XrayNode.start(folder, page_port=page_port), folder, page_port)

    @property
    def child(self) -> Child:
        return self.xray.child

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which vpn-provisioner reaches the node and writes people's links."""
        return {
            NODE_API: self.xray.api,
            NODE_INBOUND: self.xray.inbound,
            NODE_LINK: self.xray.link_template,
        }

    async def restart(self) -> None:
        """Restart it. Xray forgets its users. Raises `StartError`."""
        await self.stop()
        self.xray = await XrayNode.start(self._folder, page_port=self._page_port)

    async def stop(self) -> None:
        await self.xray.stop()

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        self.xray.kill()
