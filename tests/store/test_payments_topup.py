"""Top-ups and purchases from the balance, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import asyncpg
import pytest

from payments.commands.open_invoice import open_invoice
from payments.domain.confirmation import Receipt
from payments.queries import answer_checkout, answer_plans
from shared.contracts.message import Refused
from shared.contracts.payments import (
    CheckoutQuery,
    OpenedInvoice,
    PaidFromBalance,
    PaymentConfirmed,
    PlansQuery,
    PreCheckout,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.payments import (
    NOW,
    asking,
    balance,
    book_rewards,
    invoiced,
    paid,
    pay_by_balance,
    placed,
    report,
    reward,
    topup,
    wallet,
)
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")

STATE = "select state from orders where id = $1"
EVENTS = "select body::text from events where topic = $1 and body ->> 'about' = $2 order by seq"
CLOSE_WAY = "update payments.ways set on_sale = $2 where way = $1"


@pytest.fixture
async def replica(payments_schema: FreshDatabase) -> AsyncIterator[Database]:
    """Another replica of the service, with connections of its own."""
    database = Database(payments_schema.dsn("payments_app"), name="replica")
    await database.open()
    yield database
    await database.close()


async def confirmed(person: UUID, database: Database) -> list[PaymentConfirmed]:
    rows = await database.fetch(EVENTS, PaymentConfirmed.topic, str(person))
    return [PaymentConfirmed.model_validate_json(row["body"]) for row in rows]


async def rich(person: UUID, database: Database, topup_minor: int = 50_000) -> None:
    await report(database, paid(await topup(person, database, topup_minor), person))


async def test_a_topup_stays_in_the_wallet(payments_db: Database) -> None:
    """M-02: its order and its invoice exist before the money comes, and are paid by it."""
    person = uuid4()
    order = await topup(person, payments_db, 50_000)
    assert (order.asked_minor, order.currency) == (334, "XTR"), "500 rubles at 1.50 a Star"
    await report(payments_db, paid(order, person))
    assert await wallet(person, payments_db) == 50_000
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    [event] = await confirmed(person, payments_db)
    assert (event.bought, event.reason, event.missing_minor) == (None, "topped_up", 0)
    assert event.received is not None
    assert event.received.value_minor == 50_000


async def test_repeated_topup_is_credited_once(payments_db: Database, replica: Database) -> None:
    """M-02: a hundred reports at once, over two replicas, are one credit."""
    person = uuid4()
    order = await topup(person, payments_db)
    receipt = paid(order, person)
    reports = (report((payments_db, replica)[n % 2], receipt) for n in range(100))
    await asyncio.gather(*reports)
    assert await wallet(person, payments_db) == 50_000
    assert len(await confirmed(person, payments_db)) == 1


async def test_two_topups_are_two_credits(payments_db: Database) -> None:
    """M-02: the charge is the key, so a second charge of one invoice is money as well."""
    person = uuid4()
    order = await topup(person, payments_db)
    await report(payments_db, paid(order, person), paid(order, person))
    assert await wallet(person, payments_db) == 100_000
    reasons = [event.reason for event in await confirmed(person, payments_db)]
    assert reasons == ["topped_up", "order_closed"]


@pytest.mark.parametrize("stars", [1, 333, 400])
async def test_a_topup_is_what_came(payments_db: Database, stars: int) -> None:
    """M-22: another amount than the asked one is valued by the invoice's ratio, and credited."""
    person = uuid4()
    order = await topup(person, payments_db)
    await report(payments_db, paid(order, person, amount=stars))
    assert await wallet(person, payments_db) == stars * 50_000 // 334
    assert await payments_db.fetchval(STATE, order.order) == "paid"


async def test_a_topup_leaves_other_orders_open(payments_db: Database) -> None:
    """An order supersedes and closes orders of its own kind only."""
    person = uuid4()
    older, order = await topup(person, payments_db), await placed(person, payments_db)
    newer = await topup(person, payments_db)
    states = [await payments_db.fetchval(STATE, one.order) for one in (older, order, newer)]
    assert states == ["superseded", "open", "open"]
    await report(payments_db, paid(newer, person))
    states = [await payments_db.fetchval(STATE, one.order) for one in (older, order, newer)]
    assert states == ["closed", "open", "paid"]


async def test_a_superseded_topup_is_honoured(payments_db: Database) -> None:
    """R-01: a person pays the older of two invoices."""
    person = uuid4()
    older, _ = await topup(person, payments_db, 25_000), await topup(person, payments_db)
    await report(payments_db, paid(older, person))
    assert await wallet(person, payments_db) == 25_000
    assert await payments_db.fetchval(STATE, older.order) == "paid"


async def test_the_balance_buys_without_a_receipt(payments_db: Database) -> None:
    """The event has no `received`: no partner is rewarded for the same money again (M-13)."""
    person = uuid4()
    await rich(person, payments_db)
    order = await placed(person, payments_db)
    answer = await pay_by_balance(person, order.order, payments_db)
    assert answer == PaidFromBalance(
        order=order.order, price_minor=14_900, wallet_minor=35_100, earned_minor=0
    )
    _, event = await confirmed(person, payments_db)
    assert event.received is None
    assert event.bought is not None
    assert (event.bought.order, event.wallet_minor) == (order.order, 35_100)


async def test_the_wallet_pays_before_rewards(payments_db: Database) -> None:
    person = uuid4()
    await rich(person, payments_db, 10_000)
    await book_rewards(payments_db, reward(person, uuid4(), 6_000))
    order = await placed(person, payments_db)
    await pay_by_balance(person, order.order, payments_db)
    held = await balance(person, payments_db)
    assert (held.wallet_minor, held.earned_minor) == (0, 1_100)


async def test_a_short_balance_buys_nothing(payments_db: Database) -> None:
    """The refusal names what is missing, and the balance is untouched."""
    person = uuid4()
    await rich(person, payments_db, 10_000)
    order = await placed(person, payments_db)
    answer = await pay_by_balance(person, order.order, payments_db)
    assert answer == Refused(reason="balance_short", detail="4900")
    assert await wallet(person, payments_db) == 10_000
    assert await payments_db.fetchval(STATE, order.order) == "open"


async def test_a_double_tap_debits_once(payments_db: Database, replica: Database) -> None:
    """M-03, M-04: fifty taps at once on one order, over two replicas."""
    person = uuid4()
    await rich(person, payments_db)
    order = await placed(person, payments_db)
    taps = (pay_by_balance(person, order.order, (payments_db, replica)[n % 2]) for n in range(50))
    answers = await asyncio.gather(*taps)
    assert sum(isinstance(answer, PaidFromBalance) for answer in answers) == 1
    assert answers.count(Refused(reason="order_paid")) == 49
    assert await wallet(person, payments_db) == 35_100


async def test_two_orders_at_once_debit_one(payments_db: Database, replica: Database) -> None:
    """M-03: 80 % of the balance each: one passes, and no balance is negative."""
    person = uuid4()
    await rich(person, payments_db, 18_600)
    # A newer order supersedes the older one, which can still be paid.
    orders = [await placed(person, payments_db) for _ in range(20)]
    answers = await asyncio.gather(
        *(
            pay_by_balance(person, order.order, (payments_db, replica)[n % 2])
            for n, order in enumerate(orders)
        )
    )
    assert sum(isinstance(answer, PaidFromBalance) for answer in answers) == 1
    assert await wallet(person, payments_db) == 3_700


async def test_two_deliberate_purchases_are_two(payments_db: Database) -> None:
    """M-05: another order is another purchase, however soon it follows."""
    person = uuid4()
    await rich(person, payments_db)
    for left_minor in (35_100, 20_200):
        order = await placed(person, payments_db)
        await pay_by_balance(person, order.order, payments_db)
        assert await wallet(person, payments_db) == left_minor


@pytest.mark.parametrize(("state", "reason"), [("paid", "order_paid"), ("closed", "order_closed")])
async def test_an_ended_order_is_not_bought(payments_db: Database, state: str, reason: str) -> None:
    person = uuid4()
    await rich(person, payments_db)
    order = await placed(person, payments_db)
    bought = order if state == "paid" else await placed(person, payments_db)
    await report(payments_db, paid(bought, person))
    assert await pay_by_balance(person, order.order, payments_db) == Refused(reason=reason)
    assert await wallet(person, payments_db) == 50_000


async def test_nobody_pays_for_others(payments_db: Database) -> None:
    """A forged command names somebody else's order, or none."""
    person = uuid4()
    await rich(person, payments_db)
    for named in ((await placed(uuid4(), payments_db)).order, uuid4()):
        assert await pay_by_balance(person, named, payments_db) == Refused(reason="not_yours")


async def test_a_topup_is_not_bought(payments_db: Database) -> None:
    person = uuid4()
    await rich(person, payments_db)
    order = await topup(person, payments_db)
    answer = await pay_by_balance(person, order.order, payments_db)
    assert answer == Refused(reason="nothing_to_buy")


async def test_what_is_missing_is_topped_up_and_buys(payments_db: Database) -> None:
    """The invoice asks for exactly what the balance lacks, and the order buys by itself."""
    person = uuid4()
    await rich(person, payments_db, 10_000)
    order = await placed(person, payments_db)
    wanted = await invoiced(person, order.order, payments_db, from_balance=True)
    assert wanted.asked_minor == 33, "49 rubles by the order's own prices"
    await report(payments_db, paid(wanted, person))
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    assert await wallet(person, payments_db) == 0
    *_, event = await confirmed(person, payments_db)
    assert event.received is not None
    assert event.bought is not None
    assert (event.received.value_minor, event.over_minor) == (4_900, 0)


async def test_a_spent_balance_buys_later(payments_db: Database) -> None:
    """The balance was spent meanwhile: the money waits in the wallet, and the rest is asked for."""
    person = uuid4()
    await rich(person, payments_db, 15_000)
    first = await placed(person, payments_db, "plus")
    wanted = await invoiced(person, first.order, payments_db, from_balance=True)
    second = await placed(person, payments_db)
    await pay_by_balance(person, second.order, payments_db)
    await report(payments_db, replace(paid(wanted, person), paid_at=NOW))
    *_, event = await confirmed(person, payments_db)
    assert event.bought is None
    # A newer order was paid, so this one is closed: its money stays in the wallet.
    assert event.reason == "order_closed"
    assert await wallet(person, payments_db) == 100 + 14_900


async def test_money_above_the_missing_is_left_over(payments_db: Database) -> None:
    person = uuid4()
    await rich(person, payments_db, 10_000)
    order = await placed(person, payments_db)
    wanted = await invoiced(person, order.order, payments_db, from_balance=True)
    rubles = Receipt("telegram_card", uuid4().hex, person, "RUB", 6_400, wanted.payload, NOW)
    await report(payments_db, rubles)
    *_, event = await confirmed(person, payments_db)
    assert (event.over_minor, event.wallet_minor) == (1_500, 1_500)


async def test_a_full_balance_needs_no_invoice(payments_db: Database) -> None:
    person = uuid4()
    await rich(person, payments_db)
    order = await placed(person, payments_db)
    wanted = asking(person, order.order, from_balance=True)
    answer = await execute(payments_db, wanted, open_invoice)
    assert answer == Refused(reason="nothing_missing")


async def test_another_way_supersedes_the_invoice(payments_db: Database) -> None:
    """R-05: the older link is refused at the checkout, and is honoured if it was paid."""
    person = uuid4()
    order = await placed(person, payments_db)
    other = await invoiced(person, order.order, payments_db, from_balance=False)
    assert other.invoice == order.invoice, "the same way and amount is the same invoice"
    await rich(person, payments_db, 10_000)
    newer = await invoiced(person, order.order, payments_db, from_balance=True)
    charge = PreCheckout(
        payer=person, payload=order.payload, currency="XTR", amount_minor=order.asked_minor
    )
    [checkout] = (await answer_checkout(CheckoutQuery(charges=(charge,)), payments_db)).answers
    assert checkout.reason == "invoice_superseded"
    assert isinstance(newer, OpenedInvoice)
    await report(payments_db, paid(order, person))
    assert await payments_db.fetchval(STATE, order.order) == "paid"


async def test_a_closed_way_is_not_offered(
    payments_db: Database, payments_schema: FreshDatabase
) -> None:
    """A way without an account of the shop is not offered either, whatever the table says."""
    person = uuid4()
    order = await placed(person, payments_db)
    answer = await execute(payments_db, asking(person, order.order, "sbp"), open_invoice)
    assert answer == Refused(reason="way_closed")
    ways = (await answer_plans(PlansQuery(), payments_db)).ways
    assert [way.way for way in ways] == ["stars"]
    admin = await asyncpg.connect(payments_schema.dsn("postgres"))
    try:
        await admin.execute(CLOSE_WAY, "stars", False)
        answer = await execute(payments_db, asking(person, order.order), open_invoice)
        await admin.execute(CLOSE_WAY, "stars", True)
    finally:
        await admin.close()
    assert answer == Refused(reason="way_closed")
