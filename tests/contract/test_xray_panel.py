"""The Xray panel against a real node: keys carry traffic, and the traps of its API are avoided."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc.aio
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from turnpike_local.ports import accepts, free_port
from turnpike_local.processes import Child
from turnpike_local.xray import (
    INBOUND,
    RUN,
    Identity,
    NotFetchedError,
    XrayNode,
    fetch_through,
    new_identity,
    node_config,
)
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import (
    PanelRefused,
    PanelUnavailable,
    PanelUser,
    Vitals,
    Wanted,
)
from vpn_provisioner.panels.xray import xray_api_pb2 as wire
from vpn_provisioner.panels.xray.messages import adding, user_with
from vpn_provisioner.panels.xray.panel import XrayPanel

PAGE = "Traffic reached this page. " * 400
BACK_TIMEOUT_S = 60.0


@dataclass
class World:
    """A node, its panel and the page behind it. A restart replaces `node`."""

    node: XrayNode
    state_dir: Path
    panel: XrayPanel
    links: LinkTemplate
    page: BaseTestServer

    async def fetch(self, key: UUID) -> str:
        return await fetch_through(self.links.link(key), str(self.page.make_url("/")))

    async def lets_in(self, key: UUID) -> bool:
        try:
            return await self.fetch(key) == PAGE
        except NotFetchedError:
            return False

    async def restart_node(self) -> None:
        self.node = await XrayNode.start(self.state_dir, page_port=self.page.port or 0)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async def page_shown(_: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    app = web.Application()
    app.router.add_get("/", page_shown)
    state_dir = tmp_path_factory.mktemp("xray")
    async with TestServer(app) as page:
        node = await XrayNode.start(state_dir, page_port=page.port or 0)
        links = LinkTemplate(node.link_template)
        panel = XrayPanel(node.api, node.inbound, flow=links.flow)
        whole = World(node, state_dir, panel, links, page)
        yield whole
        await panel.close()
        await whole.node.stop()


@pytest.fixture
def panel(world: World) -> XrayPanel:
    return world.panel


def somebody() -> Wanted:
    return Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))


async def add_by_hand(node: XrayNode, user: wire.User) -> None:
    """Add a user that is not ours, as an operator's own script would."""
    request = wire.AlterInboundRequest(tag=node.inbound, operation=adding(user).operation)
    async with grpc.aio.insecure_channel(node.api) as channel:
        alter: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/xray.app.proxyman.command.HandlerService/AlterInbound"
        )
        await alter(request.SerializeToString())


async def vitals_once_back(panel: XrayPanel) -> Vitals:
    """The node's first sign of life, within `BACK_TIMEOUT_S`."""
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while True:
            try:
                return await panel.vitals()
            except PanelUnavailable:
                await asyncio.sleep(0.05)


async def test_a_key_carries_traffic_until_its_removal(world: World) -> None:
    """P-16: the panel's answer about a key is true for a client."""
    alice = somebody()
    assert not await world.lets_in(alice.key)

    await world.panel.ensure([alice])
    assert await world.fetch(alice.key) == PAGE
    first = (await world.panel.usage())[alice.person_id]
    assert first.down_bytes > len(PAGE)
    assert await world.fetch(alice.key) == PAGE
    second = (await world.panel.usage())[alice.person_id]
    assert second.down_bytes >= first.down_bytes + len(PAGE)
    assert second.up_bytes > first.up_bytes > 0

    await world.panel.remove([alice.person_id])
    assert not await world.lets_in(alice.key)


async def test_a_replaced_key_is_shut_out(world: World) -> None:
    alice = somebody()
    await world.panel.ensure([alice])
    reissued = replace(alice, key=uuid4())
    await world.panel.ensure([reissued])
    assert not await world.lets_in(alice.key)
    assert await world.lets_in(reissued.key)


async def test_a_user_with_another_flow_is_replaced(world: World) -> None:
    """The key is right, but no app gets in: link and user must name the same flow."""
    alice = somebody()
    await add_by_hand(world.node, user_with(alice.label, alice.key, flow=""))
    assert await world.panel.read(alice.person_id) == PanelUser(
        alice.label, alice.key, active=False
    )
    assert not await world.lets_in(alice.key)
    (outcome,) = await world.panel.ensure([alice])
    assert outcome == PanelUser(alice.label, alice.key, active=True)
    assert await world.lets_in(alice.key)


async def test_a_removal_spares_users_with_its_key(world: World) -> None:
    """Xray accepts one key under two labels. Removing either ends the key for both.

    The other one stays listed.
    """
    alice = somebody()
    await world.panel.ensure([alice])
    double = uuid4()
    await add_by_hand(world.node, user_with(str(double), alice.key, world.links.flow))
    assert await world.panel.remove([double]) == [None]
    assert await world.panel.read(double) is None
    assert await world.lets_in(alice.key)


async def test_foreign_users_are_listed_and_stay(world: World) -> None:
    """P-13: only users with a label of our form are ours."""
    await add_by_hand(world.node, user_with("operator@home", uuid4(), world.links.flow))
    alice = somebody()
    await world.panel.ensure([alice])
    await world.panel.remove([alice.person_id])
    assert [
        user.person_id async for user in world.panel.users() if user.label == "operator@home"
    ] == [None]


async def test_a_label_in_upper_case_is_replaced(world: World) -> None:
    """Xray ignores the case of labels and would refuse ours beside it."""
    alice = somebody()
    await add_by_hand(world.node, user_with(alice.label.upper(), uuid4(), world.links.flow))
    (outcome,) = await world.panel.ensure([alice])
    assert outcome == PanelUser(alice.label, alice.key)


async def test_an_unknown_inbound_is_refused_by_name(world: World) -> None:
    panel = XrayPanel(world.node.api, "peoples", flow="")
    try:
        (ensured,), (removed,) = await panel.ensure([somebody()]), await panel.remove([uuid4()])
        assert isinstance(ensured, PanelRefused)
        assert isinstance(removed, PanelRefused)
        for ask in (panel.read(uuid4()), panel.vitals()):
            with pytest.raises(PanelRefused, match="peoples"):
                await ask
    finally:
        await panel.close()


@pytest.mark.parametrize("tag", ["trojan", INBOUND])
async def test_another_protocol_is_refused_and_nothing_dies(tmp_path: Path, tag: str) -> None:
    """A VLESS account in a Trojan inbound makes the whole node panic, with everybody on it.

    A restart may give a VLESS tag to another protocol, so the inbound is checked again then.
    """
    identity = new_identity()
    node_of_ours = dict(node_config(identity, decoy_port=free_port(), page_port=free_port()))
    trojan = {
        "tag": tag,
        "listen": "127.0.0.1",
        "port": free_port(),
        "protocol": "trojan",
        "settings": {},
    }
    panel = XrayPanel(f"127.0.0.1:{identity.api_port}", tag, flow="")
    try:
        if tag == INBOUND:
            async with running(node_of_ours, identity, tmp_path):
                await panel.vitals()
        async with running(node_of_ours | {"inbounds": [trojan]}, identity, tmp_path) as node:
            with pytest.raises(PanelRefused, match="not VLESS"):
                await panel.vitals()
            (outcome,) = await panel.ensure([somebody()])
            assert isinstance(outcome, PanelRefused)
            assert node.alive
    finally:
        await panel.close()


@asynccontextmanager
async def running(
    config: Mapping[str, Any], identity: Identity, folder: Path
) -> AsyncIterator[Child]:
    """An Xray node with any configuration."""
    given, log = json.dumps(config).encode(), folder / "node.log"
    node = await Child.start(
        "xray", RUN, stdin=given, log=log, ready=lambda: accepts(identity.api_port)
    )
    try:
        yield node
    finally:
        await node.stop()


async def test_a_restart_changes_the_incarnation(world: World) -> None:
    """P-12: the node loses all users. Its vitals show that, and the same keys are put back."""
    crowd = [somebody() for _ in range(50)]
    await world.panel.ensure(crowd)
    before = await world.panel.vitals()
    await world.node.stop()
    await world.restart_node()

    after = await vitals_once_back(world.panel)
    assert after.incarnation != before.incarnation
    assert after.users == 0
    assert not await world.lets_in(crowd[0].key)
    await world.panel.ensure(crowd)
    assert (await world.panel.vitals()).incarnation == after.incarnation
    assert (await world.panel.vitals()).users == len(crowd)
    assert await world.lets_in(crowd[0].key)


async def test_a_killed_node_gets_its_batch_again(world: World) -> None:
    """P-10: the thousands that are left share one time-out, and no absent user counts as held."""
    crowd = [somebody() for _ in range(10_000)]
    batch = asyncio.ensure_future(world.panel.ensure(crowd))
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while await count_of(world) < 100:
            pass
        world.node.kill()
        assert {type(outcome) for outcome in await batch} == {PanelUnavailable}

    await world.node.child.wait()
    await world.restart_node()
    await vitals_once_back(world.panel)
    assert {type(outcome) for outcome in await world.panel.ensure(crowd)} == {PanelUser}
    assert await count_of(world) == len(crowd)


async def count_of(world: World) -> int:
    return (await world.panel.vitals()).users
