"""One node as this process sees it: its row, the client of its panel, its breaker and its bell."""

import asyncio

import structlog

from shared.platform import telemetry
from shared.platform.loops import Bell
from vpn_provisioner import metrics
from vpn_provisioner.domain.breaker import Breaker
from vpn_provisioner.domain.nodes import LinkTemplate, Node
from vpn_provisioner.domain.panel import PanelError, Vitals
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.panels.xray.panel import XrayPanel

log = structlog.get_logger()

VITALS_TIMEOUT_S = 3.0


class LiveNode:
    """Shared by all loops of this process that speak with the node. Replicas share nothing."""

    def __init__(self, node: Node, panel: Panel) -> None:
        self.node = node
        self.panel = panel
        self.breaker = Breaker()
        self.bell = Bell()

    async def vitals(self) -> Vitals | None:
        """A sign of life within `VITALS_TIMEOUT_S`, or None. It opens and closes the breaker."""
        try:
            async with asyncio.timeout(VITALS_TIMEOUT_S):
                with telemetry.OUTSIDE_SECONDS.labels(self.node.kind, "vitals").time():
                    vitals = await self.panel.vitals()
        except (PanelError, TimeoutError) as error:
            self._away(error)
            return None
        if not self.breaker.closed:
            log.info("node is back", node=self.node.name)
            self.breaker = Breaker()
            self.bell.ring()
        metrics.NODE_UP.labels(self.node.name).set(1)
        metrics.NODE_USERS.labels(self.node.name).set(vitals.users)
        return vitals

    def _away(self, error: Exception) -> None:
        if self.breaker.closed:
            log.warning("node is away", node=self.node.name, error=repr(error))
        self.breaker = self.breaker.failed()
        metrics.NODE_UP.labels(self.node.name).set(0)


def panel_of(node: Node) -> Panel:
    """The client of a node's panel, made inside a running event loop.

    Raises `ValueError` for a row that cannot be used.
    """
    if node.kind != "xray":
        raise ValueError(f"node {node.name!r} is of the unknown kind {node.kind!r}")
    return XrayPanel(node.address, node.inbound, flow=LinkTemplate(node.link_template).flow)
