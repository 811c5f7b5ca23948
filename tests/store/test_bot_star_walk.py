"""The walk over Telegram's listing of Stars: what has no event here is reported, once."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bot_gateway.domain.people import Arrival
from bot_gateway.domain.star_transactions import OVERLAP, PAGE
from bot_gateway.store import people
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.money_lane import MoneyLane
from bot_gateway.workers.star_walk import StarWalk
from shared.platform.db import Database
from tests.kit.bot import BOT, opened, paid_update, refunded_update
from tests.kit.bot_lanes import arrive, events_of, is_reported
from tests.kit.mortal import DiedError, MortalDatabase
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.star_walks import counted, emptied, forget_events, reported, row_of, walked
from tests.kit.stars import DAY_S, FakeListing, hasten, incoming, outgoing, partner


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with emptied(place) as database:
        yield database


async def refunds(database: Database) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "select body::text as body from events where topic = 'bot.refund.reported' order by seq"
    )
    return [json.loads(row["body"]) for row in rows]


async def report(database: Database, *updates: dict[str, Any]) -> None:
    """By the money lane, as updates that came."""
    await arrive(database, *updates)
    await MoneyLane(database, Bells()).report_some(500)


async def test_a_payment_without_an_update_is_reported(database: Database) -> None:
    """R-16, R-60: it names its payer, and is an alarm."""
    arrival = Arrival(telegram_id=555, first_name="Ann", username=None, language="en", payload=None)
    async with database.transaction() as tx:
        ann = await people.start_person(arrival, None, tx)
    assert ann is not None
    before = counted("stars_missing", kind="payment")
    await walked(database, FakeListing(incoming("lost", 555, payload="p", stars=7)))
    [event] = await events_of(database, "lost")
    assert (event["payer"], event["payload"], event["amount_minor"]) == (str(ann.person), "p", 7)
    assert counted("stars_missing", kind="payment") == before + 1


async def test_an_unknown_payer_is_reported_without_name(database: Database) -> None:
    """R-60: payments puts such money into suspense."""
    await walked(database, FakeListing(incoming("nobody", 404)))
    [event] = await events_of(database, "nobody")
    assert event["payer"] is None


async def test_a_delivered_payment_is_no_news(database: Database) -> None:
    """R-60, M-02: also when its payer started the bot after it."""
    await report(database, paid_update(556, "told"), refunded_update(556, "told"))
    before = counted("stars_missing", kind="payment")
    arrival = Arrival(telegram_id=556, first_name="Bob", username=None, language="en", payload=None)
    async with database.transaction() as tx:
        await people.start_person(arrival, None, tx)
    told = await reported(database)
    await walked(database, FakeListing(incoming("told", 556), outgoing("told", 556)))
    assert await reported(database) == told
    assert counted("stars_missing", kind="payment") == before


async def test_a_late_update_meets_the_listed_event(database: Database) -> None:
    """R-60, M-02: by either path first, a payment and a refund are one event, and no conflict."""
    await walked(database, FakeListing(incoming("both", 5, payload="p"), outgoing("both", 5)))
    await report(database, paid_update(5, "both"), refunded_update(5, "both"))
    assert await reported(database) == 2
    assert await database.fetchval("select count(*) from conflicts") == 0


async def test_a_young_payment_is_reported_without_alarm(database: Database) -> None:
    """R-60: its update may still come, and is a repeat then."""
    before = counted("stars_missing", kind="payment")
    await walked(database, FakeListing(incoming("young", 5, age_s=10)))
    assert await is_reported(database, "young")
    assert counted("stars_missing", kind="payment") == before


async def test_a_refund_in_the_listing_is_reported(database: Database) -> None:
    """R-18: the payment was delivered, and its return only listed."""
    await report(database, paid_update(5, "returned"))
    before = counted("stars_missing", kind="refund")
    await walked(database, FakeListing(incoming("returned", 5), outgoing("returned", 5)))
    [refund] = await refunds(database)
    assert (refund["charge"], refund["amount_minor"]) == ("returned", 99)
    assert counted("stars_missing", kind="refund") == before + 1
    assert len(await events_of(database, "returned")) == 1


async def test_a_found_charge_closes_its_invoice(database: Database) -> None:
    """R-05: an invoice that was charged is not approved again, though no update said so."""
    await database.execute(
        "insert into checkout_holds (payload, query_id, approved_at) values ('held', 'q', now())"
    )
    await walked(database, FakeListing(incoming("held", payload="held")))
    assert await database.fetchval("select charged_at is not null from checkout_holds")


async def test_other_transactions_are_counted_only(database: Database) -> None:
    """R-62: gifts, withdrawals and kinds that Telegram adds later."""
    moved = {"id": "t", "amount": 5, "date": 1_790_000_000}
    kinds = {"gift_purchase": counted("star_transactions", kind="gift_purchase")}
    kinds["fragment"] = counted("star_transactions", kind="fragment")
    await walked(
        database,
        FakeListing(
            {**moved, "receiver": partner(1, transaction_type="gift_purchase")},
            {**moved, "receiver": {"type": "fragment"}},
            {**moved, "source": {"type": "invented_later"}},
        ),
    )
    assert await reported(database) == 0
    assert {kind: counted("star_transactions", kind=kind) for kind in kinds} == {
        kind: before + 1 for kind, before in kinds.items()
    }
    assert (await row_of(database))["walked"] == 3


async def test_the_predecessors_payments_are_not_ours(database: Database) -> None:
    """R-62: the listing of a bot holds what an earlier program was paid, for years."""
    listing = FakeListing(incoming("before", age_s=2 * DAY_S), incoming("ours", age_s=DAY_S / 2))
    await StarWalk(database, BOT + 1, listing).look(asyncio.Event())
    assert not await is_reported(database, "before")
    assert await is_reported(database, "ours")


async def test_an_old_shop_begins_a_month_back(place: FreshDatabase, database: Database) -> None:
    """R-61: its older reports are dropped by now, and must not be taken for missing ones."""
    async with opened(place.dsn("postgres")) as admin:
        await admin.execute(A_PERSON_OF_LONG_AGO)
        listing = FakeListing(incoming("old", age_s=40 * DAY_S), incoming("new", age_s=20 * DAY_S))
        await StarWalk(database, BOT + 2, listing).look(asyncio.Event())
        await admin.execute("delete from bot.people where telegram_id = 1")
    assert not await is_reported(database, "old")
    assert await is_reported(database, "new")


A_PERSON_OF_LONG_AGO = """
insert into bot.people (person, telegram_id, first_name, language, code, started_event, started_at)
values (gen_random_uuid(), 1, 'Ann', 'en', 'c', gen_random_uuid(), now() - interval '1 year')
"""


async def test_unreadable_transactions_are_skipped(database: Database) -> None:
    """R-61: each is counted; the others of its page, and what comes later, are reported."""
    before = counted("star_transactions", kind="unreadable")
    listing = FakeListing(incoming("first"), None, {"id": "half"}, incoming("second"))
    await walked(database, listing)
    listing.transactions.append(incoming("third"))
    await walked(database, listing)
    assert all([await is_reported(database, one) for one in ("first", "second", "third")])
    assert counted("star_transactions", kind="unreadable") == before + 2
    assert not (await row_of(database))["is_exact"]


async def test_ten_thousand_resume_after_a_death(place: FreshDatabase, database: Database) -> None:
    """R-61: the process dies in the middle of page 41; no page is lost, and none is read twice.

    Only the overlap is: the next replica begins a hundred transactions before the place.
    """
    listing = FakeListing(*(incoming(f"many-{n}", n) for n in range(10_000)))
    mortal = MortalDatabase(place.dsn("bot_app"), name="mortal")
    await mortal.open()

    def die() -> None:
        mortal.dies_at = 4 if len(listing.asked) == 41 else 0

    listing.on_page = die
    with pytest.raises(DiedError):
        await walked(mortal, listing)
    mortal.dies_at = 0
    await mortal.close()
    row = await row_of(database)
    assert row["walked"] == await reported(database) > 3_000
    died_at, listing.on_page = len(listing.asked), lambda: None
    await database.execute("update star_walks set held_until = now()")
    await walked(database, listing)
    assert await reported(database) == 10_000
    assert listing.asked[died_at] == row["walked"] - OVERLAP
    assert len(listing.asked) <= 10_000 / (PAGE - 1) + 6
    assert (await row_of(database))["walked"] == 10_000


async def test_the_place_is_remembered(database: Database) -> None:
    """R-61: the next walk begins a hundred before it, and finds what came since."""
    listing = FakeListing(*(incoming(f"old-{n}", n) for n in range(250)))
    await walked(database, listing)
    listing.transactions.append(incoming("new"))
    listing.asked.clear()
    await walked(database, listing)
    assert listing.asked[0] == 150
    assert min(listing.asked) == 150
    assert await is_reported(database, "new")


@pytest.mark.parametrize("change", ["shrunk", "reordered"])
async def test_a_changed_listing_is_walked_again(database: Database, change: str) -> None:
    """R-61: what hides at an earlier place is found; nothing is reported twice."""
    listing = FakeListing(*(incoming(f"{change}-{n}", n) for n in range(150)))
    await walked(database, listing)
    if change == "shrunk":
        del listing.transactions[20:]
    else:
        listing.transactions.reverse()
    listing.transactions.insert(3, incoming("hidden"))
    listing.asked.clear()
    await walked(database, listing)
    assert listing.asked[:2] == [50, 0]
    assert await is_reported(database, "hidden")
    assert await reported(database) == 151
    assert (await row_of(database))["walked"] == len(listing.transactions)


async def test_pruned_reports_are_no_news(place: FreshDatabase, database: Database) -> None:
    """R-61: events are kept for 30 days, and old transactions stay in the overlap for longer."""
    listing = FakeListing(incoming("old", age_s=40 * DAY_S), incoming("recent", age_s=10 * DAY_S))
    await walked(database, listing)
    assert await reported(database) == 2
    await forget_events(place)
    await walked(database, listing)
    assert not await is_reported(database, "old")
    assert await is_reported(database, "recent")
    await forget_events(place)
    listing.transactions.reverse()
    await walked(database, listing)
    assert not await is_reported(database, "old")
