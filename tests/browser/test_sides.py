"""Acts at the providers' side, by the buttons of the Trace view."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import opened, seen
from tests.browser.test_axe import findings
from tests.kit.sides import Town, a_town, ordered

DROP = "Drop the next notice"
OVERLAP = """() => [...document.querySelectorAll("#purchases a > *")]
  .filter(node => node.checkVisibility() && node.tagName !== "BDI")
  .filter(node => node.scrollWidth > node.clientWidth + 1)
  .map(node => node.textContent)"""


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with a_town(tmp_path) as town:
        yield town


async def show_trace(page: Page) -> None:
    trace = page.get_by_role("button", name="Trace", exact=True)
    if await trace.is_visible():
        await trace.click()


@pytest.mark.parametrize(
    ("width", "scheme"), [(320, "light"), (390, "dark"), (1360, "light"), (1360, "dark")]
)
async def test_a_payment_is_seen_and_given_back(
    browser: Browser, town: Town, width: int, scheme: Literal["light", "dark"]
) -> None:
    """W-67: way, amount and state of a payment at a provider; axe finds nothing serious."""
    async with opened(browser, town.sandbox.url, width=width, scheme=scheme) as page:
        await show_trace(page)
        await page.get_by_text("Faults of the payment providers").click()
        await page.get_by_role("group", name="Faults of YooKassa").get_by_text(DROP).click()
        payment = await ordered(town)
        line = page.get_by_role("navigation", name="Purchases").get_by_role("link")
        await expect(line).to_contain_text("SBP · 149\u00a0₽")
        await expect(line).to_contain_text("waiting for payment")
        await town.cabinet.pay(payment["id"])
        assert [one["state"] for one in await town.cabinet.notices()] == ["dropped"]
        await expect(page.get_by_role("button", name="Charge back by the bank")).to_be_visible()
        await seen(page, f"sides-{width}-{scheme}")
        assert await findings(page) == []
        assert await page.evaluate(OVERLAP) == []
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await page.get_by_role("button", name="Give the money back at YooKassa").click()
        await expect(line).to_contain_text("refunded")
        await expect(page.locator("#acts")).to_be_hidden()
