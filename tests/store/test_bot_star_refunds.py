"""Stars that payments asks to return: Telegram is asked once, even if an answer is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiogram.exceptions import (
    TelegramAPIError,
    TelegramBadRequest,
    TelegramNetworkError,
    TelegramRetryAfter,
)

from bot_gateway.audit import answer_audit
from bot_gateway.commands.refund_stars import refund_stars
from bot_gateway.domain.people import Arrival
from bot_gateway.queries import answer_star_refund
from bot_gateway.store import people
from bot_gateway.telegram import RefundStarPayment
from bot_gateway.workers import star_refunds
from bot_gateway.workers.star_refunds import StarRefunds
from shared.contracts.bot import RefundStars, StarRefund, StarRefundQuery
from shared.contracts.message import Refused
from shared.contracts.operations import AuditQuery
from shared.messaging.idempotency import execute
from shared.platform.db import Database
from shared.platform.loops import Bell
from tests.kit.operators import by_operator
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until

METHOD = RefundStarPayment(user_id=1, telegram_payment_charge_id="c")
ALREADY = TelegramBadRequest(METHOD, "Bad Request: CHARGE_ALREADY_REFUNDED")
INVALID = TelegramBadRequest(METHOD, "Bad Request: CHARGE_ID_INVALID")
DUE = "update star_refunds set held_until = now()"
REST = "update star_refunds set held_until = now() + interval '0.5 s'"
LONG_S = 3_600.0
LONG_AGO = "update star_refunds set asked_at = asked_at - interval '2 hours'"


class FakeTelegram:
    """It returns a charge once, and can lose its answers, as Telegram does."""

    def __init__(self, *lost: TelegramAPIError) -> None:
        self.returned: dict[str, int] = {}
        self.calls = 0
        self.lost = list(lost)
        """Errors of the next calls, after they took effect."""
        self.down: list[TelegramAPIError] = []
        """Errors of the next calls, without an effect."""
        self.reached = asyncio.Event()
        self.hangs = False

    async def return_stars(self, telegram_id: int, charge: str) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.down:
            raise self.down.pop(0)
        if charge in self.returned:
            raise ALREADY
        self.returned[charge] = telegram_id
        if self.hangs:
            self.reached.set()
            await asyncio.Event().wait()
        if self.lost:
            raise self.lost.pop(0)


@pytest.fixture
async def database(fresh_database: MakeDatabase) -> AsyncIterator[Database]:
    place = await fresh_database("bot")
    database = Database(place.dsn("bot_app"), name="test")
    await database.open()
    yield database
    await database.close()


async def payer(database: Database, telegram_id: int = 77) -> UUID:
    async with database.transaction() as tx:
        arrival = Arrival(telegram_id, "Ann", None, "en", None)
        started = await people.start_person(arrival, None, tx)
    assert started is not None
    return started.person


async def asked(database: Database, person: UUID | None, charge: str = "c") -> Any:
    """The answer of the command. Its repeat has the same."""
    fields = {name: value for name, value in by_operator().items() if name != "role"}
    command = RefundStars(**fields, charge=charge, payer=person)

    async def act(wanted: RefundStars, tx: Any) -> StarRefund | Refused:
        return await refund_stars(wanted, tx, ring=lambda: None)

    answers = [await execute(database, command, act) for _ in range(2)]
    assert answers[0] == answers[1]
    return answers[0]


def worker(database: Database, telegram: FakeTelegram) -> StarRefunds:
    """Of another process each time."""
    return StarRefunds(database, telegram, Bell())


async def state(refund: StarRefund, database: Database) -> tuple[str, bool]:
    answer = await answer_star_refund(StarRefundQuery(refund=refund.refund), database)
    assert isinstance(answer, StarRefund), answer
    return answer.state, answer.reason is not None


async def turn(one: StarRefunds, database: Database) -> bool:
    await database.execute(DUE)
    return await one.round()


async def test_stars_are_returned_to_their_payer(database: Database) -> None:
    """R-108: a repeated command is one row."""
    telegram = FakeTelegram()
    refund = await asked(database, await payer(database))
    assert await turn(worker(database, telegram), database)
    assert telegram.returned == {"c": 77}
    assert await state(refund, database) == ("done", False)
    assert not await turn(worker(database, telegram), database)


@pytest.mark.parametrize(
    "lost", [TelegramNetworkError(METHOD, "gone"), TelegramRetryAfter(METHOD, "later", 3)]
)
async def test_a_lost_answer_is_asked_again(database: Database, lost: TelegramAPIError) -> None:
    """R-108: Telegram says that the charge was returned, which is done."""
    telegram = FakeTelegram(lost)
    refund = await asked(database, await payer(database))
    await turn(worker(database, telegram), database)
    assert await state(refund, database) == ("waiting", True)
    await turn(worker(database, telegram), database)
    assert (await state(refund, database), telegram.calls) == (("done", False), 2)


async def test_a_dead_worker_leaves_one_refund(database: Database) -> None:
    """R-108: it dies between Telegram's answer and its record."""
    telegram = FakeTelegram()
    telegram.hangs = True
    refund = await asked(database, await payer(database))
    dying = asyncio.create_task(worker(database, telegram).round())
    await telegram.reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await turn(worker(database, telegram), database)
    assert (await state(refund, database), len(telegram.returned)) == (("done", False), 1)


async def test_a_pause_ends_on_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-128: a charge that was put off for a second does not wait for a whole poll."""
    monkeypatch.setattr(star_refunds, "POLL_S", LONG_S)
    one, stopping = worker(database, FakeTelegram()), asyncio.Event()
    assert await one.due_in_s() is None
    refund = await asked(database, await payer(database))
    await database.execute(REST)
    loop = asyncio.create_task(one.run(stopping))

    async def is_done() -> bool:
        return await state(refund, database) == ("done", False)

    await until(is_done)
    stopping.set()
    await loop


async def test_a_refusal_of_telegram_ends_it(database: Database) -> None:
    """R-108: the operator reads why."""
    telegram = FakeTelegram()
    telegram.down.append(INVALID)
    refund = await asked(database, await payer(database))
    await turn(worker(database, telegram), database)
    assert await state(refund, database) == ("refused", True)


async def test_two_workers_ask_once_each(database: Database) -> None:
    """R-108: ten charges, four workers."""
    telegram, person = FakeTelegram(), await payer(database)
    for number in range(10):
        await asked(database, person, f"c{number}")
    workers = [worker(database, telegram) for _ in range(4)]
    while any(await asyncio.gather(*(one.round() for one in workers))):
        pass
    assert (len(telegram.returned), telegram.calls) == (10, 10)


async def test_an_unknown_payer_is_refused(database: Database) -> None:
    """R-108: nobody here has the Telegram id; nothing is asked."""
    assert await asked(database, None) == Refused(reason="payer_unknown")
    assert await asked(database, uuid4()) == Refused(reason="payer_unknown")
    unknown = await answer_star_refund(StarRefundQuery(refund=uuid4()), database)
    assert unknown == Refused(reason="refund_unknown")


async def test_a_refund_that_waits_is_found(database: Database) -> None:
    """I13: Telegram did not answer for an hour."""
    await asked(database, await payer(database))
    await database.execute(LONG_AGO)
    audit = await answer_audit(AuditQuery.of("bot")(), database)
    found = {one.truth for one in audit.findings if one.violations}
    assert "no refund of Stars waits for an hour" in found
