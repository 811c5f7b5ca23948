"""Cards in Telegram: the report and the acquirer's listing are one charge, whichever is first."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.domain.provider import Payment, Refund, Sum
from payments.queries import answer_checkout, answer_payment, answer_plans, answer_rest
from payments.receiving import take_in
from payments.store.keys import KINDS, MISSING_RECEIPTS
from payments.subscribers import payments_confirms_reported
from shared.contracts.bot import PaymentReported
from shared.contracts.message import Refused, derived_id
from shared.contracts.payments import (
    CheckoutQuery,
    DifferenceRecord,
    OpenedInvoice,
    PaymentQuery,
    PaymentRecord,
    PlansQuery,
    PreCheckout,
    Rest,
    RestQuery,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.listing import AN_HOUR_AGO, FakeListing, newest, reconciled, report, time_passes
from tests.kit.outgoing import ask_refund, asked, row_of
from tests.kit.payments import asking, state_of, wallet
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import PROVIDERS, Till, a_till

PRICE = 14_900
TELEGRAM = frozenset({"telegram_stars", "telegram_card"})
RECEIPTS = "select acquirer, charge, payer, amount_minor from receipts order by charge"
CONFLICTS = "select where_seen from conflicts"
IN_CONFLICT = "the same id never came with other fields"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def invoiced(till: Till, person: UUID) -> OpenedInvoice:
    """An order with an invoice for a card in Telegram."""
    wanted = asking(person, await till.order(person), "telegram")
    act = partial(open_invoice, providers=PROVIDERS, telegram=TELEGRAM)
    opened = await execute(till.database, wanted, act)
    assert isinstance(opened, OpenedInvoice), opened
    return opened


def reported(
    opened: OpenedInvoice,
    payer: UUID,
    charge: str | None = None,
    reference: str | None = None,
    amount_minor: int = PRICE,
) -> PaymentReported:
    """Telegram's report, as bot-gateway publishes it."""
    charge = charge or f"tg-{uuid4().hex}"
    return PaymentReported.caused_by(
        f"telegram_card:{charge}",
        about=payer,
        at=datetime.now(UTC),
        acquirer="telegram_card",
        charge=charge,
        payer=payer,
        payload=opened.payload,
        currency="RUB",
        amount_minor=amount_minor,
        paid_at=AN_HOUR_AGO,
        provider_charge=reference,
    )


async def handle(database: Database, *events: PaymentReported) -> None:
    async with database.transaction() as tx:
        await payments_confirms_reported(events, tx)


def listed(reference: str, amount_minor: int = PRICE, **changes: Any) -> Payment:
    """A payment that Telegram made, as its acquirer lists it: without our payload."""
    paid = Payment(reference, "succeeded", "RUB", amount_minor, None, AN_HOUR_AGO)
    return replace(paid, paid_at=AN_HOUR_AGO, **changes)


def listing_of(*payments: Payment, refunds: tuple[Refund, ...] = ()) -> FakeListing:
    listing = FakeListing(name="yookassa", payments=list(payments), refunds=list(refunds))
    listing.unlisted = {one.reference: one for one in payments}
    return listing


async def told(listing: FakeListing, database: Database) -> list[DifferenceRecord]:
    """What the newest hourly run differs in, as an operator sees it."""
    return list((await report((await newest(listing, database)).run, database)).differences)


async def receipts_of(till: Till) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await till.database.fetch(RECEIPTS)]


async def test_a_card_is_a_charge_of_its_acquirer(till: Till) -> None:
    """R-138: the money is there, and so is the clearing account."""
    person = uuid4()
    opened = await invoiced(till, person)
    assert (opened.state, opened.asked_minor, opened.currency) == ("open", PRICE, "RUB")
    await handle(till.database, reported(opened, person, reference="2fe3"))
    assert await receipts_of(till) == [("yookassa", "2fe3", person, PRICE)]
    assert await till.bookings() == [("bought", "paid")]
    assert await till.sums() == {("clearing:yookassa", "RUB"): -PRICE, ("revenue", "RUB"): PRICE}


async def test_a_reported_card_is_listed_without_a_word(till: Till) -> None:
    """R-138: nothing more is booked, and nothing is reported but the fee that is told now."""
    person = uuid4()
    event = reported(await invoiced(till, person), person, reference="2fe3")
    await handle(till.database, event)
    listing = listing_of(listed("2fe3", arrived=Sum("RUB", 14_378), fee=Sum("RUB", 522)))
    run = await reconciled(listing, till.database)
    assert (run.counts.listed, run.counts.foreign, run.counts.missing_here) == (1, 0, 0)
    assert [(one.kind, one.done) for one in await told(listing, till.database)] == [
        ("fee", "booked")
    ]
    assert await till.bookings() == [("bought", "paid")]
    await time_passes(listing, till.database)
    assert (await reconciled(listing, till.database)).counts.fee == 0


async def test_a_listed_card_waits_for_its_report(till: Till) -> None:
    """R-138: told once as foreign, never booked by itself; the late report books and ends it."""
    person = uuid4()
    event = reported(await invoiced(till, person), person, reference="2fe3")
    listing = listing_of(listed("2fe3"))
    assert (await reconciled(listing, till.database)).counts.foreign == 1
    first = (await newest(listing, till.database)).run
    [foreign] = await told(listing, till.database)
    assert (foreign.kind, foreign.charge, foreign.done) == ("foreign", "2fe3", "reported")
    assert await receipts_of(till) == []
    await handle(till.database, event, event)
    assert await till.bookings() == [("bought", "paid")]
    assert [one.done for one in (await report(first, till.database)).differences] == ["booked"]
    await time_passes(listing, till.database)
    assert (await reconciled(listing, till.database)).counts.foreign == 0


async def test_report_and_listing_at_once_book_once(till: Till) -> None:
    """R-138: a hundred reports beside a listing that, unlike theirs, tells our payload."""
    person = uuid4()
    opened = await invoiced(till, person)
    event = reported(opened, person, reference="2fe3")
    paid = listed("2fe3", payload=opened.payload)

    async def take() -> None:
        async with till.database.transaction() as tx:
            await take_in([paid], "yookassa", tx)

    turns = [handle(till.database, event) if nth % 2 else take() for nth in range(100)]
    await asyncio.gather(*turns)
    assert await till.bookings() == [("bought", "paid")]
    assert await till.database.fetch(CONFLICTS) == []
    keys = await till.database.fetch(MISSING_RECEIPTS, [event.cause])
    assert keys == [], "bot-gateway's audit finds its report here"


async def test_one_card_charge_is_booked_once(till: Till) -> None:
    """R-139: the same charge of Telegram under another id of the acquirer: an alarm, no money."""
    till.expected.add(IN_CONFLICT)
    person = uuid4()
    opened = await invoiced(till, person)
    await handle(till.database, reported(opened, person, "tg-1", "2fe3"))
    again = reported(opened, person, "tg-1", "2fe4")
    await handle(till.database, again)
    await handle(till.database, again)
    assert [row[1] for row in await receipts_of(till)] == ["2fe3"]
    assert [row["where_seen"] for row in await till.database.fetch(CONFLICTS)] == ["card_charges"]
    assert await wallet(person, till.database) == 0


async def test_one_acquirers_payment_is_booked_once(till: Till) -> None:
    """R-139: two charges of Telegram name one payment, in one batch."""
    till.expected.add(IN_CONFLICT)
    person = uuid4()
    opened = await invoiced(till, person)
    twice = [reported(opened, person, charge, "2fe3") for charge in ("tg-1", "tg-2")]
    await handle(till.database, *twice)
    assert len(await receipts_of(till)) == 1
    assert [row["where_seen"] for row in await till.database.fetch(CONFLICTS)] == ["card_charges"]


async def test_another_sum_of_a_card_is_a_conflict(till: Till) -> None:
    """M-22, R-138: the listing tells another amount than the report: reported, not booked."""
    person = uuid4()
    event = reported(await invoiced(till, person), person, reference="2fe3")
    await handle(till.database, event)
    listing = listing_of(listed("2fe3", 20_000))
    assert (await reconciled(listing, till.database)).counts.amount == 1
    assert await till.bookings() == [("bought", "paid")]


async def test_a_card_without_an_acquirers_id_is_booked(till: Till) -> None:
    """R-140: money that arrived always is. Its return is refused with a sentence."""
    person = uuid4()
    event = reported(await invoiced(till, person), person, "tg-1")
    await handle(till.database, event)
    assert [row[:2] for row in await receipts_of(till)] == [("telegram_card", "tg-1")]
    receipt = derived_id("receipt", "telegram_card", "tg-1")
    refused = await ask_refund(receipt, till.database)
    assert isinstance(refused, Refused)
    assert (refused.reason, "cabinet" in (refused.detail or "")) == ("unsupported", True)


async def test_the_acquirer_returns_a_card_once(till: Till) -> None:
    """R-140: asked under its own id, and the listing of that refund books nothing more."""
    person = uuid4()
    opened = await invoiced(till, person)
    till.provider.payments["2fe3"] = listed("2fe3")
    await handle(till.database, reported(opened, person, reference="2fe3"))
    refund = await asked(derived_id("receipt", "yookassa", "2fe3"), till.database)
    assert await till.turn(till.refunder) == 1
    assert await till.turn(till.refunder) == 0
    [there] = till.provider.refunds.values()
    assert (there.payment, there.amount_minor) == ("2fe3", PRICE)
    assert (await row_of(refund, till.database))["state"] == "settled"
    assert await state_of(opened.order, till.database) == "refunded"
    seen = replace(there, created_at=AN_HOUR_AGO)
    listing = listing_of(listed("2fe3", refunded_minor=PRICE), refunds=(seen,))
    assert (await reconciled(listing, till.database)).counts.refund == 0


async def test_a_refund_in_the_cabinet_is_booked(till: Till) -> None:
    """R-140: against the receipt of the card, once."""
    person = uuid4()
    opened = await invoiced(till, person)
    await handle(till.database, reported(opened, person, reference="2fe3"))
    back = Refund("r-1", "2fe3", "succeeded", "RUB", PRICE, AN_HOUR_AGO)
    listing = listing_of(listed("2fe3", refunded_minor=PRICE), refunds=(back,))
    assert (await reconciled(listing, till.database)).counts.refund == 1
    assert await state_of(opened.order, till.database) == "refunded"
    await time_passes(listing, till.database)
    assert (await reconciled(listing, till.database)).counts.refund == 0


async def test_both_owners_know_the_reported_card(till: Till) -> None:
    """R-138: the audit compares them by Telegram's id, and finds neither one missing."""
    person = uuid4()
    opened = await invoiced(till, person)
    event = reported(opened, person, "tg-1", "2fe3")
    await handle(till.database, event)
    wanted = [event.cause, "telegram_card:2fe3", "telegram_card:tg-2"]
    missing = [row["key"] for row in await till.database.fetch(MISSING_RECEIPTS, wanted)]
    assert missing == wanted[1:]
    ever = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=0), 24.0, -60.0, 10
    rows = await till.database.fetch(KINDS["reported"].listed, *ever)
    assert [row["key"] for row in rows] == [event.cause]


@pytest.mark.parametrize("named", ["2fe3", "tg-1", "telegram_card:tg-1", "yookassa:2fe3"])
async def test_a_card_is_found_by_both_ids(till: Till, named: str) -> None:
    person = uuid4()
    opened = await invoiced(till, person)
    await handle(till.database, reported(opened, person, "tg-1", "2fe3"))
    found = await answer_payment(PaymentQuery(named=named), till.database)
    assert isinstance(found, PaymentRecord)
    [receipt] = found.receipts
    assert (receipt.charge, receipt.telegram_charge) == ("2fe3", "tg-1")
    assert found.order is not None


async def test_the_way_is_closed_without_its_acquirer(till: Till) -> None:
    """R-137: neither offered nor opened; with it, both, at 64 rubles at least."""
    person = uuid4()
    order = await till.order(person)
    plans = await answer_plans(PlansQuery(), till.database, providers=PROVIDERS)
    assert "telegram" not in [one.way for one in plans.ways]
    query = RestQuery(person=person, order=order)
    rest = await answer_rest(query, till.database, providers=PROVIDERS)
    assert isinstance(rest, Rest)
    assert "telegram" not in [one.way for one in rest.ways]
    closed = partial(open_invoice, providers=PROVIDERS)
    answer = await execute(till.database, asking(person, order, "telegram"), closed)
    assert answer == Refused(reason="way_closed")
    plans = await answer_plans(PlansQuery(), till.database, telegram=TELEGRAM)
    assert [(one.way, one.least_minor) for one in plans.ways] == [("stars", 1), ("telegram", 6_400)]
    rest = await answer_rest(query, till.database, telegram=TELEGRAM)
    assert isinstance(rest, Rest)
    assert [(one.way, one.asked_minor) for one in rest.ways][1:] == [("telegram", PRICE)]


@pytest.mark.parametrize(
    ("currency", "amount_minor", "reason"),
    [
        ("RUB", PRICE, None),
        ("RUB", PRICE - 1, "amount_differs"),
        ("XTR", PRICE, "currency_differs"),
        ("USD", PRICE, "currency_differs"),
    ],
)
async def test_pre_checkout_compares_amount_and_currency(
    till: Till, currency: str, amount_minor: int, reason: str | None
) -> None:
    """R-137: before the charge, as for Stars."""
    person = uuid4()
    opened = await invoiced(till, person)
    sheet = PreCheckout(
        payer=person, payload=opened.payload, currency=currency, amount_minor=amount_minor
    )
    [answer] = (await answer_checkout(CheckoutQuery(charges=(sheet,)), till.database)).answers
    assert answer.reason == reason
