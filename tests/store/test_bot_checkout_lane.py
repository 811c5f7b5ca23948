"""The checkout lane: batches, their order, and pre-checkouts that are malformed, slow or old."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer

from bot_gateway.store import checkout_holds
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.checkout_lane import CheckoutLane
from shared.contracts.payload import write_payload
from shared.contracts.payments import MAX_CHECKOUTS, CheckoutQuery
from shared.messaging.rpc import Bus
from shared.platform.db import Database
from shared.platform.texts import Texts
from tests.kit.bot import Owners, checkout_update, opened
from tests.kit.bot_lanes import arrive, nothing_waits, states, working
from tests.kit.servers import MakeDatabase
from tests.kit.waiting import until
from tests.load.bot_api import TOKEN, BotApi

REASONS = "select reason from updates order by seq"


class Lane:
    """The checkout lane with its database, a stand-in for payments, and Telegram's answers."""

    def __init__(self, database: Database, owners: Owners, api: BotApi, bot: Bot, bus: Bus) -> None:
        self.database = database
        self.owners = owners
        self.api = api
        self.worker = CheckoutLane(database, Bells(), bus, bot, Texts("bot_gateway"))

    async def run(self) -> None:
        """Until every pre-checkout has ended."""
        async with working(self.worker):
            await until(nothing_waits(self.database))

    def queries(self) -> list[CheckoutQuery]:
        return self.owners.received_of(CheckoutQuery)

    def approved(self) -> list[str]:
        return sorted(query for query, answer in self.api.answers.items() if answer.ok)

    async def reasons(self) -> list[str | None]:
        return [row["reason"] for row in await self.database.fetch(REASONS)]


@pytest.fixture
async def lane(fresh_database: MakeDatabase, nats_url: str) -> AsyncIterator[Lane]:
    place, owners, bus = await fresh_database("bot"), Owners(nats_url), Bus(nats_url, "bot")
    await owners.open()
    await bus.open()
    async with opened(place.dsn("bot_app")) as database, BotApi() as api:
        server = TelegramAPIServer.from_base(api.settings["TURNPIKE_TELEGRAM_API_URL"])
        bot = Bot(TOKEN, session=AiohttpSession(api=server))
        yield Lane(database, owners, api, bot, bus)
        await bot.session.close()
    await bus.close()
    await owners.close()


def sheets(count: int) -> list[dict[str, Any]]:
    return [
        checkout_update(number, write_payload(uuid4(), uuid4(), None), query=f"sheet {number}")
        for number in range(1, count + 1)
    ]


async def test_people_who_pay_together_share_one_query(lane: Lane) -> None:
    """R-31: one query to payments, and one hold each."""
    await arrive(lane.database, *sheets(MAX_CHECKOUTS))
    await lane.run()
    assert [len(query.charges) for query in lane.queries()] == [MAX_CHECKOUTS]
    assert len(lane.approved()) == MAX_CHECKOUTS
    held = await lane.database.fetchval("select count(*) from checkout_holds")
    assert held == MAX_CHECKOUTS


async def test_newest_checkouts_are_claimed_first(lane: Lane) -> None:
    """R-31: the oldest would be too late in any case."""
    waiting = sheets(MAX_CHECKOUTS + 20)
    await arrive(lane.database, *waiting)
    await lane.run()
    newest = [update["pre_checkout_query"]["invoice_payload"] for update in waiting[20:]]
    smaller, larger = sorted(lane.queries(), key=lambda query: len(query.charges))
    assert {charge.payload for charge in larger.charges} == set(newest)
    assert len(smaller.charges) == 20


async def test_a_malformed_checkout_is_refused_alone(lane: Lane) -> None:
    """R-31: each part may be anything; the others of its batch are approved."""
    good, *others = sheets(7)
    payload, currency, amount, payer, bare, unnamed = (one["pre_checkout_query"] for one in others)
    payload["invoice_payload"] = "\ud800\x00"
    currency["currency"] = 7
    amount["total_amount"] = "99"
    payer["from"] = {"id": 2**70, "language_code": ["ru"]}
    del bare["invoice_payload"], bare["from"]
    del unnamed["id"]
    await arrive(lane.database, good, *others)
    await lane.run()
    [query] = lane.queries()
    asked = sorted((one.payload == "", one.currency, one.amount_minor) for one in query.charges)
    assert asked == [
        (False, "", 99),
        (False, "XTR", 0),
        (False, "XTR", 99),
        (False, "XTR", 99),
        (True, "XTR", 99),
        (True, "XTR", 99),
    ]
    assert len(lane.api.answers) == 6
    assert await states(lane.database) == [*[("done", 1)] * 6, ("failed", 1)]


async def test_one_sheet_of_a_batch_is_approved(lane: Lane) -> None:
    """R-29: three pay sheets of one invoice arrive together, and again with the approved one."""
    payload = write_payload(uuid4(), uuid4(), None)
    await arrive(lane.database, *(checkout_update(1, payload, query=name) for name in "abc"))
    await lane.run()
    [holder] = lane.approved()
    assert sorted(str(reason) for reason in await lane.reasons()) == ["None", *["being_paid"] * 2]
    again = [("another", payload), (holder, payload), ("more", payload)]
    refused = await checkout_holds.approve([(p, query) for query, p in again], lane.database)
    assert refused == {"another": False, "more": False}, "the holder's own repeat is approved"
    async with lane.database.transaction() as tx:
        await checkout_holds.record_charges([payload], tx)
    refused = await checkout_holds.approve([(payload, holder)], lane.database)
    assert refused == {holder: True}, "charged once"


async def test_a_slow_answer_delays_no_other(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-31: Telegram is slow for one of them; the others are answered and recorded meanwhile."""
    slow = asyncio.Event()
    answer = lane.worker.bot.answer_pre_checkout_query

    async def answer_slowly(query: str, **rest: Any) -> bool:
        if query == "sheet 1":
            await slow.wait()
        return await answer(query, **rest)

    monkeypatch.setattr(lane.worker.bot, "answer_pre_checkout_query", answer_slowly)
    await arrive(lane.database, *sheets(3))

    async def others_ended() -> bool:
        return await states(lane.database) == [("waiting", 1), ("done", 1), ("done", 1)]

    async with working(lane.worker):
        await until(others_ended)
        slow.set()
        await until(nothing_waits(lane.database))
    assert len(lane.approved()) == 3


async def test_an_old_pre_checkout_gets_no_answer(lane: Lane) -> None:
    """R-05: after eight seconds Telegram no longer waits, and an approval would be worst of all."""
    await arrive(lane.database, *sheets(1))
    await lane.database.execute("update updates set received_at = now() - interval '9 seconds'")
    await lane.run()
    assert await states(lane.database) == [("dropped", 1)]
    assert await lane.reasons() == ["too old"]
    assert not lane.api.answers
    assert not lane.queries(), "payments is not asked about it"
