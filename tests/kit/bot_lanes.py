"""The lanes of bot-gateway in tests of its store: workers, updates and states of updates."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bot_gateway.domain.updates import Lane
from bot_gateway.receiving import take_in
from bot_gateway.workers.bells import Bells, Wait
from bot_gateway.workers.chat_lane import ChatLane
from bot_gateway.workers.checkout_lane import CheckoutLane
from bot_gateway.workers.money_lane import MoneyLane
from shared.platform.db import Database
from tests.kit.bot import BOT
from tests.kit.waiting import HANG_S

Worker = ChatLane | MoneyLane | CheckoutLane


class WatchedBells(Bells):
    """Sets `waited_for` when a lane found nothing to do and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = asyncio.Event()

    @contextmanager
    def listening(self, lane: Lane) -> Iterator[Wait]:
        with super().listening(lane) as wait:

            async def watched() -> None:
                self.waited_for.set()
                await wait()

            yield watched


class HeldWindow:
    """The batching windows of a worker last until the test ends them, however slow it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self._longest_s = module.BATCHING_WINDOW_S
        self._begun, self._over = asyncio.Event(), asyncio.Event()
        ours = SimpleNamespace(get_running_loop=asyncio.get_running_loop, sleep=self._sleep)
        monkeypatch.setattr(module, "asyncio", ours)

    async def _sleep(self, seconds: float) -> None:
        assert seconds <= self._longest_s
        self._begun.set()
        await self._over.wait()

    async def begins(self) -> None:
        """Return once the worker has committed a round and waits for more."""
        async with asyncio.timeout(HANG_S):
            await self._begun.wait()

    def end(self) -> None:
        self._over.set()


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    """The workers run while the block does."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(worker.run(stopping)) for worker in workers]
    yield
    stopping.set()
    await asyncio.wait_for(asyncio.gather(*tasks), HANG_S)


async def arrive(database: Database, *updates: dict[str, Any], bells: Bells | None = None) -> None:
    async with database.transaction() as tx:
        await take_in(BOT, updates, bells or Bells(), tx)


def nothing_waits(database: Database) -> Callable[[], Awaitable[bool]]:
    async def nothing() -> bool:
        return not await database.fetchval(
            "select exists (select from updates where state = 'waiting')"
        )

    return nothing


async def states(database: Database) -> list[tuple[str, int]]:
    """State and tries of every update, in the order of arrival."""
    return [
        (row["state"], row["tries"])
        for row in await database.fetch("select state, tries from updates order by seq")
    ]


REPORTED = """
select body::text as body, trace
from events
where topic = 'bot.payment.reported' and body ->> 'charge' = $1
"""


async def events_of(database: Database, charge: str) -> list[dict[str, Any]]:
    """The events that report this charge, with their traces."""
    rows = await database.fetch(REPORTED, charge)
    return [json.loads(row["body"]) | {"trace": row["trace"]} for row in rows]


async def is_reported(database: Database, charge: str) -> bool:
    return len(await events_of(database, charge)) == 1
