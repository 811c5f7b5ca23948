"""Updates as Telegram sends them, bot-gateway as it runs, and stand-ins for the services that it asks."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from bot_gateway.app import build
from bot_gateway.settings import Settings
from shared import telemetry
from shared.bus import Bus
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused, Value, derived_id
from shared.db import Database
from shared.questions import (
    Access,
    AskAccess,
    AskBalance,
    AskCheckout,
    AskInvitations,
    AskKey,
    AskOutlook,
    AskPlans,
    AskReceipts,
    Balance,
    BalanceLine,
    Checkout,
    Invitations,
    Key,
    Outlook,
    Plan,
    Plans,
    Price,
    ReceiptLine,
    Receipts,
)
from shared.service import Service
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Limits
from turnpike_local.sandbox.client import PersonClient

BOT = 4242
TOKEN = f"{BOT}:AAtest-token-of-thirty-five-letters"
UNHURRIED = Limits(messages_per_s=1000, messages_burst=1000, chat_messages_per_s=1000, chat_messages_burst=1000)
LINK = "vless://8d4f@127.0.0.1:443?security=reality&sni=example.org&fp=chrome#Turnpike"

Json = dict[str, Any]
_update_ids = count(1_000)


def user(telegram_id: int, **changes: object) -> Json:
    return {"id": telegram_id, "is_bot": False, "first_name": "Ann", "language_code": "en", **changes}


def message_update(chat: int, update_id: int | None = None, **content: Any) -> Json:
    message = {
        "message_id": 7,
        "date": 1_790_000_000,
        "chat": {"id": chat, "type": "private", "first_name": "Ann"},
        "from": user(chat),
    }
    return {"update_id": update_id or next(_update_ids), "message": message | content}


def paid_update(chat: int, charge: str, *, payload: str = "", update_id: int | None = None, **changes: Any) -> Json:
    payment = {
        "currency": "XTR",
        "total_amount": 99,
        "invoice_payload": payload,
        "telegram_payment_charge_id": charge,
        "provider_payment_charge_id": "p",
        **changes,
    }
    return message_update(chat, update_id, successful_payment=payment)


def checkout_update(chat: int, payload: str = "", query: str = "q") -> Json:
    asked = {"id": query, "from": user(chat), "currency": "XTR", "total_amount": 99, "invoice_payload": payload}
    return {"update_id": next(_update_ids), "pre_checkout_query": asked}


async def open_sheet(person: PersonClient) -> str:
    """Presses the pay button and leaves the pay sheet open; answers what `pay_invoice` wants."""
    opened = await person.press_at((await person.chat()).invoice_buttons()[0])
    return str(opened["invoice"]["slug"])


class Owners:
    """Payments, vpn and referrals on the real bus, as far as bot-gateway asks them; they remember what they heard."""

    def __init__(self, nats_url: str) -> None:
        self.bus = Bus(nats_url, name="owners")
        self.heard: list[Value] = []
        self.orders: dict[UUID, PlaceOrder] = {}
        self.invoices: dict[UUID, Invoice] = {}
        self.silent: set[str] = set()
        self.closing = asyncio.Event()
        self.plans = (
            Plan(plan="basic", devices=5, traffic_bytes=None, prices=(Price(months=1, price_minor=14900, stars=99),)),
        )
        self.checkout = Checkout(ok=True, reason=None)
        self.receipts = Receipts(
            lines=(
                ReceiptLine(
                    charge="stxpaid", paid_at=datetime(2026, 11, 22, tzinfo=UTC), currency="XTR", amount_minor=9
                ),
            )
        )
        self.access = Access(state="none")
        self.outlook = Outlook(
            effect="begins", plan=None, converted_hours=0, ends_at=datetime(2026, 12, 22, tzinfo=UTC)
        )
        self.key: Key | Refused = Refused(reason="no_access")
        self.invoice_lives = timedelta(minutes=30)
        self._answers: dict[Any, Callable[[Any], Value]] = {
            AskPlans: lambda _: Plans(plans=self.plans, ways=("stars",)),
            AskCheckout: lambda _: self.checkout,
            AskBalance: lambda _: Balance(
                wallet_minor=5000,
                earned_minor=1490,
                owed_minor=700,
                withdrawable_minor=0,
                lines=(BalanceLine(at=datetime(2026, 11, 22, tzinfo=UTC), reason="reward", amount_minor=1490),),
            ),
            AskReceipts: lambda _: self.receipts,
            AskInvitations: lambda _: Invitations(
                invited=3, paying=2, earned_minor=1490, percent=10, next_level_at=25, next_percent=25
            ),
            AskAccess: lambda _: self.access,
            AskOutlook: lambda _: self.outlook,
            AskKey: lambda _: self.key,
            PlaceOrder: self._place,
        }

    async def open(self) -> None:
        for asked in self._answers:
            self.bus.answers(asked, self._answer)
        await self.bus.open()

    async def close(self) -> None:
        self.closing.set()
        await self.bus.close()

    async def _answer(self, asked: Any) -> Value:
        self.heard.append(asked)
        if asked.topic in self.silent:
            await self.closing.wait()
        return self._answers[type(asked)](asked)

    def _place(self, command: PlaceOrder) -> Invoice | Refused:
        """As payments does: the first answer is stored under the wish's id, and a repeat gets that very answer."""
        known = self.orders.get(command.id)
        if known is not None:
            return self.invoices[command.id] if known.digest() == command.digest() else Refused(reason="id_reused")
        if command.deadline_at < datetime.now(UTC):
            return Refused(reason="too_late")
        if command.plan not in {plan.plan for plan in self.plans}:
            return Refused(reason="plan_unknown")
        trace = telemetry.current_trace()
        invoice = derived_id("invoice", command.id)
        self.orders[command.id] = command
        self.invoices[command.id] = Invoice(
            order=command.id,
            invoice=invoice,
            payload=f"{command.id.hex}.{invoice.hex}.{trace.split('-')[2] if trace else '0' * 16}",
            plan=command.plan,
            months=command.months,
            price_minor=14900,
            list_month_minor=14900,
            asked_minor=99,
            currency="XTR",
            expires_at=datetime.now(UTC) + self.invoice_lives,
            expires_in_s=int(self.invoice_lives.total_seconds()),
        )
        return self.invoices[command.id]

    def heard_of(self, kind: type[Value]) -> list[Any]:
        return [one for one in self.heard if isinstance(one, kind)]


def settings(dsn: str, nats_url: str, telegram_url: str, **changes: Any) -> Settings:
    wanted: dict[str, Any] = {
        "dsn": SecretStr(dsn),
        "nats_url": SecretStr(nats_url),
        "http_port": free_port(),
        "bot_token": SecretStr(TOKEN),
        "telegram_api_url": telegram_url,
        "bot_messages_per_s": 1000,
    }
    return Settings(**wanted | changes)


def running(configured: Settings) -> AbstractAsyncContextManager[Service]:
    """The whole of bot-gateway in this process."""
    return living(build(configured))


@asynccontextmanager
async def living(service: Service) -> AsyncIterator[Service]:
    """A service in this process, from its own start to its own drain."""
    life = asyncio.create_task(service.run())
    try:
        await until(lambda: _true(service.health.opened or life.done()))
        yield service
    finally:
        service.stopping.set()
        status = await life
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert status == 0, "the service did not end by itself"


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, name="test")
    await database.open()
    yield database
    await database.close()


async def until(true: Callable[[], Awaitable[bool]], *, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not await true():
            await asyncio.sleep(0.02)


async def _true(value: bool) -> bool:
    return value
