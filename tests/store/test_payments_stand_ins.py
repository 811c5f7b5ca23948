"""The ways in with the real clients, against the stand-ins of YooKassa and Crypto Pay."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from payments.domain.provider import Payment
from shared.contracts.payments import PlaceOrder, Way
from tests.kit.payments import command, topup_command
from tests.kit.providers import STAGES, Stage, read_one
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till

WAYS: dict[str, Way] = {"yookassa": "sbp", "cryptobot": "crypto"}


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Its clock shows the time of the database."""
    async with STAGES[request.param](tmp_path) as running:
        running.later(seconds=(datetime.now(UTC) - running.now()).total_seconds())
        yield running


@pytest.fixture
async def till(fresh_database: MakeDatabase, stage: Stage) -> AsyncIterator[Till]:
    async with a_till(fresh_database, cast(Any, stage.provider)) as till:
        yield till


async def opened(till: Till, stage: Stage, wanted: PlaceOrder | None = None) -> str:
    """The reference of an invoice that is open on both sides."""
    person = wanted.person if wanted else uuid4()
    order = await till.order(person, wanted)
    asked = await till.ask(person, order, WAYS[stage.provider.name])
    for _ in range(3):
        await till.turn(till.opener)
    row = await till.row(asked.invoice)
    assert row["state"] == "open"
    assert row["pay_url"].startswith("http")
    return str(row["reference"])


@pytest.mark.parametrize("how", ["lost", "500_after", "500", "429"])
async def test_unclear_answer_opens_one_invoice(till: Till, stage: Stage, how: str) -> None:
    """R-70: after any answer of the provider to the first call, and any effect of that call."""
    await stage.break_next("create", how)
    await opened(till, stage)
    assert await stage.count() == 1


async def test_paid_invoice_is_found_and_balanced(till: Till, stage: Stage) -> None:
    """R-72: the accounts hold what the provider says that arrived, and its fee."""
    reference = await opened(till, stage)
    await stage.pay(reference)
    await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")]
    told, sums = await read_one(stage, reference), await till.sums()
    assert told.arrived is not None
    assert told.fee is not None
    held = f"clearing:{stage.provider.name}", told.arrived.currency
    assert sums[held] == -told.arrived.amount_minor
    assert sums["fees", told.fee.currency] == -told.fee.amount_minor
    assert sums["revenue", "RUB"] == 14900


@pytest.mark.parametrize("product", [command, topup_command])
async def test_every_product_is_paid_for(
    till: Till, stage: Stage, product: Callable[[UUID], PlaceOrder]
) -> None:
    """R-24, R-25: by each provider; the receipt has the id that its listing names."""
    reference = await opened(till, stage, product(uuid4()))
    await stage.pay(reference)
    await till.turn(till.watcher)
    [receipt] = await till.database.fetch("select acquirer, charge from receipts")
    assert tuple(receipt) == (stage.provider.name, reference)
    [order] = await till.database.fetch("select state from orders")
    assert order["state"] == "paid"


async def test_expired_invoice_ends(till: Till, stage: Stage) -> None:
    reference = await opened(till, stage)
    await stage.expire(reference)
    await till.turn(till.watcher)
    [invoice] = await till.database.fetch("select state, reason from invoices")
    assert (invoice["state"], bool(invoice["reason"])) == ("expired", True)
    assert await till.jobs() == []


async def test_reading_fails_and_comes_back(till: Till, stage: Stage) -> None:
    """R-71: nothing is lost by a provider that is slow, or down."""
    reference = await opened(till, stage)
    await stage.pay(reference)
    for how in ("500", "429"):
        await stage.break_next("read", how)
        await till.turn(till.watcher)
    for _ in range(2):
        await till.turn(till.watcher)
    assert await till.bookings() == [("bought", "paid")]
    assert isinstance(await read_one(stage, reference), Payment)
