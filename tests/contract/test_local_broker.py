"""The local NATS keeps its streams over a crash, and loses them with its disk."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.messaging.rpc import Bus
from turnpike_local.broker import Broker
from turnpike_local.ports import fetch
from turnpike_local.processes import StartError


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Broker]:
    """A server that a test may break."""
    server = await Broker.start(tmp_path)
    yield server
    await server.stop()


@asynccontextmanager
async def jetstream(server: Broker) -> AsyncIterator[Any]:
    bus = Bus(server.url, "test")
    await bus.open()
    try:
        yield bus.client.jetstream()
    finally:
        await bus.close()


async def streams(server: Broker) -> list[str]:
    async with jetstream(server) as js:
        return [info.config.name for info in await js.streams_info()]


async def publish_one(server: Broker) -> None:
    async with jetstream(server) as js:
        await js.add_stream(name="KEPT", subjects=["kept.>"])
        await js.publish("kept.one", b"1")
        await js.pull_subscribe("kept.>", "listener")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_streams_outlive_a_restart_on_the_same_port(own: Broker, end: str) -> None:
    await publish_one(own)
    if end == "stop":
        await own.stop()
    else:
        own.kill()
    url = own.url
    await own.restart()
    assert own.url == url
    assert await own.consumer_lag() == {"KEPT/listener": 1}


async def test_a_second_start_finds_the_same_streams(own: Broker) -> None:
    await publish_one(own)
    await own.stop()
    again = await Broker.start(own.state_dir)
    assert await streams(again) == ["KEPT"]
    await again.stop()


async def test_a_wiped_disk_loses_every_stream(own: Broker) -> None:
    await publish_one(own)
    await own.wipe()
    assert await streams(own) == []
    assert await own.consumer_lag() == {}


async def test_a_wrong_password_is_refused(own: Broker) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", own.port)
    await reader.readline()
    writer.write(b'CONNECT {"user":"turnpike","pass":"guess"}\r\nPING\r\n')
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()


async def test_every_acknowledged_message_is_on_disk(own: Broker) -> None:
    report = json.loads(await fetch(f"{own.monitor_url}/varz") or b"")
    assert report["jetstream"]["config"]["sync_always"] is True


async def test_only_the_owner_can_read_the_secret(own: Broker) -> None:
    for name in ("secret", "nats.json"):
        assert (own.state_dir / "nats" / name).stat().st_mode & 0o777 == 0o600


async def test_a_broken_secret_is_reported(own: Broker) -> None:
    (own.state_dir / "nats" / "secret").write_text("short")
    with pytest.raises(StartError, match="secret is broken"):
        await Broker.start(own.state_dir)


@pytest.mark.parametrize("garbage", ["store", "store/jetstream"])
async def test_garbage_in_the_store_is_reported_with_advice(tmp_path: Path, garbage: str) -> None:
    file = tmp_path / "nats" / garbage
    file.parent.mkdir(parents=True)
    file.write_text("garbage")
    with pytest.raises(StartError) as refused:
        await Broker.start(tmp_path)
    sentence = str(refused.value)
    assert sentence.startswith(f"NATS does not start on {tmp_path}/nats/store: ")
    assert "delete that folder" in sentence
    assert "\n" not in sentence


async def test_a_state_folder_may_have_any_name(servers_dir: Path) -> None:
    """NATS does not decode JSON's escapes: its configuration must hold a path in Cyrillic as is."""
    server = await Broker.start(servers_dir / "турникет")
    await server.stop()
