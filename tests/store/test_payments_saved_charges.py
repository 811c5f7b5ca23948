"""A saved method has no page: nothing is charged beyond what the person sees and wants."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.queries import answer_rest
from shared.contracts.message import Refused
from shared.contracts.payments import OpenedInvoice, Rest, RestQuery
from shared.messaging.idempotency import execute
from tests.kit.payments import asking, report, rubles, spend
from tests.kit.providers import yookassa_stage
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import PROVIDERS, a_till
from tests.store.test_payments_saved_methods import SAVES, Shop


@pytest.fixture
async def shop(fresh_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Shop]:
    async with yookassa_stage(tmp_path) as stage:
        stage.later(seconds=(datetime.now(UTC) - stage.now()).total_seconds())
        async with a_till(fresh_database, cast(Any, stage.provider)) as till:
            yield Shop(till, stage)


@pytest.mark.parametrize("lost", [False, True])
async def test_another_order_waits_for_the_charge(shop: Shop, *, lost: bool) -> None:
    """R-148: an impatient person chooses the plan again, while the first charge is pending."""
    method = await shop.save(person := uuid4())
    await shop.stage.till.control.plan_pending_charge()
    if lost:
        await shop.stage.break_next("create", "lost")
    first = await shop.invoice(person, method.name)
    await shop.open()
    assert await shop.ask(person, method.name) == Refused(reason="being_charged")
    for _ in range(2):
        await shop.open()
    assert await shop.ask(person, method.name) == Refused(reason="being_charged")
    assert await shop.stage.count() == 2
    await shop.stage.pay(str((await shop.till.row(first.invoice))["reference"]))
    await shop.watch()
    await shop.charge(person, method)
    assert await shop.till.bookings() == [("bought", "paid")] * 3


async def test_a_charge_never_asked_for_holds_nothing(shop: Shop) -> None:
    """R-148: choosing again before the call leaves one charge, the newer one."""
    method = await shop.save(person := uuid4())
    first = await shop.invoice(person, method.name)
    second = await shop.charge(person, method)
    assert (await shop.state(first), await shop.state(second)) == ("superseded", "paid")
    assert await shop.stage.count() == 2


async def test_no_more_is_charged_than_the_button_named(shop: Shop) -> None:
    """R-149: the balance that was to pay a part is spent before the tap."""
    method, database = await shop.save(person := uuid4()), shop.till.database
    await report(database, rubles(person, 5_000))
    order = await shop.till.order(person)
    query = RestQuery(person=person, order=order, from_balance=True)
    rest = await answer_rest(query, database, providers=PROVIDERS, saves=SAVES)
    assert isinstance(rest, Rest)
    [most_minor] = [one.asked_minor for one in rest.ways if one.way == method.way]
    await spend(person, 5_000, database)
    wanted = asking(person, order, cast(Any, method.name), from_balance=True)
    wanted = wanted.model_copy(update={"most_minor": most_minor})
    act = partial(open_invoice, providers=PROVIDERS, saves=SAVES)
    assert await execute(database, wanted, act) == Refused(reason="dearer")
    again = wanted.model_copy(update={"id": uuid4(), "most_minor": most_minor + 5_000})
    charged = await execute(database, again, act)
    assert isinstance(charged, OpenedInvoice)
    assert charged.asked_minor == most_minor + 5_000
