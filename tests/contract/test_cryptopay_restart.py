"""The state of Crypto Pay's stand-in survives a restart, and a kill of its process."""

import asyncio
import signal
from pathlib import Path

import aiohttp

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import FAST, HEADERS, TOKEN, Json, call, created, read, webhook
from tests.kit.standin import process, url_of
from tests.kit.waiting import HANG_S, until
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient


async def invoices(url: str) -> list[Json]:
    async with (
        aiohttp.ClientSession(url, headers=HEADERS) as http,
        http.get("/api/getInvoices") as answer,
    ):
        items: list[Json] = (await answer.json())["result"]["items"]
    return items


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """W-74: invoices, payments, balances, rates, people, transfers and settings."""
    async with CryptoPay(tmp_path, TOKEN) as provider, CryptoPayClient(provider.url) as owner:
        await owner.allow(transfers=True, comments=True)
        await owner.set_rate("TON", "2.5", is_valid=False)
        await owner.add_person(7)
        await owner.add_to_balance("USDT", "10")
        await owner.set_webhook("https://example.org/notice")
        await created(provider, description="Месяц")
        paid = await created(provider)
        await owner.pay(paid["invoice_id"], "USDT")
        moved = {"user_id": 7, "asset": "USDT", "amount": "5", "spend_id": "1", "comment": "x"}
        await call(provider, "transfer", **moved)
        before, state = await everything(provider), await owner.app()
    async with CryptoPay(tmp_path, TOKEN) as provider, CryptoPayClient(provider.url) as owner:
        assert await everything(provider) == before
        kept = ("transfers", "comments", "webhook")
        assert {name: (await owner.app())[name] for name in kept} == {
            name: state[name] for name in kept
        }
        again = {**moved, "spend_id": "2"}
        assert (await call(provider, "transfer", **again)).status == 200, "the person is known"


async def everything(provider: CryptoPay) -> list[object]:
    """All that the API tells, without the addresses, which hold the port."""
    methods = ("getInvoices", "getTransfers", "getBalance", "getExchangeRates")
    found = [(await call(provider, method)).result for method in methods]
    for invoice in found[0]["items"]:
        for name in ("bot_invoice_url", "mini_app_invoice_url", "web_app_invoice_url"):
            assert invoice.pop(name).startswith(provider.url)
    return found


async def test_a_notice_outlives_a_restart(tmp_path: Path) -> None:
    """W-74: a payment whose notice failed is told after the restart."""
    clock = MovedClock()
    async with webhook() as app:
        app.statuses = [500]
        async with (
            CryptoPay(tmp_path, TOKEN, limits=FAST, clock=clock) as provider,
            CryptoPayClient(provider.url) as owner,
        ):
            await owner.set_webhook(app.url)
            invoice = await created(provider)
            await owner.pay(invoice["invoice_id"], "USDT")
            await until(lambda: len(app.got) == 1)
        clock.move(seconds=5)
        async with CryptoPay(tmp_path, TOKEN, limits=FAST, clock=clock) as provider:
            await until(lambda: len(app.got) == 2)
            assert (await read(provider, invoice["invoice_id"]))["status"] == "paid"


async def test_a_killed_process_keeps_its_answers(tmp_path: Path) -> None:
    """W-74: what was answered is there after kill -9."""
    made = []
    async with process("cryptopay", "--state", str(tmp_path), "--token", TOKEN) as running:
        url = await url_of(running, "Crypto Pay")
        async with aiohttp.ClientSession(url, headers=HEADERS) as http:
            for _ in range(5):
                fields = {"asset": "USDT", "amount": "5"}
                async with http.post("/api/createInvoice", json=fields) as answer:
                    made.append((await answer.json())["result"]["invoice_id"])
        async with CryptoPayClient(url) as owner:
            await owner.pay(made[0], "USDT")
        running.send_signal(signal.SIGKILL)
        assert await running.wait() == -signal.SIGKILL
    async with process("cryptopay", "--state", str(tmp_path), "--token", TOKEN) as running:
        found = await invoices(await url_of(running, "Crypto Pay"))
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), HANG_S) == 0
    assert [one["invoice_id"] for one in found] == made[::-1]
    assert [one["status"] for one in found] == ["active"] * 4 + ["paid"]


async def test_a_process_that_cannot_start_says_so(tmp_path: Path) -> None:
    async with process("cryptopay", "--state", str(tmp_path), "--token", "nonsense") as running:
        _, told = await asyncio.wait_for(running.communicate(), HANG_S)
        assert running.returncode == 2
    assert "A token is a number, a colon and a secret" in told.decode()
