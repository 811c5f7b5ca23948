"""What was taken in is done: chats in order and one at a time, money whatever a chat does, pre-checkouts in time."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiogram.exceptions import TelegramRetryAfter
from aiogram.methods import GetMe

from bot_gateway.audit import answer_audit
from bot_gateway.lanes import Bells, money
from bot_gateway.lanes.chat import ChatLane
from bot_gateway.lanes.checkout import CheckoutLane
from bot_gateway.lanes.money import MoneyLane
from bot_gateway.pace import Pace
from bot_gateway.people import Arrival
from bot_gateway.receiving import take_in
from bot_gateway.store import intake, people
from bot_gateway.telegram import open_bot
from shared.bus import Bus
from shared.contract import derived_id
from shared.db import Database
from shared.facts import PaymentReported
from shared.questions import AskAudit
from shared.texts import Texts
from tests.kit.bot import BOT, TOKEN, checkout_update, message_update, opened, paid_update, until
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.sandbox import Sandbox

ORDER, INVOICE, SPAN = "0af7651916cd43dd8448eb211c80319c", "1" * 32, "b7ad6b7169203331"

Lane = ChatLane | MoneyLane | CheckoutLane


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("bot")


@pytest.fixture
async def database(place: FreshDatabase) -> AsyncIterator[Database]:
    async with opened(place.dsn("bot_app")) as database:
        await database.execute("delete from updates")
        await database.execute("delete from turns")
        yield database


class WatchedBells(Bells):
    """Says when a lane has looked, has found nothing to do and sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = asyncio.Event()

    async def wait(self, lane: Any) -> None:
        self.waited_for.set()
        await super().wait(lane)


@asynccontextmanager
async def at_work(*lanes: Lane) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(lane.run(stopping)) for lane in lanes]
    yield
    stopping.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)


async def arrive(database: Database, *updates: dict[str, Any], bells: Bells | None = None) -> None:
    async with database.transaction() as tx:
        await take_in(BOT, updates, bells or Bells(), tx)


def nothing_waits(database: Database) -> Callable[[], Awaitable[bool]]:
    async def nothing() -> bool:
        return not await database.fetchval("select exists (select from updates where state = 'waiting')")

    return nothing


async def states(database: Database) -> list[tuple[str, int]]:
    return [
        (row["state"], row["tries"]) for row in await database.fetch("select state, tries from updates order by seq")
    ]


# Chats


async def test_three_replicas_run_each_chat_in_order_and_never_at_once(
    place: FreshDatabase, database: Database
) -> None:
    """W-09: three replicas, twenty chats with ten updates each; every update runs once, behind the one before it."""
    running: set[int] = set()
    ran: dict[int, list[int]] = defaultdict(list)

    async def run(update: dict[str, Any], _: datetime) -> None:
        chat = update["message"]["chat"]["id"]
        assert chat not in running, "one person's updates overlap"
        running.add(chat)
        await asyncio.sleep(0.002)
        running.discard(chat)
        ran[chat].append(update["message"]["message_id"])

    for place_in_chat in range(10):
        await arrive(database, *(message_update(chat, message_id=place_in_chat) for chat in range(1, 21)))
    async with (
        opened(place.dsn("bot_app")) as second,
        opened(place.dsn("bot_app")) as third,
        at_work(*(ChatLane(own, Bells(), run) for own in (database, second, third))),
    ):
        await until(nothing_waits(database), timeout_s=20)
    assert ran == {chat: list(range(10)) for chat in range(1, 21)}
    assert set(await states(database)) == {("done", 0)}


async def test_of_many_who_want_a_chat_at_once_one_gets_it(database: Database) -> None:
    """W-08: between looking and taking there is no gap, round after round."""
    lease = timedelta(seconds=5)
    for chat in range(1, 31):
        await arrive(database, message_update(chat))
        claims = await asyncio.gather(*(intake.claim_chats(uuid4(), lease, 10, database) for _ in range(8)))
        assert sorted(claims)[-1] == [chat]
        assert sum(map(len, claims)) == 1


async def test_a_chat_that_a_killed_replica_held_is_run_when_its_lease_is_over(database: Database) -> None:
    """R-15: a kill at any point; the update it was running runs again."""
    ran: list[int] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(update["update_id"])

    await arrive(database, message_update(1, update_id=1))
    killed, lease, bells = uuid4(), timedelta(minutes=1), WatchedBells()
    assert await intake.claim_chats(killed, lease, 10, database) == [1]
    assert await intake.step(killed, 1, intake.Ended(None), lease, database) is not None
    async with at_work(ChatLane(database, bells, run)):
        async with asyncio.timeout(10):
            await bells.waited_for.wait()
        assert await database.fetchval("select holder from turns where chat = 1") == killed
        assert ran == []
        await database.execute("update turns set held_until = now()")
        await until(nothing_waits(database))
    assert ran == [1]


async def test_whoever_lost_a_chat_gets_no_more_of_its_updates(database: Database) -> None:
    await arrive(database, message_update(1), message_update(1))
    slow, quick = uuid4(), uuid4()
    assert await intake.claim_chats(slow, timedelta(0), 10, database) == [1]
    assert await intake.claim_chats(quick, timedelta(seconds=5), 10, database) == [1]
    assert await intake.step(slow, 1, intake.Ended(None), timedelta(seconds=5), database) is None
    await intake.give_back_chats(slow, database)
    assert await intake.step(quick, 1, intake.Ended(None), timedelta(seconds=5), database) is not None


async def test_a_poisoned_update_is_set_aside_after_its_tries_and_the_chat_goes_on(database: Database) -> None:
    """P-10: one bad update never stops the ones behind it, nor other chats."""
    ran: list[int] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(update["update_id"])
        if update["update_id"] == 1:
            raise RuntimeError("a fault of ours")

    await arrive(database, *(message_update(chat, update_id=number) for number, chat in ((1, 1), (2, 1), (3, 9))))
    bells = Bells()
    async with at_work(ChatLane(database, bells, run, our_fault_rest_s=(0.05, 0.05))):
        await until(nothing_waits(database))
    assert [number for number in ran if number != 3] == [1, 1, 1, 2]
    assert await states(database) == [("failed", 2), ("done", 0), ("done", 0)]
    reason = await database.fetchval("select reason from updates where state = 'failed'")
    assert reason == "RuntimeError: a fault of ours"


async def test_a_code_that_was_drawn_for_somebody_already_is_drawn_again(database: Database) -> None:
    """D-13: a clash on the second index costs a second, not a life."""
    arrival = Arrival(telegram_id=13, first_name="Ann", username=None, language="en", payload=None)
    clash = """
    insert into people (person, telegram_id, first_name, language, code, started_fact)
    values ($1, 14, '', 'en', $2, $1)
    """
    async with database.transaction() as tx:
        ann = await people.start_person(arrival, None, tx)
    assert ann is not None
    codes = iter([ann.code, "another-one"])

    async def run(*_: object) -> None:
        await database.execute(clash, uuid4(), next(codes))

    await arrive(database, message_update(14, text="/start"))
    async with at_work(ChatLane(database, Bells(), run, our_fault_rest_s=(0.05,))):
        await until(nothing_waits(database))
    assert await states(database) == [("done", 1)]


async def test_telegrams_patience_is_honoured_and_costs_the_update_nothing(database: Database) -> None:
    """N-02, W-20: after a 429 the chat rests for as long as Telegram says, and then goes on where it was."""
    ran: list[float] = []

    async def run(update: dict[str, Any], _: datetime) -> None:
        ran.append(asyncio.get_running_loop().time())
        if len(ran) == 1:
            raise TelegramRetryAfter(method=GetMe(), message="Too Many Requests", retry_after=1)

    await arrive(database, message_update(1))
    async with at_work(ChatLane(database, Bells(), run)):
        await until(nothing_waits(database))
    assert ran[1] - ran[0] >= 1
    assert await states(database) == [("done", 0)]


async def test_what_has_begun_ends_before_the_process_does(database: Database) -> None:
    """R-15, W-24: SIGTERM in the middle of an update; the next one stays for the next process."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def run(*_: object) -> None:
        began.set()
        await asyncio.sleep(1)  # Longer than the lane takes to notice that it is time to stop.
        ended.set()

    await arrive(database, message_update(1), message_update(1))
    async with at_work(ChatLane(database, Bells(), run)):
        await began.wait()
    assert ended.is_set()
    assert await states(database) == [("done", 0), ("waiting", 0)]
    assert await database.fetchval("select count(*) from turns") == 0


# Money


async def test_money_does_not_wait_for_a_stuck_chat(database: Database) -> None:
    """R-03: the payer's own chat hangs; the payment is told all the same."""
    stuck = asyncio.Event()

    async def hang(*_: object) -> None:
        await stuck.wait()

    bells = Bells()
    await arrive(database, message_update(1, text="/start"), bells=bells)
    async with at_work(ChatLane(database, bells, hang), MoneyLane(database, bells)):
        await arrive(database, paid_update(1, "charge-behind-a-chat"), bells=bells)
        await until(lambda: told(database, "charge-behind-a-chat", 1), timeout_s=2)
        assert await states(database) == [("waiting", 0), ("done", 0)]
        stuck.set()


async def test_who_pays_alone_waits_for_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they wait who come in company."""
    monkeypatch.setattr(money, "TOGETHER_S", 3600.0)
    bells = Bells()
    lane = asyncio.create_task(MoneyLane(database, bells).run(asyncio.Event()))
    await arrive(database, paid_update(1, "alone"), bells=bells)
    await until(lambda: told(database, "alone", 1))
    lane.cancel()
    await asyncio.gather(lane, return_exceptions=True)


async def test_who_pays_soon_after_another_travels_in_company(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction tells all who came meanwhile."""
    monkeypatch.setattr(money, "TOGETHER_S", 2.0)
    bells, company = Bells(), ["second", "third", "fourth"]
    async with at_work(MoneyLane(database, bells)):
        await arrive(database, paid_update(1, "first"), bells=bells)
        await until(lambda: told(database, "first", 1))
        for place, charge in enumerate(company, start=2):
            await arrive(database, paid_update(place, charge), bells=bells)
            await asyncio.sleep(0.1)
        await until(nothing_waits(database))
    told_in = await database.fetch(
        "select count(*) from facts where body->>'charge' = any($1) group by told_at", company
    )
    assert [row["count"] for row in told_in] == [len(company)]


async def told(database: Database, charge: str, wanted: int) -> bool:
    return len(await facts_of(database, charge)) == wanted


async def facts_of(database: Database, charge: str) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "select body::text as body, trace from facts where topic = 'bot.payment.reported' and body->>'charge' = $1",
        charge,
    )
    return [json.loads(row["body"]) | {"trace": row["trace"]} for row in rows]


async def test_ten_reports_of_one_charge_are_one_fact_that_continues_its_story(database: Database) -> None:
    """M-02, R-12: in one batch, in several, under new update ids; the payer is known, the trace is the order's."""
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
    [fact] = await facts_of(database, "ten")
    assert fact["payer"] == str(ann.person)
    assert (fact["acquirer"], fact["currency"], fact["amount_minor"], fact["payload"]) == (
        "telegram_stars",
        "XTR",
        99,
        payload,
    )
    assert fact["trace"].split("-")[1] == ORDER
    assert set(await states(database)) == {("done", 0)}
    assert await database.fetchval("select count(*) from contradictions") == 0


async def test_one_charge_with_two_amounts_in_one_batch_is_told_as_it_came_first_and_is_an_alarm(
    place: FreshDatabase,
) -> None:
    """M-22: I12 also holds within a batch; neither report is a silent success."""
    async with opened(place.dsn("bot_app")) as database:
        await arrive(database, paid_update(5, "twice"), paid_update(5, "twice", total_amount=1))
        await MoneyLane(database, Bells()).report_some(500)
        [fact] = await facts_of(database, "twice")
        assert fact["amount_minor"] == 99
        assert await database.fetchval(CONTRADICTED, UUID(fact["id"])) == 1
    async with opened(place.dsn("postgres")) as admin:
        await admin.execute("delete from bot.contradictions")


CONTRADICTED = "select count(*) from contradictions where where_seen = 'outbox' and fact_id = $1"


async def test_a_report_that_waits_for_more_than_a_minute_is_a_finding(database: Database) -> None:
    """R-26: one that fails for a reason of ours is tried for ever, and said aloud meanwhile."""
    await arrive(database, paid_update(1, "stuck"), paid_update(2, "fresh"), message_update(3, text="hello"))
    await database.execute("update updates set received_at = now() - interval '61 seconds' where chat <> 2")
    oldest = await database.fetchval("select min(seq) from updates where lane = 'money'")
    await intake.put_off_report(oldest, "RuntimeError: ours", database)
    audit = await answer_audit(AskAudit.of("bot")(), database)
    [finding] = [finding for finding in audit.findings if finding.truth == "no payment waits to be told"]
    assert (finding.invariant, finding.violations) == ("I13", 1)
    assert "after 1 tries: RuntimeError: ours" in finding.examples[0]


async def test_one_unreadable_report_among_many_is_set_aside_and_audited(database: Database) -> None:
    """P-10, I6: the others are told; what cannot be told is never silently gone."""
    poison = paid_update(1, "poison")
    del poison["message"]["successful_payment"]["total_amount"]
    await arrive(database, *(paid_update(chat, f"many-{chat}") for chat in range(1, 50)), poison)
    async with at_work(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    assert (await states(database))[-1] == ("failed", 0)
    assert all([len(await facts_of(database, f"many-{chat}")) == 1 for chat in range(1, 50)])
    audit = await answer_audit(AskAudit.of("bot")(), database)
    findings = {finding.truth: finding.violations for finding in audit.findings}
    assert findings["every payment that Telegram reported was told"] == 1
    assert audit.counts["updates_failed"] == 1


async def test_a_report_that_fails_for_a_reason_of_ours_lets_the_others_pass_and_is_kept(database: Database) -> None:
    """P-10, R-26: a charge that no fact can hold comes again and again, behind everybody else; it is money."""
    await arrive(database, paid_update(1, "\ud800"), paid_update(2, "behind-1"), paid_update(3, "behind-2"))
    async with at_work(MoneyLane(database, Bells())):
        await until(lambda: told(database, "behind-2", 1))
    (state, tries), *others = await states(database)
    assert state == "waiting"
    assert tries >= 1
    assert others == [("done", 0), ("done", 0)]


async def test_a_report_that_failed_for_hours_still_lets_the_others_pass(database: Database) -> None:
    """P-10, R-26: the pause has an end, and so has its arithmetic."""
    await arrive(database, paid_update(1, "\ud800"))
    for tries in (0, 8, 9, 44, 2_000_000):
        await database.execute("update updates set tries = $1, held_until = null", tries)
        oldest = await database.fetchval("select seq from updates")
        await intake.put_off_report(oldest, "RuntimeError: ours", database)
        held_s = await database.fetchval("select extract(epoch from held_until - now())::float8 from updates")
        assert min(2.0 ** min(tries, 9), 300) - 10 < held_s <= 300


async def test_what_failed_is_put_off_and_not_what_another_replica_holds(
    place: FreshDatabase, database: Database
) -> None:
    """P-10, W-08: while another replica is at the oldest report, the one that failed here is the second."""
    await arrive(database, paid_update(1, "held"), paid_update(2, "\ud800"), paid_update(3, "behind"))
    lane, stopping = MoneyLane(database, Bells()), asyncio.Event()
    async with opened(place.dsn("bot_app")) as another, another.transaction() as tx:
        await intake.take_reports(1, tx)
        running = asyncio.create_task(lane.run(stopping))
        await until(lambda: told(database, "behind", 1))
        stopping.set()
        await running
    (held, poison, _) = await states(database)
    assert held == ("waiting", 0)
    assert poison[1] >= 1


async def test_two_replicas_that_hold_the_same_charges_in_another_order_wait_for_each_other_in_no_ring(
    place: FreshDatabase, database: Database
) -> None:
    """W-08, M-02: reports are repeated; each replica tells its charges in the order of their facts."""
    ordered = ("first", "between", "last")
    await arrive(database, *(paid_update(1, charge) for charge in (*ordered, *reversed(ordered))))
    between = derived_id("telegram_stars:between", PaymentReported.topic, derived_id("payer", "telegram", 1))
    async with opened(place.dsn("bot_app")) as second, second.held() as connection:
        holding = connection.transaction()
        await holding.start()
        await connection.execute(HOLD_A_FACT, between)
        lanes = [asyncio.create_task(MoneyLane(own, Bells()).report_some(3)) for own in (database, second)]
        await until(lambda: both_wait(database))
        await holding.rollback()
        assert await asyncio.gather(*lanes) == [3, 3]
    assert [len(await facts_of(database, charge)) for charge in ordered] == [1, 1, 1]


HOLD_A_FACT = "insert into facts (id, topic, version, body, digest) values ($1, 'bot.payment.reported', 1, '{}', 0)"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def both_wait(database: Database) -> bool:
    return bool(await database.fetchval(WAITING) == 2)


async def test_a_report_whose_payload_no_column_can_hold_is_told_without_what_it_cannot(database: Database) -> None:
    """R-26: a payload of that kind is not ours and names no order; its money is booked like any other."""
    await arrive(database, paid_update(1, "nul", payload="pay\0load"), paid_update(2, "behind-nul"))
    async with at_work(MoneyLane(database, Bells())):
        await until(nothing_waits(database))
    [fact] = await facts_of(database, "nul")
    assert fact["payload"] == "payload"
    assert await states(database) == [("done", 0), ("done", 0)]


async def test_two_replicas_report_a_backlog_once(place: FreshDatabase, database: Database) -> None:
    await arrive(database, *(paid_update(chat, f"backlog-{chat}") for chat in range(1, 1201)))
    async with (
        opened(place.dsn("bot_app")) as second,
        at_work(MoneyLane(database, Bells()), MoneyLane(second, Bells())),
    ):
        await until(nothing_waits(database))
    told_of = await database.fetchval("select count(*) from facts where body->>'charge' like 'backlog-%'")
    assert told_of == 1200


# Pre-checkout


async def test_a_pre_checkout_older_than_eight_seconds_is_dropped_without_an_answer(
    place: FreshDatabase, database: Database, nats_url: str, tmp_path: Path
) -> None:
    """R-05: an answer that Telegram no longer waits for is not given, least of all a yes."""

    async with Sandbox(tmp_path, TOKEN) as sandbox:
        bot = open_bot(TOKEN, sandbox.url, Pace(database, 1000))
        lane = CheckoutLane(database, Bells(), Bus(nats_url, name="unused"), bot, Texts("bot_gateway"))
        await arrive(database, checkout_update(1, query="old"))
        await database.execute("update updates set received_at = now() - interval '9 seconds'")
        async with at_work(lane):
            await until(nothing_waits(database))
        await bot.session.close()
    assert await states(database) == [("dropped", 1)]
    assert await database.fetchval("select reason from updates") == "too old"
