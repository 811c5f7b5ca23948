"""Payments on a real PostgreSQL: the fixtures, and the steps that its tests share."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.audit import CHECKS, COUNTS
from payments.commands.open_invoice import open_invoice
from payments.commands.pay_from_balance import pay_from_balance
from payments.commands.place_order import place_order
from payments.domain import ledger
from payments.domain.confirmation import Receipt
from payments.domain.refunds import Refund
from payments.queries import answer_balance
from payments.store import accounts
from payments.subscribers import (
    confirm_receipts,
    payments_books_reversals,
    payments_books_rewards,
    record_refunds,
)
from shared.contracts.message import Refused
from shared.contracts.payments import (
    Balance,
    BalanceQuery,
    OpenedInvoice,
    OpenInvoice,
    PaidFromBalance,
    PayFromBalance,
    PaymentRefunded,
    PlacedOrder,
    PlaceOrder,
    Way,
)
from shared.contracts.referrals import RewardEarned, RewardReversed
from shared.messaging.idempotency import execute
from shared.operations.audit import audited
from shared.platform.db import Database
from tests.kit.servers import FreshDatabase, MakeDatabase

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

REFUND_EVENTS = """
select body::text as body
from events
where topic = 'payments.payment.refunded' and (body ->> 'about')::uuid = $1
order by seq
"""


@pytest.fixture(scope="module")
async def payments_schema(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments")


@pytest.fixture(scope="module")
async def payments_db(payments_schema: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(payments_schema.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def invariants_hold(payments_db: Database) -> AsyncIterator[None]:
    """A module ends with the invariants of all that its tests wrote."""
    yield
    await check_invariants(payments_db)


async def check_invariants(database: Database) -> None:
    """Raises AssertionError, except for two: no relay runs, and conflicts are provoked."""
    audit = await audited(database, CHECKS, COUNTS)
    broken = [
        finding
        for finding in audit.findings
        if finding.violations
        and finding.truth != "no event is pending in the outbox"
        and finding.invariant != "I12"
    ]
    assert not broken, broken


def by(person: UUID) -> dict[str, Any]:
    """The fields that every command of a person has."""
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    return {"id": uuid4(), "actor": f"person:{person}", "deadline_at": deadline, "person": person}


def command(person: UUID, plan: str = "basic", months: int = 1) -> PlaceOrder:
    return PlaceOrder(**by(person), plan=plan, months=months)


def topup_command(person: UUID, topup_minor: int = 50_000) -> PlaceOrder:
    return PlaceOrder(**by(person), topup_minor=topup_minor)


def asking(
    person: UUID, order: UUID, way: Way = "stars", *, from_balance: bool = False
) -> OpenInvoice:
    return OpenInvoice(**by(person), order=order, way=way, from_balance=from_balance)


async def invoiced(
    person: UUID, order: UUID, database: Database, *, from_balance: bool = False
) -> OpenedInvoice:
    """An invoice in Stars for what the order lacks."""
    wanted = asking(person, order, from_balance=from_balance)
    answer = await execute(database, wanted, open_invoice)
    assert isinstance(answer, OpenedInvoice), answer
    return answer


async def ordered(wanted: PlaceOrder, database: Database) -> OpenedInvoice:
    order = await execute(database, wanted, place_order)
    assert isinstance(order, PlacedOrder), order
    return await invoiced(wanted.person, order.order, database)


async def placed(
    person: UUID, database: Database, plan: str = "basic", months: int = 1
) -> OpenedInvoice:
    """An order of a subscription with an invoice in Stars."""
    return await ordered(command(person, plan, months), database)


async def topup(person: UUID, database: Database, topup_minor: int = 50_000) -> OpenedInvoice:
    """An order of a top-up with an invoice in Stars."""
    return await ordered(topup_command(person, topup_minor), database)


async def pay_by_balance(
    person: UUID, order: UUID, database: Database
) -> PaidFromBalance | Refused:
    wanted = PayFromBalance(**by(person), order=order)
    answer = await execute(database, wanted, pay_from_balance)
    assert isinstance(answer, PaidFromBalance | Refused)
    return answer


def paid(
    order: OpenedInvoice,
    payer: UUID | None,
    *,
    charge: str | None = None,
    amount: int | None = None,
) -> Receipt:
    """Stars for the order's invoice: the asked amount, unless another is given."""
    return stars(payer, amount or order.asked_minor, charge=charge, payload=order.payload)


def stars(
    payer: UUID | None,
    amount: int,
    *,
    charge: str | None = None,
    payload: str = "free",
    paid_at: datetime = NOW,
) -> Receipt:
    """Stars that name no order, unless a payload is given."""
    return Receipt("telegram_stars", charge or uuid4().hex, payer, "XTR", amount, payload, paid_at)


async def report(database: Database, *receipts: Receipt) -> None:
    async with database.transaction() as tx:
        await confirm_receipts(receipts, tx)


def rubles(
    payer: UUID, amount_minor: int, *, payload: str = "free", acquirer: str = "card"
) -> Receipt:
    """Rubles that name no order, unless a payload is given."""
    return Receipt(acquirer, uuid4().hex, payer, "RUB", amount_minor, payload, NOW)


def refund_of(
    receipt: Receipt, amount: int | None = None, *, reference: str | None = None, **changes: str
) -> Refund:
    """The whole amount is returned, unless another is given."""
    return Refund(
        receipt.acquirer,
        receipt.charge,
        reference or receipt.charge,
        receipt.payer,
        changes.get("currency", receipt.currency),
        amount or receipt.amount_minor,
        NOW,
    )


async def give_back(database: Database, *refunds: Refund) -> None:
    async with database.transaction() as tx:
        await record_refunds(refunds, tx)


async def refund_events(person: UUID, database: Database) -> list[PaymentRefunded]:
    rows = await database.fetch(REFUND_EVENTS, person)
    return [PaymentRefunded.model_validate_json(row["body"]) for row in rows]


async def bought_from_balance(person: UUID, database: Database) -> UUID:
    """An order of 149 rubles that the wallet pays, then `earned`."""
    order = await placed(person, database)
    answer = await pay_by_balance(person, order.order, database)
    assert isinstance(answer, PaidFromBalance), answer
    return order.order


async def spend(person: UUID, amount_minor: int, database: Database) -> None:
    """Spend a part of the balance on nothing that a refund could undo."""
    async with database.transaction() as tx:
        holdings = (await accounts.lock_holdings([person], tx))[person]
        transfer = ledger.purchase(holdings, f"test:{uuid4()}", amount_minor)
        await accounts.write_transfers([transfer], tx)


async def state_of(order: UUID, database: Database) -> str:
    return str(await database.fetchval("select state from orders where id = $1", order))


async def book_reversals(database: Database, *reversals: RewardReversed) -> None:
    async with database.transaction() as tx:
        await payments_books_reversals(reversals, tx)


async def book_rewards(database: Database, *rewards: RewardEarned) -> None:
    async with database.transaction() as tx:
        await payments_books_rewards(rewards, tx)


async def balance(person: UUID, database: Database) -> Balance:
    return await answer_balance(BalanceQuery(person=person), database)


async def wallet(person: UUID, database: Database) -> int:
    return (await balance(person, database)).wallet_minor


def reward(partner: UUID, receipt: UUID, reward_minor: int = 1490) -> RewardEarned:
    return RewardEarned.caused_by(
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


def reversal(of: RewardEarned, reversed_minor: int | None = None) -> RewardReversed:
    """The whole reward is taken back, unless another amount is given."""
    refund = uuid4()
    return RewardReversed.caused_by(
        refund,
        about=of.about,
        at=NOW,
        refund=refund,
        receipt=of.receipt,
        reversed_minor=reversed_minor or of.reward_minor,
    )
