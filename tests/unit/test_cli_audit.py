"""`turnpike audit`: quiescence while events keep coming, and services that do not answer."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import pytest

from shared.contracts.message import Query
from shared.contracts.operations import (
    Audit,
    AuditQuery,
    EventRecords,
    EventsQuery,
    Finding,
    Keys,
    KeysQuery,
    MissingKeys,
    MissingKeysQuery,
)
from shared.messaging.jetstream import ConsumerProgress
from shared.messaging.rpc import UnansweredError
from turnpike_cli import audit
from turnpike_cli.audit import Found, audit_lines, no_answer_finding, quiescent

HANDLER = "vpn_grants_confirmed"


class Watched:
    """A bus that reports the progress of one handler.

    Each look gets the next value, and the last value stays.
    """

    def __init__(self, *progress: ConsumerProgress | None) -> None:
        self._next: Iterator[ConsumerProgress | None] = iter(progress)
        self._last: ConsumerProgress | None = None

    @property
    def client(self) -> Self:
        return self

    async def progress(self) -> Mapping[str, ConsumerProgress | None]:
        self._last = next(self._next, self._last)
        return {HANDLER: self._last}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(audit, "consumer_progress", _progress)


async def _progress(client: Any) -> Mapping[str, ConsumerProgress | None]:
    answer: Mapping[str, ConsumerProgress | None] = await client.progress()
    return answer


async def finding_of(*progress: ConsumerProgress | None, in_time_s: float = 60.0) -> Finding:
    watched: Any = Watched(*progress)
    return await quiescent(watched, in_time_s)


async def test_a_handler_without_lag_is_quiescent() -> None:
    progress = ConsumerProgress(acknowledged=7, delivered=7, pending=0)
    assert (await finding_of(progress, in_time_s=0)).violations == 0


async def test_a_moving_handler_is_no_finding() -> None:
    """I13: only events that were delivered before the first look must be acknowledged.

    A handler under load has always something pending.
    """
    moving = (
        ConsumerProgress(acknowledged=10 * step, delivered=10 * step + 25, pending=25)
        for step in range(100)
    )
    assert (await finding_of(*moving)).violations == 0


async def test_a_handler_that_stops_is_a_finding() -> None:
    found = await finding_of(
        ConsumerProgress(acknowledged=3, delivered=7, pending=4),
        ConsumerProgress(acknowledged=3, delivered=9, pending=6),
        in_time_s=0.01,
    )
    assert (found.violations, found.examples) == (1, (f"{HANDLER}: 6 pending",))


async def test_a_missing_durable_is_a_finding() -> None:
    """Until it is created again."""
    missing = await finding_of(None, in_time_s=0.01)
    assert missing.examples == (f"{HANDLER}: its durable consumer is missing",)
    created = ConsumerProgress(acknowledged=0, delivered=0, pending=0)
    assert (await finding_of(None, created)).violations == 0


class StopsAnswering:
    """A bus on which all owners answer, except queries of one topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    async def query(self, query: Query[Any], *, timeout_s: float) -> object:
        if query.topic == self.topic:
            raise UnansweredError(query.topic)
        match query:
            case EventsQuery():
                return EventRecords(published=(), handled=(), failing=(), dead_lettered=())
            case AuditQuery():
                return Audit(findings=(), counts={})
            case KeysQuery():
                return Keys(keys=("key",), after=None)
            case MissingKeysQuery():
                return MissingKeys(keys=())
        raise AssertionError(query)

    @property
    def client(self) -> Self:
        return self

    async def progress(self) -> Mapping[str, ConsumerProgress | None]:
        return {}


@pytest.mark.parametrize(
    "topic", ["bot.keys", "bot.missing_keys", "payments.keys", "referrals.missing_keys", "vpn.keys"]
)
async def test_only_the_owner_that_stops_answering_is_named(topic: str) -> None:
    """I13: of the two owners that are compared, either may be the one that does not answer."""
    bus: Any = StopsAnswering(topic)
    owner = topic.split(".")[0]
    found = await audit.audit(bus)
    violated = [one for one in found if one.finding.violations]
    assert violated == [Found(owner, no_answer_finding(owner))]


def test_lines_fit_and_end_with_a_verdict() -> None:
    sound = Finding(
        invariant="I1", truth="every transfer balances to zero per currency", violations=0
    )
    broken = Finding(
        invariant="I10",
        truth="an order " * 20,
        violations=12_345,
        examples=("order \x1b " + "x" * 200,),
    )
    lines = audit_lines([Found("payments", sound), Found("vpn", broken)])
    assert max(len(line) for line in lines if "xxx" not in line) <= 100
    assert all(line.isprintable() for line in lines)
    assert lines[1].split()[:2] == ["I10", "vpn-provisioner"]
    assert lines[-1] == "1 of 2 checks found violations."
    assert audit_lines([Found("payments", sound)])[-1] == "All 1 checks hold."
