"""Invoices on a real PostgreSQL: each asks for what its order still lacks, in one way to pay."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.domain import ledger
from payments.domain.confirmation import Receipt
from payments.queries import answer_checkout
from payments.store import accounts
from payments.subscribers import confirm_receipts
from shared.contracts.message import Refused
from shared.contracts.payments import (
    CheckoutQuery,
    OpenedInvoice,
    PaymentConfirmed,
    PreCheckout,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.payments import NOW, asking, invoiced, paid, placed, report, wallet

pytestmark = pytest.mark.usefixtures("invariants_hold")

STATE = "select state from orders where id = $1"
HONOURED_FOR = "update orders set honoured_until = now() + $2::interval where id = $1"
AN_HOUR_AHEAD = """
update invoices
set opened_at = opened_at + interval '1 hour', expires_at = expires_at + interval '1 hour'
where order_id = $1
"""
INVOICES = "select count(*) from invoices where order_id = $1"
EVENT = "select body::text from events where topic = $1 and body ->> 'about' = $2"


async def spend_all(person: UUID, database: Database) -> None:
    """Spend the wallet on something that Turnpike does not sell yet."""
    async with database.transaction() as tx:
        holdings = (await accounts.lock_holdings([person], tx))[person]
        flow = (holdings.wallet, ledger.REVENUE, holdings.wallet_minor)
        transfer = ledger.transfer_of(f"by hand:{uuid4()}", "purchase", person, flow)
        await accounts.write_transfers([transfer], tx)


async def approved(invoice: OpenedInvoice, payer: UUID, database: Database) -> bool:
    charge = PreCheckout(
        payer=payer,
        payload=invoice.payload,
        currency=invoice.currency,
        amount_minor=invoice.asked_minor,
    )
    [answer] = (await answer_checkout(CheckoutQuery(charges=(charge,)), database)).answers
    return answer.ok


@pytest.mark.parametrize("first", [1, 2, 33, 50, 98])
async def test_the_rest_buys_the_order_exactly(payments_db: Database, first: int) -> None:
    """R-55: no rounding loses or leaves a kopeck: the second charge is worth the rest."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=first))
    assert await payments_db.fetchval(STATE, order.order) == "open"
    second = await invoiced(person, order.order, payments_db)
    assert second.asked_minor == order.asked_minor - first
    assert await approved(second, person, payments_db)
    assert not await approved(order, person, payments_db), "the first invoice is superseded"
    await report(payments_db, paid(second, person))
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    assert await wallet(person, payments_db) == 0


async def test_parts_of_the_rest_are_parts(payments_db: Database) -> None:
    """R-55: the rest may be paid too little too, and then there is a rest of the rest."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=20))
    second = await invoiced(person, order.order, payments_db)
    await report(payments_db, paid(second, person, amount=30))
    third = await invoiced(person, order.order, payments_db)
    assert third.asked_minor == 49
    await report(payments_db, paid(third, person))
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    assert await wallet(person, payments_db) == 0


async def test_two_taps_get_one_invoice(payments_db: Database) -> None:
    """R-55: also at the same time, so that two open pay sheets are one charge."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    taps = (invoiced(person, order.order, payments_db) for _ in range(5))
    assert len({answer.invoice for answer in await asyncio.gather(*taps)}) == 1
    assert await payments_db.fetchval(INVOICES, order.order) == 2


async def test_a_superseded_order_is_open_again(payments_db: Database) -> None:
    """R-55: the person looked at another plan meanwhile; the part that came is for this one."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    await placed(person, payments_db, "plus")
    assert await payments_db.fetchval(STATE, order.order) == "superseded"
    second = await invoiced(person, order.order, payments_db)
    assert await approved(second, person, payments_db)


async def test_a_charged_invoice_is_not_offered_again(payments_db: Database) -> None:
    """R-55: the part was spent, so the rest is the price that the first invoice asks for."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    await spend_all(person, payments_db)
    second = await invoiced(person, order.order, payments_db)
    assert second.asked_minor == order.asked_minor
    assert second.invoice != order.invoice


@pytest.mark.parametrize(("state", "reason"), [("paid", "order_paid"), ("closed", "order_closed")])
async def test_an_ended_order_has_no_rest(payments_db: Database, state: str, reason: str) -> None:
    """R-55: paid by another charge, or closed by a newer paid order."""
    person = uuid4()
    order = await placed(person, payments_db)
    bought = order if state == "paid" else await placed(person, payments_db)
    await report(payments_db, paid(bought, person))
    answer = await execute(payments_db, asking(person, order.order), open_invoice)
    assert answer == Refused(reason=reason)


async def test_others_learn_nothing_about_the_rest(payments_db: Database) -> None:
    """R-55: a forged button names somebody else's order, or none."""
    order = await placed(uuid4(), payments_db)
    for named in (order.order, uuid4()):
        answer = await execute(payments_db, asking(uuid4(), named), open_invoice)
        assert answer == Refused(reason="not_yours")


async def test_an_old_order_has_no_rest(payments_db: Database) -> None:
    """R-55: its price is no longer honoured, also before the tick that expires it."""
    person = uuid4()
    order = await placed(person, payments_db)
    await payments_db.execute(HONOURED_FOR, order.order, timedelta(seconds=-1))
    answer = await execute(payments_db, asking(person, order.order), open_invoice)
    assert answer == Refused(reason="order_too_old")


async def test_the_event_names_the_order_that_lacks(payments_db: Database) -> None:
    """R-55: the message about too little money has a button for this order."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=33))
    body = await payments_db.fetchval(EVENT, PaymentConfirmed.topic, str(person))
    event = PaymentConfirmed.model_validate_json(body)
    assert (event.lacking, event.reason) == (order.order, "too_little")
    assert event.received is not None
    assert (event.received.amount_minor, event.received.currency) == (33, "XTR")
    second = await invoiced(person, order.order, payments_db)
    assert second.asked_minor == 66
    assert event.missing_minor == 14900 - 33 * 14900 // 99


async def test_a_tap_waits_for_the_money_being_booked(payments_db: Database) -> None:
    """R-55: the wallet is read under the lock too, or the money of that booking is asked again."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=20))
    second = await invoiced(person, order.order, payments_db)
    async with payments_db.transaction() as tx:
        await confirm_receipts([paid(second, person, amount=30)], tx)
        tap = asyncio.create_task(invoiced(person, order.order, payments_db))
        await asyncio.sleep(0.3)
        assert not tap.done(), "it waits for the lock of the order"
    assert (await tap).asked_minor == 49


async def test_no_rest_while_a_charge_is_not_booked(payments_db: Database) -> None:
    """R-55: the second invoice is charged in its last minute, and its report is late."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    second = await invoiced(person, order.order, payments_db)
    charged = (order.invoice, second.invoice)
    tap = asking(person, order.order).model_copy(update={"charged": charged})
    assert await execute(payments_db, tap, open_invoice) == Refused(reason="being_booked")
    await report(payments_db, paid(second, person, amount=20))
    later = tap.model_copy(update={"id": uuid4()})
    assert isinstance(await execute(payments_db, later, open_invoice), OpenedInvoice)


async def test_a_rest_ends_with_its_order(payments_db: Database) -> None:
    """R-55: an invoice that is approved buys, so it does not outlive the honoured price."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    await payments_db.execute(HONOURED_FOR, order.order, timedelta(minutes=10))
    second = await invoiced(person, order.order, payments_db)
    assert 590 <= second.expires_in_s <= 600
    await payments_db.execute(HONOURED_FOR, order.order, timedelta(seconds=-1))
    assert not await approved(second, person, payments_db), "before the tick that expires it"


async def test_a_tiny_rest_leaves_the_ratio_alone(payments_db: Database) -> None:
    """R-55: a kopeck is asked as one Star, which is no ratio for the next invoice."""
    person = uuid4()
    order = await placed(person, payments_db)
    rubles = Receipt("telegram_card", uuid4().hex, person, "RUB", 14899, order.payload, NOW)
    await report(payments_db, rubles)
    assert (await invoiced(person, order.order, payments_db)).asked_minor == 1
    await spend_all(person, payments_db)
    assert (await invoiced(person, order.order, payments_db)).asked_minor == 99


async def test_the_opened_invoice_is_the_answered_one(payments_db: Database) -> None:
    """R-55: the clock went back by an hour, so the older invoice seems to be the newest."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    await payments_db.execute(AN_HOUR_AHEAD, order.order)
    answer = await invoiced(person, order.order, payments_db)
    assert answer.invoice != order.invoice
    assert await approved(answer, person, payments_db)


async def test_a_reused_invoice_opens_its_order(payments_db: Database) -> None:
    """R-55: a newer order came between, and the invoice of the rest stayed open."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    second = await invoiced(person, order.order, payments_db)
    await payments_db.execute("update orders set state = 'superseded' where id = $1", order.order)
    assert (await invoiced(person, order.order, payments_db)).invoice == second.invoice
    assert await approved(second, person, payments_db)
