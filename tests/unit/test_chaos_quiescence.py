"""The quiescence of the chaos matrix: work that moves while it is looked for is not overlooked."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import shop as module
from tests.chaos.shop import IN_FLIGHT, Shop

PLACES = ("telegram", "database", "broker")


class MovingShop(Shop):
    """One piece of work, which a transaction moves to another place after the `nth` question."""

    def __init__(self, begins: str, moves_to: str, nth: int) -> None:
        self.place, self.moves_to, self.questions_left = begins, moves_to, nth
        self.transactions = 0
        self.crowd: Any = SimpleNamespace(unconfirmed_updates=self._at_telegram)
        self.bus: Any = SimpleNamespace(client=self)

    def _asked(self, place: str) -> int:
        found = int(self.place == place)
        self.questions_left -= 1
        if self.questions_left == 0:
            self.place, self.transactions = self.moves_to, self.transactions + 1
        return found

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        if sql == IN_FLIGHT:
            return [{"updates": self._asked("database")}]
        return [[f"{self.transactions}"]]

    async def _at_telegram(self) -> int:
        return self._asked("telegram")

    async def lag(self) -> dict[str, int]:
        return {"a handler": self._asked("broker")}


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("moves_to", PLACES)
@pytest.mark.parametrize("begins", PLACES)
async def test_moving_work_is_in_flight(
    monkeypatch: pytest.MonkeyPatch, begins: str, moves_to: str, nth: int
) -> None:
    monkeypatch.setattr(module, "consumer_lag", lambda client: client.lag())
    assert await MovingShop(begins, moves_to, nth).in_flight()


async def test_no_work_is_quiescent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "consumer_lag", lambda client: client.lag())
    shop = MovingShop("nowhere", "nowhere", nth=2)
    assert await shop.in_flight() == {module.MOVING: 1}
    assert await shop.until_quiescent(1.0) == {}
