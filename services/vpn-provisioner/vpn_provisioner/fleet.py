"""The nodes that this process works on: its own loops for each, begun and ended as the list of nodes changes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.db import Database
from shared.waiting import happens
from vpn_provisioner.live import LiveNode, panel_of
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.store import nodes
from vpn_provisioner.store.nodes import Node
from vpn_provisioner.watch import Watch
from vpn_provisioner.work import Worker

log = structlog.get_logger()

FOLLOW_EVERY_S = 2.0
FIRST_CAPACITY = 10_000  # What one Xray core was seen to hold with ease; a gauge stands beside it, no limit.


@dataclass(frozen=True, slots=True)
class _Crew:
    """Those who work on one node: none of them waits for another node."""

    live: LiveNode
    leaving: asyncio.Event
    tasks: tuple[asyncio.Task[None], ...]


class Fleet:
    """Every serving node, with two lanes of work and a watch each."""

    def __init__(self, database: Database, open_panel: Callable[[Node], Panel] = panel_of) -> None:
        self.database = database
        self.open_panel = open_panel
        self._crews: dict[Node, _Crew] = {}

    def wake(self) -> None:
        """There may be jobs: to be called after the transaction that wrote them."""
        for crew in self._crews.values():
            crew.live.woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`. A loop that dies ends this one too, with its reason."""
        try:
            while not stopping.is_set():
                await self._follow()
                for task in [task for crew in self._crews.values() for task in crew.tasks if task.done()]:
                    raise RuntimeError(f"{task.get_name()} ended") from task.exception()
                await happens(stopping, FOLLOW_EVERY_S)
        finally:
            await asyncio.gather(*(self._dismiss(node) for node in list(self._crews)))

    async def _follow(self) -> None:
        """Begin with nodes that are new or moved, and leave those that are not there any more."""
        try:
            serving = await nodes.serving(self.database)
        except Exception as error:  # The nodes that are known are worked on meanwhile.
            log.warning("nodes could not be read", error=repr(error))
            return
        for node in self._crews.keys() - set(serving):
            await self._dismiss(node)
        for node in serving:
            if node not in self._crews:
                self._hire(node)

    def _hire(self, node: Node) -> None:
        try:
            live = LiveNode(node, self.open_panel(node))
        except ValueError as error:
            log.error("node cannot be used", node=node.name, error=str(error))
            return
        leaving = asyncio.Event()
        loops = {
            "fresh": Worker(self.database, live, failed_before=False).run,
            "failed": Worker(self.database, live, failed_before=True).run,
            "watch": Watch(self.database, live).run,
        }
        tasks = (asyncio.create_task(run(leaving), name=f"{node.name} {name}") for name, run in loops.items())
        self._crews[node] = _Crew(live, leaving, tuple(tasks))
        log.info("node taken on", node=node.name, kind=node.kind, node_group=node.node_group)

    async def _dismiss(self, node: Node) -> None:
        """Let the loops end their rounds, then hang up."""
        crew = self._crews.pop(node)
        crew.leaving.set()
        crew.live.woken.set()
        await asyncio.gather(*crew.tasks, return_exceptions=True)
        await crew.live.panel.close()


async def place_first(node: Node | None, database: Database) -> None:
    """Put the environment's node into service, or move it where the environment now says; once is as often as twice."""
    if node is None or node in await nodes.serving(database):
        return
    async with database.transaction() as tx:
        await nodes.place(node, FIRST_CAPACITY, tx)
