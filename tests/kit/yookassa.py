"""A merchant without a client: raw requests to the stand-in for YooKassa, and an inbox."""

import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.kit.clock import MovedClock
from turnpike_local.standin.clock import SystemClock
from turnpike_local.standin.posting import Schedule
from turnpike_local.yookassa import Limits, Shop, Yookassa, YookassaControl

Json = dict[str, Any]

QUICK = Limits(
    notices=Schedule(first_pause_s=0.05, longest_pause_s=0.1, timeout_s=5, look_every_s=0.02)
)


def rubles(value: str) -> Json:
    return {"value": value, "currency": "RUB"}


def order(**changes: Any) -> Json:
    """A payment by SBP for 149 rubles. A change to None removes the field."""
    body = {
        "amount": rubles("149.00"),
        "capture": True,
        "description": "Basic, 1 month",
        "payment_method_data": {"type": "sbp"},
        "confirmation": {"type": "redirect", "return_url": "https://t.me/turnpike_bot"},
        "metadata": {"order": "7"},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def card_on_hold(**changes: Any) -> Json:
    return order(payment_method_data={"type": "bank_card"}, capture=False, **changes)


class Merchant:
    """A shop's requests, each with a new idempotence key unless one is given.

    `api_url` is needed where the session has no base address.
    """

    def __init__(self, http: aiohttp.ClientSession, shop: Shop, api_url: str = "/v3") -> None:
        self.http = http
        self._api_url = api_url
        credentials = base64.b64encode(f"{shop.shop_id}:{shop.secret_key}".encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}"}
        self._keys = itertools.count(1)

    async def post(self, path: str, body: Any, *, key: str | None = None) -> tuple[int, Json]:
        key = f"key-{next(self._keys)}" if key is None else key
        headers = {**self.headers, "Idempotence-Key": key}
        async with self.http.post(f"{self._api_url}/{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, **query: str) -> tuple[int, Json]:
        url = f"{self._api_url}/{path}"
        async with self.http.get(url, params=query, headers=self.headers) as answer:
            return answer.status, await answer.json()

    async def done(self, path: str, body: Any = None, *, key: str | None = None) -> Json:
        """The answer to a POST that must succeed."""
        status, answer = await self.post(path, {} if body is None else body, key=key)
        assert status == 200, answer
        return answer

    async def refused(self, path: str, body: Any, *, parameter: str | None = None) -> Json:
        """The error of a POST that must be refused as an invalid request."""
        status, answer = await self.post(path, body)
        assert (status, answer["type"], answer["code"]) == (400, "error", "invalid_request"), answer
        assert answer.get("parameter") == parameter
        return answer

    async def payment(self, payment_id: str) -> Json:
        status, answer = await self.get(f"payments/{payment_id}")
        assert status == 200, answer
        return answer

    async def listed(self, what: str = "payments", **query: str) -> list[str]:
        status, answer = await self.get(what, **query)
        assert (status, answer["type"]) == (200, "list"), answer
        return [one["id"] for one in answer["items"]]


@dataclass
class Till:
    """A running stand-in, its merchant, its control API and its clock."""

    merchant: Merchant
    control: YookassaControl
    clock: MovedClock
    url: str

    async def paid(self, **changes: Any) -> Json:
        """A payment that its payer paid."""
        made = await self.merchant.done("payments", order(**changes))
        return await self.control.pay(made["id"])

    async def held(self) -> Json:
        made = await self.merchant.done("payments", card_on_hold())
        return await self.control.pay(made["id"])

    async def saved_method(self) -> str:
        paid = await self.paid(save_payment_method=True)
        return str(paid["payment_method"]["id"])


@asynccontextmanager
async def till(
    folder: Path,
    *,
    shop: Shop | None = None,
    clock: MovedClock | SystemClock | None = None,
    chat_url: str = "",
) -> AsyncIterator[Till]:
    """With a system clock, the clock of the till has no effect."""
    shop, manual = shop or Shop(), clock if isinstance(clock, MovedClock) else MovedClock()
    async with (
        Yookassa(folder, shop, limits=QUICK, clock=clock or manual, chat_url=chat_url) as running,
        aiohttp.ClientSession(running.url) as http,
        YookassaControl(running.url) as control,
    ):
        yield Till(Merchant(http, shop), control, manual, running.url)


@dataclass
class NoticeInbox:
    """The merchant's address for notices. It answers `statuses` in turn, and then 200."""

    url: str = ""
    received: list[Json] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def events(self) -> list[str]:
        return [one["event"] for one in self.received]

    async def accept(self, request: web.Request) -> web.Response:
        self.received.append(await request.json())
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": self.url} if status == 307 else {}
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def notice_inbox() -> AsyncIterator[NoticeInbox]:
    inbox, app = NoticeInbox(), web.Application()
    app.router.add_post("/notices", inbox.accept)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    inbox.url = f"http://127.0.0.1:{runner.addresses[0][1]}/notices"
    try:
        yield inbox
    finally:
        await runner.cleanup()
