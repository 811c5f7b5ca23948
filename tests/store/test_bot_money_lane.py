"""The money lane: every reported payment is published once, also after failures."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from bot_gateway import reporting
from bot_gateway.audit import answer_audit
from bot_gateway.domain.people import Arrival
from bot_gateway.domain.updates import Report
from bot_gateway.store import intake, people
from bot_gateway.workers import money_lane
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.chat_lane import ChatLane
from bot_gateway.workers.money_lane import MoneyLane
from shared.contracts.bot import PaymentReported, RefundReported
from shared.contracts.message import derived_id
from shared.contracts.operations import AuditQuery
from shared.platform import iterations
from shared.platform.db import Database
from tests.kit.bot import message_update, opened, paid_update, refunded_update
from tests.kit.bot_lanes import (
    HeldWindow,
    arrive,
    events_of,
    is_reported,
    nothing_waits,
    states,
    working,
)
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until

ORDER, INVOICE, SPAN = "0af7651916cd43dd8448eb211c80319c", "1" * 32, "b7ad6b7169203331"
UNPUBLISHABLE = "unpublishable"
"""A charge whose event fails for a reason of ours, by `failing_event`."""


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from updates")
        yield database


@pytest.fixture
def failing_event(monkeypatch: pytest.MonkeyPatch) -> None:
    event = reporting.event_of

    def failing(report: Report, *rest: Any) -> PaymentReported | RefundReported:
        if report.charge == UNPUBLISHABLE:
            raise RuntimeError("ours")
        return event(report, *rest)

    monkeypatch.setattr(reporting, "event_of", failing)


async def test_money_does_not_wait_for_a_stuck_chat(database: Database) -> None:
    """R-03: the payer's own chat hangs; the payment is published all the same."""
    stuck = asyncio.Event()

    async def hang(*_: object) -> None:
        await stuck.wait()

    bells, charge = Bells(), "charge-behind-a-chat"
    await arrive(database, message_update(1, text="/start"), bells=bells)
    async with working(ChatLane(database, bells, hang), MoneyLane(database, bells)):
        await arrive(database, paid_update(1, charge), bells=bells)
        await until(lambda: is_reported(database, charge))
        assert await states(database) == [("waiting", 0), ("done", 0)]
        stuck.set()


async def test_a_lone_payment_waits_for_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batching window of an hour does not apply to it."""
    monkeypatch.setattr(money_lane, "BATCHING_WINDOW_S", 3600.0)
    bells = Bells()
    lane = asyncio.create_task(MoneyLane(database, bells).run(asyncio.Event()))
    await arrive(database, paid_update(1, "alone"), bells=bells)
    await until(lambda: is_reported(database, "alone"))
    lane.cancel()
    await asyncio.gather(lane, return_exceptions=True)


async def test_idle_turns_are_no_work(database: Database) -> None:
    """W-84: `turnpike status` shows the last payment that was reported, not the last look."""
    bells, workers = Bells(), list[iterations.Worker]()
    iterations.enlist_in(workers)
    async with working(MoneyLane(database, bells)):
        await arrive(database, paid_update(1, "counted"), bells=bells)
        await until(lambda: is_reported(database, "counted"))
        [lane] = workers
        turns = lane.turns
        bells.ring(["money"])
        await until(lambda: lane.turns > turns + 1)
        assert (lane.iterations, lane.last and lane.last.items) == (1, 1)


async def test_payments_within_the_batching_window_share_a_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = HeldWindow(monkeypatch, money_lane)
    bells, batch = Bells(), ["second", "third", "fourth"]
    async with working(MoneyLane(database, bells)):
        await arrive(database, paid_update(1, "first"), bells=bells)
        await window.begins()
        for payer, charge in enumerate(batch, start=2):
            await arrive(database, paid_update(payer, charge), bells=bells)
        window.end()
        await until(nothing_waits(database))
    transactions = await database.fetch(
        "select count(*) from events where body->>'charge' = any($1) group by recorded_at", batch
    )
    assert [row["count"] for row in transactions] == [len(batch)]


async def test_ten_reports_of_a_charge_are_one_event(database: Database) -> None:
    """M-02, R-12: in one batch, in several, under new update ids.

    The event names the payer and continues the trace of the order.
    """
    arrival = Arrival(telegram_id=555, first_name="Ann", username=None, language="en", payload=None)
    async with database.transaction() as tx:
        ann = await people.start_person(arrival, None, tx)
    assert ann is not None
    payload = f"{ORDER}.{INVOICE}.{SPAN}"
    lane = MoneyLane(database, Bells())
    await arrive(database, *(paid_update(555, "ten", payload=payload) for _ in range(5)))
    await lane.report_some(500)
    for _ in range(5):
        await arrive(database, paid_update(555, "ten", payload=payload))
        await lane.report_some(500)
    [event] = await events_of(database, "ten")
    assert event["payer"] == str(ann.person)
    assert (event["acquirer"], event["currency"], event["amount_minor"], event["payload"]) == (
        "telegram_stars",
        "XTR",
        99,
        payload,
    )
    assert event["trace"].split("-")[1] == ORDER
    assert set(await states(database)) == {("done", 0)}
    assert await database.fetchval("select count(*) from conflicts") == 0


async def test_a_refund_is_published_once(database: Database) -> None:
    """M-41: it is no payment, and the chat shows nothing about it."""
    lane = MoneyLane(database, Bells())
    await arrive(database, paid_update(7, "back"), *(refunded_update(7, "back") for _ in range(2)))
    await lane.report_some(500)
    await arrive(database, refunded_update(7, "back"))
    await lane.report_some(500)
    assert await is_reported(database, "back")
    [refund] = await database.fetch("select body from events where topic = 'bot.refund.reported'")
    body = json.loads(refund["body"])
    assert (body["charge"], body["amount_minor"], body["currency"]) == ("back", 99, "XTR")
    assert await states(database) == [("done", 0)] * 4
    assert await database.fetchval("select count(*) from conflicts") == 0


async def test_two_amounts_of_a_charge_are_a_conflict(place: FreshDatabase) -> None:
    """M-22: also within a batch (I12). The first report is published, and the other recorded."""
    async with opened(place.dsn("bot_app")) as database:
        await arrive(database, paid_update(5, "twice"), paid_update(5, "twice", total_amount=1))
        await MoneyLane(database, Bells()).report_some(500)
        [event] = await events_of(database, "twice")
        assert event["amount_minor"] == 99
        assert await database.fetchval(CONFLICTING, UUID(event["id"])) == 1
    async with opened(place.dsn("postgres")) as admin:
        await admin.execute("delete from bot.conflicts")


CONFLICTING = "select count(*) from conflicts where where_seen = 'outbox' and event_id = $1"


async def test_a_report_that_waits_is_a_finding(database: Database) -> None:
    """R-26: after a minute; a report that fails for a reason of ours is retried for ever."""
    await arrive(
        database, paid_update(1, "stuck"), paid_update(2, "fresh"), message_update(3, text="hello")
    )
    await database.execute(
        "update updates set received_at = now() - interval '61 seconds' where chat <> 2"
    )
    oldest = await database.fetchval("select min(seq) from updates where lane = 'money'")
    await intake.put_off_report(oldest, "RuntimeError: ours", database)
    audit = await answer_audit(AuditQuery.of("bot")(), database)
    truth = "no payment waits to be published"
    [finding] = [finding for finding in audit.findings if finding.truth == truth]
    assert (finding.invariant, finding.violations) == ("I13", 1)
    assert "after 1 tries: RuntimeError: ours" in finding.examples[0]


async def test_an_unreadable_report_is_set_aside_and_found(database: Database) -> None:
    """P-10, I6: the other reports are published, and the audit names the unreadable one."""
    poison = paid_update(1, "poison")
    del poison["message"]["successful_payment"]["total_amount"]
    await arrive(database, *(paid_update(chat, f"many-{chat}") for chat in range(1, 50)), poison)
    async with working(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    assert (await states(database))[-1] == ("failed", 0)
    assert all([await is_reported(database, f"many-{chat}") for chat in range(1, 50)])
    audit = await answer_audit(AuditQuery.of("bot")(), database)
    findings = {finding.truth: finding.violations for finding in audit.findings}
    assert findings["every payment that Telegram reported was published"] == 1
    assert audit.counts["updates_failed"] == 1


@pytest.mark.usefixtures("failing_event")
async def test_a_failing_report_lets_the_others_pass(database: Database) -> None:
    """P-10, R-26: it is retried behind all others, and never given up, because it is money."""
    charges = (UNPUBLISHABLE, "behind-1", "behind-2")
    await arrive(database, *(paid_update(chat, one) for chat, one in enumerate(charges, start=1)))
    async with working(MoneyLane(database, Bells())):
        await until(lambda: is_reported(database, "behind-2"))
    (state, tries), *others = await states(database)
    assert state == "waiting"
    assert tries >= 1
    assert others == [("done", 0), ("done", 0)]


@pytest.mark.parametrize(
    "poison",
    [
        paid_update(1, hashlib.shake_256(b"").hexdigest(4_500)),
        paid_update(1, "over-long-currency", currency="X" * 300),
        paid_update(1, "nul\0charge"),
    ],
    ids=["charge", "currency", "nul"],
)
async def test_an_over_long_report_is_set_aside(database: Database, poison: dict[str, Any]) -> None:
    """P-10, M-08: no index holds such a charge. It is kept for an operator, and found."""
    behind = f"behind-{poison['update_id']}"
    await arrive(database, poison, paid_update(2, behind))
    async with working(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    assert await is_reported(database, behind)
    assert await states(database) == [("failed", 0), ("done", 0)]


async def test_an_over_long_payload_is_cut(database: Database) -> None:
    """P-10: it is not ours and names no order; the money is booked all the same."""
    await arrive(database, paid_update(1, "long", payload="p" * 9_000))
    async with working(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    [event] = await events_of(database, "long")
    assert event["payload"] == "p" * 256
    assert await states(database) == [("done", 0)]


async def test_a_report_waits_five_minutes_at_most(database: Database) -> None:
    """P-10, R-26: after any number of tries; the arithmetic does not overflow either."""
    await arrive(database, paid_update(1, UNPUBLISHABLE))
    for tries in (0, 8, 9, 44, 2_000_000):
        await database.execute("update updates set tries = $1, held_until = null", tries)
        oldest = await database.fetchval("select seq from updates")
        await intake.put_off_report(oldest, "RuntimeError: ours", database)
        held_s = await database.fetchval(
            "select extract(epoch from held_until - now())::float8 from updates"
        )
        assert min(2.0 ** min(tries, 9), 300) - 10 < held_s <= 300


@pytest.mark.usefixtures("failing_event")
async def test_only_the_report_that_failed_is_put_off(
    place: FreshDatabase, database: Database
) -> None:
    """P-10, W-08: another replica holds the oldest report, so the one that failed is the second."""
    charges = ("held", UNPUBLISHABLE, "behind")
    await arrive(database, *(paid_update(chat, one) for chat, one in enumerate(charges, start=1)))
    lane, stopping = MoneyLane(database, Bells()), asyncio.Event()
    async with opened(place.dsn("bot_app")) as another, another.transaction() as tx:
        await intake.take_reports(1, tx)
        running = asyncio.create_task(lane.run(stopping))
        await until(lambda: is_reported(database, "behind"))
        stopping.set()
        await running
    (held, poison, _) = await states(database)
    assert held == ("waiting", 0)
    assert poison[1] >= 1


async def test_a_report_that_times_out_lets_others_pass(
    place: FreshDatabase, database: Database
) -> None:
    """M-08, P-10: another session holds its event; it is put off, and published in the end."""
    charges = ("before-timeout", "timeout", "after-timeout")
    await arrive(database, *(paid_update(1, charge) for charge in charges))
    held = derived_id(
        "telegram_stars:timeout", PaymentReported.topic, derived_id("payer", "telegram", 1)
    )
    impatient = place.dsn("bot_app") + "?lock_timeout=200ms"
    async with opened(impatient) as own, database.held() as connection:
        holding = connection.transaction()
        await holding.start()
        await connection.execute(UNLIMITED)
        await connection.execute(HOLD_AN_EVENT, held)
        async with working(MoneyLane(own, Bells())):
            await until(lambda: is_reported(database, "after-timeout"))
            assert not await is_reported(database, "timeout")
            await holding.rollback()
            await until(lambda: is_reported(database, "timeout"))


async def test_replicas_with_the_same_charges_do_not_deadlock(
    place: FreshDatabase, database: Database
) -> None:
    """W-08, M-02: they hold the charges in opposite orders, and publish in the order of ids."""
    ordered = ("first-of-3", "between", "last-of-3")
    await arrive(database, *(paid_update(1, charge) for charge in (*ordered, *reversed(ordered))))
    between = derived_id(
        "telegram_stars:between", PaymentReported.topic, derived_id("payer", "telegram", 1)
    )
    async with opened(place.dsn("bot_app")) as second, second.held() as connection:
        holding = connection.transaction()
        await holding.start()
        await connection.execute(HOLD_AN_EVENT, between)
        lanes = [
            asyncio.create_task(MoneyLane(own, Bells()).report_some(3))
            for own in (database, second)
        ]
        await until(lambda: both_wait(database))
        await holding.rollback()
        assert await asyncio.gather(*lanes) == [3, 3]
    assert [len(await events_of(database, charge)) for charge in ordered] == [1, 1, 1]


UNLIMITED = "set local idle_in_transaction_session_timeout = 0"

HOLD_AN_EVENT = """
insert into events (id, topic, version, body, digest)
values ($1, 'bot.payment.reported', 1, '{}', 0)
"""
WAITING = """
select count(*)
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def both_wait(database: Database) -> bool:
    return bool(await database.fetchval(WAITING) == 2)


async def test_a_nul_in_the_payload_is_left_out(database: Database) -> None:
    """R-26: PostgreSQL stores no NUL. Such a payload is not ours and names no order."""
    await arrive(database, paid_update(1, "nul", payload="pay\0load"), paid_update(2, "behind-nul"))
    async with working(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    [event] = await events_of(database, "nul")
    assert event["payload"] == "payload"
    assert await states(database) == [("done", 0), ("done", 0)]


async def test_two_replicas_report_a_backlog_once(place: FreshDatabase, database: Database) -> None:
    await arrive(database, *(paid_update(chat, f"backlog-{chat}") for chat in range(1, 1201)))
    async with (
        opened(place.dsn("bot_app")) as second,
        working(MoneyLane(database, Bells()), MoneyLane(second, Bells())),
    ):
        await until(nothing_waits(database))
    reported = await database.fetchval(
        "select count(*) from events where body->>'charge' like 'backlog-%'"
    )
    assert reported == 1200
