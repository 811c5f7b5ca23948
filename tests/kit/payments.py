"""The book on a real PostgreSQL, and what tests of it say often."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from payments.answers import answer_balance, place_order
from payments.audit import CHECKS, COUNTS
from payments.confirmation import Receipt
from payments.subscribers import confirm_receipts
from shared.audit import audited
from shared.commands import Invoice, PlaceOrder
from shared.db import Database
from shared.facts import RewardEarned
from shared.obey import obey
from shared.questions import AskBalance
from tests.kit.servers import FreshDatabase, MakeDatabase

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def book_place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments")


@pytest.fixture(scope="module")
async def book(book_place: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(book_place.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def book_holds(book: Database) -> AsyncIterator[None]:
    """Every story ends with the invariants; what waits for a relay is not one of them, none runs."""
    yield
    audit = await audited(book, CHECKS, COUNTS)
    wrong = [
        finding
        for finding in audit.findings
        if finding.violations and finding.truth != "no fact is waiting to be told" and finding.invariant != "I12"
    ]
    assert not wrong, wrong


def command(person: UUID, plan: str = "basic", months: int = 1) -> PlaceOrder:
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    return PlaceOrder(
        id=uuid4(),
        actor=f"person:{person}",
        deadline_at=deadline,
        person=person,
        plan=plan,
        months=months,
        way="stars",
    )


async def placed(person: UUID, book: Database, plan: str = "basic", months: int = 1) -> Invoice:
    invoice = await obey(book, command(person, plan, months), place_order)
    assert isinstance(invoice, Invoice)
    return invoice


def paid(invoice: Invoice, person: UUID | None, *, charge: str | None = None, amount: int | None = None) -> Receipt:
    return Receipt(
        "telegram_stars", charge or uuid4().hex, person, "XTR", amount or invoice.asked_minor, invoice.payload, NOW
    )


async def report(book: Database, *receipts: Receipt) -> None:
    async with book.transaction() as tx:
        await confirm_receipts(receipts, tx)


async def wallet(person: UUID, book: Database) -> int:
    return (await answer_balance(AskBalance(person=person), book)).wallet_minor


def reward(partner: UUID, receipt: UUID, reward_minor: int = 1490) -> RewardEarned:
    return RewardEarned.because(
        receipt,
        about=partner,
        at=NOW,
        receipt=receipt,
        invitee=uuid4(),
        percent=10,
        value_minor=14900,
        reward_minor=reward_minor,
        paying=1,
        next_level_at=25,
        next_percent=25,
    )
