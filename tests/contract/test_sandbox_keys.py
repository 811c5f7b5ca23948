"""Trials of keys: a real client, a real node, and a sentence that says what is known."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiogram import Bot

from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of, started
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import PersonClient, SandboxError
from turnpike_local.sandbox.keys import Keys
from turnpike_local.sandbox.people import Unable
from turnpike_local.xray import XrayNode
from vpn_provisioner.domain.nodes import LinkTemplate
from vpn_provisioner.domain.panel import Wanted
from vpn_provisioner.panels.xray.panel import XrayPanel

MOST_S = 60.0


@dataclass
class Trying:
    node: XrayNode
    panel: XrayPanel
    links: LinkTemplate
    bot: Bot
    ann: PersonClient

    async def sent(self, wanted: Wanted) -> str:
        """The key of this user, after the bot sent it."""
        key = self.links.link(wanted.key)
        await self.bot.send_message(self.ann.id, f"<code>{key}</code>", parse_mode="HTML")
        return key


def wanted() -> Wanted:
    return Wanted(uuid4(), uuid4(), datetime.now(UTC) + timedelta(days=30))


@pytest.fixture
async def trying(tmp_path: Path) -> AsyncIterator[Trying]:
    async with (
        Sandbox(tmp_path / "sandbox", TOKEN, limits=UNLIMITED) as sandbox,
        SandboxClient(sandbox.url) as client,
        bot_of(sandbox) as bot,
    ):
        node = await XrayNode.start(tmp_path / "node", page_port=sandbox.port)
        links = LinkTemplate(node.link_template)
        panel = XrayPanel(node.api, node.inbound, flow=links.flow)
        try:
            yield Trying(node, panel, links, bot, await started(client))
        finally:
            await panel.close()
            await node.stop()


async def test_a_trial_says_what_is_known(trying: Trying) -> None:
    """W-66: the same key while it is issued, after its removal, and without its node.

    A key that never worked here may have any of three reasons, and all three are said.
    """
    issued, other = wanted(), wanted()
    key, never = await trying.sent(issued), await trying.sent(other)
    await trying.panel.ensure([issued])
    outcome, sentence = await trying.ann.try_key(key)
    assert (outcome, "It works" in sentence) == ("works", True)
    outcome, sentence = await trying.ann.try_key(never)
    assert (outcome, "never issued" in sentence) == ("rejected", True)
    await trying.panel.remove([issued.person_id])
    outcome, sentence = await trying.ann.try_key(key)
    assert (outcome, "has expired or was removed" in sentence) == ("ended", True)
    await trying.node.stop()
    outcome, sentence = await trying.ann.try_key(key)
    assert (outcome, "does not answer at 127.0.0.1" in sentence) == ("silent", True)


async def test_a_key_is_tried_once_at_a_time(trying: Trying) -> None:
    """W-66: a second trial meanwhile is refused; one after it is not."""
    issued = wanted()
    key = await trying.sent(issued)
    await trying.panel.ensure([issued])
    both = await asyncio.gather(
        trying.ann.try_key(key), trying.ann.try_key(key), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["SandboxError", "tuple"]
    assert (await trying.ann.try_key(key))[0] == "works"


async def test_a_node_that_says_nothing_is_bounded(trying: Trying) -> None:
    """W-66: a server that accepts and stays silent ends the trial after some seconds."""
    port = free_port()
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", port)
    async with silent:
        key = trying.links.link(uuid4())
        key = key.replace(key.partition("@")[2].partition("?")[0], f"127.0.0.1:{port}")
        await trying.bot.send_message(trying.ann.id, key)
        async with asyncio.timeout(MOST_S):
            assert (await trying.ann.try_key(key))[0] == "unclear"
        for writer in held:
            writer.close()


@pytest.mark.parametrize("key", ["vless://unknown@127.0.0.1:1", "https://example.org", ""])
async def test_only_keys_of_the_chat_are_tried(trying: Trying, key: str) -> None:
    await trying.ann.say("https://example.org")
    with pytest.raises(SandboxError, match="no such key in this chat"):
        await trying.ann.try_key(key)


@pytest.mark.parametrize("key", ["vless://", "vless://person@"])
async def test_a_piece_of_a_key_is_refused(key: str) -> None:
    """W-66: a message may hold any beginning of a key."""
    with pytest.raises(Unable, match="cannot read this key"):
        await Keys(lambda: "http://127.0.0.1:1/").attempt(key)


async def test_an_unreadable_key_is_refused(trying: Trying) -> None:
    address = urlsplit(trying.links.link(uuid4()))
    key = f"vless://nonsense@{address.hostname}:{address.port}"
    await trying.bot.send_message(trying.ann.id, key)
    with pytest.raises(SandboxError, match="cannot read this key"):
        await trying.ann.try_key(key)
