"""Helpers for tests of Crypto Pay's stand-in: calls, a clock to move, and an app's webhook."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.kit.waiting import HANG_S
from turnpike_local.cryptopay import CryptoPay, Limits
from turnpike_local.standin.posting import Schedule

TOKEN = "4242:AAcrypto-test-token"
HEADERS = {"Crypto-Pay-API-Token": TOKEN}

# Notices are looked for often, and a failed one is repeated soon.
NOTICES = Schedule(first_pause_s=1, longest_pause_s=6 * 3600, timeout_s=HANG_S, look_every_s=0.02)
FAST = Limits(notices=NOTICES)

HANGS = 0  # In place of a status: no answer comes.

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json

    @property
    def result(self) -> Any:
        assert self.body["ok"], self.body
        assert self.status == 200
        return self.body["result"]

    @property
    def refusal(self) -> str:
        """As `400 AMOUNT_INVALID`. The status is also the code in the body."""
        assert self.body["ok"] is False
        error = self.body["error"]
        assert set(self.body) == {"ok", "error"}
        assert error["code"] == self.status
        return f"{error['code']} {error['name']}"


async def call(provider: CryptoPay, method: str, **arguments: object) -> Answer:
    """Call a method with a JSON body."""
    async with (
        aiohttp.ClientSession(headers=HEADERS) as http,
        http.post(f"{provider.url}/api/{method}", json=arguments) as answer,
    ):
        return Answer(answer.status, await answer.json())


async def created(provider: CryptoPay, **fields: object) -> Json:
    """A new invoice: 149 RUB, unless the fields say otherwise."""
    usual = {"currency_type": "fiat", "fiat": "RUB", "amount": "149"}
    invoice: Json = (await call(provider, "createInvoice", **(usual | fields))).result
    return invoice


async def read(provider: CryptoPay, invoice_id: int) -> Json:
    items = (await call(provider, "getInvoices", invoice_ids=str(invoice_id))).result["items"]
    assert len(items) == 1
    invoice: Json = items[0]
    return invoice


@dataclass
class Webhook:
    """The app's side: it keeps what it gets, and answers with `statuses` first, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[bytes, str]] = field(default_factory=list)
    ends: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((await request.read(), request.headers["crypto-pay-api-signature"]))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == HANGS:
            await self.ends.wait()
        return web.Response(status=status or 200, headers={"Location": self.url})


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    taking = Webhook()
    app = web.Application()
    app.add_routes([web.post("/notice", taking.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taking.url = f"http://127.0.0.1:{runner.addresses[0][1]}/notice"
    yield taking
    taking.ends.set()
    await runner.cleanup()
