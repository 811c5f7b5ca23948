"""The fleet on a real PostgreSQL: it follows the list of nodes, and no node waits for another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from shared.contracts.vpn import AccessGranted
from shared.platform.db import Database
from tests.kit.access import (
    LINK,
    FailingPanel,
    bought,
    broken,
    confirmed,
    handle,
    job_of,
    published,
    registered,
)
from tests.kit.bot import opened
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from vpn_provisioner.domain.nodes import Node
from vpn_provisioner.panels.protocol import Panel
from vpn_provisioner.store import nodes
from vpn_provisioner.workers.fleet import Fleet, register_first
from vpn_provisioner.workers.reconciler import Reconciler


@asynccontextmanager
async def running(vpn: Database, open_panel: Callable[[Node], Panel]) -> AsyncIterator[Fleet]:
    stopping, fleet = asyncio.Event(), Fleet(vpn, open_panel)
    running = asyncio.create_task(fleet.run(stopping))
    try:
        yield fleet
    finally:
        stopping.set()
        await running


async def test_an_absent_node_costs_no_tries(
    vpn: Database, node: Node, panel: FailingPanel
) -> None:
    """P-09: its jobs wait behind the breaker, other nodes go on, and it drains once it is back."""
    far, other = await registered(vpn, "two", node_group="far"), FailingPanel()
    panels: dict[UUID, Panel] = {node.id: panel, far.id: other}
    panel.away = True

    async def all_granted() -> bool:
        return len(await published(vpn, AccessGranted)) == 60

    async with running(vpn, lambda node: panels[node.id]) as fleet:
        here = await bought(vpn, 30)
        await handle(vpn, *(confirmed(uuid4(), node_group="far") for _ in range(30)))
        fleet.wake()
        await until(lambda: len(other.held) == 30)
        await asyncio.sleep(1)
        assert len(panel.asked) <= 2
        assert (await job_of(vpn, here[0], node))["tries"] == 0
        panel.away = False
        await until(lambda: len(panel.held) == 30)
        await until(all_granted)
    assert await broken(vpn) == {}


async def test_a_moved_node_gets_a_new_connection(vpn: Database, panel: FailingPanel) -> None:
    """The environment names another address after a restart.

    The row stays, the connection is new, and everybody is put back.
    """
    there = FailingPanel()
    old = Node(uuid4(), "first", "xray", "default", "127.0.0.1:1", "people", LINK)
    new = replace(old, address="127.0.0.1:2")
    panels: dict[str, Panel] = {old.address: panel, new.address: there}
    await register_first(old, vpn)
    async with running(vpn, lambda node: panels[node.address]) as fleet:
        await bought(vpn, 3)
        fleet.wake()
        await until(lambda: len(panel.held) == 3)
        await register_first(new, vpn)
        await until(lambda: there.held == panel.held)
    assert await nodes.serving(vpn) == [new]


async def test_registering_the_first_node_again_changes_nothing(vpn: Database, node: Node) -> None:
    await register_first(node, vpn)
    await register_first(None, vpn)
    assert await nodes.serving(vpn) == [node]


async def test_an_unusable_node_stops_no_other(vpn: Database, panel: FailingPanel) -> None:
    await registered(vpn, "broken")
    await registered(vpn, "far", node_group="far")

    def opened(node: Node) -> Panel:
        if node.name == "broken":
            raise ValueError("no such link")
        return panel

    async with running(vpn, opened):
        await handle(vpn, confirmed(uuid4(), node_group="far"))
        await until(lambda: len(panel.held) == 1)


async def test_a_dead_loop_ends_the_fleet(
    vpn: Database, node: Node, panel: FailingPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-05: with its reason. A process without one of its loops is worse than a restart."""

    async def dies(*_: object) -> None:
        raise SystemError("gone")

    monkeypatch.setattr(Reconciler, "run", dies)
    monkeypatch.setattr("vpn_provisioner.workers.fleet.FOLLOW_EVERY_S", 0.05)
    with pytest.raises(RuntimeError, match="one reconciler ended"):
        await Fleet(vpn, lambda _: panel).run(asyncio.Event())


FIRST = Node(uuid4(), "first", "xray", "default", "127.0.0.1:7", "people", LINK)
ROWS = "select id, name, address, inbound, link_template, state from nodes order by name"


@pytest.mark.parametrize(
    ("row", "there"),
    [
        (replace(FIRST, id=uuid4(), name="mine"), []),
        (replace(FIRST, id=uuid4(), address="127.0.0.1:8"), []),
        (replace(FIRST, id=uuid4(), name="mine", link_template=f"{LINK}2"), [FIRST]),
        (replace(FIRST, id=uuid4(), name="mine"), [replace(FIRST, address="127.0.0.1:9")]),
    ],
    ids=["its address", "its name", "its address while listed", "its new address"],
)
async def test_a_row_equal_to_the_first_node_stays(
    fresh_database: MakeDatabase, row: Node, there: list[Node]
) -> None:
    """P-41: the environment's node has the address or the name of a row; each start goes on."""
    async with opened((await fresh_database("vpn")).dsn("vpn_app")) as vpn:
        for known in there:
            await register_first(known if known != FIRST else replace(FIRST, address="x:1"), vpn)
        async with vpn.transaction() as tx:
            assert await nodes.register(row, 100, tx) is None
        before = await vpn.fetch(ROWS)
        with capture_logs() as logs:
            for _ in range(2):
                await register_first(FIRST, vpn)
        assert await vpn.fetch(ROWS) == before
        assert [(log["event"], log["row"]) for log in logs] == [
            ("the environment's node is left out: a row has its address or its name", row.name)
        ] * 2


async def test_every_changed_value_reaches_the_row(vpn: Database) -> None:
    """P-41: the row of the first node follows its environment, at every start."""
    await register_first(FIRST, vpn)
    changed = replace(FIRST, address="127.0.0.1:9", inbound="other", link_template=f"{LINK}3")
    for _ in range(2):
        await register_first(changed, vpn)
        assert await nodes.serving(vpn) == [changed]


async def test_a_retired_first_node_stays_retired(vpn: Database) -> None:
    """P-41: the operator took it out of service; a start does not put it back."""
    await register_first(FIRST, vpn)
    await vpn.execute("update nodes set state = 'retired'")
    with capture_logs() as logs:
        await register_first(FIRST, vpn)
    assert await nodes.serving(vpn) == []
    assert [log["event"] for log in logs] == ["the environment's node is retired: it is not served"]
