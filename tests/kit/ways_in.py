"""A payments database, a provider in memory, and the workers between them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from payments.audit import CHECKS, COUNTS
from payments.commands.open_invoice import open_invoice
from payments.commands.place_order import place_order
from payments.domain import pauses
from payments.domain.provider import Payment, Returning
from payments.queries import answer_invoice, answer_trial_balance
from payments.receiving import take_in
from payments.settings import networks_from
from payments.store.notices import Told
from payments.store.watched import Watched
from payments.webhooks import ProviderWebhook
from payments.workers.noticing import Notices
from payments.workers.opening import Opener
from payments.workers.reading import Reader
from payments.workers.refunding import AtProvider, Refunder
from payments.workers.watching import OpenInvoices
from shared.contracts.message import Refused
from shared.contracts.payments import (
    InvoiceQuery,
    OpenedInvoice,
    PlacedOrder,
    PlaceOrder,
    TrialBalanceQuery,
    Way,
)
from shared.messaging.idempotency import execute
from shared.operations.audit import audited
from shared.platform.db import Database, Row
from shared.platform.loops import Bell
from tests.kit.fake_provider import FakeProvider
from tests.kit.payments import asking, command
from tests.kit.servers import MakeDatabase

PROVIDERS = frozenset({"yookassa", "cryptobot"})

# The clock of the jobs: everything is due, and the provider may be asked.
PASS_TIME = """
with due as (update invoice_jobs set due_at = now()),
told as (update notices set due_at = now()),
returned as (update outgoing_refunds set due_at = now())
update provider_pace set next_at = now()
"""
NOTICES = "select state, reason from notices order by received_at, id"
BOOKINGS = "select outcome, because from bookings order by booked_at"
EVENTS = "select topic, body from events where topic like 'payments.invoice.%' order by seq"
JOBS = "select * from invoice_jobs order by due_at"
INVOICE = "select * from invoices where id = $1"


@dataclass
class Till:
    """The shop's side and the provider's side of the money that comes in."""

    database: Database
    provider: FakeProvider
    bell: Bell
    dsn: str
    expected: set[str] = field(default_factory=lambda: {"no event is pending in the outbox"})
    """Truths that need not hold at the end: no relay runs."""

    @property
    def opener(self) -> Opener:
        """A worker of another process each time."""
        return Opener(self.provider, self.database, self.bell, return_url="https://t.me/")

    @property
    def reader(self) -> Reader[Told]:
        return Reader(Notices(), self.provider, self.database, self.bell)

    @property
    def watcher(self) -> Reader[Watched]:
        return Reader(OpenInvoices(), self.provider, self.database, self.bell)

    @property
    def refunder(self) -> Refunder:
        returning = self.provider.returning
        keyed = isinstance(returning, Returning) and returning.keyed
        return Refunder(AtProvider(self.provider, keyed=keyed), self.database, self.bell)

    async def paid(self, person: UUID, way: Way = "sbp") -> tuple[OpenedInvoice, str]:
        """An order that was paid, and its charge."""
        asked, reference = await self.opened(person, way)
        await self.take_in(self.provider.pay(reference))
        return asked, reference

    def webhook(self, database: Database | None = None, trusted: str = "") -> ProviderWebhook:
        networks = networks_from(trusted)
        database = database or self.database
        return ProviderWebhook(self.provider, database, self.bell.ring, trusted=networks)

    async def notice(self, reference: str, **told: str) -> int:
        """The provider tells of a payment; the status that it gets."""
        body = json.dumps({"reference": reference, **told}).encode()
        return (await post(self.webhook(), body))[0]

    async def notices(self) -> list[tuple[str, str | None]]:
        rows = await self.database.fetch(NOTICES)
        return [(row["state"], row["reason"]) for row in rows]

    async def order(self, person: UUID, wanted: PlaceOrder | None = None) -> UUID:
        """Of a subscription, if nothing else is wanted."""
        placed = await execute(self.database, wanted or command(person), place_order)
        assert isinstance(placed, PlacedOrder)
        return placed.order

    async def ask(self, person: UUID, order: UUID | None = None, way: Way = "sbp") -> OpenedInvoice:
        """An order with an invoice that its provider has not opened yet."""
        wanted = asking(person, order or await self.order(person), way)
        act = partial(open_invoice, providers=PROVIDERS, ring=self.bell.ring)
        answer = await execute(self.database, wanted, act)
        assert isinstance(answer, OpenedInvoice), answer
        return answer

    async def opened(self, person: UUID, way: Way = "sbp") -> tuple[OpenedInvoice, str]:
        """An open invoice, and its reference at the provider."""
        asked = await self.ask(person, way=way)
        await self.turn(self.opener)
        row = await self.row(asked.invoice)
        assert row["state"] == "open"
        return asked, row["reference"]

    async def turn(self, worker: Any) -> int:
        """One round of a worker, with time enough since the last one."""
        await self.database.execute(PASS_TIME)
        count: int = await worker.round()
        return count

    async def row(self, invoice: UUID) -> Row:
        row = await self.database.fetchrow(INVOICE, invoice)
        assert row is not None
        return row

    async def jobs(self) -> list[Row]:
        return await self.database.fetch(JOBS)

    async def take_in(self, *payments: Payment, database: Database | None = None) -> set[str]:
        """Take what the provider tells of these payments; their outcomes."""
        async with (database or self.database).transaction() as tx:
            return set((await take_in(payments, self.provider.name, tx)).values())

    async def sums(self) -> dict[tuple[str, str], int]:
        """The trial balance, without the accounts of people."""
        lines = (await answer_trial_balance(TrialBalanceQuery(), self.database)).lines
        return {
            (line.account, line.currency): line.amount_minor
            for line in lines
            if line.amount_minor and line.account not in ("wallet", "earned", "owed")
        }

    async def bookings(self) -> list[tuple[str, str]]:
        rows = await self.database.fetch(BOOKINGS)
        return [(row["outcome"], row["because"]) for row in rows]

    async def told(self) -> list[str]:
        return [row["topic"] for row in await self.database.fetch(EVENTS)]

    async def seen(self, person: UUID, invoice: UUID) -> OpenedInvoice | Refused:
        return await answer_invoice(InvoiceQuery(person=person, invoice=invoice), self.database)

    async def hold_invariants(self) -> None:
        audit = await audited(self.database, CHECKS, COUNTS)
        broken = [
            one for one in audit.findings if one.violations and one.truth not in self.expected
        ]
        assert not broken, broken


async def post(
    webhook: ProviderWebhook,
    *chunks: bytes,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
) -> tuple[int, str]:
    """One request to a webhook, as the server passes it on; the status and the text."""
    last = len(chunks) - 1
    events = [
        {"type": "http.request", "body": chunk, "more_body": at < last}
        for at, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "headers": pairs, "client": (client, 1)}

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await webhook(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode().strip()


def pause_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that failed once is left alone for longer than any test takes."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", pauses.LONGEST_PAUSE_S)


@asynccontextmanager
async def a_till(
    fresh_database: MakeDatabase, provider: FakeProvider | None = None
) -> AsyncIterator[Till]:
    """A database of its own; at the end its invariants hold."""
    place = await fresh_database("payments")
    dsn = place.dsn("payments_app")
    database = Database(dsn, name="test")
    await database.open()
    try:
        till = Till(database, provider or FakeProvider(), Bell(), dsn)
        yield till
        await till.hold_invariants()
    finally:
        await database.close()
