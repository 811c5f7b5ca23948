"""`turnpike accounts` as a process, against payments."""

import json
from collections.abc import AsyncIterator
from datetime import date
from uuid import uuid4

import pytest

import payments.app
from tests.kit.closing import closed, days_pass
from tests.kit.commands import living, turnpike
from tests.kit.living import settings
from tests.kit.payments import report, rubles, stars
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker

WIDTH = 100


@pytest.fixture
async def place(fresh_database: MakeDatabase, broker: Broker) -> FreshDatabase:
    await broker.wipe()
    return await fresh_database("payments")


@pytest.fixture
async def ended(place: FreshDatabase, broker: Broker) -> AsyncIterator[date]:
    """A closed day with two payments; one more came since."""
    service = payments.app.build(settings(place.dsn("payments_app"), broker.url))
    async with living([service]):
        await report(service.database, rubles(uuid4(), 50_000), stars(uuid4(), 100))
        day = await days_pass(2, place)
        await closed(day, service.database)
        await report(service.database, rubles(uuid4(), 700))
        yield day


async def test_a_closed_day_sums_to_zero(ended: date, broker: Broker) -> None:
    """R-115: the movements of the day and the balance, per account and currency."""
    status, out, err = await turnpike("accounts", "--day", str(ended), TURNPIKE_NATS_URL=broker.url)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "ACCOUNT DEBIT CREDIT BALANCE"
    assert "clearing:card 500.00 RUB 0.00 RUB -500.00 RUB" in lines
    assert "clearing:telegram_stars 100 XTR 0 XTR -100 XTR" in lines
    assert lines[-2:] == ["sum 0.00 RUB", "sum 0 XTR"]
    assert max(map(len, out.splitlines())) <= WIDTH


async def test_the_balance_of_now_is_printed(ended: date, broker: Broker) -> None:
    status, out, err = await turnpike("accounts", TURNPIKE_NATS_URL=broker.url)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "clearing:card -507.00 RUB" in lines
    assert lines[-2:] == ["sum 0.00 RUB", "sum 0 XTR"]
    status, out, _ = await turnpike(
        "accounts", "--day", str(ended), "--json", TURNPIKE_NATS_URL=broker.url
    )
    assert (status, json.loads(out)["day"]) == (0, str(ended))


async def test_a_day_that_is_not_closed_is_named(ended: date, broker: Broker) -> None:
    """R-115: with the last one that is."""
    status, out, err = await turnpike(
        "accounts", "--day", "2099-01-01", TURNPIKE_NATS_URL=broker.url
    )
    assert (status, out) == (1, "")
    assert err.startswith("2099-01-01 is not closed. The last closed day is ")
    status, _, _ = await turnpike("accounts", "--day", "soon", TURNPIKE_NATS_URL=broker.url)
    assert status == 2
