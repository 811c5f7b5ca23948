"""Updates as Telegram sends them, bot-gateway as it runs, and fakes of the services it queries."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from bot_gateway.app import build
from bot_gateway.settings import Settings
from shared.contracts.message import Refused, Value
from shared.contracts.payments import (
    Checkout,
    CheckoutQuery,
    Checkouts,
    PlaceOrder,
    ReceiptLine,
    Receipts,
    ReceiptsQuery,
)
from shared.contracts.referrals import Invitations, InvitationsQuery
from shared.contracts.vpn import Access, AccessQuery, Key, KeyQuery, Outlook, OutlookQuery
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from shared.service import Service
from tests.kit.bot_payments import Payments
from tests.kit.waiting import until
from turnpike_local.ports import free_port
from turnpike_local.sandbox import Limits
from turnpike_local.sandbox.client import PersonClient

BOT = 4242
TOKEN = f"{BOT}:AAtest-token-with-thirty-five-bytes"
UNHURRIED = Limits(
    messages_per_s=1000, messages_burst=1000, chat_messages_per_s=1000, chat_messages_burst=1000
)
LINK = "vless://8d4f@127.0.0.1:443?security=reality&sni=example.org&fp=chrome#Turnpike"

Json = dict[str, Any]
_update_ids = count(1_000)


def user(telegram_id: int, **changes: object) -> Json:
    return {
        "id": telegram_id,
        "is_bot": False,
        "first_name": "Ann",
        "language_code": "en",
        **changes,
    }


def message_update(chat: int, update_id: int | None = None, **content: Any) -> Json:
    message = {
        "message_id": 7,
        "date": 1_790_000_000,
        "chat": {"id": chat, "type": "private", "first_name": "Ann"},
        "from": user(chat),
    }
    return {"update_id": update_id or next(_update_ids), "message": message | content}


def paid_update(
    chat: int, charge: str, *, payload: str = "", update_id: int | None = None, **changes: Any
) -> Json:
    payment = {
        "currency": "XTR",
        "total_amount": 99,
        "invoice_payload": payload,
        "telegram_payment_charge_id": charge,
        "provider_payment_charge_id": "p",
        **changes,
    }
    return message_update(chat, update_id, successful_payment=payment)


def refunded_update(chat: int, charge: str, **changes: Any) -> Json:
    """Telegram returned the money of a charge."""
    update = paid_update(chat, charge, **changes)
    payment = update["message"].pop("successful_payment")
    return message_update(chat, update["update_id"], refunded_payment=payment)


def checkout_update(chat: int, payload: str = "", query: str = "q") -> Json:
    asked = {
        "id": query,
        "from": user(chat),
        "currency": "XTR",
        "total_amount": 99,
        "invoice_payload": payload,
    }
    return {"update_id": next(_update_ids), "pre_checkout_query": asked}


async def open_sheet(person: PersonClient) -> str:
    """Press the pay button and leave the pay sheet open; returns the slug for `pay_invoice`."""
    opened = await person.press_at((await person.chat()).invoice_buttons()[0])
    return str(opened["invoice"]["slug"])


class Owners:
    """Fakes of payments, vpn-provisioner and referrals on the real bus; they record requests."""

    def __init__(self, nats_url: str) -> None:
        self.bus = Bus(nats_url, name="owners")
        self.received: list[Value] = []
        self.silent: set[str] = set()
        self.closing = asyncio.Event()
        self.payments = Payments()
        self.receipts = Receipts(
            lines=(
                ReceiptLine(
                    charge="stxpaid",
                    paid_at=datetime(2026, 11, 22, tzinfo=UTC),
                    currency="XTR",
                    amount_minor=9,
                ),
            )
        )
        self.access = Access(state="none")
        self.outlook = Outlook(
            effect="begins",
            plan=None,
            converted_hours=0,
            ends_at=datetime(2026, 12, 22, tzinfo=UTC),
        )
        self.key: Key | Refused = Refused(reason="no_access")
        self.checkout = Checkout(ok=True, reason=None)
        self._answers: dict[Any, Callable[[Any], Value]] = {
            **self.payments.answers,
            CheckoutQuery: self._check_out,
            ReceiptsQuery: lambda _: self.receipts,
            InvitationsQuery: lambda _: Invitations(
                invited=3,
                paying=2,
                earned_minor=1490,
                percent=10,
                next_level_at=25,
                next_percent=25,
            ),
            AccessQuery: lambda _: self.access,
            OutlookQuery: lambda _: self.outlook,
            KeyQuery: lambda _: self.key,
        }

    @property
    def orders(self) -> dict[UUID, PlaceOrder]:
        return self.payments.orders

    async def open(self) -> None:
        for asked in self._answers:
            self.bus.answers(asked, self._answer)
        await self.bus.open()

    async def close(self) -> None:
        self.closing.set()
        await self.bus.close()

    async def _answer(self, asked: Any) -> Value:
        self.received.append(asked)
        if asked.topic in self.silent:
            await self.closing.wait()
        return self._answers[type(asked)](asked)

    def _check_out(self, query: CheckoutQuery) -> Checkouts:
        return Checkouts(answers=(self.checkout,) * len(query.charges))

    def received_of(self, kind: type[Value]) -> list[Any]:
        """Each command once: the bus repeats one that is not answered within two seconds."""
        found = [one for one in self.received if isinstance(one, kind)]
        return list({getattr(one, "id", number): one for number, one in enumerate(found)}.values())

    def arrivals_of(self, kind: type[Value]) -> int:
        """How often such a command came, its repeats included."""
        return sum(isinstance(one, kind) for one in self.received)


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
    """The whole bot-gateway in this process."""
    return living(build(configured))


@asynccontextmanager
async def living(service: Service) -> AsyncIterator[Service]:
    """A service in this process, from its start to its drain."""
    life = asyncio.create_task(service.run())
    try:
        await until(lambda: service.health.opened or life.done())
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
