"""The stand-in for YooKassa as a separate process."""

import asyncio
import signal
from pathlib import Path

import aiohttp

from tests.kit.standin import process, url_of
from tests.kit.waiting import HANG_S, until
from tests.kit.yookassa import Merchant, notice_inbox, order
from turnpike_local.yookassa import Shop, YookassaControl

SHOP = Shop("7", "key")


async def test_a_killed_process_keeps_its_answers(tmp_path: Path) -> None:
    """W-72: what was answered is there after kill -9, and the notice goes to the given address."""
    argv = ("--state", str(tmp_path), "--shop-id", SHOP.shop_id, "--secret-key", SHOP.secret_key)
    async with process("yookassa", *argv) as running:
        url = await url_of(running, "YooKassa")
        async with aiohttp.ClientSession(url) as http, YookassaControl(url) as control:
            made = await Merchant(http, SHOP).done("payments", order())
            await control.pay(made["id"])
        running.send_signal(signal.SIGKILL)
        assert await running.wait() == -signal.SIGKILL
    async with (
        notice_inbox() as inbox,
        process("yookassa", *argv, "--notices-to", inbox.url) as running,
    ):
        url = await url_of(running, "YooKassa")
        async with aiohttp.ClientSession(url) as http:
            assert (await Merchant(http, SHOP).payment(made["id"]))["status"] == "succeeded"
        await until(lambda: inbox.events == ["payment.succeeded"])
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), HANG_S) == 0


async def test_a_process_that_cannot_start_says_so(tmp_path: Path) -> None:
    argv = ("--state", str(tmp_path), "--notices-to", "http://shop.example/notices")
    async with process("yookassa", *argv) as running:
        _, told = await asyncio.wait_for(running.communicate(), HANG_S)
        assert running.returncode == 2
    assert "The stand-in cannot start: Notices go to an https address" in told.decode()
