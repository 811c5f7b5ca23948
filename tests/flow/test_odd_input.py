"""Odd input at every entry point of bot-gateway and of the bus: no chat or lane stands still."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot_gateway.queries import answer_reports
from shared.contracts.bot import ReportsQuery
from shared.contracts.payments import CheckoutQuery, PlansQuery
from shared.messaging.nats import Msg, connect
from tests.kit.bot import checkout_update, message_update, paid_update, running, user
from tests.kit.bot_shop import Shop, opened_shop
from tests.kit.odd import DEEP, LONE_SURROGATE, NUL, TEXTS
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_local.ports import free_port

SECRET = "a-secret-that-telegram-knows"
STATES = "select state, count(*) as updates, max(tries) as tries from updates group by state"


@pytest.fixture
async def shop(fresh_database: MakeDatabase, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """By webhook, so that a test can post what the sandbox would never send."""
    async with opened_shop(fresh_database, nats_url, tmp_path) as shop:
        port = free_port()
        changes = {
            "http_port": port,
            "telegram_mode": "webhook",
            "telegram_webhook_url": f"http://127.0.0.1:{port}/telegram",
            "telegram_webhook_secret": SECRET,
        }
        shop.settings = type(shop.settings)(**shop.settings.model_dump() | changes)
        async with running(shop.settings):
            yield shop


async def post(shop: Shop, body: str) -> int:
    url = f"http://127.0.0.1:{shop.settings.http_port}/telegram"
    headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body.encode(), headers=headers) as answer,
    ):
        return answer.status


def tap(chat: int, data: object) -> dict[str, Any]:
    update = message_update(chat)
    message = update.pop("message")
    query = {"id": "1", "from": user(chat), "message": message, "chat_instance": "1", "data": data}
    return update | {"callback_query": query}


def updates_with(odd: str, chat: int) -> list[dict[str, Any]]:
    """The odd text at each place of an update that the bot reads."""
    named: dict[str, Any] = {"from": user(chat, first_name=odd, username=odd, language_code=odd)}
    return [
        message_update(chat, text=odd),
        message_update(chat, text=f"/start {odd}", **named),
        tap(chat, odd),
        tap(chat, f"plan:{odd}"),
        tap(chat, f"period:{odd}:1"),
        tap(chat, f"pay:{odd}:1:stars:AAAAAAAAAAAAAAAAAAAAAA"),
        tap(chat, f"pay:basic:1:stars:{odd}"),
        paid_update(chat, f"charge-{chat}", payload=odd),
        paid_update(chat, f"another-{chat}", currency="USD", payload=odd),
        checkout_update(chat, odd),
    ]


@pytest.mark.parametrize("odd", TEXTS.values(), ids=TEXTS.keys())
async def test_an_odd_text_stops_no_chat(shop: Shop, odd: str) -> None:
    """N-41: every update is stored, run once, and ended; the person goes on."""
    ann = await shop.newcomer()
    before = await shop.database.fetchval("select count(*) from updates")
    updates = updates_with(odd, ann.id)
    for update in updates:
        assert await post(shop, json.dumps(update)) == 200
    await until(shop.is_quiescent)
    rows = {row["state"]: row["tries"] for row in await shop.database.fetch(STATES)}
    assert set(rows) <= {"done", "dropped"}, rows
    assert await shop.database.fetchval("select count(*) from updates") >= before + len(updates)
    await ann.say("/start")
    await ann.receives("What would you like to do?")


@pytest.mark.parametrize(
    "extra", [DEEP, "NaN", "1e999", '{"a": "\\u0000"}'], ids=["deep", "nan", "infinite", "nul"]
)
async def test_odd_json_is_stored_and_run(shop: Shop, extra: str) -> None:
    """N-41: Telegram would repeat a refused update for a day."""
    ann = await shop.newcomer()
    body = json.dumps(message_update(ann.id, text="/start"))[:-1] + f', "odd": {extra}}}'
    assert await post(shop, body) == 200
    await until(shop.is_quiescent)
    assert not await shop.database.fetchval("select count(*) from updates where tries > 0")


@pytest.mark.parametrize(
    "body", ["null", "5", "[]", '{"update_id": 5, "pre_checkout_query": null}']
)
async def test_a_body_that_is_no_update_stops_nothing(shop: Shop, body: str) -> None:
    """N-41."""
    ann = await shop.newcomer()
    assert await post(shop, body) == 200
    await ann.press("Balance")
    await ann.receives("Balance:")
    await until(shop.is_quiescent)


async def test_an_odd_report_hides_no_other(shop: Shop) -> None:
    """R-26: it is set aside; reports that wait or failed are found beside it."""
    ann = await shop.newcomer()
    for charge in (LONE_SURROGATE, f"nul{NUL}"):
        assert await post(shop, json.dumps(paid_update(ann.id, charge))) == 200
    assert await post(shop, json.dumps(paid_update(ann.id, "fine", total_amount=1.5))) == 200
    await until(shop.is_quiescent)
    found = await answer_reports(ReportsQuery(charges=("fine",), order=None), shop.database)
    assert [report.charge for report in found.reports] == ["fine"]
    assert [update.state for update in found.reports[0].updates] == ["failed"]


@pytest.mark.parametrize("body", [DEEP, '{"payer": "\\ud800"}', "\xff", "", "null", '{"a": NaN}'])
async def test_an_odd_request_is_refused_as_malformed(shop: Shop, body: str) -> None:
    """N-41: and the next one is answered."""
    client = shop.owners.bus.client
    reply = await client.request(CheckoutQuery.subject(), body.encode("latin-1"), 5)
    assert json.loads(reply.data)["refused"]["reason"] == "malformed"
    assert await shop.owners.bus.query(PlansQuery())


@pytest.mark.parametrize(
    "answer", [DEEP, "{}", "null", '{"answer": {"plans": "\\ud800"}}', "<html>"]
)
async def test_an_odd_answer_shows_the_trouble_screen(shop: Shop, answer: str) -> None:
    """N-41: the person can try again; nothing is set aside."""
    ann, asked = await shop.newcomer(), 0
    await ann.receives("What would you like to do?")
    await shop.owners.bus.close()
    client = await connect(shop.settings.nats_url.get_secret_value())

    async def respond(message: Msg) -> None:
        nonlocal asked
        asked += 1
        await message.respond(answer.encode())

    await client.subscribe(PlansQuery.subject(), cb=respond)
    await ann.press("Buy")
    await ann.receives("Please try again in a moment")
    await client.close()
    assert asked == 1
    assert not await shop.database.fetchval("select count(*) from updates where tries > 0")
