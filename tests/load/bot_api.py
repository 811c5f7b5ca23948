"""A Bot API for measuring: it reports payments and records when each message arrived.

The sandbox checks all that Telegram would refuse. Tests need that; here it
would be measured.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.load.seed import Sale
from turnpike_local.ports import LOOPBACK, free_port

TOKEN = "42:" + "measured" * 4
MAX_UPDATES = 100
POLL_S = 20.0
KEY = "vless://"


@dataclass(frozen=True)
class CheckoutAnswer:
    """The first answer to a pre-checkout query, and when it arrived, in seconds since the epoch."""

    ok: bool
    error: str
    at: float


class BotApi:
    """`key_at` is when the key arrived, `message_at` when the first message without a key did.

    Both are by Telegram id, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.key_at: dict[int, float] = {}
        self.message_at: dict[int, float] = {}
        self.messages = 0
        self.answers: dict[str, CheckoutAnswer] = {}
        """By the id of the pre-checkout query."""
        self._waiting: deque[dict[str, Any]] = deque()
        self._unconfirmed: dict[int, dict[str, Any]] = {}
        self._last = 0
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> "BotApi":
        app = web.Application()
        app.add_routes([web.post(f"/bot{TOKEN}/{{method}}", self._call)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "TURNPIKE_BOT_TOKEN": TOKEN,
            "TURNPIKE_TELEGRAM_API_URL": f"http://{LOOPBACK}:{self.port}",
        }

    def pay(self, sold: Iterable[Sale]) -> None:
        """An update about a payment of each sale."""
        for sale in sold:
            self._last += 1
            self._waiting.append(paid(sale, self._last))
        self._arrived.set()

    def check_out(self, sale: Sale) -> str:
        """An update about an open pay sheet. Returns the id of its query."""
        self._last += 1
        update = asked(sale, self._last)
        self._waiting.append(update)
        self._arrived.set()
        return str(update["pre_checkout_query"]["id"])

    async def _call(self, request: web.Request) -> web.Response:
        method = request.match_info["method"].lower()
        body = await _body(request)
        if method == "getupdates":
            return _ok(await self._updates(int(body.get("offset") or 0)))
        if method in ("sendmessage", "editmessagetext"):
            return _ok(self._record(int(body["chat_id"]), str(body["text"])))
        if method == "answerprecheckoutquery":
            ok = str(body["ok"]).lower() == "true"
            answer = CheckoutAnswer(ok, str(body.get("error_message", "")), time.time())
            self.answers.setdefault(str(body["pre_checkout_query_id"]), answer)
            return _ok(True)
        if method == "getme":
            return _ok(
                {"id": 42, "is_bot": True, "first_name": "Turnpike", "username": "turnpike_bot"}
            )
        if method == "getstartransactions":  # The reports of the load come as updates, all of them.
            return _ok({"transactions": []})
        if method == "getmystarbalance":
            return _ok({"amount": 0})
        return _ok(True)

    async def _updates(self, offset: int) -> list[dict[str, Any]]:
        self._unconfirmed = {
            number: kept for number, kept in self._unconfirmed.items() if number >= offset
        }
        if not self._waiting and not self._unconfirmed:
            self._arrived.clear()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        while self._waiting and len(self._unconfirmed) < MAX_UPDATES:
            update = self._waiting.popleft()
            self._unconfirmed[update["update_id"]] = update
        return list(self._unconfirmed.values())

    def _record(self, chat_id: int, text: str) -> dict[str, Any]:
        self.messages += 1
        (self.key_at if KEY in text else self.message_at).setdefault(chat_id, time.time())
        return {
            "message_id": self.messages,
            "date": int(time.time()),
            "chat": {"id": chat_id, "type": "private"},
        }


def paid(sale: Sale, update_id: int) -> dict[str, Any]:
    """Telegram's update about a successful payment."""
    person = {
        "id": sale.telegram_id,
        "is_bot": False,
        "first_name": "Somebody",
        "language_code": "en",
    }
    payment = {
        "currency": "XTR",
        "total_amount": sale.asked_minor,
        "invoice_payload": sale.payload,
        "telegram_payment_charge_id": sale.charge,
        "provider_payment_charge_id": sale.charge,
    }
    message = {"message_id": update_id, "date": int(time.time()), "from": person}
    message |= {"chat": {"id": sale.telegram_id, "type": "private"}, "successful_payment": payment}
    return {"update_id": update_id, "message": message}


def asked(sale: Sale, update_id: int) -> dict[str, Any]:
    """Telegram's update that asks before the charge."""
    person = {"id": sale.telegram_id, "is_bot": False, "first_name": "Somebody"}
    query = {
        "id": f"sheet {update_id}",
        "from": person,
        "currency": "XTR",
        "total_amount": sale.asked_minor,
        "invoice_payload": sale.payload,
    }
    return {"update_id": update_id, "pre_checkout_query": query}


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type == "application/json":
        body: dict[str, Any] = await request.json()
        return body
    return dict(await request.post())


def _ok(result: object) -> web.Response:
    return web.Response(
        body=json.dumps({"ok": True, "result": result}), content_type="application/json"
    )
