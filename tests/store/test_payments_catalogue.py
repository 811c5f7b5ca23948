"""Operators change prices, plans, rates and ways to pay, on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import ValidationError

from payments.commands.open_invoice import open_invoice
from payments.commands.place_order import place_order
from payments.commands.set_catalogue import set_plan, set_price, set_rate, set_way
from payments.operator_queries import answer_catalogue
from payments.queries import answer_plans
from shared.contracts.message import Refused, Value
from shared.contracts.operators import Act
from shared.contracts.payments import OpenedInvoice, PlacedOrder, PlansQuery
from shared.contracts.payments_acts import (
    Catalogue,
    CatalogueQuery,
    SetPlan,
    SetPrice,
    SetRate,
    SetWay,
)
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from shared.platform.migrate import migrate
from tests.kit.operators import by_operator
from tests.kit.payments import asking, command, paid, placed, report, wallet
from tests.kit.servers import FreshDatabase

pytestmark = pytest.mark.usefixtures("invariants_hold")

ACTIONS: dict[type[Act[Any]], Any] = {
    SetPrice: set_price,
    SetPlan: set_plan,
    SetRate: set_rate,
    SetWay: set_way,
}
VERSIONS = """
select price_minor, stars
from price_versions
where plan = $1 and months = $2
order by from_at
"""
PRICED = "select price_minor, price_stars from orders where id = $1"
CHANGES = "select before::text as before, after::text as after from commands where id = $1"


async def act(database: Database, kind: type[Act[Any]], **fields: Any) -> Value:
    wanted = kind.model_validate(by_operator("admin") | fields)
    return await execute(database, wanted, ACTIONS[kind])


async def price(database: Database, price_minor: int, stars: int, months: int = 1) -> Value:
    fields = {"plan": "basic", "months": months, "price_minor": price_minor, "stars": stars}
    return await act(database, SetPrice, **fields)


async def catalogue(database: Database) -> Catalogue:
    return await answer_catalogue(CatalogueQuery(), database)


async def test_the_price_shown_is_charged(payments_db: Database) -> None:
    """R-90, M-25: screen, next order and its invoice have the new price; an old order its own."""
    person = uuid4()
    before = await placed(person, payments_db, months=3)
    await price(payments_db, 50_000, 333, months=3)
    shown = await answer_plans(PlansQuery(), payments_db)
    [basic] = [plan for plan in shown.plans if plan.plan == "basic"]
    assert [one.price_minor for one in basic.prices if one.months == 3] == [50_000]
    after = await placed(uuid4(), payments_db, months=3)
    assert (before.price_minor, before.asked_minor) == (39_900, 269)
    assert (after.price_minor, after.asked_minor) == (50_000, 333)
    await report(payments_db, paid(before, person))
    assert await wallet(person, payments_db) == 0, "the old order bought at its price"


async def test_every_price_is_kept(payments_db: Database) -> None:
    """R-90: also one that was edited by hand, and none can be rewritten."""
    for price_minor, stars in ((70_000, 470), (71_000, 480)):
        await price(payments_db, price_minor, stars, months=6)
    kept = [tuple(row) for row in await payments_db.fetch(VERSIONS, "basic", 6)]
    assert kept == [(74_900, 499), (70_000, 470), (71_000, 480)]
    [listed] = [
        one
        for one in (await catalogue(payments_db)).prices
        if (one.plan, one.months) == ("basic", 6)
    ]
    assert (listed.price_minor, listed.stars) == (71_000, 480)
    for statement in ("delete from price_versions", "update price_versions set stars = 1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await payments_db.execute(statement)


async def test_an_order_never_mixes_two_prices(payments_db: Database) -> None:
    """R-90: rubles and Stars change in one transaction, while orders are placed."""
    pairs = {(20_000, 200), (30_000, 300)}
    await price(payments_db, 20_000, 200, months=12)

    async def flip() -> None:
        for price_minor, stars in (*pairs, *pairs):
            await price(payments_db, price_minor, stars, months=12)

    async def order() -> tuple[int, int]:
        answer = await execute(payments_db, command(uuid4(), months=12), place_order)
        assert isinstance(answer, PlacedOrder)
        row = await payments_db.fetchrow(PRICED, answer.order)
        assert row is not None
        return row["price_minor"], row["price_stars"]

    _, *found = await asyncio.gather(flip(), *(order() for _ in range(20)))
    assert set(found) <= pairs


async def test_no_start_changes_an_edited_row(
    payments_db: Database, payments_schema: FreshDatabase
) -> None:
    """M-28: the shipped defaults are written once, by the migration that made the tables."""
    await price(payments_db, 15_900, 106)
    await act(payments_db, SetPlan, plan="plus", on_sale=False, devices=7)
    await act(payments_db, SetWay, way="crypto", on_sale=False)
    edited = await catalogue(payments_db)
    assert await migrate(payments_schema.dsn("payments_owner"), "payments") == []
    assert await catalogue(payments_db) == edited
    await price(payments_db, 14_900, 99)
    await act(payments_db, SetPlan, plan="plus", on_sale=True, devices=10)
    await act(payments_db, SetWay, way="crypto", on_sale=True)


async def test_a_plan_off_sale_is_not_ordered(payments_db: Database) -> None:
    """R-90: its orders keep their terms, and a screen that still shows it is refused."""
    person = uuid4()
    order = await placed(person, payments_db, "plus")
    await act(payments_db, SetPlan, plan="plus", on_sale=False, traffic_bytes=2**40)
    refused = await execute(payments_db, command(uuid4(), "plus"), place_order)
    assert isinstance(refused, Refused)
    assert refused.reason == "plan_unknown"
    await report(payments_db, paid(order, person))
    state = "select state from orders where id = $1 and traffic_bytes is null"
    assert await payments_db.fetchval(state, order.order) == "paid"
    await act(payments_db, SetPlan, plan="plus", on_sale=True, traffic_bytes=0)
    [plus] = [one for one in (await catalogue(payments_db)).plans if one.plan == "plus"]
    assert (plus.on_sale, plus.traffic_bytes, plus.devices) == (True, None, 10)


async def test_a_rate_begins_later(payments_db: Database) -> None:
    """R-91: the rate in force stays until then, and two rates never begin together."""
    from_at = datetime.now(UTC) + timedelta(days=400)
    fields = {"currency": "XTR", "kopecks": 160, "per_minor": 1, "from_at": from_at}
    await act(payments_db, SetRate, **fields)
    assert await act(payments_db, SetRate, **fields) == Refused(reason="rate_exists")
    states = {
        (one.kopecks, one.state)
        for one in (await catalogue(payments_db)).rates
        if one.currency == "XTR"
    }
    assert states == {(150, "present"), (160, "future")}


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(seconds=30)])
async def test_a_rate_is_not_dated_back(payments_db: Database, ahead: timedelta) -> None:
    """R-91, I9: money that is booked now was valued without it."""
    fields = {"currency": "XTR", "kopecks": 1, "per_minor": 1, "from_at": datetime.now(UTC) + ahead}
    answer = await act(payments_db, SetRate, **fields)
    assert isinstance(answer, Refused)
    assert answer.reason == "begins_too_early"


async def test_a_rate_of_rubles_is_refused(payments_db: Database) -> None:
    """R-91."""
    answer = await act(payments_db, SetRate, currency="RUB", kopecks=1, per_minor=1)
    assert answer == Refused(reason="rubles_have_no_rate")


async def test_a_way_off_sale_opens_no_invoice(payments_db: Database) -> None:
    """R-90: an invoice that is open stays open, and its money buys."""
    person = uuid4()
    order = await placed(person, payments_db)
    await act(payments_db, SetWay, way="stars", on_sale=False)
    refused = await execute(payments_db, asking(person, order.order), open_invoice)
    assert refused == Refused(reason="way_closed")
    await report(payments_db, paid(order, person))
    assert await wallet(person, payments_db) == 0
    await act(payments_db, SetWay, way="stars", on_sale=True)
    again = await placed(person, payments_db)
    assert isinstance(again, OpenedInvoice)


async def test_a_way_keeps_its_range(payments_db: Database) -> None:
    """R-90: a least above the most would close the way without a word."""
    answer = await act(payments_db, SetWay, way="card", least_minor=10**12)
    assert answer == Refused(reason="least_above_most")
    [card] = [one for one in (await catalogue(payments_db)).ways if one.way == "card"]
    assert (card.least_minor, card.most_minor) == (6_400, 35_000_000)


async def test_changes_have_before_and_after(payments_db: Database) -> None:
    """R-87: the row of the act holds both."""
    wanted = SetWay(**by_operator("admin"), way="sbp", most_minor=60_000_000)
    await execute(payments_db, wanted, set_way)
    row = await payments_db.fetchrow(CHANGES, wanted.id)
    assert row is not None
    assert '"most_minor": 70000000' in row["before"]
    assert '"most_minor": 60000000' in row["after"]
    await act(payments_db, SetWay, way="sbp", most_minor=70_000_000)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (SetPrice, {"plan": "none", "months": 1, "price_minor": 1, "stars": 1}),
        (SetPlan, {"plan": "none", "on_sale": True}),
    ],
)
async def test_an_unknown_plan_is_refused(
    payments_db: Database, kind: type[Act[Any]], fields: dict[str, Any]
) -> None:
    assert await act(payments_db, kind, **fields) == Refused(reason="plan_unknown")


@pytest.mark.parametrize(
    "changed",
    [{"price_minor": 0}, {"price_minor": 10**11}, {"stars": 0}, {"stars": 10**6}, {"months": 0}],
)
def test_an_odd_price_is_malformed(changed: dict[str, int]) -> None:
    """D-16: the bounds of the act are those of the table."""
    fields = {"plan": "basic", "months": 1, "price_minor": 1, "stars": 1} | changed
    with pytest.raises(ValidationError):
        SetPrice.model_validate(by_operator() | fields)
