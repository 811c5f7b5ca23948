"""The street as its services walk it: readiness in a sentence, supervision, drain, replay, housekeeping, full pools."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import nats
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from payments.answers import place_order
from payments.app import build
from payments.settings import Settings
from payments.subscribers import payments_confirms_reported
from shared import bus, db, health, inbox, outbox, service, telemetry
from shared.bus import Bus
from shared.commands import Invoice, PlaceOrder, ReplayDead, Replayed
from shared.contract import Fact, Refused, derived_id
from shared.db import Database, PoolBusyError, Tx
from shared.facts import PaymentReported
from shared.health import Health
from shared.inbox import Handler, Letter
from shared.migrate import migrations_of
from shared.obey import obey
from shared.outbox import ensure_stream, hour_of
from shared.service import Service
from shared.streams import ACK_WAIT_S, LISTENING
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.sessions import end_session, end_session_unseen
from turnpike_local.broker import Broker
from turnpike_local.ports import LOOPBACK, free_port
from turnpike_local.postgres import Postgres

HANG_S = 20.0
HANDLER = "payments_confirms_reported"
REPORTED = next(entry for entry in LISTENING if entry.handler == HANDLER)
NOBODY_LISTENS = "postgresql://payments_app:x@127.0.0.1:{port}/turnpike"

OPERATOR = "operator:test"


@pytest.fixture(scope="module")
async def place(fresh_database: MakeDatabase) -> FreshDatabase:
    return await fresh_database("payments")


@pytest.fixture(scope="module")
async def store(place: FreshDatabase) -> AsyncIterator[Database]:
    database = Database(place.dsn("payments_app"), name="test")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def nats_url(broker: Broker) -> str:
    """An empty broker that runs, whatever the test before did to it."""
    await broker.wipe()
    return broker.url


def settings(dsn: str, nats_url: str) -> Settings:
    return Settings(dsn=SecretStr(dsn), nats_url=SecretStr(nats_url), http_port=free_port())


@asynccontextmanager
async def living(subject: Service, *, until_open: bool = True) -> AsyncIterator[asyncio.Task[int]]:
    """The service in this process; its task answers its status. Ended by force of `stopping` if it still runs."""
    life = asyncio.create_task(subject.run())
    try:
        if until_open:
            await until(lambda: subject.health.opened or life.done())
        yield life
    finally:
        subject.stopping.set()
        await asyncio.wait([life], timeout=HANG_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


async def until(true: Callable[[], bool | Awaitable[bool]], timeout_s: float = HANG_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def probe(subject: Service, path: str) -> tuple[int, str]:
    """What the health door says over HTTP; status 0 while it is not open."""
    try:
        async with aiohttp.request("GET", f"http://{LOOPBACK}:{subject.settings.http_port}{path}") as answer:
            return answer.status, (await answer.text()).strip()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def says(subject: Service, status: int, *parts: str) -> None:
    """Wait until `/readyz` answers with that status and every part of the sentence."""
    seen: list[tuple[int, str]] = []

    async def said() -> bool:
        seen.append(await probe(subject, "/readyz"))
        return seen[-1][0] == status and all(part in seen[-1][1] for part in parts)

    try:
        await until(said)
    except TimeoutError:
        pytest.fail(f"/readyz says {seen[-1]}, not {status} with {parts}")


# Readiness


async def test_a_service_whose_database_is_away_says_that_it_is_starting(nats_url: str) -> None:
    """W-06: one start path, which waits; alive all the while, so nothing restarts it for another's fault."""
    subject = build(settings(NOBODY_LISTENS.format(port=free_port()), nats_url))
    async with living(subject, until_open=False) as life:
        await says(subject, 503, "the service is starting")
        assert await probe(subject, "/livez") == (200, "ok")
    assert await life == 0


async def test_a_database_without_migrations_is_named_as_that(postgres: Postgres, nats_url: str) -> None:
    """D-02: code that is newer than its schema takes no work, and says which migrations it misses."""
    empty = await postgres.fresh_database()
    try:
        subject = build(settings(postgres.dsn("payments_app", empty), nats_url))
        async with living(subject):
            every = [migration.name for migration in migrations_of("payments")]
            await says(subject, 503, "the schema lacks", *every, "turnpike migrate")
    finally:
        await postgres.drop_database(empty)


async def test_one_migration_that_is_missing_is_enough(fresh_database: MakeDatabase, nats_url: str) -> None:
    place = await fresh_database("payments")
    last = [migration.name for migration in migrations_of("payments")][-1]
    owner = await asyncpg.connect(place.dsn("payments_owner"))
    gone = await owner.fetchrow("delete from migrations where name = $1 returning name, checksum", last)
    assert gone is not None
    async with living(subject := build(settings(place.dsn("payments_app"), nats_url))):
        await says(subject, 503, f"the schema lacks {last}: turnpike migrate")
        await owner.execute("insert into migrations (name, checksum) values ($1, $2)", *gone)
        await says(subject, 200, "ok")
    await owner.close()


async def test_a_lost_database_is_said_and_its_return_too(fresh_database: MakeDatabase, nats_url: str) -> None:
    """W-01: readiness asks through the pool that the work uses, so it cannot stay green without it."""
    place = await fresh_database("payments")
    superuser = await asyncpg.connect(place.postgres.dsn("postgres"))
    async with living(subject := build(settings(place.dsn("payments_app"), nats_url))) as life:
        await says(subject, 200, "ok")
        await superuser.execute(f"alter database {place.name} allow_connections false")
        await superuser.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", place.name)
        await says(subject, 503, "the database does not answer: ")
        assert await probe(subject, "/livez") == (200, "ok")
        await superuser.execute(f"alter database {place.name} allow_connections true")
        await says(subject, 200, "ok")
        assert not life.done(), "no loop died of it"
    await superuser.close()


async def test_a_lost_bus_is_said_and_its_return_too(place: FreshDatabase, nats_url: str, broker: Broker) -> None:
    async with living(subject := build(settings(place.dsn("payments_app"), nats_url))) as life:
        await says(subject, 200, "ok")
        broker.kill()
        await broker.child.wait()
        await says(subject, 503, "the bus is not connected")
        await broker.restart()
        await says(subject, 200, "ok")
        assert not life.done(), "no loop died of it"


async def test_liveness_ends_with_the_beat(place: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-05: an event loop that stands still is what a restart heals; nothing else makes /livez say no."""
    monkeypatch.setattr(health, "BEAT_S", 0.01)
    monkeypatch.setattr(health, "LATE_S", 0.5)
    database, stopping = Database(place.dsn("payments_app"), name="test"), asyncio.Event()
    subject = Health("payments", database, Bus("nats://127.0.0.1:1", "test"), stopping)

    async def alive() -> tuple[int, bytes]:
        answer = await subject._livez(None)
        return answer.status_code, answer.body

    beating = asyncio.create_task(subject.beat(stopping))
    subject.opened = True
    await asyncio.sleep(0.6)
    assert await alive() == (200, b"ok\n")
    beating.cancel()
    await asyncio.sleep(0.6)
    assert await alive() == (503, b"the loop stands still\n")
    stopping.set()
    assert await alive() == (200, b"ok\n"), "a drain is not a standstill"


# Supervision and drain


async def test_a_loop_that_dies_ends_the_process_and_is_named(place: FreshDatabase, nats_url: str) -> None:
    """W-05: whoever restarts processes sees a status, and whoever reads logs sees which loop and why."""

    async def dies(_: asyncio.Event) -> None:
        raise ZeroDivisionError("the reason")

    subject = Service("payments", settings(place.dsn("payments_app"), nats_url))
    subject.loops("fragile", dies)
    with capture_logs() as logs:
        async with living(subject) as life:
            assert await asyncio.wait_for(life, HANG_S) == 1
    (died,) = [entry for entry in logs if entry["event"] == "loop died"]
    assert (died["loop"], died["log_level"]) == ("fragile", "critical")
    assert "ZeroDivisionError" in died["reason"]
    assert "the reason" in died["reason"]


async def test_a_loop_that_ends_by_itself_ends_the_process_too(place: FreshDatabase, nats_url: str) -> None:
    """W-05: a loop that has nothing more to do while others serve is a fault, however quietly it went."""

    async def ends(_: asyncio.Event) -> None:
        return

    subject = Service("payments", settings(place.dsn("payments_app"), nats_url))
    subject.loops("quitter", ends)
    with capture_logs() as logs:
        async with living(subject) as life:
            assert await asyncio.wait_for(life, HANG_S) == 1
    assert [(e["loop"], e["reason"]) for e in logs if e["event"] == "loop died"] == [("quitter", "it ended")]


async def test_sigterm_drains_what_is_begun_and_ends_with_status_0(place: FreshDatabase, nats_url: str) -> None:
    """R-15, W-24: what was begun is finished, readiness says no meanwhile, and the status is 0."""
    finish, finished, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def busy(stopping: asyncio.Event) -> None:
        await stopping.wait()
        await finish.wait()
        finished.set()

    async def close() -> None:
        assert finished.is_set(), "the work still uses what is closed here"
        closed.set()

    subject = Service("payments", settings(place.dsn("payments_app"), nats_url))
    subject.loops("busy", busy)
    subject.closes(close)
    async with living(subject) as life:
        await says(subject, 200, "ok")
        os.kill(os.getpid(), signal.SIGTERM)
        await says(subject, 503, "the service is stopping")
        assert await probe(subject, "/livez") == (200, "ok")
        assert not life.done()
        finish.set()
        assert await asyncio.wait_for(life, HANG_S) == 0
    assert closed.is_set()


async def test_a_drain_has_an_end(place: FreshDatabase, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: a loop that does not hear is cancelled after the drain's bound, and named."""
    monkeypatch.setattr(service, "DRAIN_S", 0.3)
    monkeypatch.setattr(service, "CANCEL_S", 0.3)

    begun = asyncio.Event()

    async def deaf(_: asyncio.Event) -> None:
        begun.set()
        await asyncio.sleep(600)

    subject = Service("payments", settings(place.dsn("payments_app"), nats_url))
    subject.loops("deaf", deaf)
    with capture_logs() as logs:
        async with living(subject) as life:
            await asyncio.wait_for(begun.wait(), HANG_S)
            subject.stopping.set()
            assert await asyncio.wait_for(life, HANG_S) == 0
    assert "deaf" in [e["loop"] for e in logs if e["event"] == "loop did not drain in time"]


async def test_a_tick_that_fails_is_counted_and_comes_again(place: FreshDatabase, nats_url: str) -> None:
    rounds = 0

    async def stumbles() -> None:
        nonlocal rounds
        rounds += 1
        raise ValueError("this round")

    subject = Service("payments", settings(place.dsn("payments_app"), nats_url))
    subject.ticks("stumbler", 0.01, stumbles)
    async with living(subject) as life:
        await until(lambda: rounds >= 3)
        assert not life.done()
    assert await life == 0
    assert telemetry.TICK_FAILURES.labels("stumbler")._value.get() >= 3


# Replay


def reported(**fields: Any) -> PaymentReported:
    charge = uuid4().hex
    now = datetime.now(UTC)
    known: dict[str, Any] = {"acquirer": "telegram_stars", "charge": charge, "payer": uuid4(), "payload": "nothing"}
    known |= {"currency": "XTR", "amount_minor": 99, "paid_at": now}
    return PaymentReported.because(f"telegram_stars:{charge}", about=known["payer"], at=now, **known | fields)


def letter(fact: Fact) -> Letter:
    headers = {"Nats-Msg-Id": str(fact.id), "Turnpike-Digest": str(fact.digest()), "Turnpike-Hour": hour_of(fact.at)}
    return Letter(fact.subject(), headers, fact.model_dump_json().encode())


class Counting:
    """A handler that writes one row per fact of its own, and fails after the writing when told to."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    async def __call__(self, events: Sequence[PaymentReported], tx: Tx) -> None:
        for event in events:
            await tx.execute(WRITE, derived_id("written by", event.id))
        if self.fails is not None:
            raise self.fails


# A row that any service's app may write and that nothing else looks at.
WRITE = "insert into contradictions (where_seen, fact_id, digest_known, digest_heard) values ('test', $1, 0, 0)"
WRITTEN = "select count(*) from contradictions where where_seen = 'test' and fact_id = $1"
LETTER_OF = "select id, replayed_at from dead_letters where fact_id = $1"
OUTCOME_OF = "select outcome from inbox where fact_id = $1"


def wish(number: int) -> ReplayDead:
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    return ReplayDead.of("payments")(id=uuid4(), actor=OPERATOR, reason="mended", deadline_at=deadline, letter=number)


@asynccontextmanager
async def asking(nats_url: str) -> AsyncIterator[Bus]:
    bus = Bus(nats_url, "test")
    await bus.open()
    yield bus
    await bus.close()


async def buried(subject: Service, handle: Counting) -> PaymentReported:
    """A fact whose letter is in the ground, for a data error."""
    fact = reported()
    handle.fails = asyncpg.NumericValueOutOfRangeError("too large")
    outcome = await subject.handlers[HANDLER].absorb([letter(fact)])
    assert outcome.buried == 1
    handle.fails = None
    return fact


async def test_a_buried_letter_is_replayed_once_over_the_bus(
    place: FreshDatabase, store: Database, nats_url: str
) -> None:
    """M-08: what was set aside comes back when the cause is mended, once, however often the operator asks."""
    subject, handle = Service("payments", settings(place.dsn("payments_app"), nats_url)), Counting()
    subject.hears(HANDLER, handle)
    async with living(subject), asking(nats_url) as bus:
        fact = await buried(subject, handle)
        written = derived_id("written by", fact.id)
        assert await store.fetchval(WRITTEN, written) == 0, "what failed left nothing"
        number = await store.fetchval(LETTER_OF, fact.id)
        first = wish(number)
        assert await bus.do(first) == Replayed(replayed=1)
        assert await bus.do(first) == Replayed(replayed=1), "a repeat gets the stored answer"
        assert await bus.do(wish(number)) == Refused(reason="letter_unknown")
        assert await store.fetchval(WRITTEN, written) == 1
        assert await store.fetchval(OUTCOME_OF, fact.id) == "done"
        assert await bus.do(wish(10**9)) == Refused(reason="letter_unknown")


async def test_two_operators_replay_one_letter_once(place: FreshDatabase, store: Database, nats_url: str) -> None:
    subject, handle = Service("payments", settings(place.dsn("payments_app"), nats_url)), Counting()
    subject.hears(HANDLER, handle)
    async with living(subject), asking(nats_url) as bus:
        fact = await buried(subject, handle)
        number = await store.fetchval(LETTER_OF, fact.id)

        async def replayed() -> Replayed | Refused:
            return await bus.do(wish(number))

        answers = await asyncio.gather(*(replayed() for _ in range(5)))
        assert answers.count(Replayed(replayed=1)) == 1
        assert answers.count(Refused(reason="letter_unknown")) == 4
        assert await store.fetchval(WRITTEN, derived_id("written by", fact.id)) == 1


async def test_a_letter_that_still_fails_says_why_and_leaves_nothing_half_done(
    place: FreshDatabase, store: Database, nats_url: str
) -> None:
    """M-17: the operator is told the cause; the letter stays in the ground, and the same handler can take it later."""
    subject, handle = Service("payments", settings(place.dsn("payments_app"), nats_url)), Counting()
    subject.hears(HANDLER, handle)
    async with living(subject), asking(nats_url) as bus:
        fact = await buried(subject, handle)
        number = await store.fetchval(LETTER_OF, fact.id)
        handle.fails = ValueError("not yet mended")
        again = await bus.do(wish(number))
        assert again == Refused(reason="still_failing", detail="ValueError: not yet mended")
        assert await store.fetchval(WRITTEN, derived_id("written by", fact.id)) == 0
        row = await store.fetchrow(LETTER_OF, fact.id)
        assert row is not None
        assert row["replayed_at"] is None
        assert await store.fetchval(OUTCOME_OF, fact.id) == "buried"
        asked = "select outcome, answer ->> 'reason' as reason from commands where wanted ->> 'letter' = $1"
        assert [tuple(one) for one in await store.fetch(asked, str(number))] == [("refused", "still_failing")]
        handle.fails = None
        assert await bus.do(wish(number)) == Replayed(replayed=1)


# Housekeeping

AGED_FACT = """
insert into facts (id, topic, version, body, digest, told_at)
values ($1, 'payments.test.aged', 1, '{}', 0, now() - $2::interval)
returning seq
"""
AGED_INBOX = """
insert into inbox (handler, fact_id, digest, hour, heard_at)
values ($1, $2, 0, now(), now() - $3::interval)
"""


async def aged(store: Database, days: int, count: int) -> list[UUID]:
    """So many facts that were told, and letters that were heard, so many days ago."""
    ids = [uuid4() for _ in range(count)]
    async with store.transaction() as tx:
        for one in ids:
            await tx.execute(AGED_FACT, one, timedelta(days=days))
            await tx.execute(AGED_INBOX, HANDLER, one, timedelta(days=days))
    return ids


async def left(store: Database, table: str, ids: Sequence[UUID]) -> int:
    column = {"facts": "id", "inbox": "fact_id"}[table]
    return int(await store.fetchval(f"select count(*) from {table} where {column} = any($1)", ids))


async def test_housekeeping_drops_what_is_old_enough_in_pages_and_never_an_untold_fact(
    place: FreshDatabase, store: Database, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables do not grow for ever; what the broker never acknowledged is kept, however old it is."""
    monkeypatch.setattr(service, "ROWS_PER_DROP", 10)
    young, middle, old = await aged(store, 29, 3), await aged(store, 44, 3), await aged(store, 46, 35)
    (untold,) = await aged(store, 99, 1)
    await store.execute("insert into untold (seq) select seq from facts where id = $1", untold)
    assert await store.execute(inbox.DROP_OLD, 10) == "DELETE 10", "a page has a bound"
    assert await store.execute(outbox.DROP_OLD, 10) == "DELETE 10"
    async with store.transaction() as tx:  # The relay skips what is locked: the fact stays untold all the while.
        await tx.fetch("select * from untold for update")
        async with living(subject := Service("payments", settings(place.dsn("payments_app"), nats_url))):

            async def dropped() -> bool:
                return await left(store, "inbox", old) == 0 and await left(store, "facts", [*old, *middle]) == 0

            await until(dropped)
            assert subject.health.opened
    assert await left(store, "facts", young) == 3
    assert await left(store, "inbox", [*young, *middle]) == 6, "the inbox remembers for longer than facts are kept"
    assert await left(store, "facts", [untold]) == 1


# A full pool


async def test_a_full_pool_says_so_in_time_and_readiness_too(
    place: FreshDatabase, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-01: when every connection is taken nobody waits for ever, and the probe does not stay green."""
    async with living(subject := Service("payments", settings(place.dsn("payments_app"), nats_url))) as life:
        await says(subject, 200, "ok")
        async with AsyncExitStack() as taken:
            for _ in range(subject.database.size):
                await taken.enter_async_context(subject.database.transaction())
            await says(subject, 503, f"no connection is free: all {subject.database.size} are taken")
            monkeypatch.setattr(db, "ACQUIRE_TIMEOUT_S", 0.3)
            began = time.monotonic()
            with pytest.raises(PoolBusyError):
                await subject.database.fetchval("select 1")
            assert 0.2 < time.monotonic() - began < 2
        await says(subject, 200, "ok")
        assert not life.done()


async def test_a_pool_that_is_not_open_is_busy(place: FreshDatabase) -> None:
    with pytest.raises(PoolBusyError, match="not open"):
        await Database(place.dsn("payments_app"), name="test").fetchval("select 1")


@pytest.fixture
async def few(place: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A pool of four, whose transactions cannot wait for a fifth connection without failing."""
    monkeypatch.setattr(db, "ACQUIRE_TIMEOUT_S", 1.0)
    database = Database(place.dsn("payments_app"), name="few", size=4)
    await database.open()
    yield database
    await database.close()


async def test_as_many_purchases_at_once_as_there_are_connections_need_no_other(few: Database) -> None:
    """M-01, W-03: order and payment, each in a transaction that finds every other connection taken, all complete."""
    together, stopping = asyncio.Barrier(few.size), asyncio.Event()
    stopping.set()  # A busy pool is then reported at once, and not waited for.

    async def order(command: PlaceOrder, tx: Tx) -> Invoice | Refused:
        await together.wait()
        return await place_order(command, tx)

    async def book(events: Sequence[PaymentReported], tx: Tx) -> None:
        await together.wait()
        await payments_confirms_reported(events, tx)

    async def purchase() -> None:
        person = uuid4()
        deadline = datetime.now(UTC) + timedelta(minutes=1)
        whose: dict[str, Any] = {"id": uuid4(), "actor": f"person:{person}", "person": person}
        command = PlaceOrder(**whose, deadline_at=deadline, plan="basic", months=1, way="stars")
        invoice = await obey(few, command, order)
        assert isinstance(invoice, Invoice)
        fact = reported(payer=person, payload=invoice.payload, amount_minor=invoice.asked_minor)
        outcome = await Handler(REPORTED, book, few).absorb([letter(fact)], stopping)
        assert (outcome.done, outcome.again) == (1, {})

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(purchase() for _ in range(few.size)))
    assert few.free == few.size
    assert await few.fetchval("select count(*) from orders where state = 'paid'") == few.size


# Ended in the middle


async def test_a_cancel_is_a_cancel_also_where_the_connection_is_lost(place: FreshDatabase, store: Database) -> None:
    """R-15, W-24: what fails while the transaction is taken back must not hide why it is, or the loop goes on."""
    begun = asyncio.Event()
    sessions: list[int] = []

    async def hangs(_: Sequence[PaymentReported], tx: Tx) -> None:
        sessions.append(tx.connection.get_server_pid())
        begun.set()
        await asyncio.Event().wait()

    absorbing = asyncio.create_task(Handler(REPORTED, hangs, store).absorb([letter(reported())]))
    await asyncio.wait_for(begun.wait(), HANG_S)
    await end_session(place.postgres.dsn("postgres"), sessions[0])
    absorbing.cancel()
    done, _ = await asyncio.wait([absorbing], timeout=5)
    assert done, "it went on with another connection"
    assert absorbing.cancelled()


async def test_a_session_that_ends_between_two_statements_is_the_databases_fault(
    place: FreshDatabase, store: Database
) -> None:
    """M-17: whichever half of the farewell has arrived, the error or the end of the connection."""

    async def ask(turns_of_the_loop: int) -> None:
        async with store.transaction() as tx:
            end_session_unseen(place.postgres.dsn("postgres"), tx.connection.get_server_pid())
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            await tx.fetchval("select 1")

    for turns in range(5):
        [ended] = await asyncio.gather(ask(turns), return_exceptions=True)
        assert isinstance(ended, Exception)
        assert db.database_is_to_blame(ended), f"after {turns} turns: {ended!r}"


# A handler that buries everything


async def test_a_handler_that_rested_begins_anew_with_what_it_left(
    place: FreshDatabase, store: Database, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M-08: nothing restarts a process for one handler's sake: when the cause is mended, the rest is taken in."""
    monkeypatch.setattr(bus, "REST_AFTER_BURIALS_S", 0.5)
    client = await nats.connect(nats_url)
    await ensure_stream(client, "bot")
    subject, handle, taken = Service("payments", settings(place.dsn("payments_app"), nats_url)), Counting(), set[UUID]()
    handle.fails = asyncpg.NumericValueOutOfRangeError("too large")

    async def hears(events: Sequence[PaymentReported], tx: Tx) -> None:
        await handle(events, tx)
        tx.after_commit(lambda: taken.update(event.id for event in events))

    subject.hears(HANDLER, hears)
    facts = [reported() for _ in range(inbox.BURIALS_A_MINUTE + 10)]
    gauge = telemetry.HANDLER_STOPPED.labels(HANDLER)
    gauge.set(0)
    async with living(subject) as life:
        for fact in facts:
            one = letter(fact)
            await client.request(one.subject, one.body, headers=dict(one.headers))
        await until(lambda: gauge._value.get() == 1)
        handle.fails = None
        await until(lambda: gauge._value.get() == 0)
        in_the_ground = {row["fact_id"] for row in await store.fetch("select fact_id from dead_letters")}
        await until(lambda: {fact.id for fact in facts} - in_the_ground <= taken)
        assert len({fact.id for fact in facts} & in_the_ground) == inbox.BURIALS_A_MINUTE + 1
        assert not life.done()
    assert await life == 0
    await client.close()


async def test_a_handler_that_stops_shows_it_and_gives_back_what_it_held(
    place: FreshDatabase, store: Database, nats_url: str
) -> None:
    """M-08: a fault that is not in the letters does not empty the stream into the ground; another replica goes on."""
    client = await nats.connect(nats_url)
    await ensure_stream(client, "bot")
    facts = [reported() for _ in range(inbox.BURIALS_A_MINUTE + 10)]
    broken, whole = (Service("payments", settings(place.dsn("payments_app"), nats_url)) for _ in range(2))
    seen: set[UUID] = set()

    async def fails(_: Sequence[PaymentReported], tx: Tx) -> None:
        await tx.execute("select 1 / 0")

    async def hears(events: Sequence[PaymentReported], tx: Tx) -> None:
        tx.after_commit(lambda: seen.update(event.id for event in events))

    broken.hears(HANDLER, fails)
    whole.hears(HANDLER, hears)
    gauge = telemetry.HANDLER_STOPPED.labels(HANDLER)
    gauge.set(0)
    for fact in facts:
        one = letter(fact)
        await client.request(one.subject, one.body, headers=dict(one.headers))
    async with living(broken) as life:
        await until(lambda: gauge._value.get() == 1)
        assert not life.done(), "what else it does goes on"
        buried_ids = {row["fact_id"] for row in await store.fetch("select fact_id from dead_letters")}
        safe = {fact.id for fact in facts} - buried_ids
        assert len({fact.id for fact in facts} & buried_ids) == inbox.BURIALS_A_MINUTE + 1
        async with living(whole):
            began = time.monotonic()
            await until(lambda: safe <= seen)
            assert time.monotonic() - began < ACK_WAIT_S, "it was given back, not left to its time-out"
        assert seen == safe
    assert await life == 0
    gauge.set(0)
    await client.close()
