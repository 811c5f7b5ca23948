"""`turnpike reconcile …` as a process, against payments with a provider's listing."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast
from uuid import uuid4

import pytest

import payments.app
from bot_gateway.queries import answer_operator
from payments.domain.provider import Refund
from payments.providers.protocol import Provider
from shared.contracts.bot import OperatorQuery
from shared.platform.db import Database
from tests.kit.commands import living, turnpike
from tests.kit.listing import AN_HOUR_AGO, FakeListing, paid_there
from tests.kit.living import settings
from tests.kit.payments import placed
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from turnpike_local.broker import Broker

WIDTH = 100
DONE = "select count(*) from reconciliations where state = 'done' and kind = any($1::text[])"
ASKED = "select actor, outcome from commands where topic = 'payments.reconcile' order by seq"


@dataclass
class Till:
    """Payments, which asks one provider by itself."""

    database: Database
    listing: FakeListing
    nats_url: str

    async def turnpike(self, *arguments: str) -> tuple[int, str, str]:
        variables = {"TURNPIKE_NATS_URL": self.nats_url, "LOGNAME": "olga"}
        why = ("--reason", "asked by the owner") if arguments[0] == "run" else ()
        return await turnpike("reconcile", *arguments, *why, **variables)

    async def done(self, *kinds: str) -> bool:
        return bool(await self.database.fetchval(DONE, list(kinds)) >= len(kinds))


@pytest.fixture
async def place(fresh_database: MakeDatabase, broker: Broker) -> FreshDatabase:
    await broker.wipe()
    return await fresh_database("payments")


@pytest.fixture
async def till(place: FreshDatabase, broker: Broker) -> AsyncIterator[Till]:
    listing = FakeListing(name="yookassa")
    # The parts of a provider that a reconciliation uses.
    providers = [cast(Provider, listing)]
    service = payments.app.build(settings(place.dsn("payments_app"), broker.url), providers)
    service.answers(OperatorQuery, partial(answer_operator, owners=("olga",)))
    async with living([service]):
        yield Till(service.database, listing, broker.url)


async def test_providers_are_reconciled_by_themselves(till: Till) -> None:
    """R-16: on by default; the reports are listed and shown."""
    await until(partial(till.done, "hourly", "daily"))
    order = await placed(uuid4(), till.database)
    till.listing.payments = [
        paid_there(order, reference="lost"),
        paid_there(None, 7_700, reference="another's"),
    ]
    till.listing.refunds = [Refund("r1", "lost", "succeeded", "RUB", 900, AN_HOUR_AGO)]
    since = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    status, out, err = await till.turnpike("run", "--provider", "yookassa", "--since", since)
    assert (status, err) == (0, "")
    run = out.split()[2].rstrip(",")
    await until(partial(till.done, "hourly", "daily", "asked"))

    status, out, err = await till.turnpike("last")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["PROVIDER", "KIND"]
    assert [line.split()[1] for line in lines[1:]].count("asked") == 1
    assert lines[1].split()[-4:] == ["done", run, "2", "3"]
    assert max(map(len, lines)) <= WIDTH

    status, out, err = await till.turnpike("show", run)
    assert (status, err) == (0, "")
    assert (
        "2 listed, 1 missing here, now booked, 1 refunded there, now booked, 1 of somebody else"
        in out
    )
    assert "lost: 149.00 RUB, here nothing" in out
    assert "another's: 77.00 RUB, here nothing" in out
    assert "refund r1" in out
    assert max(map(len, out.splitlines())) <= WIDTH

    status, out, err = await till.turnpike("show", run, "--json")
    assert [one["done"] for one in json.loads(out)["differences"]].count("booked") == 2
    assert [tuple(row) for row in await till.database.fetch(ASKED)] == [("operator:olga", "done")]


async def test_a_wrong_request_is_one_sentence(till: Till) -> None:
    assert await till.turnpike("run", "--provider", "nobody") == (
        1,
        "",
        "There is no such provider. Configured: yookassa.\n",
    )
    status, _, err = await till.turnpike("run", "--since", "2026-01-01")
    assert (status, err) == (1, "The window is too long: it has at most 31 days.\n")
    status, _, err = await till.turnpike("run", "--since", "2099-01-01")
    assert status == 1
    assert "The window is empty" in err
    unknown = str(uuid4())
    assert await till.turnpike("show", unknown) == (1, "", f"There is no run {unknown}.\n")
    status, _, err = await till.turnpike("show", "seven")
    assert status == 2
    assert "'seven' is not an id from `reconcile last`" in err


async def test_without_providers_nothing_is_reconciled(
    place: FreshDatabase, broker: Broker
) -> None:
    service = payments.app.build(settings(place.dsn("payments_app"), broker.url))
    service.answers(OperatorQuery, partial(answer_operator, owners=("olga",)))
    async with living([service]):
        bare = Till(service.database, FakeListing(), broker.url)
        assert await bare.turnpike("last") == (0, "No provider was reconciled yet.\n", "")
        status, _, err = await bare.turnpike("run")
    assert (status, err) == (1, "There is no such provider. Configured: none.\n")
