"""The answers of each owner about one payment, on a real PostgreSQL: ids and times, no names."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from bot_gateway.domain.people import Arrival
from bot_gateway.queries import answer_person, answer_reports
from bot_gateway.receiving import take_in
from bot_gateway.store import people
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.money_lane import MoneyLane
from notifier.queries import answer_deliveries
from notifier.subscribers import notifier_notifies_confirmed
from payments.domain.confirmation import Receipt
from payments.queries import answer_payment, answer_payments
from referrals.queries import answer_rewards
from shared.contracts.bot import Person, PersonQuery, ReportsQuery
from shared.contracts.message import Refused
from shared.contracts.notifier import DeliveriesQuery
from shared.contracts.operations import EventsQuery
from shared.contracts.owners import OWNERS
from shared.contracts.payments import (
    PaymentConfirmed,
    PaymentQuery,
    PaymentRecord,
    PaymentsQuery,
)
from shared.contracts.referrals import Rewards, RewardsQuery
from shared.contracts.streams import SUBSCRIPTIONS
from shared.contracts.vpn import Grant, GrantQuery
from shared.messaging.inbox import Handler
from shared.messaging.outbox import publish
from shared.messaging.retries import retry_due
from shared.operations import inspection
from shared.platform.db import Database, Tx
from tests.kit import access, referrals
from tests.kit.access import FailingPanel
from tests.kit.bot import BOT, paid_update
from tests.kit.payments import placed, report, stars
from tests.kit.servers import FreshDatabase, MakeDatabase
from vpn_provisioner.queries import answer_grant

IS_DUE = "update failed_attempts set run_at = now() where event_id = $1"
CLEAR_OUTBOX = "delete from outbox"
UNREADABLE = {
    "message": {
        "successful_payment": {"telegram_payment_charge_id": "unreadable", "total_amount": "99"}
    }
}


@pytest.fixture(scope="module")
async def schemas(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*OWNERS)


@pytest.fixture(scope="module")
async def databases(schemas: FreshDatabase) -> AsyncIterator[dict[str, Database]]:
    opened = {owner: Database(schemas.dsn(f"{owner}_app"), name="test", size=2) for owner in OWNERS}
    for database in opened.values():
        await database.open()
    yield opened
    for database in opened.values():
        await database.close()


# bot-gateway


async def reported(database: Database, *updates: dict[str, Any]) -> None:
    async with database.transaction() as tx:
        await take_in(BOT, updates, Bells(), tx)
    while await MoneyLane(database, Bells()).report_some(500):
        pass


async def test_bot_answers_by_charge_and_by_order(databases: dict[str, Database]) -> None:
    """Repeated reports are one report with all updates. Of the payload it shows only the order."""
    database, order = databases["bot"], uuid4()
    async with database.transaction() as tx:
        ann = await people.start_person(Arrival(777, "Ann", "ann", "en", None), None, tx)
    assert ann is not None
    payload = f"{order.hex}.{'1' * 32}.{'2' * 16}"
    await reported(
        database, paid_update(777, "one", payload=payload), paid_update(777, "one", payload=payload)
    )
    await reported(database, paid_update(777, "another"))
    by_charge = await answer_reports(ReportsQuery(charges=("one",), order=None), database)
    assert await answer_reports(ReportsQuery(charges=(), order=order), database) == by_charge
    [report] = by_charge.reports
    assert (report.charge, report.currency, report.amount_minor) == ("one", "XTR", 99)
    assert (report.order, report.payer) == (order, ann.person)
    assert [update.state for update in report.updates] == ["done", "done"]
    assert await answer_person(PersonQuery(telegram_id=777), database) == Person(person=ann.person)
    assert await answer_person(PersonQuery(telegram_id=778), database) == Refused(
        reason="person_unknown"
    )


async def test_unreadable_report_is_found_by_charge(databases: dict[str, Database]) -> None:
    """R-26: a payment that was set aside is recorded. The charge is what the payer can name."""
    await reported(databases["bot"], {"update_id": 1, **UNREADABLE})
    [report] = (
        await answer_reports(ReportsQuery(charges=("unreadable",), order=None), databases["bot"])
    ).reports
    assert report.event is None
    [update] = report.updates
    assert update.state == "failed"
    assert update.reason


# payments


async def booked(database: Database, receipt: Receipt) -> Receipt:
    await report(database, receipt)
    return receipt


async def test_payments_answers_by_every_id(databases: dict[str, Database]) -> None:
    database, person = databases["payments"], uuid4()
    order = await placed(person, database)
    receipt = await booked(database, stars(person, 99, payload=order.payload))
    record = await answer_payment(PaymentQuery(named=receipt.charge), database)
    assert isinstance(record, PaymentRecord)
    assert record.order
    assert (record.order.order, record.order.person) == (order.order, person)
    assert record.order.state == "paid"
    assert [(one.invoice, one.state) for one in record.invoices] == [(order.invoice, "paid")]
    assert [(one.receipt, one.outcome, one.value_minor) for one in record.receipts] == [
        (receipt.id, "bought", 14900)
    ]
    assert sorted(one.reason for one in record.transfers) == ["purchase", "receipt"]
    for transfer in record.transfers:
        assert sum(entry.amount_minor for entry in transfer.entries if entry.currency == "RUB") == 0
    cause = f"telegram_stars:{receipt.charge}"
    names = (order.order, order.order.hex, order.invoice, order.payload, receipt.id, cause)
    for name in names:
        assert await answer_payment(PaymentQuery(named=str(name)), database) == record, name


async def test_order_and_money_are_found_separately(databases: dict[str, Database]) -> None:
    """Money without an order, and an order without money."""
    database, person = databases["payments"], uuid4()
    topped_up = await booked(database, stars(person, 99))
    parked = await booked(database, stars(None, 99))
    order = await placed(person, database)
    for receipt, outcome, because in (
        (topped_up, "wallet", "no_order"),
        (parked, "suspense", "payer_unknown"),
    ):
        record = await answer_payment(PaymentQuery(named=receipt.charge), database)
        assert isinstance(record, PaymentRecord)
        assert record.order is None
        assert [(one.outcome, one.because) for one in record.receipts] == [(outcome, because)]
    unpaid = await answer_payment(PaymentQuery(named=str(order.order)), database)
    assert isinstance(unpaid, PaymentRecord)
    assert unpaid.order
    assert (unpaid.order.state, unpaid.order.honoured, unpaid.receipts) == ("open", True, ())
    assert await answer_payment(PaymentQuery(named="nothing"), database) == Refused(
        reason="payment_unknown"
    )
    listed = (await answer_payments(PaymentsQuery(person=person), database)).payments
    assert {(one.named, one.state) for one in listed} == {
        (topped_up.id, "wallet"),
        (order.order, "open"),
    }


async def test_two_parts_of_an_order_are_one_record(databases: dict[str, Database]) -> None:
    """Either receipt leads to it."""
    database, person = databases["payments"], uuid4()
    order = await placed(person, database)
    parts = [
        await booked(database, stars(person, amount, payload=order.payload)) for amount in (50, 60)
    ]
    first, second = [
        await answer_payment(PaymentQuery(named=part.charge), database) for part in parts
    ]
    assert first == second
    assert isinstance(first, PaymentRecord)
    assert [one.outcome for one in first.receipts] == ["wallet", "bought"]


async def test_empty_charge_belongs_to_no_order(databases: dict[str, Database]) -> None:
    """R-34: a receipt whose charge is empty was listed among the receipts of every order."""
    database, person = databases["payments"], uuid4()
    await report(database, replace(stars(uuid4(), 7), charge=""))
    order = await placed(person, database)
    record = await answer_payment(PaymentQuery(named=str(order.order)), database)
    assert isinstance(record, PaymentRecord)
    assert record.receipts == ()


# referrals


async def test_referrals_answers_the_reward_or_a_reason(databases: dict[str, Database]) -> None:
    database = databases["referrals"]
    partner, invited, lonely, unknown, early = (uuid4() for _ in range(5))
    await referrals.handle(
        database,
        referrals.started(partner),
        referrals.started(invited, partner),
        referrals.started(lonely, code="r_nobody"),
    )
    payments = {payer: referrals.confirmed(payer, 10_000) for payer in (invited, lonely, early)}
    await referrals.handle(database, *payments.values())

    async def asked(payer: UUID) -> Rewards:
        receipts = tuple(
            event.received.receipt
            for event in payments.values()
            if event.about == payer and event.received
        )
        return await answer_rewards(RewardsQuery(receipts=receipts, payer=payer), database)

    answers = {payer: await asked(payer) for payer in (invited, lonely, early, unknown)}
    [reward] = answers[invited].rewards
    assert (reward.outcome, reward.partner, reward.percent, reward.reward_minor) == (
        "rewarded",
        partner,
        10,
        1000,
    )
    assert [one.outcome for one in answers[lonely].rewards] == ["no_partner"]
    assert answers[lonely].refused == "code_unknown"
    assert answers[early].waits_since is not None
    assert (answers[unknown].rewards, answers[unknown].started) == ((), False)


# vpn-provisioner


async def test_vpn_answers_the_access_and_its_jobs(databases: dict[str, Database]) -> None:
    """P-08: with tries and the last error, before and after the node agrees."""
    database, panel, person = databases["vpn"], FailingPanel(), uuid4()
    node = await access.registered(database, "one")
    bought = access.confirmed(person)
    assert bought.bought
    panel.refuses = {person}
    await access.handle(database, bought)
    await access.work(database, node, panel)
    waiting = await answer_grant(GrantQuery(order=bought.bought.order), database)
    assert isinstance(waiting, Grant)
    assert (waiting.person, waiting.state, waiting.announced_at, waiting.event) == (
        person,
        "live",
        None,
        None,
    )
    [job] = waiting.jobs
    assert (job.node, job.state, job.tries, job.error) == (
        "one",
        "waiting",
        1,
        "PanelRefused: not this one",
    )
    panel.refuses = set()
    await database.execute("update access_jobs set run_at = now()")
    await access.work(database, node, panel, failed_before=True)
    granted = await answer_grant(GrantQuery(order=bought.bought.order), database)
    assert isinstance(granted, Grant)
    assert [one.state for one in granted.jobs] == ["agreed"]
    assert granted.announced_at is not None
    assert await database.fetchval("select count(*) from events where id = $1", granted.event) == 1
    assert await answer_grant(GrantQuery(order=uuid4()), database) == Refused(
        reason="order_unknown"
    )


# notifier


async def test_notifier_answers_the_messages_of_payments(databases: dict[str, Database]) -> None:
    database, person = databases["notifier"], uuid4()
    event = access.confirmed(person)
    assert event.bought
    async with database.transaction() as tx:
        await notifier_notifies_confirmed([event, access.confirmed(uuid4())], tx)
    wanted = DeliveriesQuery(
        people=(person, uuid4()), causes=(str(event.bought.order), str(uuid4()))
    )
    [delivery] = (await answer_deliveries(wanted, database)).deliveries
    assert (delivery.person, delivery.cause, delivery.state) == (
        person,
        str(event.bought.order),
        "waiting",
    )


# Every owner


async def test_every_owner_answers_its_events(databases: dict[str, Database]) -> None:
    """Pending or published at the owner; handled, failing or dead-lettered at a subscriber."""
    publisher, subscriber = databases["payments"], databases["referrals"]
    subscription = next(
        entry for entry in SUBSCRIPTIONS if entry.handler == "referrals_rewards_confirmed"
    )
    events = [referrals.confirmed(uuid4()) for _ in range(3)]
    handled, failing, dead_lettered = (event.id for event in events)

    async def handle(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
        if events[0].id == dead_lettered:
            raise ZeroDivisionError
        if events[0].id == failing:
            raise KeyError("missing")

    async with publisher.transaction() as tx:
        await publish(tx, events)
    handler = Handler(subscription, handle, subscriber)
    for event in events:
        await handler.handle_batch([referrals.message_of(event)])
    for _ in range(4):
        await subscriber.execute(IS_DUE, dead_lettered)
        assert await retry_due(handler) == 1
    ids = tuple(event.id for event in events)
    of_payments = EventsQuery.of("payments")(events=ids)
    answer = await inspection.answer_events(of_payments, [], publisher)
    assert [(one.event, one.topic, one.pending) for one in answer.published] == [
        (event, "payments.payment.confirmed", True) for event in ids
    ]
    assert all(one.age_s >= 0 for one in answer.published)
    seen = await inspection.answer_events(
        EventsQuery.of("referrals")(events=ids), [subscription.handler], subscriber
    )
    assert {(one.event, one.outcome) for one in seen.handled} == {
        (handled, "done"),
        (dead_lettered, "dead_lettered"),
    }
    assert [(one.event, one.tries, one.reason) for one in seen.failing] == [
        (failing, 1, "KeyError: 'missing'")
    ]
    assert [(one.event, one.handler) for one in seen.dead_lettered] == [
        (dead_lettered, subscription.handler)
    ]
    await publisher.execute(CLEAR_OUTBOX)
    answer = await inspection.answer_events(of_payments, [], publisher)
    assert [one.pending for one in answer.published] == [False] * 3
