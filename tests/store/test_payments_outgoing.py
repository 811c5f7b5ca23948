"""Refunds that operators ask for: their holds and refusals, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from payments.commands.refund_payment import refund_payment
from payments.domain.confirmation import Receipt
from payments.operator_queries import answer_parked, answer_refunds
from shared.contracts.message import Refused
from shared.contracts.payments_acts import ParkedQuery
from shared.contracts.payments_refunds import OutgoingRefund, RefundsQuery
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.outgoing import (
    WAYS_OUT,
    act_of,
    ask_refund,
    asked,
    held_in_all,
    refunding,
    row_of,
)
from tests.kit.payments import (
    bought_from_balance,
    give_back,
    paid,
    pay_by_balance,
    placed,
    refund_of,
    report,
    rubles,
    spend,
    stars,
    state_of,
    wallet,
)
from tests.kit.servers import FreshDatabase
from tests.kit.sessions import waits_for_a_lock

pytestmark = pytest.mark.usefixtures("invariants_hold")

ACT = "select role, actor, reason, before, after from commands where id = $1"


@pytest.fixture
async def replica(payments_schema: FreshDatabase) -> AsyncIterator[Database]:
    """Another replica of the service, with connections of its own."""
    database = Database(payments_schema.dsn("payments_app"), name="replica")
    await database.open()
    yield database
    await database.close()


def card(payer: UUID | None, amount_minor: int) -> Receipt:
    """Rubles at an outside provider that name no order."""
    money = rubles(payer or uuid4(), amount_minor)
    return Receipt("yookassa", money.charge, payer, "RUB", amount_minor, "free", money.paid_at)


async def topped_up(person: UUID, amount_minor: int, database: Database) -> Receipt:
    receipt = card(person, amount_minor)
    await report(database, receipt)
    return receipt


async def test_a_refund_holds_the_wallet(payments_db: Database) -> None:
    """R-100: the money cannot be spent from the act on; access and orders are as before."""
    person = uuid4()
    before_minor = await held_in_all(payments_db)
    receipt = await topped_up(person, 20_000, payments_db)
    command = refunding(receipt.id)
    refund = await execute(payments_db, command, act_of())
    assert isinstance(refund, OutgoingRefund)
    assert refund.held_minor == 20_000
    assert await wallet(person, payments_db) == 0
    assert await held_in_all(payments_db) == before_minor + 20_000
    act = await payments_db.fetchrow(ACT, command.id)
    assert act is not None
    assert (act["role"], act["actor"], act["reason"]) == (
        *("admin", "operator:olga"),
        "a mistake of ours",
    )
    assert '"wallet_minor": 20000' in act["before"]
    assert '"wallet_minor": 0' in act["after"]


async def test_a_refund_before_its_payment_is_refused(payments_db: Database) -> None:
    """R-101"""
    answer = await ask_refund(card(uuid4(), 100).id, payments_db)
    assert answer == Refused(reason="receipt_unknown")


async def test_a_second_refund_is_refused(payments_db: Database) -> None:
    """R-101: while the first is under way, also for a part that would fit."""
    receipt = await topped_up(uuid4(), 20_000, payments_db)
    await asked(receipt.id, payments_db, amount_minor=5_000)
    again = await ask_refund(receipt.id, payments_db, amount_minor=5_000)
    assert again == Refused(reason="under_way")


async def test_a_returned_payment_is_refused(payments_db: Database) -> None:
    """R-101: also if it was returned elsewhere, in whole or in part."""
    receipt = await topped_up(uuid4(), 20_000, payments_db)
    await give_back(payments_db, refund_of(receipt, 15_000, reference="a"))
    answer = await ask_refund(receipt.id, payments_db, amount_minor=5_001)
    assert answer == Refused(reason="more_than_left", detail="5000")
    await give_back(payments_db, refund_of(receipt, 5_000, reference="b"))
    assert await ask_refund(receipt.id, payments_db) == Refused(reason="returned_already")


async def test_more_than_was_paid_is_refused(payments_db: Database) -> None:
    """R-101"""
    receipt = await topped_up(uuid4(), 20_000, payments_db)
    answer = await ask_refund(receipt.id, payments_db, amount_minor=20_001)
    assert answer == Refused(reason="more_than_left", detail="20000")


async def test_two_operators_ask_once(payments_db: Database, replica: Database) -> None:
    """R-101: the second waits for the first, and is refused."""
    receipt = await topped_up(uuid4(), 20_000, payments_db)
    async with payments_db.transaction() as tx:
        command = refunding(receipt.id)
        # The row of the act is written beside it, as the service does.
        await refund_payment(command, tx, ways_out=WAYS_OUT, ring=lambda: None)
        second = asyncio.create_task(ask_refund(receipt.id, replica))
        await waits_for_a_lock(second, payments_db)
        await tx.execute(AN_ACT, command.id)
    assert await second == Refused(reason="under_way")


AN_ACT = """
insert into commands (id, topic, actor, reason, digest, request, outcome, role)
values ($1, 'payments.refund', 'operator:olga', 'why', 0, '{}', 'done', 'admin')
"""


async def test_a_repeated_act_is_one(payments_db: Database) -> None:
    """R-101: an answer that was lost is asked for again, with the same id."""
    person = uuid4()
    receipt = await topped_up(person, 20_000, payments_db)
    command = refunding(receipt.id, amount_minor=5_000)
    tries = (execute(payments_db, command, act_of()) for _ in range(5))
    answers = await asyncio.gather(*tries)
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await wallet(person, payments_db) == 15_000


async def test_a_spent_topup_holds_what_is_left(payments_db: Database) -> None:
    """R-100: the rest of the refund is taken when the money has left, by the rules of any."""
    person = uuid4()
    receipt = await topped_up(person, 20_000, payments_db)
    order = await bought_from_balance(person, payments_db)
    refund = await asked(receipt.id, payments_db)
    assert refund.held_minor == 5_100
    assert await state_of(order, payments_db) == "paid"


async def test_a_purchase_races_a_refund(payments_db: Database, replica: Database) -> None:
    """R-100: the purchase waits for the hold, and finds the wallet short."""
    person = uuid4()
    receipt = await topped_up(person, 20_000, payments_db)
    order = await placed(person, payments_db)
    async with payments_db.transaction() as tx:
        command = refunding(receipt.id)
        await refund_payment(command, tx, ways_out=WAYS_OUT, ring=lambda: None)
        buying = asyncio.create_task(pay_by_balance(person, order.order, replica))
        await waits_for_a_lock(buying, payments_db)
        await tx.execute(AN_ACT, command.id)
    answer = await buying
    assert isinstance(answer, Refused)
    assert await state_of(order.order, payments_db) == "open"


async def test_a_part_of_an_open_order_stays(payments_db: Database) -> None:
    """R-100: money that an open order has received is not held for another payment's refund."""
    person = uuid4()
    order = await placed(person, payments_db)
    await report(payments_db, paid(order, person, amount=50))
    received_minor = await wallet(person, payments_db)
    receipt = await topped_up(person, 1_000, payments_db)
    await spend(person, 400, payments_db)
    refund = await asked(receipt.id, payments_db)
    assert refund.held_minor == 600
    assert await wallet(person, payments_db) == received_minor


@pytest.mark.parametrize("acquirer", ["cryptobot", "telegram_card"])
async def test_a_provider_without_refunds_is_refused(payments_db: Database, acquirer: str) -> None:
    """R-102: a sentence names another way, or says that the shop has no keys."""
    person = uuid4()
    money = rubles(person, 500)
    receipt = Receipt(acquirer, money.charge, person, "RUB", 500, "free", money.paid_at)
    await report(payments_db, receipt)
    answer = await ask_refund(receipt.id, payments_db)
    assert isinstance(answer, Refused)
    assert answer.reason in ("unsupported", "no_account")
    assert "turnpike balance add" in (answer.detail or "")
    assert await wallet(person, payments_db) == 500


async def test_stars_are_returned_whole_only(payments_db: Database) -> None:
    """R-102: Telegram knows no parts of a charge."""
    receipt = stars(uuid4(), 99)
    await report(payments_db, receipt)
    answer = await ask_refund(receipt.id, payments_db, "XTR", amount_minor=50)
    assert answer == Refused(reason="only_whole")
    assert (await asked(receipt.id, payments_db, "XTR", amount_minor=99)).amount_minor == 99


async def test_an_amount_in_another_currency_is_refused(payments_db: Database) -> None:
    """R-101: 99 Stars are not 99 kopecks; and another payer is a slip of the hand."""
    receipt = stars(uuid4(), 99)
    await report(payments_db, receipt)
    answer = await ask_refund(receipt.id, payments_db, "RUB")
    assert answer == Refused(reason="wrong_currency", detail="XTR")
    answer = await ask_refund(receipt.id, payments_db, "XTR", person=uuid4())
    assert answer == Refused(reason="not_yours")


async def test_parked_money_is_returned_whole(payments_db: Database) -> None:
    """R-103: it waits for no operator meanwhile, and nobody else can get it."""
    receipt = card(None, 700)
    await report(payments_db, receipt)
    part = await ask_refund(receipt.id, payments_db, amount_minor=1)
    assert part == Refused(reason="only_whole")
    refund = await asked(receipt.id, payments_db)
    assert (refund.person, refund.held_minor) == (None, 0)
    listed = (await answer_parked(ParkedQuery(), payments_db)).receipts
    assert receipt.id not in [one.receipt for one in listed]
    await give_back(payments_db, refund_of(receipt, reference="in the cabinet"))
    assert (await row_of(refund, payments_db))["state"] == "released"


async def test_refunds_are_listed_in_pages(
    payments_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: the newest first, each once; or those of one state."""
    monkeypatch.setattr("payments.operator_queries.REFUNDS_PER_PAGE", 2)
    wanted = []
    for _ in range(5):
        receipt = await topped_up(uuid4(), 300, payments_db)
        wanted.append((await asked(receipt.id, payments_db)).refund)
    found: list[UUID] = []
    more = True
    while more:
        query = RefundsQuery(before=found[-1] if found else None, state="held")
        page = await answer_refunds(query, payments_db)
        found += [one.refund for one in page.refunds]
        more = page.more
    assert [one for one in found if one in wanted] == wanted[::-1]
    assert len(found) == len(set(found))
