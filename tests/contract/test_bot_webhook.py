"""The door at /telegram: the secret first, then the row, then "received"; settings that cannot work are refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from bot_gateway.settings import Settings
from shared.db import Database
from shared.service import Service
from shared.settings import mistakes
from tests.kit.bot import TOKEN, UNHURRIED, message_update, opened, running, settings, until
from tests.kit.servers import MakeDatabase
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient

SECRET = "a-secret-that-telegram-knows"


@dataclass
class Door:
    service: Service
    database: Database
    sandbox: Sandbox
    url: str

    async def post(self, body: bytes, secret: str | None = SECRET) -> int:
        headers = {"X-Telegram-Bot-Api-Secret-Token": secret} if secret is not None else {}
        async with aiohttp.ClientSession() as session, session.post(self.url, data=body, headers=headers) as answer:
            return answer.status

    async def kept(self) -> int:
        count: int = await self.database.fetchval("select count(*) from updates")
        return count


@pytest.fixture
async def door(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Door]:
    place, port = await fresh_database("bot"), free_port()
    url = f"http://127.0.0.1:{port}/telegram"
    async with Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox, opened(place.dsn("bot_app")) as database:
        configured = settings(
            place.dsn("bot_app"),
            nats_url,
            sandbox.url,
            http_port=port,
            telegram_mode="webhook",
            telegram_webhook_url=url,
            telegram_webhook_secret=SECRET,
        )
        async with running(configured) as service:
            yield Door(service, database, sandbox, url)


def body(**changes: Any) -> bytes:
    return json.dumps(message_update(77, text="hello", **changes)).encode()


@pytest.mark.parametrize("secret", [None, "", "a-secret-that-telegram-know", f"{SECRET}x", "ключ"])
async def test_without_the_secret_nothing_is_stored(door: Door, secret: str | None) -> None:
    """S-07: 401 and no row, whatever the body says."""
    assert await door.post(body(), secret) == 401
    assert await door.kept() == 0


async def test_an_update_posted_ten_times_is_received_ten_times_and_kept_once(door: Door) -> None:
    """R-03: Telegram repeats until it hears 200."""
    update = body()
    assert await asyncio.gather(*(door.post(update) for _ in range(10))) == [200] * 10
    assert await door.kept() == 1


async def test_too_much_and_nonsense_are_refused_and_the_door_stays_open(door: Door) -> None:
    assert await door.post(b"x" * (1024 * 1024 + 1)) == 413
    assert await door.post(b"{nonsense") == 400
    assert await door.post(body()) == 200
    assert await door.kept() == 1


async def test_while_the_database_is_away_telegram_is_told_to_ask_again(door: Door) -> None:
    """R-06: 503, not 200; the same update is taken in once the database is back."""
    update = body()
    await door.service.database.close()
    assert await door.post(update) == 503
    await door.service.database.open()
    assert await door.post(update) == 200
    assert await door.kept() == 1


async def test_telegram_finds_the_door_by_itself_and_what_waited_comes_too(door: Door) -> None:
    """R-14, W-18: the webhook is set at start, with the secret, and nothing that waited is dropped."""
    async with SandboxClient(door.sandbox.url) as people:
        await until(lambda: _has_webhook(people, door.url))
        ann = await people.new_person("Ann")
        await ann.say("/start")
        await ann.hears("Welcome to Turnpike")
        assert (await people.health())["pending_updates"] == 0


async def _has_webhook(people: SandboxClient, url: str) -> bool:
    known: str = (await people.health())["webhook"]
    return known == url


def sentences(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"dsn": "postgresql://x", "nats_url": "nats://x", "bot_token": TOKEN, **given})
    return mistakes(Settings, caught.value)


def test_the_webhook_without_its_address_and_secret_is_refused_with_a_sentence_each() -> None:
    assert sentences(telegram_mode="webhook") == [
        "TURNPIKE_TELEGRAM_WEBHOOK_URL is not usable: the mode webhook needs the address under which Telegram reaches "
        "/telegram.",
        "TURNPIKE_TELEGRAM_WEBHOOK_SECRET is not usable: the mode webhook needs a secret of 16 to 256 of "
        "A-Z a-z 0-9 _ -.",
    ]


def test_a_token_that_is_none_is_refused_without_showing_it() -> None:
    """S-07, R-10: a mistake in the credentials is found at start, and not printed."""
    [sentence] = sentences(bot_token="4242:short")
    assert sentence == "TURNPIKE_BOT_TOKEN is not usable: a bot token is a number, a colon and at least 30 letters."
