"""A worker goes on when the pace of its lane allows it, and not a poll later."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from payments.workers import opening, reading, refunding
from shared.contracts.message import derived_id
from tests.kit.outgoing import asked
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from tests.kit.ways_in import Till, a_till

LONG_S = 3_600.0
REST = "update provider_pace set next_at = now() + $2::float8 * interval '1 s' where lane = $1"
DUE = "update invoice_jobs set due_at = now()"
LEFT = """
select
  (select count(*) from invoice_jobs where step = 'open')
    + (select count(*) from notices where state in ('waiting', 'asking'))
    + (select count(*) from outgoing_refunds where ended_at is null)
"""

Prepare = Callable[[Till], Awaitable[str]]
"""All that comes before the work of a lane; returns the reference or charge that it is about."""
Begin = Callable[[Till, str], Awaitable[None]]


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


async def nothing(till: Till) -> str:
    return ""


async def ask(till: Till, _: str) -> None:
    await till.ask(uuid4())


async def paid_at_the_provider(till: Till) -> str:
    _, reference = await till.opened(uuid4())
    till.provider.pay(reference)
    return reference


async def tell(till: Till, reference: str) -> None:
    assert await till.notice(reference) == 200


async def come_due(till: Till, _: str) -> None:
    await till.database.execute(DUE)
    till.bell.ring()


async def bought(till: Till) -> str:
    return (await till.paid(uuid4()))[1]


async def give_back(till: Till, charge: str) -> None:
    await asked(derived_id("receipt", till.provider.name, charge), till.database)
    till.bell.ring()


LANES: dict[str, tuple[str, Prepare, Begin]] = {
    "open": ("opener", nothing, ask),
    "notice": ("reader", paid_at_the_provider, tell),
    "watch": ("watcher", paid_at_the_provider, come_due),
    "refund": ("refunder", bought, give_back),
}


async def is_done(till: Till, lane: str) -> bool:
    left: int = await till.database.fetchval(LEFT)
    return left == 0 and (lane != "watch" or await till.jobs() == [])


@asynccontextmanager
async def running(worker: Any) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    loop = asyncio.create_task(worker.run(stopping))
    yield
    stopping.set()
    await loop


@pytest.mark.parametrize("lane", LANES)
async def test_work_waits_for_the_pace_alone(
    till: Till, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-128: a bell that rings while the pace rests is not answered by a sleep of a whole poll."""
    for workers in (opening, reading, refunding):
        monkeypatch.setattr(workers, "POLL_S", LONG_S)
    name, prepare, begin = LANES[lane]
    prepared = await prepare(till)
    async with running(getattr(till, name)):
        await till.database.execute(REST, lane, 0.5)
        await begin(till, prepared)
        await until(lambda: is_done(till, lane))


@pytest.mark.parametrize("lane", LANES)
async def test_lane_tells_when_it_goes_on(till: Till, lane: str) -> None:
    """R-128: the later one of the pace and of the first work. Nothing is due without work."""
    name, prepare, begin = LANES[lane]
    prepared = await prepare(till)
    worker = getattr(till, name)
    if lane != "watch":
        assert await worker.due_in_s() is None
    await till.database.execute(REST, lane, 0.0)
    await begin(till, prepared)
    assert await worker.due_in_s() <= 0
    await till.database.execute(REST, lane, LONG_S)
    assert LONG_S - 60 < await worker.due_in_s() <= LONG_S
    assert await worker.round() == 0


async def test_failed_job_is_due_after_its_pause(till: Till) -> None:
    """R-128: of new and failed jobs the first one counts."""
    await till.ask(uuid4())
    await till.database.execute("update invoice_jobs set tries = 1, due_at = now() + '40 s'")
    assert 0 < (await till.opener.due_in_s() or 0) <= 40
    await till.ask(uuid4())
    assert (await till.opener.due_in_s() or 0) <= 0
