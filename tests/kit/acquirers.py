"""The stand-ins of YooKassa and Crypto Pay beside a whole shop: their payers, owners and listings.

The payments that a provider accepted are read from its own API, never from the shop.
"""

import asyncio
import base64
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import aiohttp
from aiohttp import web

from turnpike_local.cryptopay import CryptoPayClient
from turnpike_local.cryptopay.planned_faults import Answer
from turnpike_local.ports import LOOPBACK
from turnpike_local.providers import (
    CRYPTOBOT_TOKEN,
    YOOKASSA_SECRET_KEY,
    YOOKASSA_SHOP_ID,
    Name,
    webhook_of,
)
from turnpike_local.yookassa import YookassaControl

Way = Literal["stars", "sbp", "crypto"]
Fate = Literal["once", "twice", "late", "never"]
"""What becomes of a notice."""

LATE_S = 2
KOPECKS = 100
CRYPTO_UNITS = 10**9
PAGE = 1_000


class Taken(NamedTuple):
    """Money that was paid: how much, and what reached the account there."""

    currency: str
    amount_minor: int
    cleared: tuple[str, int]


class Acquirer(ABC):
    """A provider's stand-in."""

    name: Name
    way: Way
    label: str
    """Of its button in the bot."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None
        self._paying = asyncio.Lock()  # A planned notice is that of the next payment.

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @abstractmethod
    async def pay(self, reference: str, fate: Fate = "once") -> None:
        """The payer pays on the provider's page. `fate` is that of the notice."""

    @abstractmethod
    async def post_to(self, url: str) -> None:
        """Notices go there from now on."""

    async def post_to_shop(self, payments_url: str) -> None:
        await self.post_to(webhook_of(self.name, payments_url))

    @abstractmethod
    async def fail_calls(self, how: Literal["500", "lost"], call: str, times: int) -> None:
        """The next calls (`create` or `read`) take effect, and their answers are lost or wrong."""

    @abstractmethod
    async def listed(self) -> list[tuple[str, str, Taken | None]]:
        """Each invoice: its reference, its payload, and the money that was taken for it."""

    async def taken(self) -> dict[str, Taken]:
        """The payments that were taken, by reference."""
        return {reference: taken for reference, _, taken in await self.listed() if taken}


class YookassaAcquirer(Acquirer):
    name, way, label = "yookassa", "sbp", "SBP"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.control = YookassaControl(url)

    async def close(self) -> None:
        await self.control.close()
        await super().close()

    async def pay(self, reference: str, fate: Fate = "once") -> None:
        async with self._paying:
            if fate in ("late", "never"):
                options: dict[str, Any] = {"never": True} if fate == "never" else {"late_s": LATE_S}
                await self.control.plan_notice(event="payment.succeeded", **options)
            await self.control.pay(reference)
            if fate == "twice":
                notices = await self.control.notices()
                told = next(one["id"] for one in notices if reference in str(one["body"]))
                await self.control.repeat(told)

    async def post_to(self, url: str) -> None:
        await self.control.set_notice_url(url)

    async def fail_calls(self, how: Literal["500", "lost"], call: str, times: int) -> None:
        named = {"create": "POST /v3/payments", "read": "GET /v3/payments/{id}"}[call]
        await self.control.plan_answer(how, call=named, times=times)

    async def listed(self) -> list[tuple[str, str, Taken | None]]:
        found, after = [], {"limit": "100"}
        login = base64.b64encode(f"{YOOKASSA_SHOP_ID}:{YOOKASSA_SECRET_KEY}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        while True:
            url = f"{self.url}/v3/payments"
            async with self.session.get(url, params=after, headers=headers) as answer:
                page = await answer.json()
            found += [
                (one["id"], one["metadata"]["payload"], _by_yookassa(one)) for one in page["items"]
            ]
            if "next_cursor" not in page:
                return found
            after = {"limit": "100", "cursor": page["next_cursor"]}


def _by_yookassa(payment: Mapping[str, Any]) -> Taken | None:
    if payment["status"] != "succeeded":
        return None
    cleared = _minor(payment["income_amount"]["value"], KOPECKS)
    amount_minor = _minor(payment["amount"]["value"], KOPECKS)
    return Taken("RUB", amount_minor, ("RUB", cleared))


class CryptobotAcquirer(Acquirer):
    name, way, label = "cryptobot", "crypto", "Crypto"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.owner = CryptoPayClient(url)

    async def close(self) -> None:
        await self.owner.close()
        await super().close()

    async def pay(self, reference: str, fate: Fate = "once") -> None:
        async with self._paying:
            if fate != "once":
                late_s = LATE_S if fate == "late" else 0
                await self.owner.plan_notice(fate, late_s=late_s)
            await self.owner.pay(int(reference), "USDT")

    async def post_to(self, url: str) -> None:
        await self.owner.set_webhook(url)

    async def fail_calls(self, how: Literal["500", "lost"], call: str, times: int) -> None:
        method = {"create": "createInvoice", "read": "getInvoices"}[call]
        fault: Answer = "500_after" if how == "500" else "lost"
        await self.owner.plan_fault(fault, method=method, count=times)

    async def listed(self) -> list[tuple[str, str, Taken | None]]:
        found: list[tuple[str, str, Taken | None]] = []
        while True:
            items = await self._page(len(found))
            found += [(str(one["invoice_id"]), one["payload"], _by_cryptobot(one)) for one in items]
            if len(items) < PAGE:
                return found

    async def _page(self, offset: int) -> list[dict[str, Any]]:
        """Asked again where a planned fault of the shop's next call meets this one."""
        while True:
            with suppress(aiohttp.ClientError):
                async with self.session.get(
                    f"{self.url}/api/getInvoices",
                    params={"count": str(PAGE), "offset": str(offset)},
                    headers={"Crypto-Pay-API-Token": CRYPTOBOT_TOKEN},
                ) as answer:
                    items: list[dict[str, Any]]
                    if answer.status == 200:
                        items = (await answer.json())["result"]["items"]
                        return items


def _by_cryptobot(invoice: Mapping[str, Any]) -> Taken | None:
    if invoice["status"] != "paid":
        return None
    arrived = Decimal(invoice["paid_amount"]) - Decimal(invoice["fee_amount"])
    cleared = (invoice["paid_asset"], _minor(arrived, CRYPTO_UNITS))
    amount_minor = _minor(invoice["amount"], KOPECKS)
    return Taken(invoice["fiat"], amount_minor, cleared)


def _minor(amount: str | Decimal, units: int) -> int:
    minor = Decimal(amount) * units
    assert minor == int(minor), amount
    return int(minor)


def acquirers(urls: Mapping[str, str]) -> dict[str, Acquirer]:
    """By name. `urls` are those of a running stack."""
    kinds: tuple[type[Acquirer], ...] = (YookassaAcquirer, CryptobotAcquirer)
    return {kind.name: kind(urls[kind.name]) for kind in kinds}


@dataclass
class Caught:
    """Notices as their provider posted them, kept in place of being delivered."""

    url: str = ""
    posted: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        named = ("content-type", "crypto-pay-api-signature")
        kept = {name: value for name, value in request.headers.items() if name.lower() in named}
        self.posted.append((await request.read(), kept))
        return web.Response(status=200)

    async def deliver(self, *urls: str, times: int) -> Counter[int]:
        """The newest notice to these addresses in turn, all at once; the statuses."""
        body, headers = self.posted[-1]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def post(url: str) -> int:
                async with session.post(url, data=body, headers=headers) as answer:
                    return answer.status

            posts = (post(urls[nth % len(urls)]) for nth in range(times))
            return Counter(await asyncio.gather(*posts))

    def names(self, reference: str) -> bool:
        return any(reference in json.dumps(json.loads(body)) for body, _ in self.posted)


@asynccontextmanager
async def caught() -> AsyncIterator[Caught]:
    """An address for notices beside the shop."""
    kept, app = Caught(), web.Application()
    app.router.add_post("/notices", kept.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    kept.url = f"http://{LOOPBACK}:{runner.addresses[0][1]}/notices"
    try:
        yield kept
    finally:
        await runner.cleanup()
