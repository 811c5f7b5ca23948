"""Invoices of outside providers: asked for by a job, opened once, and published."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from payments.commands.open_invoice import open_invoice
from payments.domain.provider import Refusal, SlowDown, Unavailable, Unknown
from payments.queries import answer_plans
from shared.contracts.message import Refused
from shared.contracts.payments import OpenedInvoice, PlansQuery
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from tests.kit.fake_provider import FakeProvider, Fault
from tests.kit.payments import asking
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till, pause_long

DOWN = Fault(Unavailable("ClientConnectorError"))
LOST = Fault(Unknown("TimeoutError", "find"), done=True)
PASS = """
update invoices
set opened_at = opened_at - $1::interval, expires_at = expires_at - $1::interval
"""
FAILURES = "select failures from provider_pace where acquirer = $1 and lane = 'open'"
AHEAD_H = """
select round(extract(epoch from next_at - now()) / 3600)
from provider_pace
where acquirer = 'yookassa' and lane = 'open'
"""


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def end(till: Till) -> None:
    """The invoices are over, and their jobs know it."""
    await till.database.execute(PASS, timedelta(hours=1))
    await till.turn(till.opener)


async def state_of(till: Till, invoice: UUID) -> tuple[str, str | None]:
    row = await till.row(invoice)
    return row["state"], row["reason"]


async def test_invoice_is_opened_and_published(till: Till) -> None:
    """The event names no link: the person's query answers it."""
    person = uuid4()
    asked = await till.ask(person)
    assert (asked.state, asked.pay_url) == ("asking", None)
    assert await till.turn(till.opener) == 1
    seen = await till.seen(person, asked.invoice)
    assert isinstance(seen, OpenedInvoice)
    assert (seen.state, seen.payload) == ("open", asked.payload)
    assert seen.pay_url == f"https://pay.example/{(await till.row(asked.invoice))['reference']}"
    assert await till.told() == ["payments.invoice.opened"]
    assert await till.turn(till.opener) == 0
    assert till.provider.calls == ["open"]


async def test_invoice_of_another_is_not_shown(till: Till) -> None:
    asked, _ = await till.opened(uuid4())
    assert await till.seen(uuid4(), asked.invoice) == Refused(reason="not_yours")
    assert await till.seen(uuid4(), uuid4()) == Refused(reason="not_yours")


async def test_way_without_credentials_is_closed(till: Till) -> None:
    """It is neither offered nor opened, and Stars are always there."""
    assert [way.way for way in (await answer_plans(PlansQuery(), till.database)).ways] == ["stars"]
    offered = await answer_plans(PlansQuery(), till.database, providers={"cryptobot"})
    assert [way.way for way in offered.ways] == ["stars", "crypto"]
    person = uuid4()
    wanted = asking(person, await till.order(person), "sbp")
    assert await execute(till.database, wanted, open_invoice) == Refused(reason="way_closed")


async def test_two_taps_ask_once(till: Till) -> None:
    person = uuid4()
    order = await till.order(person)
    first, second = [await till.ask(person, order) for _ in range(2)]
    assert first.invoice == second.invoice
    assert await till.turn(till.opener) == 1
    assert (await till.ask(person, order)).pay_url is not None


async def test_end_is_the_earlier_one(till: Till) -> None:
    """R-21: the screen shows the end that the provider has, where that is earlier."""
    till.provider.ends(timedelta(minutes=10))
    asked, reference = await till.opened(uuid4())
    assert (await till.row(asked.invoice))["expires_at"] == till.provider.expires_at
    assert till.provider.opened[reference].expires_in_s == 30 * 60


async def test_lost_answer_is_looked_up(till: Till) -> None:
    """R-70: a provider without keys would open a second invoice."""
    till.provider.keyed = False
    till.provider.fails("open", LOST)
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("asking", None)
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("open", None)
    assert till.provider.calls == ["open", "find"]
    assert len(till.provider.opened) == 1


async def test_nothing_is_opened_before_the_look_up(till: Till) -> None:
    """R-70: a look-up without an answer is repeated, however often."""
    till.provider.keyed = False
    till.provider.fails("open", LOST)
    till.provider.fails("find", DOWN, Fault(Refusal("forbidden", "no")), LOST)
    asked = await till.ask(uuid4())
    for _ in range(5):
        await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("open", None)
    assert till.provider.calls == ["open", *["find"] * 4]


async def test_same_key_is_repeated(till: Till) -> None:
    """R-70: an error after the effect, of a provider with keys."""
    till.provider.fails("open", Fault(Unknown("500", "repeat"), done=True))
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("open", None)
    assert till.provider.calls == ["open", "open"]
    assert len(till.provider.opened) == 1


async def test_dead_worker_leaves_one_invoice(till: Till) -> None:
    """R-70: it dies between the answer of the provider and its record."""
    till.provider.keyed = False
    till.provider.fails("open", Fault(hangs=True))
    asked = await till.ask(uuid4())
    dying = asyncio.create_task(till.opener.round())
    await till.provider.reached.wait()
    assert await till.opener.round() == 0  # The lease is kept.
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("open", None)
    assert len(till.provider.opened) == 1


async def test_refused_invoice_is_published(till: Till) -> None:
    till.provider.fails("open", Fault(Refusal("invalid_request", "The amount is too small.")))
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("expired", "refused")
    assert await till.told() == ["payments.invoice.refused"]
    assert await till.jobs() == []


async def test_refused_invoice_is_asked_anew(till: Till) -> None:
    """The order stays open, and the next tap gets another invoice."""
    person = uuid4()
    order = await till.order(person)
    till.provider.fails("open", Fault(Refusal("invalid_request", "no")))
    first = await till.ask(person, order)
    await till.turn(till.opener)
    second = await till.ask(person, order)
    assert second.invoice != first.invoice
    await till.turn(till.opener)
    assert await state_of(till, second.invoice) == ("open", None)


async def test_down_provider_pauses_alone(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-71: nothing happened, so no job has failed; another provider goes on."""
    pause_long(monkeypatch)
    till.provider.fails("open", DOWN, Fault(SlowDown(40.0)))
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    assert await till.opener.round() == 0
    assert await till.database.fetchval(FAILURES, "yookassa") == 1
    other = FakeProvider("cryptobot")
    elsewhere = await till.ask(uuid4(), way="crypto")
    till.provider, ours = other, till.provider
    await till.turn(till.opener)
    assert await state_of(till, elsewhere.invoice) == ("open", None)
    till.provider = ours
    await till.turn(till.opener)
    [job] = [job for job in await till.jobs() if job["acquirer"] == "yookassa"]
    assert (job["tries"], job["asked_at"], job["lost"]) == (0, None, False)
    await till.turn(till.opener)
    assert await state_of(till, asked.invoice) == ("open", None)
    assert await till.database.fetchval(FAILURES, "yookassa") == 1


async def test_failing_invoice_delays_no_other(till: Till) -> None:
    """R-71: an invoice that fails alone is tried beside the others, one at a time."""
    failing = await till.ask(uuid4())
    till.provider.fails("open", Fault(Unknown("500")))
    await till.turn(till.opener)
    others = [await till.ask(uuid4()) for _ in range(12)]
    await till.turn(till.opener)
    await till.turn(till.opener)
    states = [await state_of(till, one.invoice) for one in [failing, *others]]
    assert states == [("open", None)] * 13


async def test_superseded_before_it_is_asked(till: Till) -> None:
    """Nobody waits for it: the provider is not asked at all."""
    person = uuid4()
    first = await till.ask(person)
    await till.ask(person, first.order, way="card")
    assert await till.turn(till.opener) == 2
    assert await state_of(till, first.invoice) == ("superseded", None)
    assert [asked.way for asked in till.provider.opened.values()] == ["card"]
    assert len(await till.jobs()) == 1


async def test_superseded_while_it_is_asked(till: Till) -> None:
    """R-01: it keeps its reference, so money that comes for it is honoured."""
    person = uuid4()
    till.provider.fails("open", Fault(Unknown("500", "repeat"), done=True))
    first = await till.ask(person)
    await till.turn(till.opener)
    await till.ask(person, first.order, way="card")
    await till.turn(till.opener)
    row = await till.row(first.invoice)
    assert row["state"] == "superseded"
    assert till.provider.cancelled == [row["reference"]]
    assert {job["step"] for job in await till.jobs()} == {"watch"}
    assert await till.told() == ["payments.invoice.opened"]


async def test_invoice_that_ended_is_not_opened(till: Till) -> None:
    """The provider was down for as long as the invoice lived."""
    till.provider.fails("open", DOWN)
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    await end(till)
    assert await state_of(till, asked.invoice) == ("expired", "provider_down")
    assert await till.told() == ["payments.invoice.refused"]
    assert (await till.jobs(), till.provider.opened) == ([], {})


async def test_page_that_came_too_late(till: Till) -> None:
    """R-70: an invoice that was opened all the same keeps its reference, and is watched."""
    till.provider.fails("open", LOST)
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    await end(till)
    row = await till.row(asked.invoice)
    assert (row["state"], row["reason"]) == ("expired", "provider_down")
    assert row["reference"] in till.provider.opened
    assert [job["step"] for job in await till.jobs()] == ["watch"]
    assert await till.told() == ["payments.invoice.refused"]


async def test_unclear_opening_is_given_up(till: Till) -> None:
    """R-70: a day after its end, since nobody was ever shown its page."""
    till.provider.fails("open", LOST)
    till.provider.fails("find", LOST, LOST)
    await till.ask(uuid4())
    await till.turn(till.opener)
    await end(till)
    assert len(await till.jobs()) == 1
    await till.database.execute(PASS, timedelta(days=2))
    await till.turn(till.opener)
    assert await till.jobs() == []


async def test_replicas_open_each_invoice_once(till: Till) -> None:
    """Two pools and eight workers ask for thirty invoices."""
    till.provider.keyed = False
    second = Database(till.dsn, name="second")
    await second.open()
    asked = [await till.ask(uuid4()) for _ in range(30)]
    openers = [till.opener for _ in range(8)]
    for opener in openers[4:]:
        opener.database = second
    await till.database.execute("update provider_pace set every = interval '1 microsecond'")
    for _ in range(40):
        await asyncio.gather(*(opener.round() for opener in openers))
    await second.close()
    assert len(till.provider.opened) == len(asked)
    assert {(await state_of(till, one.invoice))[0] for one in asked} == {"open"}


async def test_pace_is_shared(till: Till) -> None:
    """R-71: after so many calls nobody asks before their time has passed."""
    for _ in range(3):
        await till.ask(uuid4())
    await till.database.execute("update provider_pace set every = interval '1 hour'")
    assert await till.turn(till.opener) == 3
    await till.ask(uuid4())
    assert await till.opener.round() == 0
    assert await till.database.fetchval(AHEAD_H) == 3
