"""The pay page of the stand-in for YooKassa in a real browser: phones and a desk."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import opened, seen
from tests.browser.test_axe import findings
from tests.kit.yookassa import Till, card_on_hold, order, rubles, till

SMALL_TARGETS = """() => [...document.querySelectorAll("button, label, a")]
  .filter((one) => one.getBoundingClientRect().height < 44).map((one) => one.outerHTML)"""
OVERFLOW = "() => document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as started:
        yield started


@pytest.mark.parametrize("language", ["ru", "en"])
@pytest.mark.parametrize("width", [320, 390, 1360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_and_axe_accepts_it(
    browser: Browser,
    running: Till,
    language: str,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    """Before and after the payment, with long texts, both methods and the largest amount."""
    body = order(
        payment_method_data=None,
        amount=rubles("349999.99"),
        description="Подписка «Плюс» на двенадцать месяцев, заказ " + "7" * 60,
        save_payment_method=True,
    )
    for number, asked in enumerate((body, card_on_hold(save_payment_method=True))):
        url = await link(running, asked, language)
        async with opened(browser, url, width=width, scheme=scheme) as page:
            for state in ("asked", "ended"):
                assert await findings(page) == []
                assert await page.evaluate(OVERFLOW) <= 0
                assert await page.evaluate(SMALL_TARGETS) == []
                await seen(page, f"yookassa-{state}-{number}-{language}-{width}-{scheme}")
                if state == "asked":
                    await page.locator("button.pay").click()
                    await expect(page.locator(".back")).to_be_visible()


async def test_a_person_pays_by_keyboard(browser: Browser, running: Till) -> None:
    made = await running.merchant.done("payments", order(payment_method_data=None))
    url = f"{made['confirmation']['confirmation_url']}&lang=en"
    async with opened(browser, url) as page:
        await page.get_by_role("radio", name="Faster Payments (SBP)").focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("radio", name="Bank card")).to_be_checked()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Paid")).to_be_visible()
    paid = await running.merchant.payment(made["id"])
    assert (paid["status"], paid["payment_method"]["type"]) == ("succeeded", "bank_card")


async def link(running: Till, body: Any, language: str) -> str:
    made = await running.merchant.done("payments", body)
    return f"{made['confirmation']['confirmation_url']}&lang={language}"
