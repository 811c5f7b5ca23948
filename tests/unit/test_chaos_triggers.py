"""The chaos matrix judges a command that was repeated by what may be stored of it."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.message import Refused
from shared.contracts.payments_refunds import RefundPayment
from shared.messaging.rpc import UnansweredError
from tests.chaos.points import Point
from tests.chaos.triggers import Triggers

POINT = Point("command_done", RefundPayment.topic, "payments")


class _Shop:
    """Its first answers are late, then a process dies at a command and is started again."""

    def __init__(self, late: int) -> None:
        self.late = late
        self.bus = self
        self.died = asyncio.Event()
        self.started_again = asyncio.Event()

    async def execute(self, _command: RefundPayment) -> Refused:
        if self.late:
            self.late -= 1
            raise UnansweredError
        self.died.set()
        await self.started_again.wait()
        return Refused(reason="receipt_unknown")

    async def fetch_value(self, _sql: str, _command: UUID) -> int:
        return 1

    async def fetch(self, _sql: str, _command: UUID) -> list[Any]:
        return []


@pytest.mark.parametrize(("late", "failures"), [(0, 1), (1, 0)])
async def test_an_earlier_try_may_be_stored(late: int, failures: int) -> None:
    """W-24: a row at a point before the commit is wrong, unless an earlier try wrote it."""
    shop = _Shop(late)
    failed: list[str] = []
    trial: Any = SimpleNamespace(
        shop=shop, expect=lambda failure, holds: None if holds else failed.append(failure)
    )
    triggers = Triggers(trial)
    triggers.begin(POINT)
    await shop.died.wait()
    await triggers.end(POINT)
    shop.started_again.set()
    await triggers.stop()
    assert len(failed) == failures
