"""The rest of an order, and its amount in each way to pay, on a real PostgreSQL."""

from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.queries import answer_rest
from shared.contracts.message import Refused
from shared.contracts.payments import OpenedInvoice, Rest, RestQuery
from shared.platform.db import Database
from tests.kit.payments import asking, paid, placed, report, topup

ALL = ("yookassa", "cryptobot")


async def rest(
    person: UUID, order: UUID, database: Database, *, from_balance: bool = False
) -> Rest | Refused:
    query = RestQuery(person=person, order=order, from_balance=from_balance)
    return await answer_rest(query, database, providers=ALL)


@pytest.mark.parametrize("from_balance", [False, True])
async def test_the_rest_names_what_invoices_ask_for(
    payments_db: Database, *, from_balance: bool
) -> None:
    """R-81: for each way, before and after a part came: shown is charged."""
    ann = uuid4()
    order = await placed(ann, payments_db)
    for part in (0, 66):
        if part:
            await report(payments_db, paid(order, ann, amount=part))
        found = await rest(ann, order.order, payments_db, from_balance=from_balance)
        assert isinstance(found, Rest)
        assert [one.way for one in found.ways] == ["stars", "sbp", "card", "crypto"]
        for one in found.ways:
            wanted = asking(ann, order.order, one.way, from_balance=from_balance)
            async with payments_db.transaction() as tx:
                opened = await open_invoice(wanted, tx, providers=ALL)
            assert isinstance(opened, OpenedInvoice)
            assert (opened.asked_minor, opened.currency) == (one.asked_minor, one.currency)


async def test_the_rest_counts_the_balance(payments_db: Database) -> None:
    """R-81: 100 of 149 rubles are there: 49 are missing, and a card asks for 64."""
    ann = uuid4()
    await report(payments_db, paid(await topup(ann, payments_db, 10_000), ann))
    order = await placed(ann, payments_db)
    found = await rest(ann, order.order, payments_db, from_balance=True)
    assert isinstance(found, Rest)
    assert (found.missing_minor, found.price_minor) == (14_900 - found.balance_minor, 14_900)
    asked = {one.way: one.asked_minor for one in found.ways}
    assert asked["sbp"] == found.missing_minor
    assert asked["card"] == 6_400


async def test_the_rest_is_refused_like_an_invoice(payments_db: Database) -> None:
    """R-85: somebody else's order, an unknown one, and one that was paid."""
    ann = uuid4()
    order = await placed(ann, payments_db)
    assert await rest(uuid4(), order.order, payments_db) == Refused(reason="not_yours")
    assert await rest(ann, uuid4(), payments_db) == Refused(reason="not_yours")
    await report(payments_db, paid(order, ann))
    assert await rest(ann, order.order, payments_db) == Refused(reason="order_paid")


async def test_enough_in_the_balance_lacks_nothing(payments_db: Database) -> None:
    """R-85: with the balance first, no way has to ask for anything."""
    ann = uuid4()
    await report(payments_db, paid(await topup(ann, payments_db), ann))
    order = await placed(ann, payments_db)
    found = await rest(ann, order.order, payments_db, from_balance=True)
    assert isinstance(found, Rest)
    assert (found.missing_minor, found.ways) == (0, ())
    assert found.balance_minor >= found.price_minor
