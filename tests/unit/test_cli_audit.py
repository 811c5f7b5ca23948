"""Whether the handlers are at rest, while facts keep coming."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from shared.bus import Place, UnansweredError
from shared.contract import Question
from shared.inspection import AskFacts, AskKeys, AskLacking, FactsSeen, Keys, Lacking
from shared.questions import AskAudit, Audit, Finding
from turnpike_cli import audit
from turnpike_cli.audit import Found, at_rest, shown, silence

HANDLER = "vpn_grants_confirmed"


class Watched:
    """A bus that only says how far a handler is: each look the next of these, the last for ever."""

    def __init__(self, *places: Place | None) -> None:
        self._next: Iterator[Place | None] = iter(places)
        self._last: Place | None = None

    async def places(self) -> Mapping[str, Place | None]:
        self._last = next(self._next, self._last)
        return {HANDLER: self._last}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOOK_AGAIN_S", 0.001)


async def rests(*places: Place | None, in_time_s: float = 60.0) -> Finding:
    watched: Any = Watched(*places)
    return await at_rest(watched, in_time_s)


async def test_who_has_heard_everything_rests() -> None:
    assert (await rests(Place(acknowledged=7, told=7, left=0), in_time_s=0)).violations == 0


async def test_who_is_behind_and_moves_is_no_finding_though_he_is_never_done() -> None:
    """I13: what counts is what had been told when we looked first."""
    moving = (Place(acknowledged=10 * step, told=10 * step + 25, left=25) for step in range(100))
    assert (await rests(*moving)).violations == 0


async def test_who_stands_still_is_a_finding() -> None:
    found = await rests(Place(acknowledged=3, told=7, left=4), Place(acknowledged=3, told=9, left=6), in_time_s=0.01)
    assert (found.violations, found.examples) == (1, (f"{HANDLER}: 6 to hear",))


async def test_a_durable_that_is_missing_is_a_finding_until_it_is_made_again() -> None:
    assert (await rests(None, in_time_s=0.01)).examples == (f"{HANDLER}: its durable is missing",)
    assert (await rests(None, Place(acknowledged=0, told=0, left=0))).violations == 0


class FallsSilent:
    """A bus on which everybody answers at first; then one does not say any more what he has, or what he lacks."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    async def ask(self, question: Question[Any], *, timeout_s: float) -> object:
        if question.topic == self.topic:
            raise UnansweredError(question.topic)
        match question:
            case AskFacts():
                return FactsSeen(told=(), heard=(), failing=(), buried=())
            case AskAudit():
                return Audit(findings=(), counts={})
            case AskKeys():
                return Keys(keys=("key",), after=None)
            case AskLacking():
                return Lacking(keys=())
        raise AssertionError(question)

    async def places(self) -> Mapping[str, Place | None]:
        return {}


@pytest.mark.parametrize("topic", ["bot.keys", "bot.lacking", "payments.keys", "referrals.lacking", "vpn.keys"])
async def test_who_falls_silent_between_two_pages_is_named_and_nobody_else(topic: str) -> None:
    """I13: of two owners who are held against each other either may be the one who does not answer."""
    bus: Any = FallsSilent(topic)
    owner = topic.split(".")[0]
    found = await audit.audit(bus)
    assert [one for one in found if one.finding.violations] == [Found(owner, silence(owner))]


def test_the_list_ends_with_a_verdict_and_fits() -> None:
    sound = Finding(invariant="I1", truth="every transfer balances to zero per currency", violations=0)
    broken = Finding(invariant="I10", truth="an order " * 20, violations=12_345, examples=("order \x1b " + "x" * 200,))
    lines = shown([Found("payments", sound), Found("payments", broken)])
    assert max(len(line) for line in lines if "xxx" not in line) <= 100
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "1 of 2 truths are broken."
    assert shown([Found("payments", sound)])[-1] == "All 1 truths hold."
