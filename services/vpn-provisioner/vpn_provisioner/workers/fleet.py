"""The nodes that this process serves. Each has its own loops; they follow the list of nodes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.platform import iterations
from shared.platform.db import Database
from shared.platform.loops import set_within
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.store import nodes
from vpn_provisioner.workers.jobs import Worker
from vpn_provisioner.workers.live import LiveNode, panel_of
from vpn_provisioner.workers.reconciler import Reconciler

log = structlog.get_logger()

FOLLOW_EVERY_S = 2.0
# One Xray core held this many with ease. It is a gauge for operators and limits nothing.
FIRST_CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class _Served:
    """The loops of one node: none of them waits for another node."""

    live: LiveNode
    leaving: asyncio.Event
    tasks: tuple[asyncio.Task[None], ...]


class Fleet:
    """Every serving node, with two lanes of jobs and a reconciler each."""

    def __init__(self, database: Database, open_panel: Callable[[Node], Panel] = panel_of) -> None:
        self.database = database
        self.open_panel = open_panel
        self._served: dict[Node, _Served] = {}

    def wake(self) -> None:
        """There may be jobs. To be called after the transaction that wrote them."""
        for served in self._served.values():
            served.live.bell.ring()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`. A loop that dies ends this one too, with its reason."""
        try:
            with iterations.working("fleet") as worker:
                while not stopping.is_set():
                    worker.begins()
                    await self._follow()
                    self._check()
                    await set_within(stopping, FOLLOW_EVERY_S)
        finally:
            await asyncio.gather(*(self._leave(node) for node in list(self._served)))

    def _check(self) -> None:
        for served in self._served.values():
            for task in served.tasks:
                if task.done():
                    raise RuntimeError(f"{task.get_name()} ended") from task.exception()

    async def _follow(self) -> None:
        """Begin with nodes that are new or moved; leave nodes that are not listed any more."""
        try:
            serving = await nodes.serving(self.database)
        except Exception as error:  # The known nodes are served meanwhile.
            log.warning("nodes could not be read", error=repr(error))
            return
        for node in self._served.keys() - set(serving):
            await self._leave(node)
        for node in serving:
            if node not in self._served:
                self._begin(node)

    def _begin(self, node: Node) -> None:
        try:
            live = LiveNode(node, self.open_panel(node))
        except ValueError as error:
            log.error("node cannot be used", node=node.name, error=str(error))
            return
        leaving = asyncio.Event()
        loops = {
            "fresh": Worker(self.database, live, failed_before=False).run,
            "failed": Worker(self.database, live, failed_before=True).run,
            "reconciler": Reconciler(self.database, live).run,
        }
        tasks = (
            asyncio.create_task(run(leaving), name=f"{node.name} {name}")
            for name, run in loops.items()
        )
        self._served[node] = _Served(live, leaving, tuple(tasks))
        log.info("node added", node=node.name, kind=node.kind, node_group=node.node_group)

    async def _leave(self, node: Node) -> None:
        """Let the loops end their rounds, then close the panel."""
        served = self._served.pop(node)
        served.leaving.set()
        served.live.bell.ring()
        await asyncio.gather(*served.tasks, return_exceptions=True)
        await served.live.panel.close()


async def register_first(node: Node | None, database: Database) -> None:
    """Put the environment's node into service, or move it to its present address; idempotent.

    Rows are the operator's: a node that is one already, or was retired, ends no start.
    """
    if node is None or node in await nodes.serving(database):
        return
    if await nodes.is_retired(node.id, database):
        log.warning("the environment's node is retired: it is not served", node=node.name)
        return
    async with database.transaction() as tx:
        like_it = await nodes.register(node, FIRST_CAPACITY, tx)
    if like_it is not None:
        log.warning(
            "the environment's node is left out: a row has its address or its name",
            node=node.name,
            row=like_it,
        )
