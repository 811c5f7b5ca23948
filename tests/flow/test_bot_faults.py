"""Restarts, replicas, kill -9, and outages of Telegram and the database."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bot_gateway.app import build
from bot_gateway.receiving import take_in
from bot_gateway.settings import Settings
from bot_gateway.workers.bells import Bells
from tests.kit.bot import BOT, TOKEN, UNHURRIED, message_update, opened, running, settings
from tests.kit.bot_shop import Shop, buy, opened_shop
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.services import Program


@pytest.fixture
async def ground(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    """Everything but bot-gateway itself."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        yield shop


@pytest.fixture
async def shop(ground: Shop) -> AsyncIterator[Shop]:
    async with running(ground.settings):
        yield ground


async def test_a_restart_between_two_taps_changes_nothing(ground: Shop) -> None:
    """W-09: the state of a purchase is in the button and in the database."""
    async with running(ground.settings):
        ann = await ground.newcomer()
        await ann.press("Buy")
        await ann.press("Basic")
        await ann.button("1 month")
    await ann.press("1 month")  # bot-gateway does not run now; Telegram keeps the tap.
    async with running(ground.settings):
        await ann.press("Stars")
        await ann.wait_for(lambda chat: bool(chat.invoice_buttons()), what="an invoice")


async def test_two_replicas_serve_one_bot(ground: Shop) -> None:
    """W-07, W-09: one polls, both work; nobody is answered twice."""
    async with running(ground.settings), running(settings_like(ground)):
        people = await asyncio.gather(*(ground.newcomer(f"Ann {number}") for number in range(5)))
        await asyncio.gather(*(buy(person) for person in people))
        chats = [await person.chat() for person in people]
    assert [len(chat.from_bot) for chat in chats] == [1] * 5
    assert len(ground.owners.orders) == 5


def settings_like(ground: Shop) -> Settings:
    configured = ground.settings
    return settings(
        configured.dsn.get_secret_value(),
        configured.nats_url.get_secret_value(),
        configured.telegram_api_url,
    )


async def test_errors_of_telegram_lose_no_answer(shop: Shop) -> None:
    """W-06: a screen meets 500s and a 429; it is shown in the end."""
    ann = await shop.newcomer()
    await ann.button("Buy")
    await shop.people.plan_fault("500", calls=2, method="editMessageText")
    await shop.people.plan_fault("429", calls=1, method="editMessageText", retry_after_s=1)
    await ann.press("Buy")
    await ann.receives("Choose a plan")


async def test_it_starts_without_database_and_telegram(
    fresh_database: MakeDatabase, nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-06: there is one start path. It waits for both, and then everything runs."""
    place, port = await fresh_database("bot"), free_port()
    configured = settings(place.dsn("bot_app"), nats_url, f"http://127.0.0.1:{port}")
    async with opened(place.dsn("postgres").replace(place.name, "postgres")) as admin:
        await admin.execute(f'alter database "{place.name}" allow_connections false')
        service = build(configured)
        refused = asyncio.Event()
        attempt = service.database.open

        async def attempted() -> None:
            try:
                await attempt()
            except asyncpg.PostgresError:
                refused.set()
                raise

        # Attempts are observed, and still made.
        monkeypatch.setattr(service.database, "open", attempted)
        life = asyncio.create_task(service.run())
        async with asyncio.timeout(HANG_S):
            await refused.wait()
        assert not service.health.opened
        await admin.execute(f'alter database "{place.name}" allow_connections true')
    async with (
        Sandbox(tmp_path, TOKEN, port=port, limits=UNHURRIED) as sandbox,
        SandboxClient(sandbox.url) as people,
    ):
        ann = await people.new_person("Ann")
        await ann.say("/start")
        await ann.receives("Welcome to Turnpike")
        service.stopping.set()
        assert await life == 0


async def test_broken_and_unknown_updates_stop_no_chat(shop: Shop) -> None:
    """P-10: an update of a future kind, a broken one, and one of a group."""
    ann = await shop.newcomer()
    strange: list[dict[str, Any]] = [
        {"update_id": 1, "kind_of_next_year": {}},
        message_update(ann.id, update_id=2, text="hello", entities="broken"),
        message_update(ann.id, update_id=3, text="hello"),
    ]
    strange[2]["message"]["chat"] = {"id": -5, "type": "group", "title": "All"}
    async with shop.database.transaction() as tx:
        await take_in(BOT, strange, Bells(), tx)
    await until(shop.is_quiescent)
    rows = await shop.database.fetch(
        "select update_id, state from updates where update_id < 4 order by update_id"
    )
    assert [tuple(row) for row in rows] == [(1, "done"), (2, "failed"), (3, "done")]
    await ann.press("Balance")
    await ann.receives("Balance:")


async def test_a_purchase_survives_kill_9(ground: Shop, tmp_path: Path) -> None:
    """R-15, W-05: `python -m bot_gateway` with its variables alone, killed between two taps."""
    configured, port = ground.settings, free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "TURNPIKE_BOT_DSN": configured.dsn.get_secret_value(),
        "TURNPIKE_NATS_URL": configured.nats_url.get_secret_value(),
        "TURNPIKE_HTTP_PORT": str(port),
        "TURNPIKE_BOT_TOKEN": TOKEN,
        "TURNPIKE_TELEGRAM_API_URL": configured.telegram_api_url,
    }
    log = tmp_path / "bot_gateway.log"
    process = Program(
        "bot_gateway", environment=environment, port=port, ready_path="/readyz", log=log
    )
    await process.start()
    ann = await ground.newcomer()
    await ann.press("Buy")
    await ann.button("Basic")
    process.kill()
    await ann.press("Basic")
    await process.start()
    await ann.press("1 month")
    await ann.press("Stars")
    paid = await ann.pay()
    await until(lambda: ground.has_events("bot.payment.reported", 1))
    await process.stop()
    assert paid.paid
    assert TOKEN not in log.read_text()
