"""The page of Crypto Pay's stand-in on phones and a desk: it fits, and axe finds nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import opened
from tests.kit.cryptopay import TOKEN, Json, created
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient

Scheme = Literal["light", "dark"]

SHOWN = {
    "description": "Оченьдлинноеслово" * 20,
    "hidden_message": "Спасибо! Ключ уже в чате.",
    "paid_btn_name": "openBot",
    "paid_btn_url": "https://t.me/turnpike_bot",
    "expires_in": 1800,
}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    chosen: Scheme = request.param
    return chosen


@pytest.fixture(params=[320, 390, 1360])
async def page(
    browser: Browser, request: pytest.FixtureRequest, scheme: Scheme
) -> AsyncIterator[Page]:
    async with opened(browser, "about:blank", width=request.param, scheme=scheme) as page:
        yield page


async def findings(page: Page) -> list[str]:
    """The findings of axe, of any weight, and how far the page is too wide."""
    answer = (await Axe().run(page)).response
    assert answer["passes"], "axe looked at something"
    excess = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    wide = [f"{excess} px too wide"] if excess > 0 else []
    return wide + [str(broken["id"]) for broken in answer["violations"]]


async def show(page: Page, invoice: Json, language: str) -> None:
    await page.goto(f"{invoice['bot_invoice_url']}?lang={language}")


async def test_every_state_fits_and_can_be_read(page: Page, provider: CryptoPay) -> None:
    """Open with a missing rate, paid, expired; in both languages."""
    async with CryptoPayClient(provider.url) as owner:
        await owner.set_rate("SOL", "1", is_valid=False)
        invoices = [await created(provider, **SHOWN) for _ in range(3)]
        await owner.pay(invoices[1]["invoice_id"], "TON")
        await owner.expire(invoices[2]["invoice_id"])
    for invoice in invoices:
        for language in ("ru", "en"):
            await show(page, invoice, language)
            assert await findings(page) == []


async def test_a_faint_text_is_found(page: Page, provider: CryptoPay) -> None:
    """The check above can fail."""
    await show(page, await created(provider, **SHOWN), "en")
    faint = "for (const one of document.querySelectorAll('.soft')) one.style.color = '#7f7f7f80'"
    await page.evaluate(faint)
    wide = "document.querySelector('main').style.minWidth = '3000px'"
    await page.evaluate(wide)
    found = await findings(page)
    assert "color-contrast" in found
    assert found[0].endswith("too wide")


async def test_a_person_pays_by_one_tap(page: Page, provider: CryptoPay) -> None:
    await show(page, await created(provider, **SHOWN), "ru")
    await page.get_by_label("Комментарий").fill("Привет")
    await page.get_by_label("Комментарий").press("Enter")
    await page.get_by_role("button", name="TON").click()
    await expect(page.get_by_text("Оплачено")).to_be_visible()
    await expect(page.get_by_role("link", name="Открыть бота")).to_be_visible()
    await expect(page.get_by_text("TON")).to_be_visible()


async def test_the_end_shows_itself(page: Page, provider: CryptoPay) -> None:
    """The seconds run down, and the page then says that the invoice has expired."""
    await show(page, await created(provider, expires_in=2), "en")
    await expect(page.get_by_text("The invoice has expired")).to_be_visible()
