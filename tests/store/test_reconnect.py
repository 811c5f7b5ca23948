"""The connection to NATS comes back after every error, or the process ends."""

import asyncio

import pytest
from structlog.testing import capture_logs

from payments.app import build
from shared.messaging import rpc
from shared.messaging.rpc import Bus
from tests.kit.living import living, probe, readiness, settings
from tests.kit.refusals import RefusingServer
from tests.kit.servers import FreshDatabase
from tests.kit.waiting import HANG_S, until
from turnpike_local.broker import Broker

# What nats-server 2.12 sends before it hangs up, and what FastStream takes for the end.
ERRORS = (
    "Account Authentication Expired",
    "Attempted To Connect To Route Port",
    "Authentication Timeout",
    "Authorization Timeout",
    "Authorization Violation",
    "Cluster Name Conflict",
    "Failed Account Registration",
    "Invalid Client Protocol",
    "Invalid Subject",
    "Maximum Connections Exceeded",
    "Maximum Control Line Exceeded",
    "Maximum Payload Violation",
    "Maximum Subscriptions Exceeded",
    "Parser Error",
    "Secure Connection - TLS Required",
    "Server Shutdown",
    "Slow Consumer",
    "Stale Connection",
    "Unknown Protocol Operation",
    "User Authentication Expired",
    "User Authentication Revoked",
)


def line_of(error: str) -> bytes:
    return f"-ERR '{error}'\r\n".encode()


@pytest.mark.parametrize("error", ERRORS)
async def test_the_bus_outlives_every_error(error: str) -> None:
    """W-34: sent to the connection in use, and then in the place of each welcome."""
    async with RefusingServer() as server:
        bus = Bus(server.url, "test")
        await bus.open()
        server.refusal = line_of(error)
        server.send(server.refusal)
        await until(lambda: server.refused >= 2)
        server.refusal = b""
        await until(lambda: bus.connected)
        await bus.close()


async def test_an_error_without_a_hang_up_reconnects() -> None:
    """W-34: the server keeps the connection after some errors; nats-py would close for good."""
    async with RefusingServer() as server:
        bus = Bus(server.url, "test")
        reconnected = asyncio.Event()
        bus.on_reconnect(reconnected.set)
        await bus.open()
        server.send(line_of("Invalid Subject"), hang_up=False)
        await asyncio.wait_for(reconnected.wait(), HANG_S)
        await bus.close()


async def test_a_missing_permission_keeps_the_connection() -> None:
    async with RefusingServer() as server:
        bus = Bus(server.url, "test")
        await bus.open()
        with capture_logs() as logs:
            server.send(line_of('Permissions Violation for Publish to "a"'), hang_up=False)
            await until(lambda: any("permissions" in str(entry.get("error")) for entry in logs))
        assert bus.connected
        assert bus.client.stats["reconnects"] == 0
        await bus.close()


@pytest.mark.parametrize("error", ["Authorization Violation", "Maximum Connections Exceeded"])
async def test_a_refused_start_is_repeated(error: str) -> None:
    """W-34: a start during the wrong minute must not need a person."""
    async with RefusingServer() as server:
        server.refusal = line_of(error)
        bus = Bus(server.url, "test")
        opening = asyncio.create_task(bus.open())
        await until(lambda: server.refused >= 2)
        assert not opening.done()
        assert error in bus.refusal
        assert error.lower() in bus.refusal.lower()
        server.refusal = b""
        await asyncio.wait_for(opening, HANG_S)
        assert bus.connected
        await bus.close()


async def test_a_rotated_password_put_back_reconnects(
    place: FreshDatabase, wiped_url: str, broker: Broker
) -> None:
    """W-34: every client is thrown out and refused; readiness says why and comes back."""
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        broker.expect_password("another")
        try:
            await readiness(subject, 503, "the bus is not connected", "Authorization Violation")
        finally:
            broker.expect_password()
        await readiness(subject, 200, "ok")
        assert not life.done(), "no loop died of it"


async def test_a_closed_client_ends_the_process(place: FreshDatabase, wiped_url: str) -> None:
    """W-34: nothing opens it again, so whatever restarts processes has to."""
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        with capture_logs() as logs:
            await subject.bus.client.close()
            assert await asyncio.wait_for(life, HANG_S) == 1
        (died,) = [entry for entry in logs if entry["event"] == "loop died"]
        assert (died["loop"], "closed" in died["reason"]) == ("bus", True)


async def test_a_dead_reconnect_ends_the_process(
    place: FreshDatabase, wiped_url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-34: the client's own task died of an error of ours; it reports no attempt any more."""
    monkeypatch.setattr(rpc, "SILENT_S", 2.0)

    def fails() -> None:
        raise ZeroDivisionError("in a callback")

    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        subject.bus.on_disconnect(fails)
        await broker.restart()
        assert await asyncio.wait_for(life, HANG_S) == 1


async def test_a_long_absence_ends_no_process(
    place: FreshDatabase, wiped_url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-34: a client that reports failed attempts is at work, however long NATS is away."""
    monkeypatch.setattr(rpc, "SILENT_S", 2.0)
    async with living(subject := build(settings(place.dsn("payments_app"), wiped_url))) as life:
        await readiness(subject, 200, "ok")
        await broker.stop()
        await asyncio.sleep(5.0)
        assert not life.done()
        assert await probe(subject, "/livez") == (200, "ok")
        await broker.restart()
        await readiness(subject, 200, "ok")
