"""The common parts of the stand-ins for Telegram, YooKassa and Crypto Pay."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.kit.cryptopay import TOKEN
from tests.kit.standin import process, url_of
from tests.kit.waiting import HANG_S, until
from tests.kit.yookassa import Merchant, order
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient
from turnpike_local.providers import CRYPTOBOT_TOKEN
from turnpike_local.sandbox import Sandbox
from turnpike_local.sandbox.__main__ import SHOP
from turnpike_local.standin import StandIn
from turnpike_local.standin.posting import NoticeLoop, Schedule
from turnpike_local.standin.state import BrokenStateError
from turnpike_local.yookassa import Yookassa, YookassaControl

Make = Callable[[Path, int], StandIn]

# How each is made, the file of its state, and a path that its page may read.
KINDS: dict[str, tuple[Make, str, str]] = {
    "sandbox": (
        lambda folder, port: Sandbox(folder, TOKEN, port=port),
        "sandbox.sqlite3",
        "/sandbox/people",
    ),
    "yookassa": (
        lambda folder, port: Yookassa(folder, port=port),
        "yookassa.sqlite3",
        "/stand-in/health",
    ),
    "cryptopay": (
        lambda folder, port: CryptoPay(folder, TOKEN, port=port),
        "cryptopay.sqlite3",
        "/stand-in/app",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Make, str, str]:
    return KINDS[request.param]


@pytest.fixture
async def running(kind: tuple[Make, str, str], tmp_path: Path) -> AsyncIterator[StandIn]:
    async with kind[0](tmp_path, 0) as started:
        yield started


@pytest.fixture
async def payments() -> AsyncIterator[tuple[str, list[str]]]:
    """The address of payments, and the paths that were posted to."""
    posted: list[str] = []

    async def take(request: web.Request) -> web.Response:
        posted.append(request.path)
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/{path:.*}", take)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", posted
    await runner.cleanup()


async def test_a_page_of_another_site_is_refused(
    kind: tuple[Make, str, str], running: StandIn
) -> None:
    """W-77: also one whose name leads to this machine. The stand-in's own page is not."""
    answers = {}
    async with aiohttp.ClientSession(running.url) as http:
        for origin, host in (
            ("https://example.org", f"127.0.0.1:{running.port}"),
            (f"http://example.org:{running.port}", f"example.org:{running.port}"),
            (f"http://localhost:{running.port}", f"localhost:{running.port}"),
            (running.url, f"127.0.0.1:{running.port}"),
        ):
            headers = {"Origin": origin, "Host": host}
            async with http.get(kind[2], headers=headers) as answer:
                answers[origin] = answer.status
    assert list(answers.values()) == [403, 403, 200, 200]


async def test_a_folder_with_other_content_is_refused(
    kind: tuple[Make, str, str], tmp_path: Path
) -> None:
    (tmp_path / kind[1]).write_bytes(b"this is no database " * 100)
    with pytest.raises(BrokenStateError, match=rf"{kind[1]} is not a state of \w"):
        await kind[0](tmp_path, 0).start()


async def test_a_taken_port_is_reported(
    kind: tuple[Make, str, str], running: StandIn, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await kind[0](tmp_path / "second", running.port).start()


async def test_a_stopped_stand_in_has_no_address(
    kind: tuple[Make, str, str], tmp_path: Path
) -> None:
    made = kind[0](tmp_path, 0)
    with pytest.raises(RuntimeError, match="before it is started"):
        assert made.url
    async with made:
        assert made.url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError, match="before it is started"):
        assert made.url


async def test_one_process_plays_all(tmp_path: Path, payments: tuple[str, list[str]]) -> None:
    """Each provider posts to its own path at payments, and SIGTERM ends all of them."""
    address, posted = payments
    ports = ("--yookassa-port", "0", "--cryptobot-port", "0")
    argv = ("--state", str(tmp_path), "--token", TOKEN, *ports, "--payments", address)
    async with process("sandbox", *argv) as running:
        yookassa, cryptopay = [await url_of(running, one) for one in ("YooKassa", "Crypto Pay")]
        assert (await url_of(running, "The sandbox")) not in (yookassa, cryptopay)
        async with aiohttp.ClientSession(yookassa) as http, YookassaControl(yookassa) as control:
            await control.pay((await Merchant(http, SHOP).done("payments", order()))["id"])
        await until(lambda: posted == ["/webhooks/yookassa"])
        headers = {"Crypto-Pay-API-Token": CRYPTOBOT_TOKEN}
        fields = {"asset": "USDT", "amount": "5"}
        async with (
            aiohttp.ClientSession(cryptopay, headers=headers) as http,
            http.post("/api/createInvoice", json=fields) as answer,
            CryptoPayClient(cryptopay) as owner,
        ):
            await owner.pay((await answer.json())["result"]["invoice_id"], "USDT")
        await until(lambda: posted == ["/webhooks/yookassa", "/webhooks/cryptobot"])
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), HANG_S) == 0


class IdleLoop(NoticeLoop[Any]):
    """A loop of a shop without an address: it only waits."""

    def _address(self) -> str:
        return ""

    def _due(self, most: int) -> Iterable[Any]:
        return ()

    def _written(self, notice: Any) -> tuple[bytes, Mapping[str, str]]:
        raise AssertionError("no notice is ever due here")

    def _posted(self, notice: Any, url: str, *, accepted: bool) -> None:
        raise AssertionError("nothing was posted")


async def test_a_stop_during_a_wake_up_ends() -> None:
    """W-83: a notice that was just posted wakes the loop in the moment of the stop."""
    changed = asyncio.Event()
    loop = IdleLoop(Schedule(first_pause_s=HANG_S, longest_pause_s=HANG_S), changed)
    loop.start()
    while not changed._waiters:  # It has begun to wait.
        await asyncio.sleep(0)
    changed.set()
    await asyncio.wait_for(loop.stop(), HANG_S)
    assert not loop.is_running
