"""Orders on a real PostgreSQL: placing, the catalogue, checkouts, and the states of invoices."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import INVOICE_LIVES_FOR
from payments.commands.place_order import place_order
from payments.queries import answer_checkout, answer_plans
from payments.store import orders
from payments.store.orders import Asked
from shared.contracts.message import Refused
from shared.contracts.operations import Republish, Republished
from shared.contracts.payload import write_payload
from shared.contracts.payments import CheckoutQuery, PlacedOrder, PlansQuery, PreCheckout
from shared.messaging.idempotency import execute
from shared.operations import anti_entropy
from shared.platform.db import Database
from tests.kit.payments import command, paid, placed, report

pytestmark = pytest.mark.usefixtures("invariants_hold")


async def test_repeated_command_places_one_order(payments_db: Database) -> None:
    """M-04: a double tap is one order, also at the same time, and after the deadline."""
    person = uuid4()
    tap = command(person)
    answers = await asyncio.gather(*(execute(payments_db, tap, place_order) for _ in range(5)))
    late = tap.model_copy(update={"deadline_at": datetime.now(UTC) - timedelta(hours=1)})
    answers.append(await execute(payments_db, late, place_order))
    assert len({answer.model_dump_json() for answer in answers}) == 1
    placed_by = "select count(*) from orders where person = $1"
    assert await payments_db.fetchval(placed_by, person) == 1


async def test_two_deliberate_orders_are_two(payments_db: Database) -> None:
    """M-05: other command ids are other purchases."""
    person = uuid4()
    first, second = await placed(person, payments_db), await placed(person, payments_db)
    assert first.order != second.order


async def test_late_command_leaves_its_id_usable(payments_db: Database) -> None:
    """A command after its deadline is refused as `too_late`."""
    person = uuid4()
    late = command(person).model_copy(
        update={"deadline_at": datetime.now(UTC) - timedelta(seconds=1)}
    )
    assert await execute(payments_db, late, place_order) == Refused(reason="too_late")
    again = late.model_copy(update={"deadline_at": datetime.now(UTC) + timedelta(minutes=1)})
    assert isinstance(await execute(payments_db, again, place_order), PlacedOrder)
    rows = "select count(*) from commands where id = $1"
    assert await payments_db.fetchval(rows, late.id) == 2


async def test_command_id_with_another_request_is_refused(payments_db: Database) -> None:
    person = uuid4()
    first = command(person)
    await execute(payments_db, first, place_order)
    other = first.model_copy(update={"months": 12})
    assert await execute(payments_db, other, place_order) == Refused(reason="id_reused")


async def test_an_id_is_used_up_per_topic(payments_db: Database) -> None:
    """S-08: a person may choose the id of an order; it blocks no republish with the same id."""
    order = command(uuid4())
    await execute(payments_db, order, place_order)
    republish = Republish.of("payments")(
        id=order.id, actor="service:referrals", deadline_at=order.deadline_at, events=()
    )
    answer = await execute(payments_db, republish, anti_entropy.republish)
    assert answer == Republished(events=0)
    assert await execute(payments_db, republish, anti_entropy.republish) == answer


async def test_plan_that_is_not_on_sale_is_refused(payments_db: Database) -> None:
    refused = await execute(payments_db, command(uuid4(), "gold"), place_order)
    assert isinstance(refused, Refused)
    assert refused.reason == "plan_unknown"


async def test_shipped_plans_come_in_order(payments_db: Database) -> None:
    plans = (await answer_plans(PlansQuery(), payments_db)).plans
    assert [
        (plan.plan, plan.devices, [price.months for price in plan.prices]) for plan in plans
    ] == [
        ("basic", 5, [1, 3, 6, 12]),
        ("plus", 10, [1, 3, 6, 12]),
    ]


async def test_invoice_lives_for_thirty_minutes(payments_db: Database) -> None:
    """The seconds left are computed by the clock of the database."""
    assert (await placed(uuid4(), payments_db)).expires_in_s == 30 * 60


async def open_another_invoice(order: UUID, database: Database) -> UUID:
    invoice = uuid4()
    async with database.transaction() as tx:
        asked = Asked("stars", "telegram_stars", 99, "XTR", 14900)
        await orders.insert_invoice(invoice, order, asked, "open", INVOICE_LIVES_FOR, tx)
    return invoice


async def test_checkout_approves_only_the_matching_invoice(payments_db: Database) -> None:
    """R-05, R-17: a stale, foreign or altered invoice is refused before the charge."""
    person = uuid4()
    order = await placed(person, payments_db)

    async def checked(payer: UUID | None = person, **changed: object) -> str | None:
        asked = {
            "payload": order.payload,
            "currency": "XTR",
            "amount_minor": order.asked_minor,
        } | changed
        charge = PreCheckout.model_validate({"payer": payer, **asked})
        query = CheckoutQuery(charges=(charge,))
        [answer] = (await answer_checkout(query, payments_db)).answers
        assert answer.ok == (answer.reason is None)
        return answer.reason

    assert await checked() is None
    assert await checked(payer=uuid4()) == "not_yours"
    assert await checked(payer=None) == "not_yours"
    assert await checked(payload="x") == "payload_unknown"
    assert await checked(currency="RUB") == "currency_differs"
    assert await checked(amount_minor=1) == "amount_differs"
    newer = await open_another_invoice(order.order, payments_db)
    assert await checked() == "invoice_superseded"
    assert await checked(payload=write_payload(order.order, newer, None)) is None
    latest = write_payload(order.order, newer, None)
    expire = "update invoices set expires_at = now() - interval '1 s' where id = $1"
    await payments_db.execute(expire, newer)
    assert await checked(payload=latest) == "invoice_expired"
    await placed(person, payments_db)
    assert await checked(payload=latest) == "order_superseded"
    await report(payments_db, paid(order, person))
    assert await checked() == "order_paid"


async def test_each_checkout_gets_its_own_answer(payments_db: Database) -> None:
    """R-31: in the order of the query; a malformed payload, or a repeat, refuses no other one."""
    person, another = uuid4(), uuid4()
    order, other = await placed(person, payments_db), await placed(another, payments_db)

    def charge(payer: UUID, payload: str, stars: int = order.asked_minor) -> PreCheckout:
        return PreCheckout(payer=payer, payload=payload, currency="XTR", amount_minor=stars)

    mixed = write_payload(order.order, other.invoice, None)
    charges = (
        charge(another, other.payload),
        charge(person, "\x00"),
        charge(person, order.payload),
        charge(person, mixed),
        charge(another, order.payload),
        charge(person, order.payload, stars=1),
        charge(person, order.payload),
    )
    answered = await answer_checkout(CheckoutQuery(charges=charges), payments_db)
    assert [answer.reason for answer in answered.answers] == [
        None,
        "payload_unknown",
        None,
        "payload_unknown",
        "not_yours",
        "amount_differs",
        None,
    ]
    nothing = await answer_checkout(CheckoutQuery(charges=()), payments_db)
    assert nothing.answers == ()


async def test_purchase_supersedes_all_other_invoices(payments_db: Database) -> None:
    """I10: the other invoice of the paid order, and that of the older order, which is closed."""
    person = uuid4()
    older, order = await placed(person, payments_db), await placed(person, payments_db)
    other = await open_another_invoice(order.order, payments_db)
    await report(payments_db, paid(order, person))
    states = "select id, state from invoices where id = any($1)"
    rows = await payments_db.fetch(states, [older.invoice, order.invoice, other])
    assert {row["id"]: row["state"] for row in rows} == {
        older.invoice: "superseded",
        order.invoice: "paid",
        other: "superseded",
    }
