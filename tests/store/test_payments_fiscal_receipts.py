"""Receipts for the tax office in the ledger's transactions: asked, paid, offset and returned."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.commands.place_order import place_order
from payments.domain.fiscal import Terms
from payments.domain.provider import Payment
from payments.domain.refunds import Refund
from payments.store import fiscal
from payments.store.fiscal import DROP_OLD, DROP_UNPAID
from payments.subscribers import record_refunds
from shared.contracts.payments import OpenedInvoice, PaidFromBalance, PlacedOrder
from shared.messaging.idempotency import execute
from tests.kit.fake_provider import NOON
from tests.kit.payments import asking, command, pay_by_balance, topup_command
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import PROVIDERS, Till, a_till

TERMS = Terms("books@example.org", "VPN", "service", 11, None)
ROWS = """
select kind, state, service_minor, advance_minor, rest_minor, email
from fiscal_receipts
order by made_at, kind, service_minor
"""
OLDER = "update fiscal_receipts set made_at = made_at - $1::interval"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def rows(till: Till) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await till.database.fetch(ROWS)]


async def opened(till: Till, person: UUID, wanted: Any, *, from_balance: bool = False) -> str:
    """The reference of an invoice by SBP; its receipt is asked for with it."""
    placed = await execute(till.database, wanted, place_order)
    assert isinstance(placed, PlacedOrder)
    act = partial(open_invoice, providers=PROVIDERS, receipts={"yookassa": TERMS})
    asked = asking(person, placed.order, "sbp", from_balance=from_balance)
    answer = await execute(till.database, asked, act)
    assert isinstance(answer, OpenedInvoice), answer
    await till.turn(till.opener)
    return str((await till.row(answer.invoice))["reference"])


async def paid(till: Till, reference: str, registration: Any = "succeeded") -> Payment:
    till.provider.pay(reference)
    payment = till.provider.becomes(reference, registration=registration)
    await till.take_in(payment)
    return payment


async def topped_up(till: Till, person: UUID, topup_minor: int = 500_00) -> str:
    reference = await opened(till, person, topup_command(person, topup_minor))
    await paid(till, reference)
    return reference


async def bought(till: Till, person: UUID) -> UUID:
    order = await till.order(person)
    assert isinstance(await pay_by_balance(person, order, till.database), PaidFromBalance)
    return order


async def test_an_order_is_a_full_payment(till: Till) -> None:
    """R-110: the receipt goes with the payment; no offset follows it."""
    person = uuid4()
    reference = await opened(till, person, command(person))
    sent = till.provider.opened[reference].receipt
    assert sent is not None
    assert (sent.email, sent.service_minor, sent.advance_minor) == (TERMS.email, 14900, 0)
    assert await rows(till) == [("payment", "asked", 14900, 0, 0, TERMS.email)]
    await paid(till, reference)
    assert await till.bookings() == [("bought", "paid")]
    assert await rows(till) == [("payment", "registered", 14900, 0, 0, None)]


async def test_a_topup_is_an_advance(till: Till) -> None:
    reference = await topped_up(till, uuid4())
    sent = till.provider.opened[reference].receipt
    assert sent is not None
    assert (sent.service_minor, sent.advance_minor) == (0, 500_00)
    assert await rows(till) == [("payment", "registered", 0, 500_00, 500_00, None)]


async def test_a_purchase_offsets_the_advance(till: Till) -> None:
    """R-112: each purchase from the balance has one offset, until the advance is used up."""
    person = uuid4()
    await topped_up(till, person, 200_00)
    await bought(till, person)
    [advance, offset] = await rows(till)
    assert advance == ("payment", "registered", 0, 200_00, 51_00, None)
    assert offset == ("offset", "waiting", 149_00, 0, 0, None)


async def test_a_rest_is_offset_with_its_order(till: Till) -> None:
    """The payment of a lack is an advance too: its order is offset whole, in one receipt."""
    person = uuid4()
    await topped_up(till, person, 100_00)
    reference = await opened(till, person, command(person), from_balance=True)
    await paid(till, reference)
    assert [one[:5] for one in await rows(till)] == [
        ("payment", "registered", 0, 100_00, 0),
        ("payment", "registered", 0, 49_00, 0),
        ("offset", "waiting", 149_00, 0, 0),
    ]


async def test_a_repeat_changes_no_receipt(till: Till) -> None:
    person = uuid4()
    reference = await topped_up(till, person)
    await bought(till, person)
    before = await rows(till)
    await paid(till, reference, "pending")
    assert await rows(till) == before


async def test_shops_without_receipts_have_none(till: Till) -> None:
    person = uuid4()
    _, reference = await till.opened(person)
    assert till.provider.opened[reference].receipt is None
    await till.take_in(till.provider.pay(reference))
    assert await rows(till) == []


@pytest.mark.parametrize(("told", "reason"), [("canceled", "canceled"), (None, "not_sent")])
async def test_unregistered_payments_are_found(till: Till, told: Any, reason: str) -> None:
    """R-111: the payment counts, and its receipt is a finding."""
    person = uuid4()
    await paid(till, await opened(till, person, command(person)), told)
    assert await till.bookings() == [("bought", "paid")]
    [row] = await till.database.fetch("select state, reason from fiscal_receipts")
    assert tuple(row) == ("failed", reason)
    till.expected.add("no receipt for the tax office has failed")


def refund(reference: str, amount_minor: int) -> Refund:
    return Refund("yookassa", reference, f"r-{amount_minor}", None, "RUB", amount_minor, NOON)


async def test_a_refund_uses_up_the_advance(till: Till) -> None:
    """R-113: the unspent part goes back as an advance, the rest as the service."""
    person = uuid4()
    reference = await topped_up(till, person, 200_00)
    await bought(till, person)
    async with till.database.transaction() as tx:
        await record_refunds([refund(reference, 200_00)], tx)
    kept = [one for one in await rows(till) if one[0] != "offset"]
    assert kept == [
        ("payment", "registered", 0, 200_00, 0, None),
        ("refund", "registering", 149_00, 51_00, 0, None),
    ]


async def test_a_refund_is_asked_with_one_receipt(till: Till) -> None:
    """R-113: later tries under the key repeat the first split, and its booking finds it."""
    person, key = uuid4(), uuid4()
    reference = await topped_up(till, person, 200_00)
    named = key, "yookassa", reference, 200_00, TERMS.email
    async with till.database.transaction() as tx:
        first = await fiscal.for_refund(*named, tx)
    await bought(till, person)
    async with till.database.transaction() as tx:
        assert await fiscal.for_refund(*named, tx) == first
        await record_refunds([refund(reference, 200_00)], tx)
    assert first is not None
    assert (first.service_minor, first.advance_minor) == (0, 200_00)
    [sent] = [one for one in await rows(till) if one[0] == "refund"]
    assert sent == ("refund", "registering", 0, 200_00, 0, None)


async def test_a_refund_without_a_receipt_sends_none(till: Till) -> None:
    _, reference = await till.opened(uuid4())
    await till.take_in(till.provider.pay(reference))
    async with till.database.transaction() as tx:
        named = uuid4(), "yookassa", reference, 100, TERMS.email
        assert await fiscal.for_refund(*named, tx) is None


async def test_old_receipts_are_dropped(till: Till) -> None:
    """Unpaid ones after 75 days, with their e-mail. An advance stays while anything is left."""
    person = uuid4()
    await topped_up(till, person)
    await paid(till, await opened(till, person, command(person)))
    await opened(till, person, command(person))
    kept = []
    for days in (80, 1100):
        await till.database.execute(OLDER, timedelta(days=days))
        for statement in (DROP_UNPAID, DROP_OLD):
            await till.database.execute(statement, 100)
        kept.append(sorted(one[:5] for one in await rows(till)))
    advance = ("payment", "registered", 0, 500_00, 500_00)
    assert kept == [[advance, ("payment", "registered", 149_00, 0, 0)], [advance]]
