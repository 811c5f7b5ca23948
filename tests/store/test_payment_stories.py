"""What each owner answers of one payment, on a real PostgreSQL: rows, ids, times, and nothing of a person."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from bot_gateway.answers import answer_person, answer_reports
from bot_gateway.lanes import Bells
from bot_gateway.lanes.money import MoneyLane
from bot_gateway.people import Arrival
from bot_gateway.receiving import take_in
from bot_gateway.store import people
from notifier.answers import answer_deliveries
from notifier.subscribers import notifier_tells_confirmed as notifier_hears
from payments.answers import answer_payment, answer_payments, place_order
from payments.confirmation import Receipt
from payments.subscribers import confirm_receipts
from referrals.answers import answer_rewards
from shared import records
from shared.commands import Invoice, PlaceOrder
from shared.contract import Refused
from shared.db import Database, Tx
from shared.facts import PaymentConfirmed
from shared.inbox import Handler
from shared.inspection import (
    AskDeliveries,
    AskFacts,
    AskGrant,
    AskPayment,
    AskPayments,
    AskPerson,
    AskReports,
    AskRewards,
    Grant,
    Payment,
    Person,
    Rewards,
)
from shared.obey import obey
from shared.outbox import tell
from shared.owners import OWNERS
from shared.streams import LISTENING
from tests.kit import access, referrals
from tests.kit.access import StumblingPanel
from tests.kit.bot import BOT, paid_update
from tests.kit.servers import FreshDatabase, MakeDatabase
from vpn_provisioner.answers import answer_grant

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FORGET_UNTOLD = "delete from untold"
BROKEN = {"message": {"successful_payment": {"telegram_payment_charge_id": "unreadable", "total_amount": "99"}}}


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database(*OWNERS)


@pytest.fixture(scope="module")
async def databases(place: FreshDatabase) -> AsyncIterator[dict[str, Database]]:
    opened = {owner: Database(place.dsn(f"{owner}_app"), name="test", size=2) for owner in OWNERS}
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


async def test_bot_gateway_tells_of_a_payment_by_its_charge_and_by_its_order(databases: dict[str, Database]) -> None:
    """However often it was reported it is one report with all its updates; the payload's other parts stay home."""
    database, order = databases["bot"], uuid4()
    async with database.transaction() as tx:
        ann = await people.start_person(Arrival(777, "Ann", "ann", "en", None), None, tx)
    assert ann is not None
    payload = f"{order.hex}.{'1' * 32}.{'2' * 16}"
    await reported(database, paid_update(777, "one", payload=payload), paid_update(777, "one", payload=payload))
    await reported(database, paid_update(777, "another"))
    by_charge = await answer_reports(AskReports(charges=("one",), order=None), database)
    assert await answer_reports(AskReports(charges=(), order=order), database) == by_charge
    [report] = by_charge.reports
    assert (report.charge, report.currency, report.amount_minor) == ("one", "XTR", 99)
    assert (report.order, report.payer) == (order, ann.person)
    assert [update.state for update in report.updates] == ["done", "done"]
    assert await answer_person(AskPerson(telegram_id=777), database) == Person(person=ann.person)
    assert await answer_person(AskPerson(telegram_id=778), database) == Refused(reason="person_unknown")


async def test_a_report_that_nobody_can_read_is_found_by_its_charge(databases: dict[str, Database]) -> None:
    """R-26: a payment that was set aside is recorded, and found by what the person has in his hand."""
    await reported(databases["bot"], {"update_id": 1, **BROKEN})
    [report] = (await answer_reports(AskReports(charges=("unreadable",), order=None), databases["bot"])).reports
    assert report.fact is None
    [update] = report.updates
    assert update.state == "failed"
    assert update.reason


# payments


async def ordered(person: UUID, database: Database) -> Invoice:
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    wish = PlaceOrder(
        id=uuid4(), actor="person", deadline_at=deadline, person=person, plan="basic", months=1, way="stars"
    )
    invoice = await obey(database, wish, place_order)
    assert isinstance(invoice, Invoice)
    return invoice


async def pays(person: UUID | None, database: Database, payload: str = "", *, stars: int = 99) -> Receipt:
    receipt = Receipt("telegram_stars", uuid4().hex, person, "XTR", stars, payload, NOW)
    async with database.transaction() as tx:
        await confirm_receipts([receipt], tx)
    return receipt


async def test_payments_tells_of_a_payment_by_every_name_it_has(databases: dict[str, Database]) -> None:
    database, person = databases["payments"], uuid4()
    invoice = await ordered(person, database)
    receipt = await pays(person, database, invoice.payload)
    told = await answer_payment(AskPayment(named=receipt.charge), database)
    assert isinstance(told, Payment)
    assert told.order
    assert (told.order.order, told.order.person, told.order.state) == (invoice.order, person, "paid")
    assert [(one.invoice, one.state) for one in told.invoices] == [(invoice.invoice, "paid")]
    assert [(one.receipt, one.outcome, one.value_minor) for one in told.receipts] == [(receipt.id, "bought", 14900)]
    assert sorted(one.reason for one in told.transfers) == ["purchase", "receipt"]
    for transfer in told.transfers:
        assert sum(entry.amount_minor for entry in transfer.entries if entry.currency == "RUB") == 0
    cause = f"telegram_stars:{receipt.charge}"
    for name in (invoice.order, invoice.order.hex, invoice.invoice, invoice.payload, receipt.id, cause):
        assert await answer_payment(AskPayment(named=str(name)), database) == told, name


async def test_payments_tells_of_money_without_an_order_and_of_an_order_without_money(
    databases: dict[str, Database],
) -> None:
    database, person = databases["payments"], uuid4()
    topped_up, parked = await pays(person, database), await pays(None, database)
    invoice = await ordered(person, database)
    for receipt, outcome, because in ((topped_up, "wallet", "no_order"), (parked, "suspense", "payer_unknown")):
        told = await answer_payment(AskPayment(named=receipt.charge), database)
        assert isinstance(told, Payment)
        assert told.order is None
        assert [(one.outcome, one.because) for one in told.receipts] == [(outcome, because)]
    unpaid = await answer_payment(AskPayment(named=str(invoice.order)), database)
    assert isinstance(unpaid, Payment)
    assert unpaid.order
    assert (unpaid.order.state, unpaid.order.honoured, unpaid.receipts) == ("open", True, ())
    assert await answer_payment(AskPayment(named="nothing"), database) == Refused(reason="payment_unknown")
    listed = (await answer_payments(AskPayments(person=person), database)).payments
    assert {(one.named, one.state) for one in listed} == {(topped_up.id, "wallet"), (invoice.order, "open")}


async def test_two_parts_of_one_price_are_one_story(databases: dict[str, Database]) -> None:
    """Whichever of its receipts is named."""
    database, person = databases["payments"], uuid4()
    invoice = await ordered(person, database)
    parts = [await pays(person, database, invoice.payload, stars=stars) for stars in (50, 60)]
    stories = [await answer_payment(AskPayment(named=part.charge), database) for part in parts]
    assert stories[0] == stories[1]
    assert isinstance(stories[0], Payment)
    assert [one.outcome for one in stories[0].receipts] == ["wallet", "bought"]


# referrals


async def test_referrals_tells_the_reward_or_the_named_reason_for_none(databases: dict[str, Database]) -> None:
    database = databases["referrals"]
    partner, invited, lonely, unknown, early = (uuid4() for _ in range(5))
    await referrals.hear(
        database,
        referrals.started(partner),
        referrals.started(invited, partner),
        referrals.started(lonely, code="r_nobody"),
    )
    paid = {payer: referrals.confirmed(payer, 10_000) for payer in (invited, lonely, early)}
    await referrals.hear(database, *paid.values())

    async def asked(payer: UUID) -> Rewards:
        receipts = tuple(fact.received.receipt for who, fact in paid.items() if who == payer and fact.received)
        return await answer_rewards(AskRewards(receipts=receipts, payer=payer), database)

    told = {payer: await asked(payer) for payer in (invited, lonely, early, unknown)}
    [reward] = told[invited].rewards
    assert (reward.outcome, reward.partner, reward.percent, reward.reward_minor) == ("rewarded", partner, 10, 1000)
    assert [one.outcome for one in told[lonely].rewards] == ["no_partner"]
    assert told[lonely].refused == "code_unknown"
    assert told[early].waits_since is not None
    assert (told[unknown].rewards, told[unknown].started) == ((), False)


# vpn-provisioner


async def test_vpn_tells_what_an_order_gave_and_how_far_its_nodes_are(databases: dict[str, Database]) -> None:
    """P-08: tries and the last error are there, before and after the node agrees."""
    database, panel, person = databases["vpn"], StumblingPanel(), uuid4()
    node = await access.placed(database, "one")
    bought = access.confirmed(person)
    assert bought.bought
    panel.refuses = {person}
    await access.hear(database, bought)
    await access.work(database, node, panel)
    waiting = await answer_grant(AskGrant(order=bought.bought.order), database)
    assert isinstance(waiting, Grant)
    assert (waiting.person, waiting.state, waiting.told_at, waiting.fact) == (person, "live", None, None)
    [job] = waiting.jobs
    assert (job.node, job.state, job.tries, job.error) == ("one", "waiting", 1, "PanelRefused: not this one")
    panel.refuses = set()
    await database.execute("update access_jobs set run_at = now()")
    await access.work(database, node, panel, failed_before=True)
    granted = await answer_grant(AskGrant(order=bought.bought.order), database)
    assert isinstance(granted, Grant)
    assert [one.state for one in granted.jobs] == ["agreed"]
    assert granted.told_at is not None
    assert await database.fetchval("select count(*) from facts where id = $1", granted.fact) == 1
    assert await answer_grant(AskGrant(order=uuid4()), database) == Refused(reason="order_unknown")


# notifier


async def test_notifier_tells_which_messages_a_payment_gave(databases: dict[str, Database]) -> None:
    database, person = databases["notifier"], uuid4()
    fact = access.confirmed(person)
    assert fact.bought
    async with database.transaction() as tx:
        await notifier_hears([fact, access.confirmed(uuid4())], tx)
    wanted = AskDeliveries(people=(person, uuid4()), causes=(str(fact.bought.order), str(uuid4())))
    [delivery] = (await answer_deliveries(wanted, database)).deliveries
    assert (delivery.person, delivery.cause, delivery.state) == (person, str(fact.bought.order), "waiting")


# Every owner


async def test_every_owner_tells_what_became_of_a_fact_here(databases: dict[str, Database]) -> None:
    """Told or waiting for the broker, heard, failing, buried: each in its owner's own records."""
    teller, hearer = databases["payments"], databases["referrals"]
    listening = next(entry for entry in LISTENING if entry.handler == "referrals_rewards_confirmed")
    facts = [referrals.confirmed(uuid4()) for _ in range(3)]
    heard, failing, buried = (fact.id for fact in facts)

    async def stumble(events: Sequence[PaymentConfirmed], tx: Tx) -> None:
        if events[0].id == buried:
            raise ZeroDivisionError
        if events[0].id == failing:
            raise KeyError("missing")

    async with teller.transaction() as tx:
        await tell(tx, facts)
    handler = Handler(listening, stumble, hearer)
    for fact in facts:
        await handler.absorb([referrals.letter(fact)])
    for _ in range(4):
        await handler.absorb([referrals.letter(facts[2])])
    wanted = tuple(fact.id for fact in facts)
    told = await records.answer_facts(AskFacts.of("payments")(facts=wanted), [], teller)
    assert [(one.fact, one.topic, one.waits) for one in told.told] == [
        (fact, "payments.payment.confirmed", True) for fact in wanted
    ]
    assert all(one.age_s >= 0 for one in told.told)
    seen = await records.answer_facts(AskFacts.of("referrals")(facts=wanted), [listening.handler], hearer)
    assert {(one.fact, one.outcome) for one in seen.heard} == {(heard, "done"), (buried, "buried")}
    assert [(one.fact, one.tries, one.reason) for one in seen.failing] == [(failing, 1, "KeyError: 'missing'")]
    assert [(one.fact, one.handler) for one in seen.buried] == [(buried, listening.handler)]
    await teller.execute(FORGET_UNTOLD)
    told = await records.answer_facts(AskFacts.of("payments")(facts=wanted), [], teller)
    assert [one.waits for one in told.told] == [False] * 3
