"""The window on Xray against a real node, with keys that carry traffic, and the traps of its API."""

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
from vpn_provisioner.panels import xray_api_pb2 as wire
from vpn_provisioner.panels.protocol import PanelRefused, PanelUnavailable, PanelUser, Vitals, Wanted
from vpn_provisioner.panels.xray import LinkTemplate, XrayPanel, adding, user_with

PAGE = "Traffic reached this page. " * 400
BACK_TIMEOUT_S = 10.0


@dataclass
class Town:
    """A node, the window on it and the page behind it. `node` is replaced when it was started again."""

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

    async def start_again(self) -> None:
        self.node = await XrayNode.start(self.state_dir, page_port=self.page.port or 0)


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async def page_shown(_: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    app = web.Application()
    app.router.add_get("/", page_shown)
    state_dir = tmp_path_factory.mktemp("xray")
    async with TestServer(app) as page:
        node = await XrayNode.start(state_dir, page_port=page.port or 0)
        links = LinkTemplate(node.link_template)
        panel = XrayPanel(node.api, node.inbound, flow=links.flow)
        whole = Town(node, state_dir, panel, links, page)
        yield whole
        await panel.close()
        await whole.node.stop()


@pytest.fixture
def panel(town: Town) -> XrayPanel:
    return town.panel


def somebody() -> Wanted:
    return Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))


async def add_by_hand(node: XrayNode, user: wire.User) -> None:
    """A user that is not of our making, as an operator's own script would add it."""
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


async def test_a_key_carries_traffic_only_between_its_adding_and_its_removal(town: Town) -> None:
    """P-16: what the panel says about a key is what a client meets."""
    alice = somebody()
    assert not await town.lets_in(alice.key)

    await town.panel.ensure([alice])
    assert await town.fetch(alice.key) == PAGE
    first = (await town.panel.usage())[alice.person_id]
    assert first.down_bytes > len(PAGE)
    assert await town.fetch(alice.key) == PAGE
    second = (await town.panel.usage())[alice.person_id]
    assert second.down_bytes >= first.down_bytes + len(PAGE)
    assert second.up_bytes > first.up_bytes > 0

    await town.panel.remove([alice.person_id])
    assert not await town.lets_in(alice.key)


async def test_a_replaced_key_is_shut_out(town: Town) -> None:
    alice = somebody()
    await town.panel.ensure([alice])
    reissued = replace(alice, key=uuid4())
    await town.panel.ensure([reissued])
    assert not await town.lets_in(alice.key)
    assert await town.lets_in(reissued.key)


async def test_a_user_with_another_flow_is_replaced(town: Town) -> None:
    """The key is right and yet no app gets in, since links and users must name the same flow."""
    alice = somebody()
    await add_by_hand(town.node, user_with(alice.label, alice.key, flow=""))
    assert await town.panel.read(alice.person_id) == PanelUser(alice.label, alice.key, active=False)
    assert not await town.lets_in(alice.key)
    (outcome,) = await town.panel.ensure([alice])
    assert outcome == PanelUser(alice.label, alice.key, active=True)
    assert await town.lets_in(alice.key)


async def test_removing_a_user_does_not_shut_out_another_with_the_same_key(town: Town) -> None:
    """Xray takes one key under two labels, and removing either ends the key for both while the other stays listed."""
    alice = somebody()
    await town.panel.ensure([alice])
    double = uuid4()
    await add_by_hand(town.node, user_with(str(double), alice.key, town.links.flow))
    assert await town.panel.remove([double]) == [None]
    assert await town.panel.read(double) is None
    assert await town.lets_in(alice.key)


async def test_other_peoples_users_are_listed_and_left_alone(town: Town) -> None:
    """P-13: only what bears a label of our form is ours."""
    await add_by_hand(town.node, user_with("operator@home", uuid4(), town.links.flow))
    alice = somebody()
    await town.panel.ensure([alice])
    await town.panel.remove([alice.person_id])
    assert [user.person_id async for user in town.panel.users() if user.label == "operator@home"] == [None]


async def test_a_label_in_other_letters_is_replaced(town: Town) -> None:
    """Xray finds labels without regard to case and would refuse ours beside it."""
    alice = somebody()
    await add_by_hand(town.node, user_with(alice.label.upper(), uuid4(), town.links.flow))
    (outcome,) = await town.panel.ensure([alice])
    assert outcome == PanelUser(alice.label, alice.key)


async def test_an_unknown_inbound_is_refused_by_name(town: Town) -> None:
    panel = XrayPanel(town.node.api, "peoples", flow="")
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
async def test_an_inbound_of_another_protocol_is_refused_and_the_node_lives(tmp_path: Path, tag: str) -> None:
    """A VLESS account added to a Trojan inbound panics the whole node, with everybody on it.

    Under a tag that was VLESS before the node was started again, the loss of the users is when to look anew.
    """
    identity = new_identity()
    node_of_ours = dict(node_config(identity, decoy_port=free_port(), page_port=free_port()))
    trojan = {"tag": tag, "listen": "127.0.0.1", "port": free_port(), "protocol": "trojan", "settings": {}}
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
async def running(config: Mapping[str, Any], identity: Identity, folder: Path) -> AsyncIterator[Child]:
    """An Xray of any configuration."""
    given, log = json.dumps(config).encode(), folder / "node.log"
    node = await Child.start("xray", RUN, stdin=given, log=log, ready=lambda: accepts(identity.api_port))
    try:
        yield node
    finally:
        await node.stop()


async def test_a_restart_loses_all_users_and_another_incarnation_tells_so(town: Town) -> None:
    """P-12: the node forgets everybody; whoever asks for its vitals sees it and puts them back, with the same keys."""
    crowd = [somebody() for _ in range(50)]
    await town.panel.ensure(crowd)
    before = await town.panel.vitals()
    await town.node.stop()
    await town.start_again()

    after = await vitals_once_back(town.panel)
    assert after.incarnation != before.incarnation
    assert after.users == 0
    assert not await town.lets_in(crowd[0].key)
    await town.panel.ensure(crowd)
    assert (await town.panel.vitals()).incarnation == after.incarnation
    assert (await town.panel.vitals()).users == len(crowd)
    assert await town.lets_in(crowd[0].key)


async def test_a_node_killed_within_a_batch_gets_the_whole_batch_again(town: Town) -> None:
    """P-10: nobody waits once for each of the thousands that are left, and nobody is taken for held who is not."""
    crowd = [somebody() for _ in range(10_000)]
    batch = asyncio.ensure_future(town.panel.ensure(crowd))
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while await count_of(town) < 100:
            pass
        town.node.kill()
        assert {type(outcome) for outcome in await batch} == {PanelUnavailable}

    await town.start_again()
    await vitals_once_back(town.panel)
    assert {type(outcome) for outcome in await town.panel.ensure(crowd)} == {PanelUser}
    assert await count_of(town) == len(crowd)


async def count_of(town: Town) -> int:
    return (await town.panel.vitals()).users
