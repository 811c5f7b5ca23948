"""Parked receipts that operators give to a person or to an order, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments import operator_queries
from payments.commands.resolve_parked import resolve_parked
from payments.domain.confirmation import Receipt
from payments.operator_queries import answer_parked
from payments.queries import answer_payment
from payments.store.keys import KINDS
from payments.ticks import end_orders
from shared.contracts.message import Refused, Value
from shared.contracts.operations import KeysQuery
from shared.contracts.payments import PaymentConfirmed, PaymentQuery, PaymentRecord
from shared.contracts.payments_acts import ParkedQuery, Resolved, ResolveParked
from shared.messaging.idempotency import execute
from shared.operations.audit import answer_keys
from shared.platform.db import Database
from tests.kit.operators import by_operator
from tests.kit.payments import (
    NOW,
    give_back,
    placed,
    refund_events,
    refund_of,
    report,
    stars,
    topup,
    wallet,
)
from tests.kit.servers import FreshDatabase
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("invariants_hold")

EVENTS = """
select body::text
from events
where topic = 'payments.payment.confirmed' and body -> 'received' ->> 'receipt' = $1
"""
STATE = "select state from orders where id = $1"
AGE = """
update orders
set placed_at = placed_at - interval '61 d', honoured_until = honoured_until - interval '61 d'
where id = $1
"""


@pytest.fixture
async def replica(payments_schema: FreshDatabase) -> AsyncIterator[Database]:
    """Another replica of the service, with connections of its own."""
    database = Database(payments_schema.dsn("payments_app"), name="replica")
    await database.open()
    yield database
    await database.close()


async def parked(database: Database, amount: int = 99, payload: str = "free") -> Receipt:
    """Stars of an unknown payer."""
    receipt = stars(None, amount, payload=payload)
    await report(database, receipt)
    return receipt


def resolving(receipt: Receipt, person: UUID, **fields: Any) -> ResolveParked:
    return ResolveParked(**by_operator("admin"), receipt=receipt.id, person=person, **fields)


async def resolve(receipt: Receipt, person: UUID, database: Database, **fields: Any) -> Value:
    return await execute(database, resolving(receipt, person, **fields), resolve_parked)


async def events(receipt: Receipt, database: Database) -> list[PaymentConfirmed]:
    rows = await database.fetch(EVENTS, str(receipt.id))
    return [PaymentConfirmed.model_validate_json(row["body"]) for row in rows]


async def is_parked(receipt: Receipt, database: Database) -> bool:
    answer = await answer_parked(ParkedQuery(), database)
    return receipt.id in [one.receipt for one in answer.receipts]


async def test_parked_money_goes_to_a_wallet(payments_db: Database) -> None:
    """R-92: at the rate of the day, and published as any money that came."""
    person, receipt = uuid4(), await parked(payments_db, 100)
    assert await is_parked(receipt, payments_db)
    answer = await resolve(receipt, person, payments_db)
    assert isinstance(answer, Resolved)
    assert (answer.outcome, answer.value_minor, answer.wallet_minor) == ("wallet", 15_000, 15_000)
    assert await wallet(person, payments_db) == 15_000
    [event] = await events(receipt, payments_db)
    assert (event.about, event.cause, event.reason) == (person, receipt.cause, "no_order")
    assert event.received is not None
    assert event.received.value_minor == 15_000
    assert not await is_parked(receipt, payments_db)


async def test_a_receipt_is_resolved_once(payments_db: Database, replica: Database) -> None:
    """M-31, R-92: two terminals at once, for two people: the second waits, and is refused."""
    people, receipt = [uuid4(), uuid4()], await parked(payments_db)
    async with payments_db.transaction() as tx:
        await resolve_parked(resolving(receipt, people[0]), tx)
        second = asyncio.create_task(resolve(receipt, people[1], replica))
        await waits_for_a_lock(second, payments_db)
    assert await second == Refused(reason="resolved_already")
    held = [await wallet(person, payments_db) for person in people]
    assert held == [14_850, 0]
    assert len(await events(receipt, payments_db)) == 1
    assert await resolve(receipt, people[0], payments_db) == Refused(reason="resolved_already")


async def test_a_repeated_resolution_is_one(payments_db: Database) -> None:
    """R-92: an answer that was lost is asked for again, with the same id."""
    person, receipt = uuid4(), await parked(payments_db)
    command = resolving(receipt, person)
    tries = (execute(payments_db, command, resolve_parked) for _ in range(5))
    answers = await asyncio.gather(*tries)
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await wallet(person, payments_db) == 14_850


async def test_parked_money_buys_an_order(payments_db: Database) -> None:
    """R-93: by the ratio of the invoice that it paid, with the event that access follows."""
    person = uuid4()
    order = await placed(person, payments_db)
    receipt = await parked(payments_db, payload=order.payload)
    answer = await resolve(receipt, person, payments_db, order=order.order)
    assert isinstance(answer, Resolved)
    assert (answer.outcome, answer.value_minor, answer.wallet_minor) == ("bought", 14_900, 0)
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    [event] = await events(receipt, payments_db)
    assert event.bought is not None
    assert event.bought.order == order.order
    record = await answer_payment(PaymentQuery(named=str(order.order)), payments_db)
    assert isinstance(record, PaymentRecord)
    [line] = record.receipts
    assert (line.outcome, line.payer, line.event) == ("bought", person, event.id)


async def test_too_little_waits_in_the_wallet(payments_db: Database) -> None:
    """R-93: the rules of any payment; the person is told what is missing."""
    person = uuid4()
    order = await placed(person, payments_db)
    receipt = await parked(payments_db, 50, payload=order.payload)
    answer = await resolve(receipt, person, payments_db, order=order.order)
    assert isinstance(answer, Resolved)
    value_minor = 50 * 14_900 // 99
    assert (answer.because, answer.missing_minor) == ("too_little", 14_900 - value_minor)
    [event] = await events(receipt, payments_db)
    assert event.lacking == order.order


async def test_parked_money_pays_a_topup(payments_db: Database) -> None:
    """R-93: the order of a top-up is paid by the resolution, and the audit knows that."""
    person = uuid4()
    order = await topup(person, payments_db)
    receipt = await parked(payments_db, 334, payload=order.payload)
    await resolve(receipt, person, payments_db, order=order.order)
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    assert await wallet(person, payments_db) == 50_000


@pytest.mark.parametrize("known", [True, False])
async def test_an_order_of_another_person_is_refused(payments_db: Database, known: bool) -> None:
    """R-93: also an order that nobody has. The money stays parked."""
    order = (await placed(uuid4(), payments_db)).order if known else uuid4()
    receipt, person = await parked(payments_db), uuid4()
    answer = await resolve(receipt, person, payments_db, order=order)
    assert answer == Refused(reason="not_yours")
    assert await is_parked(receipt, payments_db)
    assert await wallet(person, payments_db) == 0
    rows = "select before is not distinct from null from commands where request ->> 'person' = $1"
    assert await payments_db.fetchval(rows, str(person))


async def test_a_payer_keeps_parked_money(payments_db: Database) -> None:
    """R-92: money whose value was unknown has a payer, and goes to nobody else."""
    payer = uuid4()
    receipt = Receipt("telegram_card", uuid4().hex, payer, "EUR", 1_000, "free", NOW)
    await report(payments_db, receipt)
    rate = {"kopecks": 9_050, "per_minor": 100}
    assert await resolve(receipt, uuid4(), payments_db, **rate) == Refused(reason="not_yours")
    assert await resolve(receipt, payer, payments_db) == Refused(reason="no_rate")
    answer = await resolve(receipt, payer, payments_db, **rate)
    assert isinstance(answer, Resolved)
    assert answer.value_minor == 90_500


async def test_a_slip_in_the_rate_is_refused(payments_db: Database) -> None:
    """R-92: a value that no balance holds would look like a service that is down."""
    receipt = await parked(payments_db, 10_000)
    answer = await resolve(receipt, uuid4(), payments_db, kopecks=10**12)
    assert answer == Refused(reason="worth_too_much")
    assert await is_parked(receipt, payments_db)


async def test_only_parked_money_is_resolved(payments_db: Database) -> None:
    """R-92: a booked receipt, or an id that is none, moves nothing."""
    person = uuid4()
    booked = stars(person, 10)
    await report(payments_db, booked)
    unknown = Refused(reason="receipt_unknown")
    assert await resolve(booked, person, payments_db) == unknown
    assert await resolve(stars(None, 10), person, payments_db) == unknown
    assert await wallet(person, payments_db) == 1_500


async def test_resolved_money_is_a_received_payment(payments_db: Database) -> None:
    """R-92, M-39, I6: referrals decides about it, so payments lists its key from then on."""
    person, receipt = uuid4(), await parked(payments_db)
    query = KeysQuery.of("payments")(kind="received", hours=1)
    assert not [key for key in await keys(query, payments_db) if str(receipt.id) in key]
    await resolve(receipt, person, payments_db)
    assert f"{receipt.id} 14850" in await keys(query, payments_db)


async def keys(query: KeysQuery, database: Database) -> tuple[str, ...]:
    answer: Any = await answer_keys(query, KINDS, database)
    found: tuple[str, ...] = answer.keys
    return found


async def test_an_order_of_resolved_money_stays(payments_db: Database) -> None:
    """R-93: pruning skips it, as it skips an order with a booking."""
    person = uuid4()
    order = await placed(person, payments_db)
    receipt = await parked(payments_db, 1)
    await resolve(receipt, person, payments_db, order=order.order)
    await payments_db.execute(AGE, order.order)
    for _ in range(2):
        await end_orders(payments_db)
    assert await payments_db.fetchval(STATE, order.order) == "expired"


async def test_parked_money_is_listed_in_pages(
    payments_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-92: the oldest first, each once."""
    monkeypatch.setattr(operator_queries, "PARKED_PER_PAGE", 2)
    wanted = [(await parked(payments_db)).id for _ in range(5)]
    found: list[UUID] = []
    more = True
    while more:
        query = ParkedQuery(after=found[-1] if found else None)
        page = await answer_parked(query, payments_db)
        found += [one.receipt for one in page.receipts]
        more = page.more
    assert [one for one in found if one in wanted] == wanted
    assert len(found) == len(set(found))


async def test_resolved_money_is_returned_from_its_person(payments_db: Database) -> None:
    """R-64: an operator named the payer, so suspense has nothing to give back any more."""
    person, receipt = uuid4(), await parked(payments_db, 100)
    await resolve(receipt, person, payments_db)
    await give_back(payments_db, refund_of(receipt))
    assert await wallet(person, payments_db) == 0
    [event] = await refund_events(person, payments_db)
    assert (event.returned.value_minor, event.owed_minor) == (15_000, 0)


async def test_an_order_of_resolved_money_is_undone(payments_db: Database) -> None:
    """R-64: the order is the one that the operator named."""
    order = await placed(person := uuid4(), payments_db)
    receipt = await parked(payments_db, payload=order.payload)
    await resolve(receipt, person, payments_db, order=order.order)
    assert await payments_db.fetchval(STATE, order.order) == "paid"
    await give_back(payments_db, refund_of(receipt))
    assert await payments_db.fetchval(STATE, order.order) == "refunded"


async def test_returned_money_is_not_resolved(payments_db: Database) -> None:
    """R-64: nobody gets money that went back, and it waits for no operator."""
    person, receipt = uuid4(), await parked(payments_db)
    await give_back(payments_db, refund_of(receipt))
    assert not await is_parked(receipt, payments_db)
    assert await resolve(receipt, person, payments_db) == Refused(reason="returned")
    assert await wallet(person, payments_db) == 0


async def test_a_refund_racing_a_resolution(payments_db: Database, replica: Database) -> None:
    """R-64: the refund waits for the act, and then takes the money from the person."""
    person, receipt = uuid4(), await parked(payments_db, 100)
    async with payments_db.transaction() as tx:
        await resolve_parked(resolving(receipt, person), tx)
        refunding = asyncio.create_task(give_back(replica, refund_of(receipt)))
        await waits_for_a_lock(refunding, payments_db)
    await refunding
    assert await wallet(person, payments_db) == 0
