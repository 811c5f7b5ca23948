"""Workers: what an iteration logs, what it leaves for `turnpike status`, and its hard limit."""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from shared.platform import iterations, telemetry
from shared.platform.iterations import Worker
from shared.platform.loops import Bell, at_each_ring, forever
from tests.kit.waiting import until

LONG_S = 3_600.0
HANG_S = 30.0
ROOT = Path(__file__).parents[2]
Logs = list[MutableMapping[str, Any]]


async def turns(*work: Callable[[], Awaitable[object]], limit_s: float | None = None) -> Logs:
    """The log of a worker that makes these turns, one after the other."""
    stopping, left = asyncio.Event(), list(work)

    async def turn() -> None:
        next_one = left.pop(0)
        if not left:
            stopping.set()
        await next_one()

    with capture_logs() as logs:
        async with asyncio.timeout(HANG_S):
            await forever("test", turn, stopping, limit_s=limit_s)
    return logs


def listed() -> list[Worker]:
    workers: list[Worker] = []
    iterations.enlist_in(workers)
    return workers


async def nothing() -> None:
    iterations.found(0)


async def hang() -> None:
    await asyncio.sleep(LONG_S)


async def test_an_iteration_logs_start_and_end() -> None:
    """W-84: with one id, the number of items, and what became of them."""

    async def work() -> None:
        iterations.found(3)
        iterations.outcome("opened", 2)
        iterations.outcome("refused")

    start, end = await turns(work)
    assert (start["event"], end["event"]) == ("iteration_start", "iteration_end")
    assert start["iteration"] == end["iteration"]
    assert (end["loop"], end["items"], end["result"]) == ("test", 3, "done")
    assert end["outcomes"] == {"opened": 2, "refused": 1}
    assert end["seconds"] >= 0


async def test_idle_turns_fill_no_log() -> None:
    """W-84: they are counted."""
    workers, counted = listed(), []

    async def look() -> None:
        counted.append((workers[0].turns, workers[0].iterations))

    assert await turns(nothing, nothing, look) == []
    assert counted == [(3, 0)]


async def test_lines_inside_carry_the_id() -> None:
    """W-84: also those of the tasks that it starts, and no line after it."""
    inside: list[dict[str, Any]] = []

    async def note() -> None:
        inside.append(structlog.contextvars.get_contextvars())

    async def work() -> None:
        iterations.found(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(note())

    logs = await turns(work, note)
    assert inside == [{"iteration": logs[0]["iteration"]}, {}]


async def test_a_failed_iteration_ends_too() -> None:
    """W-84: the failure is inside, and the worker remembers it."""
    workers, remembered = listed(), []

    async def fail() -> None:
        iterations.found(2)
        raise ValueError("broken")

    async def look() -> None:
        remembered.append((workers[0].failures, workers[0].last))

    logs = await turns(fail, look)
    assert [one["event"] for one in logs] == ["iteration_start", "loop failed", "iteration_end"]
    assert logs[2]["result"] == "failed"
    [(failures, last)] = remembered
    assert failures == 1
    assert last is not None
    assert (last.items, last.result) == (2, "failed")


async def test_a_fast_lane_logs_nothing() -> None:
    """W-84: its items are counted all the same."""
    workers, remembered = listed(), []

    async def work() -> None:
        iterations.handled(500)
        remembered.append(workers[0].last)

    assert await turns(work) == []
    [last] = remembered
    assert last is not None
    assert last.items == 500


async def test_an_iteration_ends_before_the_rest() -> None:
    """W-84: its seconds are those of the work, and not those of the wait."""

    async def work() -> None:
        iterations.found(1)
        iterations.rests(LONG_S)
        log = structlog.get_logger()
        log.info("resting")

    logs = await turns(work)
    assert [one["event"] for one in logs] == ["iteration_start", "iteration_end", "resting"]


async def test_a_worker_is_listed_while_it_lives() -> None:
    workers = listed()
    await turns(nothing)
    assert workers == []


async def test_a_hanging_iteration_ends_at_its_limit() -> None:
    """W-85: it is counted and logged, and the loop goes on."""

    async def hang_at_work() -> None:
        iterations.found(1)
        await hang()

    before = telemetry.LOOP_FAILURES.labels("test")._value.get()
    logs = await turns(hang_at_work, nothing, limit_s=0.01)
    assert telemetry.LOOP_FAILURES.labels("test")._value.get() == before + 1
    assert "IterationTooLongError" in logs[1]["error"]
    assert logs[2]["result"] == "timed_out"


async def test_a_sign_of_life_moves_the_limit() -> None:
    """W-85: a long walk goes on, page by page."""
    limit_s, pages = 0.5, 10

    async def walk() -> None:
        for _ in range(pages):
            await asyncio.sleep(limit_s / 5)
            iterations.turned()

    assert await turns(walk, nothing, limit_s=limit_s) == []


async def test_a_rest_has_no_limit() -> None:
    """W-85: only the work has one."""

    async def rest() -> None:
        iterations.rests(LONG_S)
        await asyncio.sleep(0.1)

    assert await turns(rest, nothing, limit_s=0.02) == []


async def test_an_error_of_time_keeps_its_name() -> None:
    """W-85: a call that timed out by itself did not meet the limit."""

    async def fail() -> None:
        raise TimeoutError("no answer within 5 s")

    logs = await turns(fail, nothing, limit_s=LONG_S)
    assert logs[0]["error"] == "TimeoutError('no answer within 5 s')"


async def test_leased_workers_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-85: those that work at each ring of a bell, also while they look for work."""
    monkeypatch.setattr(iterations, "LIMIT_S", 0.01)
    looked, stopping = 0, asyncio.Event()

    async def due_in_s() -> float | None:
        nonlocal looked
        looked += 1
        await hang()
        return None

    async def turn() -> bool:
        return False

    loop = asyncio.create_task(
        at_each_ring("test", Bell(), turn, due_in_s, stopping, every_s=LONG_S)
    )
    await until(lambda: looked >= 2)
    stopping.set()
    async with asyncio.timeout(HANG_S):
        await loop


def test_a_silent_worker_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-84: one that announced its wait is not."""
    silent, resting = Worker("silent", None), Worker("resting", None)
    resting.rests(LONG_S)
    assert not silent.is_stuck
    monkeypatch.setattr(iterations, "STUCK_AFTER_S", -1.0)
    assert silent.is_stuck
    assert not resting.is_stuck


FAST = {
    "shared/shared/messaging/relay.py": "a round ends after 5 s",
    "services/bot-gateway/bot_gateway/webhooks.py": "each call of the client is bounded",
    "services/bot-gateway/bot_gateway/workers/chat_lane.py": "an update ends after 8 s",
    "services/bot-gateway/bot_gateway/workers/checkout_lane.py": "an answer ends after 6 s",
    "services/bot-gateway/bot_gateway/workers/command_menu.py": "each call is bounded",
    "services/bot-gateway/bot_gateway/workers/invoice_screens.py": "each call is bounded",
    "services/bot-gateway/bot_gateway/workers/polling.py": "each call is bounded",
    "services/notifier/notifier/workers/dispatcher.py": "a round is one transaction",
    "services/vpn-provisioner/vpn_provisioner/workers/jobs.py": "a round keeps its lease, or ends",
}


def test_every_worker_of_time_has_a_limit() -> None:
    """W-85: a loop without one is listed here, with its own bound."""
    calls = re.compile(r"\bforever\((?:[^()]|\([^()]*\))*\)")
    unlimited = {
        str(path.relative_to(ROOT))
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "loops.py"
        for call in calls.findall(path.read_text())
        if "limit_s=" not in call
    }
    assert unlimited == FAST.keys()
