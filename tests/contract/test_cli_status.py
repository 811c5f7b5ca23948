"""`turnpike status` against services that run, that are not ready, and that do not answer."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import click
import pytest

from shared import service
from shared.contracts.operations import Audit, AuditQuery, Finding
from shared.contracts.owners import OWNERS, SERVICE_NAMES
from shared.contracts.vpn import DeadJobsQuery
from shared.platform.db import Database, Tx
from shared.service import Service
from tests.kit.commands import bare_services, living, turnpike
from tests.kit.referrals import confirmed, message_of
from tests.kit.servers import FreshDatabase, MakeDatabase
from tests.kit.waiting import until
from turnpike_cli.status_lines import Status, status_lines
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port
from vpn_provisioner.queries import answer_dead_jobs

WIDTH = 100
HANDLER = "referrals_rewards_confirmed"


@pytest.fixture
async def place(fresh_database: MakeDatabase, broker: Broker) -> FreshDatabase:
    await broker.wipe()
    return await fresh_database(*OWNERS)


def lines_of(out: str, name: str) -> list[list[str]]:
    """The words of each line that begins with this service."""
    return [line.split() for line in out.splitlines() if line.split()[:1] == [name]]


def five(place: FreshDatabase, broker: Broker) -> dict[str, Service]:
    """The five services, not running yet. One of them handles an event that it cannot handle."""
    services = bare_services(place, broker.url)
    services["vpn"].answers(DeadJobsQuery, answer_dead_jobs)
    services["referrals"].subscribes(HANDLER, fail)
    return services


async def fail(events: Sequence[Any], tx: Tx) -> None:
    raise asyncpg.NumericValueOutOfRangeError("too large")


async def status(broker: Broker, *arguments: str) -> tuple[int, str, str]:
    return await turnpike("status", *arguments, TURNPIKE_NATS_URL=broker.url)


async def as_json(broker: Broker) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await status(broker, "--json"))[1])
    return answer


async def test_every_service_is_shown(place: FreshDatabase, broker: Broker) -> None:
    """R-43: ready, with versions and addresses; no password, and no colour where nobody sees it."""
    services = five(place, broker)
    async with living(list(services.values())):
        await until(lambda: services["referrals"].health.opened)
        code, out, err = await status(broker)
    assert (code, err) == (0, "")
    for name in SERVICE_NAMES.values():
        assert lines_of(out, name)[0][1:6] == ["ready", "0.1.0", "0", "0", "0"]
    assert f"NATS 2.15.1 at 127.0.0.1:{broker.port}" in out
    assert f"PostgreSQL 18.6 at 127.0.0.1:{place.postgres.port}/{place.name}" in out
    assert "none since its start" in out
    assert "\x1b" not in out
    secrets = [url.split(":")[2].split("@")[0] for url in (broker.url, place.dsn("bot_app"))]
    assert not [secret for secret in secrets if secret in out]
    assert max(map(len, out.splitlines())) <= WIDTH


async def test_a_silent_service_hides_no_other(place: FreshDatabase, broker: Broker) -> None:
    """R-43: the others are listed, and the status is 2."""
    services = five(place, broker)
    del services["vpn"]
    async with living(list(services.values())):
        code, out, err = await status(broker)
    assert (code, err) == (2, "vpn-provisioner does not answer.\n")
    assert lines_of(out, "vpn-provisioner")[0] == ["vpn-provisioner", "no", "answer"]
    assert lines_of(out, "notifier")[0][1] == "ready"
    assert "its durable consumer is missing" in out


async def test_an_unready_service_says_why(place: FreshDatabase, broker: Broker) -> None:
    """R-43: it answers without its database as well, and the status is 1."""
    async with living(list(five(place, broker).values())):
        superuser = await asyncpg.connect(place.postgres.dsn("postgres"))
        await superuser.execute("alter role payments_app nologin")
        await superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'payments_app'"
        )
        code, out, err = await status(broker)
        await superuser.execute("alter role payments_app login")
        await superuser.close()
    assert (code, err) == (1, "")
    assert lines_of(out, "payments")[0][:6] == ["payments", "not", "ready", "0.1.0", "?", "?"]
    assert "payments: the database does not answer: InvalidAuthorizationSpecificationError." in out
    assert lines_of(out, "referrals")[0][1] == "ready"


async def test_what_waits_and_died_is_counted(
    place: FreshDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-43: dead letters, the last audit, and two replicas of one service."""
    monkeypatch.setattr(service, "FIRST_AUDIT_AFTER_S", 0.01)
    finding = Finding(invariant="I13", truth="a truth", violations=2)

    async def answer(query: AuditQuery, database: Database) -> Audit:
        return Audit(findings=(finding,), counts={})

    services, replicas = five(place, broker), five(place, broker)
    services["payments"].audits(answer, {})
    async with living([*services.values(), replicas["notifier"]]):
        handler = services["referrals"].handlers[HANDLER]
        handled = await handler.handle_batch([message_of(confirmed(uuid4()))])
        assert handled.dead_lettered == 1
        await until(lambda: services["payments"].last_audit is not None)
        _, out, _ = await status(broker)
        answered = await as_json(broker)
    assert lines_of(out, "referrals")[0][5] == "1"
    assert " ".join(lines_of(out, "payments")[0]).endswith(", 2 in I13")
    assert [line[1] for line in lines_of(out, "notifier")][:2] == ["1/2", "2/2"]
    by_name = {one["service"]: one["replicas"] for one in answered["services"]}
    assert len(by_name["notifier"]) == 2
    assert by_name["payments"][0]["last_audit"]["violations"] == 2


async def test_a_silent_broker_is_one_sentence() -> None:
    port = free_port()
    code, out, err = await turnpike("status", TURNPIKE_NATS_URL=f"nats://127.0.0.1:{port}")
    assert (code, out) == (2, "")
    assert err.startswith(f"NATS does not answer at 127.0.0.1:{port}")


async def test_a_missing_local_shop_is_one_sentence(tmp_path: Path) -> None:
    """R-43: status 1 for no shop, one that ended, and one that starts."""
    state = tmp_path / "state"
    missing = "No shop of `make up` was found here, and TURNPIKE_NATS_URL names no other one.\n"
    assert await turnpike("status", TURNPIKE_STATE_DIR=str(state)) == (1, "", missing)
    state.mkdir()
    (state / "lock").write_text("1\n")
    (state / "shop.json").write_text("{}")
    ended = f"The shop in {state} is not running; `make up` starts it.\n"
    assert await turnpike("status", TURNPIKE_STATE_DIR=str(state)) == (1, "", ended)
    with (state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        starting = f"The shop in {state} is still starting.\n"
        assert await turnpike("status", TURNPIKE_STATE_DIR=str(state)) == (1, "", starting)


def test_what_is_wrong_is_red_on_a_terminal() -> None:
    silent = Status("2.15.1", "127.0.0.1:4222", {"payments": []}, None, None, None)
    red = [click.unstyle(line) for line in status_lines(silent) if line != click.unstyle(line)]
    assert red[0].split() == ["payments", "no", "answer"]
    assert red[1] == "Consumer lag is unknown: JetStream does not answer."
