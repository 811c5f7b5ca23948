"""Refunds of operators at their provider: the money leaves once, even if a worker dies."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from payments.domain.confirmation import Receipt
from payments.domain.provider import (
    Payment,
    Refusal,
    Returning,
    SlowDown,
    Unavailable,
    Unknown,
)
from payments.domain.reconciliation import refund_from
from payments.store.outgoing import DROP_OLD
from payments.subscribers import record_refunds
from shared.contracts.message import Refused, derived_id
from shared.contracts.payments_refunds import OutgoingRefund
from shared.platform.db import Database
from tests.kit.fake_provider import NOON, Fault
from tests.kit.outgoing import ask_refund, asked, held_in_all, resolve, row_of
from tests.kit.payments import (
    balance,
    bought_from_balance,
    give_back,
    refund_events,
    refund_of,
    report,
    spend,
    state_of,
    wallet,
)
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till

PRICE = 14_900
MONEY = "RUB", 500, "free", NOON
BEFORE = Fault(Unknown("500"))
AFTER = Fault(Unknown("500"), done=True)
IN_REVIEW = "no refund waits for an operator's review"
AGE = "update outgoing_refunds set asked_at = asked_at - interval '21 hours'"
FAILURES = """
select failures from provider_pace where acquirer = 'yookassa' and lane = 'refund'
"""
OTHERS = "select sum(failures) from provider_pace where lane <> 'refund'"
LONG_AGO = "update outgoing_refunds set ended_at = ended_at - interval '401 days'"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def bought(till: Till) -> tuple[UUID, UUID, str, UUID]:
    """A person with an order that was paid: person, order, charge and receipt."""
    person = uuid4()
    order, charge = await till.paid(person)
    return person, order.order, charge, derived_id("receipt", till.provider.name, charge)


async def ended(refund: OutgoingRefund, till: Till) -> tuple[str, str | None]:
    row = await row_of(refund, till.database)
    return row["state"], row["reason"]


async def returned(till: Till, person: UUID) -> int:
    """How often the person's money was returned, by the events."""
    return len(await refund_events(person, till.database))


async def test_money_leaves_then_the_order_is_undone(till: Till) -> None:
    """R-100: nothing is undone before, and all of it in the transaction that books the refund."""
    person, order, charge, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    assert await state_of(order, till.database) == "paid"
    assert await till.turn(till.refunder) == 1
    assert await state_of(order, till.database) == "refunded"
    assert (await ended(refund, till), await returned(till, person)) == (("settled", None), 1)
    [at_provider] = till.provider.refunds.values()
    assert (at_provider.payment, at_provider.amount_minor) == (charge, PRICE)
    assert list(till.provider.refunds) == [refund.refund]
    assert await till.turn(till.refunder) == 0


async def test_a_part_is_returned(till: Till) -> None:
    """R-100: of the order the share that the wallet lacks; then the rest, by another act."""
    person, order, _, receipt = await bought(till)
    for amount_minor in (4_900, None):
        await asked(receipt, till.database, amount_minor=amount_minor)
        await till.turn(till.refunder)
        if amount_minor:
            assert await state_of(order, till.database) == "partly_refunded"
    assert await state_of(order, till.database) == "refunded"
    events = await refund_events(person, till.database)
    assert [event.returned.value_minor for event in events] == [4_900, 10_000]
    assert (await wallet(person, till.database), await held_in_all(till.database)) == (0, 0)


async def test_a_spent_topup_undoes_what_it_paid(till: Till) -> None:
    """R-100: the hold leaves first; the order that the balance paid is undone for the rest."""
    person = uuid4()
    charge = f"yookassa-{person.hex[:6]}"
    topup = Payment(charge, "succeeded", "RUB", 20_000, "free", NOON, paid_at=NOON)
    till.provider.payments[charge] = topup
    receipt = Receipt("yookassa", charge, person, "RUB", 20_000, "free", NOON)
    await report(till.database, receipt)
    order = await bought_from_balance(person, till.database)
    refund = await asked(receipt.id, till.database)
    assert refund.held_minor == 20_000 - PRICE
    await till.turn(till.refunder)
    assert await state_of(order, till.database) == "refunded"
    [event] = await refund_events(person, till.database)
    assert (event.owed_minor, await wallet(person, till.database)) == (0, 0)


async def test_an_error_after_the_effect_is_one_refund(till: Till) -> None:
    """R-105: the same key again is the same refund."""
    person, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", BEFORE, AFTER)
    for _ in range(3):
        await till.turn(till.refunder)
    assert (await ended(refund, till), await returned(till, person)) == (("settled", None), 1)
    assert len(till.provider.refunds) == 1


async def test_a_dead_worker_leaves_one_refund(till: Till) -> None:
    """R-105: it dies between the answer of the provider and its record."""
    person, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", Fault(hangs=True))
    dying = asyncio.create_task(till.refunder.round())
    await till.provider.reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await ended(refund, till))[0] == "calling"
    await till.turn(till.refunder)
    assert (await ended(refund, till), await returned(till, person)) == (("settled", None), 1)
    assert len(till.provider.refunds) == 1


async def test_without_keys_a_dead_worker_is_reviewed(till: Till) -> None:
    """R-105: nobody asks again; an operator looks, and the money is held until then."""
    till.expected.add(IN_REVIEW)
    till.provider.returning = Returning(in_parts=True, keyed=False)
    _, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", AFTER)
    await till.turn(till.refunder)
    await till.turn(till.refunder)
    assert (await ended(refund, till))[0] == "pending_review"
    assert till.provider.calls.count("refund") == 1


async def test_an_old_key_is_not_repeated(till: Till) -> None:
    """R-105: providers keep a key for a day."""
    till.expected.add(IN_REVIEW)
    _, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", AFTER)
    await till.turn(till.refunder)
    await till.database.execute(AGE)
    await till.turn(till.refunder)
    assert (await ended(refund, till))[0] == "pending_review"
    assert till.provider.calls.count("refund") == 1


async def test_the_listing_ends_a_lost_refund(till: Till) -> None:
    """R-105: the booked refund of that amount is the one whose answer was lost."""
    person, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", AFTER)
    await till.turn(till.refunder)
    await till.database.execute(AGE)
    await till.turn(till.refunder)
    await list_refunds(till)
    assert (await ended(refund, till), await returned(till, person)) == (("settled", None), 1)
    await list_refunds(till)
    assert await returned(till, person) == 1


async def list_refunds(till: Till) -> None:
    """The refunds of the provider, as its listing tells them."""
    told = [refund_from(one, till.provider.name) for one in till.provider.refunds.values()]
    async with till.database.transaction() as tx:
        await record_refunds(told, tx)


async def test_a_listing_before_the_answer_books_once(till: Till) -> None:
    """R-105: whichever comes first ends the hold."""
    person, order, _, receipt = await bought(till)
    await asked(receipt, till.database)
    till.provider.fails("refund", AFTER)
    await till.turn(till.refunder)
    await list_refunds(till)
    await till.turn(till.refunder)
    assert await returned(till, person) == 1
    assert await state_of(order, till.database) == "refunded"
    assert await held_in_all(till.database) == 0


async def test_a_refused_refund_is_released(till: Till) -> None:
    """R-106: the hold goes back to the wallet, and the operator reads why."""
    person = uuid4()
    _, charge = await till.paid(person)
    receipt = derived_id("receipt", till.provider.name, charge)
    till.provider.fails("refund", Fault(Refusal("insufficient_funds", "There is no money.")))
    refund = await asked(receipt, till.database)
    await till.turn(till.refunder)
    state = await ended(refund, till)
    assert state == ("released", "insufficient_funds: There is no money.")
    assert await returned(till, person) == 0
    assert isinstance(await ask_refund(receipt, till.database), OutgoingRefund)


async def test_a_refusal_after_a_lost_answer_is_reviewed(till: Till) -> None:
    """R-106: it may be that of the repeat only, so nothing is released."""
    till.expected.add(IN_REVIEW)
    _, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", AFTER, Fault(Refusal("forbidden", "The key is wrong.")))
    await till.turn(till.refunder)
    await till.turn(till.refunder)
    state = await ended(refund, till)
    assert state == ("pending_review", "forbidden: The key is wrong.")


async def test_a_provider_that_is_down_is_asked_later(till: Till) -> None:
    """R-106: nothing happened, so the refund is as it was; the lane pauses alone."""
    _, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    down = Fault(Unavailable("ClientConnectorError"))
    till.provider.fails("refund", down, Fault(SlowDown(40.0)))
    for failures in (1, 2):
        await till.turn(till.refunder)
        assert (await ended(refund, till))[0] == "held"
        assert await till.database.fetchval(FAILURES) == failures
    assert await till.database.fetchval(OTHERS) == 0
    await till.turn(till.refunder)
    assert await ended(refund, till) == ("settled", None)


@pytest.mark.parametrize("end", ["succeeded", "canceled"])
async def test_a_pending_refund_is_read_back(till: Till, end: str) -> None:
    """R-106: accepted is not done: the money is held until the provider says which."""
    person, order, _, receipt = await bought(till)
    till.provider.refund_state = "pending"
    refund = await asked(receipt, till.database)
    for _ in range(3):
        await till.turn(till.refunder)
    assert (await ended(refund, till))[0] == "pending"
    assert till.provider.calls.count("refund") == 1
    assert await state_of(order, till.database) == "paid"
    done = end == "succeeded"
    till.provider.end_refund("succeeded" if done else "canceled", "rejected_by_payee")
    await till.turn(till.refunder)
    assert await ended(refund, till) == (
        ("settled", None) if done else ("released", "rejected_by_payee")
    )
    assert await returned(till, person) == int(done)


async def test_two_workers_return_once(till: Till) -> None:
    """R-105: eight workers in two pools."""
    second = Database(till.dsn, name="second")
    await second.open()
    people = []
    for _ in range(6):
        person, _, _, receipt = await bought(till)
        await asked(receipt, till.database)
        people.append(person)
    workers = [till.refunder for _ in range(8)]
    for worker in workers[4:]:
        worker.database = second
    await till.database.execute("update provider_pace set every = interval '1 microsecond'")
    for _ in range(10):
        await asyncio.gather(*(worker.round() for worker in workers))
    await second.close()
    assert len(till.provider.refunds) == 6
    assert [await returned(till, person) for person in people] == [1] * 6


async def test_a_cabinet_refund_takes_what_was_wanted(till: Till) -> None:
    """R-105: nobody was asked yet, and nothing is left to return."""
    person, _, charge, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    elsewhere = uuid4()
    await till.provider.refund(charge, PRICE, "RUB", elsewhere)
    await list_refunds(till)
    state, reason = await ended(refund, till)
    assert (state, (reason or "").partition(":")[0]) == ("released", "returned_already")
    assert await till.turn(till.refunder) == 0
    assert await returned(till, person) == 1


async def in_review(till: Till) -> tuple[UUID, OutgoingRefund]:
    """A refund that nobody can know the outcome of; and its person."""
    person, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    till.provider.fails("refund", AFTER)
    await till.turn(till.refunder)
    await till.database.execute(AGE)
    await till.turn(till.refunder)
    assert (await ended(refund, till))[0] == "pending_review"
    return person, refund


async def test_an_operator_settles_a_refund(till: Till) -> None:
    """R-107: under the reference that the listing has, too, so that it is booked once."""
    person, refund = await in_review(till)
    [at_provider] = till.provider.refunds.values()
    missing = await resolve(refund.refund, "settled", till.database)
    assert missing == Refused(reason="reference_missing")
    reference = at_provider.reference
    answer = await resolve(refund.refund, "settled", till.database, reference)
    assert isinstance(answer, OutgoingRefund)
    assert (answer.state, answer.reference) == ("settled", reference)
    await list_refunds(till)
    assert await returned(till, person) == 1
    again = await resolve(refund.refund, "released", till.database)
    assert again == Refused(reason="not_in_review", detail="settled")


async def test_an_operator_releases_a_refund(till: Till) -> None:
    """R-107: and if the money left all the same, the listing books it."""
    person, refund = await in_review(till)
    answer = await resolve(refund.refund, "released", till.database)
    assert isinstance(answer, OutgoingRefund)
    assert answer.state == "released"
    assert (await returned(till, person), await held_in_all(till.database)) == (0, 0)
    await list_refunds(till)
    assert await returned(till, person) == 1


async def test_only_a_refund_in_review_is_resolved(till: Till) -> None:
    """R-107: an act never races the worker."""
    unknown = await resolve(uuid4(), "released", till.database)
    assert unknown == Refused(reason="refund_unknown")
    _, _, _, receipt = await bought(till)
    refund = await asked(receipt, till.database)
    answer = await resolve(refund.refund, "released", till.database)
    assert answer == Refused(reason="not_in_review", detail="held")


async def test_a_release_settles_a_debt_first(till: Till) -> None:
    """R-106: money that returns to the wallet is as any money that comes."""
    person = uuid4()
    held, spent = [Receipt("yookassa", uuid4().hex, person, *MONEY) for _ in range(2)]
    await report(till.database, held, spent)
    await spend(person, 500, till.database)
    await asked(held.id, till.database)
    await give_back(till.database, refund_of(spent, reference="in the cabinet"))
    assert (await balance(person, till.database)).owed_minor == 500
    await till.turn(till.refunder)  # The provider does not know that charge.
    after = await balance(person, till.database)
    assert (after.owed_minor, after.wallet_minor) == (0, 0)


async def test_ended_refunds_are_dropped_after_a_year(till: Till) -> None:
    """The refund that was booked, and the act, stay for ever."""
    person, _, _, receipt = await bought(till)
    await asked(receipt, till.database)
    await till.turn(till.refunder)
    assert await till.database.execute(DROP_OLD, 10) == "DELETE 0"
    await till.database.execute(LONG_AGO)
    assert await till.database.execute(DROP_OLD, 10) == "DELETE 1"
    assert await returned(till, person) == 1
