"""The webhook /telegram: the secret, then the row, then "received"; and refused settings."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from bot_gateway import webhooks
from bot_gateway.metrics import WEBHOOK_FAILING
from bot_gateway.settings import Settings
from shared.platform.db import Database
from shared.platform.settings import mistakes
from shared.service import Service
from tests.kit.bot import TOKEN, UNHURRIED, message_update, opened, running, settings
from tests.kit.sandbox import bot_of
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient

SECRET = "a-secret-that-telegram-knows"


@dataclass
class Webhook:
    service: Service
    database: Database
    sandbox: Sandbox
    url: str

    async def post(self, body: bytes, secret: str | None = SECRET) -> int:
        headers = {"X-Telegram-Bot-Api-Secret-Token": secret} if secret is not None else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, data=body, headers=headers) as answer,
        ):
            return answer.status

    async def stored(self) -> int:
        count: int = await self.database.fetchval("select count(*) from updates")
        return count


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "CHECK_EVERY_S", 0.2)


@pytest.fixture
async def webhook(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Webhook]:
    async with running_webhook(fresh_database, nats_url, tmp_path, "/telegram") as webhook:
        yield webhook


@asynccontextmanager
async def running_webhook(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path, path: str
) -> AsyncIterator[Webhook]:
    """bot-gateway, which tells Telegram this path of its own."""
    place, port = await fresh_database("bot"), free_port()
    url = f"http://127.0.0.1:{port}{path}"
    async with (
        Sandbox(tmp_path, TOKEN, limits=UNHURRIED) as sandbox,
        opened(place.dsn("bot_app")) as database,
    ):
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
            yield Webhook(service, database, sandbox, url)


def body(**changes: Any) -> bytes:
    return json.dumps(message_update(77, text="hello", **changes)).encode()


@pytest.mark.parametrize("secret", [None, "", "a-secret-that-telegram-know", f"{SECRET}x", "ключ"])
async def test_without_the_secret_nothing_is_stored(webhook: Webhook, secret: str | None) -> None:
    """S-07: 401 and no row, for any body."""
    assert await webhook.post(body(), secret) == 401
    assert await webhook.stored() == 0


async def test_ten_posts_of_an_update_store_one_row(webhook: Webhook) -> None:
    """R-03: Telegram repeats a post until it gets a 200."""
    update = body()
    assert await asyncio.gather(*(webhook.post(update) for _ in range(10))) == [200] * 10
    assert await webhook.stored() == 1


async def test_large_and_malformed_bodies_are_refused(webhook: Webhook) -> None:
    assert await webhook.post(b"x" * (1024 * 1024 + 1)) == 413
    assert await webhook.post(b"{nonsense") == 400
    assert await webhook.post(body()) == 200
    assert await webhook.stored() == 1


async def test_an_unavailable_database_is_a_503(webhook: Webhook) -> None:
    """R-06: not a 200, so Telegram repeats the update, and it is stored later."""
    update = body()
    await webhook.service.database.close()
    assert await webhook.post(update) == 503
    await webhook.service.database.open()
    assert await webhook.post(update) == 200
    assert await webhook.stored() == 1


async def test_the_start_sets_the_webhook(webhook: Webhook) -> None:
    """R-14, W-18: with the secret, and without dropping pending updates."""
    async with SandboxClient(webhook.sandbox.url) as people:
        await until(lambda: _has_webhook(people, webhook.url))
        ann = await people.new_person("Ann")
        await ann.say("/start")
        await ann.receives("Welcome to Turnpike")
        await until(lambda: _is_taken_over(people))  # The answer to a post follows its effect.


async def test_a_webhook_set_elsewhere_is_set_again(webhook: Webhook) -> None:
    """R-42: another deployment with the same token took the updates away."""
    async with SandboxClient(webhook.sandbox.url) as people, bot_of(webhook.sandbox, TOKEN) as bot:
        await until(lambda: _has_webhook(people, webhook.url))
        await bot.set_webhook("http://127.0.0.1:1/telegram")
        await until(lambda: _has_webhook(people, webhook.url))


async def test_a_webhook_that_fails_is_a_metric(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> None:
    """R-42: a proxy does not lead Telegram to the path, and only Telegram knows."""
    with capture_logs() as logs:
        async with (
            running_webhook(fresh_database, nats_url, tmp_path, "/shop/telegram") as webhook,
            SandboxClient(webhook.sandbox.url) as people,
        ):
            await until(lambda: _has_webhook(people, webhook.url))
            await (await people.new_person("Ann")).say("/start")
            await until(lambda: WEBHOOK_FAILING._value.get() == 1)
    [reason] = {log["reason"] for log in logs if log["event"] == "webhook fails"}
    assert reason.startswith("Wrong response from the webhook: 404")


async def _is_taken_over(people: SandboxClient) -> bool:
    return bool((await people.health())["pending_updates"] == 0)


async def _has_webhook(people: SandboxClient, url: str) -> bool:
    known: str = (await people.health())["webhook"]
    return known == url


def sentences(**given: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"dsn": "postgresql://x", "nats_url": "nats://x", "bot_token": TOKEN, **given})
    return mistakes(Settings, caught.value)


def test_the_webhook_mode_needs_address_and_secret() -> None:
    assert sentences(telegram_mode="webhook") == [
        "TURNPIKE_TELEGRAM_WEBHOOK_URL is not usable: "
        "the mode webhook needs the address under which Telegram reaches /telegram.",
        "TURNPIKE_TELEGRAM_WEBHOOK_SECRET is not usable: "
        "the mode webhook needs a secret of 16 to 256 of A-Z a-z 0-9 _ -.",
    ]


@pytest.mark.parametrize(
    "url", ["https://bot.example.org", "https://bot.example.org/", "https://x.org/telegram/", "x"]
)
def test_a_webhook_of_another_path_is_refused(url: str) -> None:
    """R-42: Telegram accepts it, and every update is lost in a 404."""
    secret = "s" * 32
    [sentence] = sentences(
        telegram_mode="webhook", telegram_webhook_url=url, telegram_webhook_secret=secret
    )
    assert sentence.startswith("TURNPIKE_TELEGRAM_WEBHOOK_URL is not usable: ")


def test_a_malformed_token_is_refused_and_not_shown() -> None:
    """S-07, R-10: a mistake in the credentials is found at start."""
    [sentence] = sentences(bot_token="4242:short")
    assert sentence == (
        "TURNPIKE_BOT_TOKEN is not usable: "
        "a bot token is a number, a colon and at least 30 characters."
    )
