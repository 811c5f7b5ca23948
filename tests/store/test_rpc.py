"""Queries and commands over NATS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts.message import Refused, Value
from shared.contracts.payments import (
    PlacedOrder,
    PlaceOrder,
    Plans,
    PlansQuery,
    Receipts,
    ReceiptsQuery,
)
from shared.messaging.idempotency import execute
from shared.messaging.rpc import WORKERS_PER_SUBJECT, Bus, UnansweredError
from shared.platform.db import Tx
from shared.platform.telemetry import REQUESTS_DROPPED
from tests.kit.messaging import Pair
from tests.kit.waiting import HANG_S, until

PEOPLE = 300


class Owner:
    """Answers `ReceiptsQuery`, and nothing before `opened` is set."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.begun: list[UUID] = []

    async def answer(self, query: ReceiptsQuery) -> Value:
        self.begun.append(query.person)
        await self.opened.wait()
        return Receipts(lines=())

    def dropped(self, why: str) -> float:
        return float(REQUESTS_DROPPED.labels(ReceiptsQuery.topic, why)._value.get())

    def all_places_are_taken(self) -> bool:
        return len(self.begun) == WORKERS_PER_SUBJECT


async def ask(pair: Pair, query: ReceiptsQuery, *, timeout_s: float = HANG_S) -> Value:
    return await pair.bus.query(query, timeout_s=timeout_s)


@asynccontextmanager
async def answering(
    pair: Pair, request: type[Any], respond: Callable[[Any], Awaitable[Value]]
) -> AsyncIterator[None]:
    """An owner that answers these requests, and `pair.bus` to ask it."""
    server = Bus(pair.url, "payments")
    server.answers(request, respond)
    await server.open()
    try:
        async with pair.open(consuming=False):
            yield
    finally:
        await server.close()


async def test_nobody_works_on_expired_queries(pair: Pair) -> None:
    """W-37: three hundred people asked a slow owner and left; the next one is answered at once."""
    owner = Owner()
    expired, late = owner.dropped("expired"), owner.dropped("late")
    async with answering(pair, ReceiptsQuery, owner.answer):
        queries = [ReceiptsQuery(person=uuid4()) for _ in range(PEOPLE)]
        asked = [ask(pair, query, timeout_s=3) for query in queries]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, UnansweredError) for answer in answers)
        crowd = PEOPLE - WORKERS_PER_SUBJECT
        await until(lambda: owner.dropped("expired") - expired == crowd)
        owner.opened.set()
        last = ReceiptsQuery(person=uuid4())
        assert await pair.bus.query(last, timeout_s=HANG_S) == Receipts(lines=())
    assert len(owner.begun) == WORKERS_PER_SUBJECT + 1
    assert owner.dropped("late") - late == WORKERS_PER_SUBJECT


async def test_newest_query_is_answered_first(pair: Pair) -> None:
    """W-37: the oldest is the closest to its end: taken first, it would make each answer late."""
    owner = Owner()
    expired = owner.dropped("expired")
    async with answering(pair, ReceiptsQuery, owner.answer):
        first = [ReceiptsQuery(person=uuid4()) for _ in range(WORKERS_PER_SUBJECT)]
        asked = [asyncio.create_task(ask(pair, query)) for query in first]
        await until(owner.all_places_are_taken)
        waiting = [ReceiptsQuery(person=uuid4()) for _ in range(5)]
        asked += [asyncio.create_task(ask(pair, query)) for query in waiting]
        # When the sixth, which waits shortest, has expired, the five before it have arrived.
        with pytest.raises(UnansweredError):
            await pair.bus.query(ReceiptsQuery(person=uuid4()), timeout_s=3)
        await until(lambda: owner.dropped("expired") > expired)
        owner.opened.set()
        await asyncio.gather(*asked)
    newest_first = [query.person for query in reversed(waiting)]
    assert owner.begun[WORKERS_PER_SUBJECT:] == newest_first


async def test_a_late_command_still_gets_its_answer(pair: Pair) -> None:
    """R-12: a query's end is no command's: its row decides, and a repeat gets what is stored."""
    opened, begun = asyncio.Event(), 0

    async def answer(_: PlaceOrder) -> Value:
        nonlocal begun
        begun += 1
        await opened.wait()
        return Refused(reason="too_late")

    command = PlaceOrder(
        id=uuid4(),
        actor="person",
        deadline_at=datetime.now(UTC),
        person=uuid4(),
        plan="basic",
        months=1,
    )
    async with answering(pair, PlaceOrder, answer):
        with pytest.raises(UnansweredError):
            await pair.bus.execute(command, timeout_s=3)

        async def repeat() -> Value:
            return await pair.bus.execute(command, timeout_s=HANG_S)

        repeated = asyncio.create_task(repeat())
        await until(lambda: begun > 1)
        opened.set()
        assert await repeated == Refused(reason="too_late")


async def test_an_unanswered_query_fails_in_time(pair: Pair) -> None:
    async with pair.open(consuming=False):
        with pytest.raises(UnansweredError):
            await pair.bus.query(PlansQuery(), timeout_s=0.3)


async def test_a_repeated_command_is_executed_once(pair: Pair) -> None:
    """R-12: the first answer is lost on its way; the repeat gets the stored one."""
    acted = 0

    async def act(command: PlaceOrder, _: Tx) -> Value:
        nonlocal acted
        acted += 1
        return PlacedOrder(
            order=command.id,
            what="subscription",
            plan="basic",
            months=1,
            list_month_minor=1,
            price_minor=1,
        )

    lost = 0

    async def answer(command: PlaceOrder) -> Value:
        nonlocal lost
        done = await execute(pair.publisher, command, act)
        if lost == 0:
            lost += 1
            raise ConnectionError("the answer is lost")
        return done

    server = Bus(pair.url, "payments")
    server.answers(PlaceOrder, answer)
    await server.open()
    try:
        async with pair.open(consuming=False):
            person = uuid4()
            deadline = datetime.now(UTC) + timedelta(seconds=HANG_S)
            command = PlaceOrder(
                id=uuid4(),
                actor="person",
                deadline_at=deadline,
                person=person,
                plan="basic",
                months=1,
            )
            first = await pair.bus.execute(command)
            second = await pair.bus.execute(command)
            assert isinstance(first, PlacedOrder)
            assert second == first
            assert (acted, lost) == (1, 1)
    finally:
        await server.close()


async def test_queries_get_typed_answers_and_refusals(pair: Pair) -> None:
    async def answer(_: PlansQuery) -> Value:
        return Plans(plans=(), ways=()) if not refuse else Refused(reason="closed")

    refuse = False
    server = Bus(pair.url, "payments")
    server.answers(PlansQuery, answer)
    await server.open()
    try:
        async with pair.open(consuming=False):
            assert await pair.bus.query(PlansQuery()) == Plans(plans=(), ways=())
            refuse = True
            assert await pair.bus.query(PlansQuery()) == Refused(reason="closed")
    finally:
        await server.close()
