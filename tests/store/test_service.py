"""A service: readiness in a sentence, supervision of its loops, and the drain."""

import asyncio
import os
import signal
from types import SimpleNamespace

import asyncpg
import pytest
from structlog.testing import capture_logs

from payments.app import build
from shared import health, service
from shared.health import Health
from shared.messaging.rpc import Bus
from shared.platform import iterations, telemetry
from shared.platform.db import Database
from shared.platform.migrate import migrations_of
from shared.service import Service
from tests.kit.living import living, probe, readiness, settings
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port
from turnpike_local.postgres import Postgres

NO_SERVER = "postgresql://payments_app:x@127.0.0.1:{port}/turnpike"


async def test_a_service_waits_for_its_database(wiped_url: str) -> None:
    """W-06: one start path, which waits. The process is live, so nothing restarts it."""
    subject = build(settings(NO_SERVER.format(port=free_port()), wiped_url))
    async with living(subject, until_open=False) as life:
        await readiness(subject, 503, "the service is starting")
        assert await probe(subject, "/livez") == (200, "ok")
    assert await life == 0


async def test_readiness_names_missing_migrations(postgres: Postgres, wiped_url: str) -> None:
    """D-02: code newer than its schema takes no work, and names the missing migrations."""
    empty = await postgres.fresh_database()
    try:
        subject = build(settings(postgres.dsn("payments_app", empty), wiped_url))
        async with living(subject):
            every = [migration.name for migration in migrations_of("payments")]
            await readiness(subject, 503, "the schema lacks", *every, "turnpike migrate")
    finally:
        await postgres.drop_database(empty)


async def test_one_missing_migration_is_enough(
    fresh_database: MakeDatabase, wiped_url: str
) -> None:
    place = await fresh_database("payments")
    last = [migration.name for migration in migrations_of("payments")][-1]
    owner = await asyncpg.connect(place.dsn("payments_owner"))
    gone = await owner.fetchrow(
        "delete from migrations where name = $1 returning name, checksum", last
    )
    assert gone is not None
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))):
        await readiness(subject, 503, f"the schema lacks {last}: turnpike migrate")
        await owner.execute("insert into migrations (name, checksum) values ($1, $2)", *gone)
        await readiness(subject, 200, "ok")
    await owner.close()


async def test_readiness_follows_the_database(fresh_database: MakeDatabase, wiped_url: str) -> None:
    """W-01: readiness uses the pool that the work uses, so it fails with it."""
    place = await fresh_database("payments")
    superuser = await asyncpg.connect(place.postgres.dsn("postgres"))
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        await superuser.execute(f"alter database {place.name} allow_connections false")
        await superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", place.name
        )
        await readiness(subject, 503, "the database does not answer: ")
        assert await probe(subject, "/livez") == (200, "ok")
        await superuser.execute(f"alter database {place.name} allow_connections true")
        await readiness(subject, 200, "ok")
        assert not life.done(), "no loop died of it"
    await superuser.close()


async def test_readiness_follows_the_bus(
    place: FreshDatabase, wiped_url: str, broker: Broker
) -> None:
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        broker.kill()
        await broker.child.wait()
        await readiness(subject, 503, "the bus is not connected")
        await broker.restart()
        await readiness(subject, 200, "ok")
        assert not life.done(), "no loop died of it"


async def test_liveness_follows_the_event_loop(
    place: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-05: a restart heals a blocked event loop; nothing else fails /livez."""
    now_s = 0.0
    monkeypatch.setattr(health, "BEAT_S", 0.01)
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: now_s))
    database, stopping = Database(place.dsn("payments_app"), name="test"), asyncio.Event()
    subject = Health("payments", database, Bus("nats://127.0.0.1:1", "test"), stopping)

    async def alive() -> tuple[int, bytes]:
        answer = await subject._livez(None)
        return answer.status_code, answer.body

    beating = asyncio.create_task(subject.beat(stopping))
    subject.opened = True
    now_s += 2 * health.LATE_S
    await until(lambda: subject._beat_at == now_s)
    assert await alive() == (200, b"ok\n")
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    now_s += 2 * health.LATE_S
    assert await alive() == (503, b"the event loop is blocked\n")
    stopping.set()
    assert await alive() == (200, b"ok\n"), "a drain is not a standstill"


async def test_a_dead_loop_ends_the_process(place: FreshDatabase, wiped_url: str) -> None:
    """W-05: the exit status is 1, and the log names the loop and the reason."""

    async def dies(_: asyncio.Event) -> None:
        raise ZeroDivisionError("the reason")

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.loops("fragile", dies)
    with capture_logs() as logs:
        async with living(subject) as life:
            assert await asyncio.wait_for(life, HANG_S) == 1
    (died,) = [entry for entry in logs if entry["event"] == "loop died"]
    assert (died["loop"], died["log_level"]) == ("fragile", "critical")
    assert "ZeroDivisionError" in died["reason"]
    assert "the reason" in died["reason"]


async def test_a_log_line_has_one_service_name(place: FreshDatabase, wiped_url: str) -> None:
    """R-44: `service` is added to each line, so no line names the service by its token as well."""
    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    with capture_logs() as logs:
        async with living(subject):
            pass
    assert {"service up", "service down"} <= {entry["event"] for entry in logs}
    assert [entry for entry in logs if "owner" in entry] == []


async def test_a_loop_that_ends_ends_the_process(place: FreshDatabase, wiped_url: str) -> None:
    """W-05: a loop that ends while others serve is a fault."""

    async def ends(_: asyncio.Event) -> None:
        return

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.loops("quitter", ends)
    with capture_logs() as logs:
        async with living(subject) as life:
            assert await asyncio.wait_for(life, HANG_S) == 1
    assert [(e["loop"], e["reason"]) for e in logs if e["event"] == "loop died"] == [
        ("quitter", "it ended")
    ]


async def test_sigterm_drains_and_ends_with_status_0(place: FreshDatabase, wiped_url: str) -> None:
    """R-15, W-24: begun work is finished, and readiness fails meanwhile."""
    finish, finished, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def busy(stopping: asyncio.Event) -> None:
        await stopping.wait()
        await finish.wait()
        finished.set()

    async def close() -> None:
        assert finished.is_set(), "the work still uses what is closed here"
        closed.set()

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.loops("busy", busy)
    subject.closes(close)
    async with living(subject) as life:
        await readiness(subject, 200, "ok")
        os.kill(os.getpid(), signal.SIGTERM)
        await readiness(subject, 503, "the service is stopping")
        assert await probe(subject, "/livez") == (200, "ok")
        assert not life.done()
        finish.set()
        assert await asyncio.wait_for(life, HANG_S) == 0
    assert closed.is_set()


async def test_a_drain_is_bounded(
    place: FreshDatabase, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-04: a loop that ignores the end is cancelled after the drain's bound, and named."""
    monkeypatch.setattr(service, "DRAIN_S", 0.3)
    monkeypatch.setattr(service, "CANCEL_S", 0.3)

    begun = asyncio.Event()

    async def deaf(_: asyncio.Event) -> None:
        begun.set()
        await asyncio.sleep(600)

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.loops("deaf", deaf)
    with capture_logs() as logs:
        async with living(subject) as life:
            await asyncio.wait_for(begun.wait(), HANG_S)
            subject.stopping.set()
            assert await asyncio.wait_for(life, HANG_S) == 0
    assert "deaf" in [e["loop"] for e in logs if e["event"] == "loop did not drain in time"]


async def test_a_failed_tick_is_counted_and_repeated(place: FreshDatabase, wiped_url: str) -> None:
    rounds = 0

    async def fails() -> None:
        nonlocal rounds
        rounds += 1
        raise ValueError("this round")

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.ticks("failing", 0.01, fails)
    async with living(subject) as life:
        await until(lambda: rounds >= 3)
        assert not life.done()
    assert await life == 0
    assert telemetry.LOOP_FAILURES.labels("failing")._value.get() >= 3


async def test_a_hanging_tick_is_ended(
    place: FreshDatabase, wiped_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-85: it is counted as a failure, and the next one begins."""
    monkeypatch.setattr(iterations, "LIMIT_S", 0.01)
    rounds = 0

    async def hangs() -> None:
        nonlocal rounds
        rounds += 1
        await asyncio.sleep(600)

    subject = Service("payments", settings(place.dsn("payments_app"), wiped_url))
    subject.ticks("hanging", 0.01, hangs)
    async with living(subject):
        await until(lambda: rounds >= 3)
        [worker] = [one for one in subject.workers if one.name == "hanging"]
        assert worker.failures >= 2
