"""E-mails that people give for receipts: asked once, frozen with an invoice, stored apart."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.commands.place_order import place_order
from payments.commands.set_receipt_email import set_receipt_email
from payments.domain.fiscal import Terms
from payments.queries import answer_receipt_email
from payments.store import fiscal
from shared.contracts.message import Refused, Value
from shared.contracts.payments import (
    OpenedInvoice,
    PlacedOrder,
    ReceiptEmailQuery,
    SetReceiptEmail,
    SetReceiptEmailAnswer,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.payments import asking, by, command, pay_by_balance, topup_command
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import PROVIDERS, Till, a_till

TERMS = Terms("books@example.org", "VPN", "service", 11, None)
EMAIL = "anna@example.com"
FROZEN = "select email from fiscal_receipts where person = $1 and kind = 'payment'"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def set_email(person: UUID, email: str | None, database: Database) -> Value:
    wanted = SetReceiptEmail(**by(person), email=email)
    return await execute(database, wanted, set_receipt_email)


async def opened(till: Till, person: UUID, wanted: Any = None, way: Any = "sbp") -> Value:
    placed = await execute(till.database, wanted or command(person), place_order)
    assert isinstance(placed, PlacedOrder)
    act = partial(open_invoice, providers=PROVIDERS, receipts={"yookassa": TERMS}, asks_email=True)
    return await execute(till.database, asking(person, placed.order, way), act)


async def test_a_receipt_waits_for_the_answer(till: Till) -> None:
    """R-147: nothing is asked of the provider before; without an e-mail it is the operator's."""
    person, other = uuid4(), uuid4()
    assert await opened(till, person) == Refused(reason="email_wanted")
    assert await till.database.fetchval("select count(*) from invoices") == 0
    assert await set_email(person, EMAIL, till.database) == SetReceiptEmailAnswer(person=person)
    assert isinstance(await opened(till, person), OpenedInvoice)
    assert await till.database.fetchval(FROZEN, person) == EMAIL
    await set_email(other, None, till.database)
    assert isinstance(await opened(till, other), OpenedInvoice)
    assert await till.database.fetchval(FROZEN, other) == TERMS.email


async def test_other_ways_ask_nothing(till: Till) -> None:
    """R-147: no receipt goes with Stars or coins."""
    for way in ("stars", "crypto"):
        assert isinstance(await opened(till, uuid4(), way=way), OpenedInvoice)


async def test_an_open_invoice_keeps_its_email(till: Till) -> None:
    """R-147: the provider's key stands for the same body."""
    await set_email(person := uuid4(), EMAIL, till.database)
    assert isinstance(await opened(till, person), OpenedInvoice)
    await set_email(person, "other@example.com", till.database)
    [sent] = (await fiscal.of_invoices(await invoices(till), till.database)).values()
    assert sent.email == EMAIL


async def invoices(till: Till) -> list[UUID]:
    return [row["id"] for row in await till.database.fetch("select id from invoices")]


async def test_offsets_and_refunds_go_there_too(till: Till) -> None:
    """R-147: they belong to the same purchase; each try has the same e-mail."""
    await set_email(person := uuid4(), EMAIL, till.database)
    invoice = await opened(till, person, topup_command(person, 200_00))
    assert isinstance(invoice, OpenedInvoice)
    await till.turn(till.opener)
    reference = str((await till.row(invoice.invoice))["reference"])
    till.provider.pay(reference)
    await till.take_in(till.provider.becomes(reference, registration="succeeded"))
    await pay_by_balance(person, await till.order(person), till.database)
    [job] = await fiscal.claim("yookassa", 9, uuid4(), 0.0, TERMS.email, till.database)
    assert (job.kind, job.receipt.email) == ("offset", EMAIL)
    async with till.database.transaction() as tx:
        refund = await fiscal.for_refund(uuid4(), "yookassa", reference, 5, TERMS.email, tx)
    assert refund is not None
    assert refund.email == EMAIL
    await set_email(person, None, till.database)
    [again] = await fiscal.claim("yookassa", 9, uuid4(), 0.0, TERMS.email, till.database)
    assert again.receipt.email == EMAIL


async def test_a_removed_email_is_gone(till: Till) -> None:
    """R-147: neither the row of the command nor that of its answer holds it."""
    person, database = uuid4(), till.database
    await set_email(person, EMAIL, database)
    asked = await answer_receipt_email(ReceiptEmailQuery(person=person), database)
    assert asked.email == EMAIL
    await set_email(person, None, database)
    asked = await answer_receipt_email(ReceiptEmailQuery(person=person), database)
    assert asked.email is None
    rows = await database.fetch("select to_json(c)::text as row from commands c")
    assert len(rows) == 2
    assert not [row for row in rows if "example.com" in row["row"]]


async def test_an_invalid_email_changes_nothing(till: Till) -> None:
    """R-147: and the person is still asked."""
    person = uuid4()
    answer = await set_email(person, "anna@", till.database)
    assert answer == Refused(reason="email_invalid")
    assert await opened(till, person) == Refused(reason="email_wanted")
