"""The local Xray node: a restart keeps it the same, and its keys reach one page only."""

import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from turnpike_local.ports import free_port
from turnpike_local.processes import StartError
from turnpike_local.xray import NotFetchedError, XrayNode, fetch_through
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.panels.xray.panel import XrayPanel


@pytest.fixture(scope="module")
async def pages() -> AsyncIterator[tuple[BaseTestServer, BaseTestServer]]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app) as first, TestServer(app) as second:
        yield first, second


async def test_keys_reach_one_page_only(
    pages: tuple[BaseTestServer, BaseTestServer], tmp_path: Path
) -> None:
    """A key must not open the other ports of the machine on which the node runs."""
    page, other = pages
    node = await XrayNode.start(tmp_path, page_port=page.port or 0)
    links = LinkTemplate(node.link_template)
    panel = XrayPanel(node.api, node.inbound, flow=links.flow)
    try:
        alice = Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))
        await panel.ensure([alice])
        assert await fetch_through(links.link(alice.key), str(page.make_url("/"))) == "the page"
        with pytest.raises(NotFetchedError):
            await fetch_through(links.link(alice.key), str(other.make_url("/")), timeout_s=1)
    finally:
        await panel.close()
        await node.stop()


async def test_a_restarted_node_keeps_links_and_address(tmp_path: Path) -> None:
    first = await XrayNode.start(tmp_path, page_port=free_port())
    await first.stop()
    second = await XrayNode.start(tmp_path, page_port=free_port())
    await second.stop()
    assert (second.link_template, second.api) == (first.link_template, first.api)
    assert not second.alive


async def test_only_the_owner_reads_the_keys(tmp_path: Path) -> None:
    node = await XrayNode.start(tmp_path, page_port=free_port())
    await node.stop()
    assert stat.S_IMODE((tmp_path / "node.json").stat().st_mode) == 0o600


async def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    node = await XrayNode.start(tmp_path, page_port=free_port())
    try:
        with pytest.raises(StartError, match=r"^Port \d+ of .* is taken by another program\.$"):
            await XrayNode.start(tmp_path, page_port=free_port())
    finally:
        await node.stop()


async def test_a_broken_identity_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text(json.dumps({"port": 1}))
    with pytest.raises(StartError, match=r"node\.json does not hold the settings of an Xray node"):
        await XrayNode.start(tmp_path, page_port=free_port())
