"""Payment providers in tests: recorded answers, one stage per stand-in, and a broken server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

from aiohttp import web

from payments.domain.provider import Asked, Opened, Payment, Way
from payments.providers.caller import json_object
from payments.providers.cryptobot.client import Cryptobot
from payments.providers.protocol import Provider
from payments.providers.yookassa.client import Yookassa
from shared.contracts.payload import write_payload
from tests.kit import cryptopay, yookassa
from tests.kit.clock import MovedClock
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient
from turnpike_local.yookassa import Shop

Json = dict[str, Any]
SAMPLES = Path(__file__).parents[1] / "samples"
TOKEN = cryptopay.TOKEN
SHOP = Shop()


def sample(name: str) -> Json:
    """A recorded answer, as `yookassa/payment_pending`, read as a client reads it."""
    read = json_object((SAMPLES / f"{name}.json").read_bytes())
    assert read is not None
    return read


def asked_by(way: Way, since: datetime, **changes: Any) -> Asked:
    """A new invoice of 149 rubles. Its payload is its own."""
    invoice: UUID = uuid4()
    fields: Json = {
        "invoice": invoice,
        "way": way,
        "amount_minor": 14900,
        "currency": "RUB",
        "description": "Basic, 1 month",
        "payload": write_payload(uuid4(), invoice, None),
        "return_url": "https://t.me/turnpike_bot",
        "expires_in_s": 1800,
        "since": since,
    }
    return Asked(**(fields | changes))


class Stage(Protocol):
    """A provider's stand-in with our client of it, and the acts of payer and owner."""

    provider: Provider

    def now(self) -> datetime: ...

    def later(self, **by: float) -> None:
        """Let time pass at the provider."""

    async def pay(self, reference: str) -> None: ...

    async def expire(self, reference: str) -> None: ...

    async def break_next(self, call: str, how: str) -> None:
        """Plan `lost`, `500_after`, `500` (without an effect) or `429` for `create` or `read`."""

    async def count(self) -> int:
        """How many invoices the provider has."""


@dataclass
class YookassaStage:
    provider: Provider
    till: yookassa.Till

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.till.clock.now_ms() / 1000, UTC)

    def later(self, **by: float) -> None:
        self.till.clock.move(**by)

    async def pay(self, reference: str) -> None:
        await self.till.control.pay(reference)

    async def expire(self, reference: str) -> None:
        await self.till.control.expire(reference)

    async def break_next(self, call: str, how: str) -> None:
        answer = {"500_after": "500", "500": "500_before"}.get(how, how)
        calls = {"create": "POST /v3/payments", "read": "GET /v3/payments/{id}"}
        await self.till.control.plan_answer(answer, call=calls.get(call, call))

    async def count(self) -> int:
        return len(await self.till.merchant.listed(limit="100"))


@dataclass
class CryptobotStage:
    provider: Provider
    running: CryptoPay
    owner: CryptoPayClient
    clock: MovedClock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)

    def later(self, **by: float) -> None:
        self.clock.move(**by)

    async def pay(self, reference: str) -> None:
        await self.owner.pay(int(reference), "USDT")

    async def expire(self, reference: str) -> None:
        await self.owner.expire(int(reference))

    async def break_next(self, call: str, how: Any) -> None:
        calls = {"create": "createInvoice", "read": "getInvoices"}
        await self.owner.plan_fault(how, method=calls[call])

    async def count(self) -> int:
        answer = await cryptopay.call(self.running, "getInvoices", count=1000)
        return len(answer.result["items"])


@asynccontextmanager
async def started(provider: Provider) -> AsyncIterator[Provider]:
    await provider.start()
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def yookassa_stage(folder: Path) -> AsyncIterator[YookassaStage]:
    async with (
        yookassa.till(folder, shop=SHOP) as till,
        started(Yookassa(SHOP.shop_id, SHOP.secret_key, f"{till.url}/v3", page=10)) as provider,
    ):
        yield YookassaStage(provider, till)


@asynccontextmanager
async def cryptobot_stage(folder: Path) -> AsyncIterator[CryptobotStage]:
    clock = MovedClock()
    async with (
        CryptoPay(folder, TOKEN, limits=cryptopay.FAST, clock=clock) as running,
        CryptoPayClient(running.url) as owner,
        started(Cryptobot(TOKEN, running.url, page=10)) as provider,
    ):
        yield CryptobotStage(provider, running, owner, clock)


STAGES: dict[str, Callable[[Path], Any]] = {
    "yookassa": yookassa_stage,
    "cryptobot": cryptobot_stage,
}
# Clients of any address, with a secret that must never be shown.
CLIENTS: dict[str, Callable[..., Provider]] = {
    "yookassa": lambda url, **options: Yookassa("100500", "hunter2", url, **options),
    "cryptobot": lambda url, **options: Cryptobot("4242:hunter2", url, **options),
}


async def opened_on(stage: Stage, **changes: Any) -> tuple[Asked, Opened]:
    asked = asked_by(stage.provider.ways[0], stage.now(), **changes)
    opened = await stage.provider.open(asked)
    assert isinstance(opened, Opened), opened
    return asked, opened


async def read_one(stage: Stage, reference: str) -> Payment:
    known = await stage.provider.read([reference])
    assert isinstance(known, dict), known
    payment = known[reference]
    assert isinstance(payment, Payment), payment
    return payment


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server that gives this answer to every call. Yields its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
