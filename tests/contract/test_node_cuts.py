"""The node's program against a real client: what an ended key left open is cut, and nothing else.

Xray alone lets it go on: `test_xray_alone_cuts_nothing` is the reason for the program.
"""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import aiohttp_socks
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from tests.kit.waiting import until
from turnpike_local.environment import ROOT
from turnpike_local.ports import LOOPBACK, accepts, free_port
from turnpike_local.processes import Child
from turnpike_local.xray import (
    INBOUND,
    RUN,
    Identity,
    NotFetchedError,
    client_config,
    fetch_through,
    link_template,
    new_identity,
    node_config,
)
from vpn_provisioner import ticks
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.panels.xray.panel import XrayPanel
from vpn_provisioner.workers import jobs

PROGRAM = ROOT / "deploy/docker/node.py"
LOOK_EVERY_S = 0.2
CUT_AFTER_S = 3.0
# So many chunks arrive in a quarter of a second: the connection goes on.
GOES_ON_CHUNKS = 25
HANG_S = 60.0
LOOKS = 50


@dataclass
class Download:
    """A page without an end, read through a key by a client of its own."""

    reading: asyncio.Task[None]
    chunks: int = 0

    @property
    def open(self) -> bool:
        return not self.reading.done()

    async def goes_on(self) -> None:
        """Wait for more chunks than may have been on their way."""
        enough = self.chunks + GOES_ON_CHUNKS
        await until(lambda: self.chunks >= enough or not self.open, within_s=HANG_S)
        assert self.open

    async def is_cut(self) -> None:
        await until(lambda: not self.open, within_s=HANG_S)


@dataclass
class World:
    """A node, its panel and a page without an end behind it."""

    panel: XrayPanel
    links: LinkTemplate
    page: str
    folder: Path
    log: Path

    async def customer(self) -> Wanted:
        somebody = Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))
        await self.panel.ensure([somebody])
        return somebody

    @asynccontextmanager
    async def download(self, key: UUID) -> AsyncIterator[Download]:
        port = free_port()
        config = json.dumps(client_config(self.links.link(key), port)).encode()
        log = self.folder / f"client-{port}.log"
        client = await Child.start(
            "xray client", RUN, stdin=config, log=log, ready=lambda: accepts(port)
        )
        found = Download(asyncio.create_task(asyncio.sleep(0)))

        async def read() -> None:
            connector = aiohttp_socks.ProxyConnector.from_url(f"socks5://{LOOPBACK}:{port}")
            with suppress(aiohttp.ClientError, aiohttp_socks.ProxyError):
                async with (
                    aiohttp.ClientSession(connector=connector) as session,
                    session.get(f"{self.page}endless", ssl=False) as response,
                ):
                    async for _ in response.content.iter_any():
                        found.chunks += 1

        found.reading = asyncio.create_task(read())
        try:
            await until(lambda: found.chunks > 0, within_s=HANG_S)
            yield found
        finally:
            found.reading.cancel()
            await asyncio.gather(found.reading, return_exceptions=True)
            await client.stop()

    async def refuses(self, key: UUID) -> None:
        with pytest.raises(NotFetchedError):
            await fetch_through(self.links.link(key), self.page, timeout_s=2)


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b"x" * 1_000)
            await asyncio.sleep(0.01)
    return response


async def short(_: web.Request) -> web.Response:
    return web.Response(text="the page")


def tls(identity: Identity, folder: Path) -> ssl.SSLContext:
    """TLS 1.3 with the certificate of the node's decoy."""
    pem = folder / "page.pem"
    pem.write_text(identity.certificate_key + identity.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(pem)
    return context


def config_of(identity: Identity, page: BaseTestServer) -> dict[str, Any]:
    return dict(node_config(identity, decoy_port=free_port(), page_port=page.port or 0))


@asynccontextmanager
async def world(
    folder: Path,
    *,
    alone: bool = False,
    encrypted: bool = False,
    changed: Mapping[str, Any] | None = None,
) -> AsyncIterator[World]:
    """`alone`: Xray without the program. `changed`: other parts of the node's configuration.

    `encrypted`: the page is HTTPS, of which Vision hands the bytes from socket to socket.
    """
    app = web.Application()
    app.router.add_get("/", short)
    app.router.add_get("/endless", endless)
    identity = new_identity()
    page = TestServer(app, host=LOOPBACK)
    await page.start_server(ssl=tls(identity, folder) if encrypted else None)
    async with page:
        config = json.dumps(config_of(identity, page) | dict(changed or {}))
        (folder / "node.json").write_text(config)
        program = (
            sys.executable,
            *("-I", str(PROGRAM), str(folder / "node.json")),
            *("--look-every-s", str(LOOK_EVERY_S), "--cut-after-s", str(CUT_AFTER_S)),
        )

        async def ready() -> bool:
            return await accepts(identity.api_port) and await accepts(identity.port)

        node = await Child.start(
            "node",
            RUN if alone else program,
            stdin=config.encode(),
            log=folder / "node.log",
            ready=ready,
        )
        links = LinkTemplate(link_template(identity))
        panel = XrayPanel(f"{LOOPBACK}:{identity.api_port}", INBOUND, flow=links.flow)
        try:
            yield World(panel, links, str(page.make_url("/")), folder, folder / "node.log")
        finally:
            await panel.close()
            assert await node.stop() == 0


@pytest.mark.parametrize("encrypted", [False, True])
async def test_an_open_download_ends_after_its_key(tmp_path: Path, encrypted: bool) -> None:
    """P-42: the download of a removed user is cut. Another person's download goes on."""
    async with world(tmp_path, encrypted=encrypted) as node:
        ended, other = await node.customer(), await node.customer()
        async with node.download(ended.key) as cut, node.download(other.key) as kept:
            await node.panel.remove([ended.person_id])
            await node.refuses(ended.key)
            await cut.is_cut()
            await kept.goes_on()
            await node.panel.remove([other.person_id])
            await kept.is_cut()
        assert node.log.read_text().count("connections of ended keys were cut: 1") == 2


async def test_a_renewal_in_time_is_not_cut(tmp_path: Path) -> None:
    """P-43: the user is back before the cut is due, and another one's cut shows that it was."""
    async with world(tmp_path) as node:
        renewed, ended = await node.customer(), await node.customer()
        async with node.download(renewed.key) as kept, node.download(ended.key) as cut:
            await node.panel.remove([renewed.person_id, ended.person_id])
            await node.panel.ensure([renewed])
            await cut.is_cut()
            await kept.goes_on()


async def test_a_replaced_key_is_cut(tmp_path: Path) -> None:
    """P-42, P-43: the user stays, but the connection began with a key that is none any more.

    What begins with the new key goes on: another person's cut shows that the time has passed.
    """
    async with world(tmp_path) as node:
        person, first, other = [await node.customer() for _ in range(3)]
        async with node.download(other.key) as another:
            async with node.download(person.key) as cut, node.download(first.key) as early:
                await node.panel.remove([first.person_id])
                await early.is_cut()  # So the first key of the person was seen.
                reissued = replace(person, key=uuid4())
                await node.panel.ensure([reissued])
                await cut.is_cut()
            async with node.download(reissued.key) as kept:
                await node.panel.remove([other.person_id])
                await another.is_cut()
                await kept.goes_on()


async def test_xray_alone_cuts_nothing(tmp_path: Path) -> None:
    """P-42: without the program, a download outlives its key. A new connection is refused."""
    async with world(tmp_path, alone=True) as node:
        ended = await node.customer()
        async with node.download(ended.key) as kept:
            await node.panel.remove([ended.person_id])
            await node.refuses(ended.key)
            await kept.goes_on()


async def test_an_access_log_of_the_operator_stays(tmp_path: Path) -> None:
    """The program leaves it alone, and says that it does not cut."""
    log = {"loglevel": "warning", "access": str(tmp_path / "access.log")}
    async with world(tmp_path, changed={"log": log}) as node:
        ended = await node.customer()
        async with node.download(ended.key) as kept:
            await node.panel.remove([ended.person_id])
            await kept.goes_on()
        assert "connections of ended keys are not cut" in node.log.read_text()
    assert str(ended.person_id) in (tmp_path / "access.log").read_text()


async def test_looking_leaves_no_descriptor_open() -> None:
    """P-42: files and sockets are copied to look at them. Soon a leak would end every look.

    Other threads of the tests open a few of their own meanwhile.
    """
    node = program()
    server = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection(LOOPBACK, port)
    before = len(os.listdir("/proc/self/fd"))
    here = writer.get_extra_info("sockname")
    assert [peer for peer, _ in node.sockets({here[1]})] == [(LOOPBACK, port)]
    for _ in range(LOOKS):
        assert list(node.sockets({1})) == []
    assert len(os.listdir("/proc/self/fd")) < before + LOOKS
    writer.close()
    server.close()


def test_a_peer_of_two_users_is_never_cut() -> None:
    """P-43: whose connection it is cannot be said, so it stays. Any other is due in time."""
    cutter = program().Cutter(cut_after_s=CUT_AFTER_S)
    line = b"2026/12/01 00:00:00.000001 from %b accepted tcp:a.test:443 [in >> out] email: %b"
    for peer, label in ((b"1.2.3.4:5", b"a"), (b"[::ffff:1.2.3.4]:5", b"b"), (b"[::1]:6", b"A")):
        cutter.accepted(line % (peer, label))
    cutter.accepted(line.replace(b"accepted", b"rejected") % (b"9.9.9.9:9", b"a"))
    assert cutter.due({"a": b"key", "b": b"key"}, 0) == set()
    assert cutter.due({}, 1) == set()
    assert cutter.due({}, 1 + CUT_AFTER_S) == {("::1", 6)}


def test_a_user_who_is_back_is_not_due() -> None:
    """P-43: the time counts anew after the user, with the same key, was seen again."""
    cutter = program().Cutter(cut_after_s=CUT_AFTER_S)
    cutter.accepted(b"2026/12/01 00:00:00.000001 from 1.2.3.4:5 accepted tcp:a.test:443 email: a")
    assert cutter.due({"a": b"key"}, 0) == set()
    assert cutter.due({}, 1) == set()
    assert cutter.due({"a": b"key"}, 2) == set()
    assert cutter.due({"a": b"other"}, 1 + CUT_AFTER_S) == set()
    assert cutter.due({"a": b"other"}, 1 + 2 * CUT_AFTER_S) == {("1.2.3.4", 5)}


def test_an_end_is_cut_within_a_minute() -> None:
    """P-42: the longest wait of each step, and nine seconds for the work of all steps."""
    node = program()
    removed_s = ticks.EXPIRE_EVERY_S + jobs.POLL_S
    seen_and_cut_s = node.CUT_AFTER_S + 2 * node.LOOK_EVERY_S
    assert removed_s + seen_and_cut_s + 9 <= 60


def program() -> ModuleType:
    """The program as a module."""
    spec = spec_from_file_location("node_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    sys.modules[spec.name] = found  # Its dataclass looks itself up.
    spec.loader.exec_module(found)
    return found
