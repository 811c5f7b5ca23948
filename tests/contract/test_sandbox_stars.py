"""Test Stars of the sandbox's people: a bounded number, which a button adds to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.sandbox import TOKEN
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.client import SandboxError
from turnpike_local.sandbox.people import STARS_MOST


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[SandboxClient]:
    async with Sandbox(tmp_path, TOKEN) as sandbox, SandboxClient(sandbox.url) as client:
        yield client


async def test_stars_are_added_to_the_balance(client: SandboxClient) -> None:
    """The version of the chat rises, so the page draws it again."""
    ann = await client.new_person("Ann", stars=5)
    before = await ann.chat()
    assert await ann.add_stars(95) == 100
    after = await ann.chat()
    assert after.stars == 100
    assert after.version > before.version


async def test_the_balance_has_a_limit(client: SandboxClient) -> None:
    ann = await client.new_person("Ann", stars=STARS_MOST - 1)
    with pytest.raises(SandboxError, match="at most 1,000,000,000 test Stars"):
        await ann.add_stars(2)
    assert await ann.add_stars(1) == STARS_MOST
    with pytest.raises(SandboxError, match="0 to 1,000,000,000 test Stars"):
        await client.new_person("Rich", stars=STARS_MOST + 1)


@pytest.mark.parametrize("amount", [0, -5])
async def test_stars_are_never_taken_away(client: SandboxClient, amount: int) -> None:
    ann = await client.new_person("Ann", stars=5)
    with pytest.raises(SandboxError, match="At least one Star"):
        await ann.add_stars(amount)
    assert (await ann.chat()).stars == 5
