"""What the workers of a process do: logged where they find work, and shown by `turnpike status`.

    turn ──▶ found(3) ──▶ outcome("opened"), … ──▶ the turn ends, or rests
             iteration_start                       iteration_end

A turn that finds nothing is counted, and logs nothing. A fast lane calls `handled`: its batches are
counted, and have lines of their own. Calls outside a worker do nothing.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

import structlog

log = structlog.get_logger()

LIMIT_S = 300.0
"""A worker of time that gives no sign of life for so long is ended. The longest statement takes
10 s, and the longest call of a client a minute."""
STUCK_AFTER_S = 180.0

Result = Literal["done", "failed", "timed_out"]


class IterationTooLongError(Exception):
    """The iteration gave no sign of life within its limit, and was ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last iteration with work; times are those of the monotonic clock."""

    at: float
    took_s: float
    items: int
    outcomes: Mapping[str, int]
    result: Result


@dataclass(slots=True)
class _Iteration:
    id: str
    began_at: float
    items: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class Worker:
    """One loop, from its start."""

    def __init__(self, name: str, limit_s: float | None) -> None:
        self.name = name
        self.limit_s = limit_s
        self.turns = 0
        self.iterations = 0
        """Turns that found work."""
        self.failures = 0
        self.last: Ended | None = None
        self.turned_at = self._began_at = time.monotonic()
        self._rests_until = self.turned_at
        self._bound: asyncio.Timeout | None = None
        self._iteration: _Iteration | None = None

    @property
    def is_stuck(self) -> bool:
        """A wait that was announced is no sign of it."""
        return time.monotonic() - max(self.turned_at, self._rests_until) > STUCK_AFTER_S

    def begins(self) -> None:
        self.turns += 1
        self.turned_at = self._began_at = self._rests_until = time.monotonic()

    @contextmanager
    def bounded(self, bound: asyncio.Timeout) -> Iterator[None]:
        """One turn, which ends its iteration where it does not fail."""
        self._bound = bound
        self.begins()
        yield
        self.ends()

    def turned(self) -> None:
        """A sign of life within a long turn: the limit begins anew."""
        self.turned_at = self._rests_until = time.monotonic()
        if self._bound is not None and self.limit_s is not None and not self._bound.expired():
            self._bound.reschedule(asyncio.get_running_loop().time() + self.limit_s)

    def rests(self, wait_s: float) -> None:
        """The work is over, and so is its limit; the next turn comes after so many seconds."""
        self.ends()
        self.turned_at = time.monotonic()
        self._rests_until = self.turned_at + wait_s
        if self._bound is not None and not self._bound.expired():
            self._bound.reschedule(None)

    def found(self, items: int, outcome: str | None) -> None:
        self.turned()
        if self._iteration is None:
            self._iteration = _Iteration(uuid4().hex, self._began_at)
            structlog.contextvars.bind_contextvars(iteration=self._iteration.id)
            log.info("iteration_start", loop=self.name, iteration=self._iteration.id)
        self._iteration.items += items
        if outcome is not None:
            self._iteration.outcomes[outcome] += items

    def outcome(self, name: str, items: int) -> None:
        if self._iteration is not None:
            self.turned()
            self._iteration.outcomes[name] += items

    def handled(self, items: int) -> None:
        now = time.monotonic()
        self.iterations += 1
        self.last = Ended(now, now - self._began_at, items, {}, "done")

    def ends(self, result: Result = "done") -> None:
        """Log and remember the iteration, if there is one."""
        iteration, self._iteration = self._iteration, None
        if iteration is None:
            return
        now = time.monotonic()
        self.iterations += 1
        took_s, outcomes = now - iteration.began_at, dict(iteration.outcomes)
        self.last = Ended(now, took_s, iteration.items, outcomes, result)
        log.info(
            "iteration_end",
            loop=self.name,
            iteration=iteration.id,
            items=iteration.items,
            outcomes=outcomes,
            result=result,
            seconds=round(took_s, 3),
        )
        structlog.contextvars.unbind_contextvars("iteration")

    def why_failed(self, error: Exception) -> Exception:
        """The error of a turn, with a name where the limit ended it."""
        bound, self._bound = self._bound, None
        self.failures += 1
        if isinstance(error, TimeoutError) and bound is not None and bound.expired():
            return IterationTooLongError(f"no sign of life for {self.limit_s:g} s")
        return error


_workers: ContextVar[list[Worker] | None] = ContextVar("workers", default=None)
_current: ContextVar[Worker | None] = ContextVar("worker", default=None)


def enlist_in(workers: list[Worker]) -> None:
    """Workers that begin in this context, and in the tasks that it starts, are listed there."""
    _workers.set(workers)


@contextmanager
def working(name: str, limit_s: float | None = None) -> Iterator[Worker]:
    """The current worker is this one, and is listed until the end of the block."""
    worker, workers = Worker(name, limit_s), _workers.get()
    if workers is not None:
        workers.append(worker)
    _current.set(worker)
    try:
        yield worker
    finally:
        _current.set(None)
        if workers is not None:
            workers.remove(worker)


def found(items: int, outcome: str | None = None) -> None:
    """The current turn found work: its lines in the log begin. Without items nothing happens."""
    worker = _current.get()
    if items and worker is not None:
        worker.found(items, outcome)


def outcome(name: str, items: int = 1) -> None:
    """What became of items that were found."""
    worker = _current.get()
    if items and worker is not None:
        worker.outcome(name, items)


def handled(items: int) -> None:
    """The current turn of a fast lane took so many: counted, and not logged."""
    worker = _current.get()
    if items and worker is not None:
        worker.handled(items)


def begins() -> None:
    """The current worker begins anew, within a turn that lasts."""
    worker = _current.get()
    if worker is not None:
        worker.begins()


def turned() -> None:
    """The current worker lives, though its turn goes on."""
    worker = _current.get()
    if worker is not None:
        worker.turned()


def rests(wait_s: float) -> None:
    """The current worker has ended its iteration, and waits for at most so many seconds."""
    worker = _current.get()
    if worker is not None:
        worker.rests(wait_s)
