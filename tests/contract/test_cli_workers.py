"""The workers in `turnpike status`: what they did last, and those that do nothing any more."""

import asyncio
import json
from typing import Any

import click
import pytest

from shared import service
from shared.contracts.operations import LastIteration, ReplicaStatus, WorkerStatus
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.operations.status import workers_of
from shared.platform import iterations
from shared.platform.iterations import Worker
from tests.kit.commands import bare_services, living, turnpike
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from turnpike_cli.worker_lines import worker_lines
from turnpike_local.broker import Broker

WIDTH = 100
LONG_S = 3_600.0
DONE = LastIteration(ended_s=130, took_s=0.41, items=3, outcomes={"opened": 3}, result="done")
OLD_ANSWER = {"replica": "a:1", "version": "0.1.0", "not_ready": None} | dict.fromkeys(
    ("database", "last_audit")
)


def worker(name: str, **fields: Any) -> WorkerStatus:
    usual = {"copies": 1, "turned_s": 1.0, "stuck": False, "turns": 9, "iterations": 0}
    return WorkerStatus(**usual | {"loop": name, "failures": 0, "last": None} | fields)


def replica(*workers: WorkerStatus) -> ReplicaStatus:
    return ReplicaStatus.model_validate(OLD_ANSWER | {"workers": workers})


def lines(*replicas: ReplicaStatus) -> list[str]:
    return list(worker_lines({"payments": replicas}))


def test_work_is_told_in_one_line() -> None:
    """W-84: when, how many items, how long, and what became of them."""
    _, line = lines(replica(worker("open_yookassa", last=DONE, failures=2)))
    words = " ".join(line.split())
    told = "payments open_yookassa 1 s ago 2 2 min ago: 3 items in 0.41 s, opened 3"
    assert words == told


def test_a_stuck_worker_is_red() -> None:
    """W-84: also one that never found work; the others are not."""
    stuck = worker("watch_yookassa", stuck=True, turned_s=200.0)
    shown = lines(replica(worker("open_yookassa", last=DONE), stuck))
    red = [click.unstyle(line) for line in shown if line != click.unstyle(line)]
    assert len(red) == 1
    assert "has not turned for 3 min" in red[0]
    assert "watch_yookassa" in red[0]


def test_idle_workers_are_only_named() -> None:
    """W-84: each is there, and fills no screen."""
    names = [f"retry_of_handler_{number}" for number in range(20)]
    shown = lines(replica(*(worker(name) for name in names)))
    assert " ".join(shown) == f"payments found no work yet: {', '.join(names)}"
    assert max(map(len, shown)) <= WIDTH


def test_replicas_are_told_apart() -> None:
    """W-84: one of two is stuck."""
    shown = lines(replica(worker("a", last=DONE)), replica(worker("a", stuck=True)))
    assert [line.split()[:2] for line in map(click.unstyle, shown[1:])] == [
        ["payments", "1/2"],
        ["payments", "2/2"],
    ]


def test_long_outcomes_stay_in_the_width() -> None:
    outcomes = {f"an_outcome_{number}": number for number in range(12)}
    last = DONE.model_copy(update={"outcomes": outcomes, "result": "timed_out"})
    shown = lines(replica(worker("reconcile_yookassa", last=last, stuck=True)))
    assert max(len(click.unstyle(line)) for line in shown) <= WIDTH
    assert "timed out" in " ".join(shown)
    assert all(line != click.unstyle(line) for line in shown[1:])


def test_an_older_release_is_understood() -> None:
    """W-84: its answer tells no workers, and the rest of it is shown."""
    assert lines(ReplicaStatus.model_validate(OLD_ANSWER)) == [
        "payments is of a release that does not tell its workers."
    ]


def test_loops_of_one_name_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-84: one that is stuck is not hidden by the others."""
    first, second = Worker("jobs", None), Worker("jobs", None)
    for one in (first, second):
        one.begins()
        one.failures = 2
    first.handled(7)
    first.rests(LONG_S)
    monkeypatch.setattr(iterations, "STUCK_AFTER_S", -1.0)
    [told] = workers_of([first, second])
    assert (told.copies, told.turns, told.failures, told.iterations) == (2, 2, 4, 1)
    assert told.stuck
    assert told.last is not None
    assert told.last.items == 7


async def test_every_worker_of_every_service_is_shown(
    fresh_database: MakeDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-84: ticks, relays and lanes, as each replica answers; each knows its own ones only."""
    await broker.wipe()
    monkeypatch.setattr(service, "GAUGES_EVERY_S", 0.05)
    services = bare_services(await fresh_database(*OWNERS), broker.url)
    worked = asyncio.Event()

    async def tick() -> None:
        if not worked.is_set():
            iterations.found(2, "expired")
        worked.set()

    services["payments"].ticks("a_tick", 0.05, tick)
    async with living(list(services.values())):
        await until(worked.is_set)
        _, out, _ = await turnpike("status", TURNPIKE_NATS_URL=broker.url)
        _, answer, _ = await turnpike("status", "--json", TURNPIKE_NATS_URL=broker.url)
    told = {one["service"]: one["replicas"][0]["workers"] for one in json.loads(answer)["services"]}
    for name in SERVICE_NAMES.values():
        assert {"relay", "gauges", "waits", "housekeeping"} <= {one["loop"] for one in told[name]}
    assert [name for name, ones in told.items() for one in ones if one["loop"] == "a_tick"] == [
        "payments"
    ]
    assert "2 items in" in out
    assert "expired 2" in out
    assert "found no work yet: compare_hours" in out
    assert max(map(len, out.splitlines())) <= WIDTH
