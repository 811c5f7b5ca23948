"""Telegram's listing of Stars, in memory, and a walk over it that waits for nothing."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from bot_gateway.domain.star_transactions import read_transaction
from bot_gateway.workers import star_walk
from tests.kit.bot import user

Json = dict[str, Any]
DAY_S = 24 * 3600


def partner(telegram_id: int, payload: str = "", **changes: object) -> Json:
    about = {"type": "user", "transaction_type": "invoice_payment", "user": user(telegram_id)}
    return {**about, "invoice_payload": payload, **changes}


def incoming(
    charge: str | None = None, payer: int = 1, *, stars: int = 99, age_s: float = 3600, **by: Any
) -> Json:
    """A payment that was made some time ago; `by` changes its partner."""
    moved = {"id": charge or uuid4().hex, "amount": stars, "date": int(time.time() - age_s)}
    return {**moved, "source": partner(payer, **by)}


def outgoing(charge: str, receiver: int = 1, *, stars: int = 99, age_s: float = 3600) -> Json:
    """A refund of this charge."""
    moved = incoming(charge, receiver, stars=stars, age_s=age_s)
    its_receiver = moved.pop("source")
    return {**moved, "receiver": its_receiver}


class FakeListing:
    """Lists what a test puts there. It remembers what it was asked, and answers as planned.

    `on_page` and `on_balance` are called before an answer leaves: the listing may grow then.
    """

    def __init__(self, *transactions: object) -> None:
        self.transactions: list[object] = list(transactions)
        self.asked: list[int] = []
        self.asked_at: list[float] = []
        self.failures: list[Exception] = []
        self.hidden_nanostars = 0
        """What the balance has more than the listing."""
        self.on_page: Callable[[], None] = lambda: None
        self.on_balance: Callable[[], None] = lambda: None

    async def page(self, offset: int) -> list[object]:
        self.asked.append(offset)
        self.asked_at.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        page = self.transactions[offset : offset + 100]
        self.on_page()
        return page

    async def balance_nanostars(self) -> int:
        self.on_balance()
        nanostars = [read_transaction(one).nanostars for one in self.transactions]
        return sum(nanostars) + self.hidden_nanostars


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk begins at once, looks often, and asks without a pause."""
    monkeypatch.setattr(star_walk, "PACE_S", 0.0)
    monkeypatch.setattr(star_walk, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(star_walk, "LOOK_FOR_DUE_EVERY_S", 0.05)
    monkeypatch.setattr(star_walk, "PAUSE_AFTER_FAILURE_S", 0.05)
