"""Refunds of Stars that operators ask for: payments asks bot-gateway, and Telegram reports."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.workers.refunding import AtTelegram, Refunder
from shared.contracts.bot import RefundStars, StarRefund, StarRefundQuery
from shared.contracts.message import Refused
from shared.contracts.payments_refunds import OutgoingRefund
from shared.messaging.rpc import UnansweredError
from tests.kit.outgoing import asked, row_of
from tests.kit.payments import give_back, paid, placed, refund_events, refund_of, report, state_of
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till


class FakeBotGateway:
    """It keeps each refund by the id of its command; answers may be lost."""

    def __init__(self) -> None:
        self.refunds: dict[UUID, StarRefund] = {}
        self.commands: list[RefundStars] = []
        self.lost = 0
        """So many of the next answers."""
        self.refuses: str | None = None

    async def execute(self, command: RefundStars) -> StarRefund | Refused:
        self.commands.append(command)
        if self.refuses:
            return Refused(reason=self.refuses)
        waiting = StarRefund(refund=command.id, state="waiting", reason=None)
        self.refunds.setdefault(command.id, waiting)
        self._lose(command.topic)
        return waiting

    async def query(self, query: StarRefundQuery) -> StarRefund | Refused:
        self._lose(query.topic)
        return self.refunds.get(query.refund) or Refused(reason="refund_unknown")

    def _lose(self, topic: str) -> None:
        if self.lost:
            self.lost -= 1
            raise UnansweredError(topic)

    def end(self, state: Any, reason: str | None = None) -> None:
        for id_ in self.refunds:
            self.refunds[id_] = StarRefund(refund=id_, state=state, reason=reason)


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


def worker(till: Till, bot: FakeBotGateway) -> Refunder:
    bus: Any = bot
    return Refunder(AtTelegram(bus), till.database, till.bell)


async def bought(till: Till) -> tuple[UUID, UUID, Any, OutgoingRefund]:
    """A person, an order, its receipt, and the refund that was asked for."""
    order = await placed(person := uuid4(), till.database)
    receipt = paid(order, person)
    await report(till.database, receipt)
    refund = await asked(receipt.id, till.database, "XTR")
    return person, order.order, receipt, refund


async def ended(refund: OutgoingRefund, till: Till) -> str:
    return str((await row_of(refund, till.database))["state"])


async def test_the_answer_returns_stars_once(till: Till) -> None:
    """R-108: asked under the id of the act; Telegram's report of it is a repeat."""
    person, order, receipt, refund = await bought(till)
    bot = FakeBotGateway()
    await till.turn(worker(till, bot))
    assert await ended(refund, till) == "pending"
    [command] = bot.commands
    assert (command.id, command.charge, command.payer) == (refund.refund, receipt.charge, person)
    bot.end("done")
    await till.turn(worker(till, bot))
    assert await ended(refund, till) == "settled"
    await give_back(till.database, refund_of(receipt))
    assert len(await refund_events(person, till.database)) == 1
    assert await state_of(order, till.database) == "refunded"


async def test_telegrams_report_settles_first(till: Till) -> None:
    """R-108: whichever comes first; bot-gateway's answer changes nothing more."""
    person, _, receipt, refund = await bought(till)
    bot = FakeBotGateway()
    await till.turn(worker(till, bot))
    await give_back(till.database, refund_of(receipt))
    assert await ended(refund, till) == "settled"
    bot.end("done")
    assert await till.turn(worker(till, bot)) == 0
    assert len(await refund_events(person, till.database)) == 1


async def test_a_lost_answer_is_asked_with_one_id(till: Till) -> None:
    """R-108: of the command, and of the query."""
    person, _, _, refund = await bought(till)
    bot = FakeBotGateway()
    bot.lost = 2
    for _ in range(3):
        await till.turn(worker(till, bot))
    assert await ended(refund, till) == "pending"
    assert {command.id for command in bot.commands} == {refund.refund}
    bot.lost = 1
    bot.end("done")
    for _ in range(2):
        await till.turn(worker(till, bot))
    assert await ended(refund, till) == "settled"
    assert len(await refund_events(person, till.database)) == 1


@pytest.mark.parametrize("by", ["telegram", "bot-gateway"])
async def test_refused_stars_are_released(till: Till, by: str) -> None:
    """R-108: also after a lost answer, since Telegram says what was returned already."""
    person, order, _, refund = await bought(till)
    bot = FakeBotGateway()
    bot.lost = 1 if by == "telegram" else 0
    bot.refuses = "payer_unknown" if by == "bot-gateway" else None
    for _ in range(2):
        await till.turn(worker(till, bot))
    bot.end("refused", "Bad Request: CHARGE_ID_INVALID")
    await till.turn(worker(till, bot))
    assert await ended(refund, till) == "released"
    assert await state_of(order, till.database) == "paid"
    assert await refund_events(person, till.database) == []
