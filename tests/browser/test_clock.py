"""The button of the page that moves the shop's clock."""

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import opened, seen
from tests.browser.contrast import faults
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.stack import Stack

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [1360, 320])
async def test_a_button_moves_the_shop(browser: Browser, shop: Stack, width: int) -> None:
    """W-80: by keyboard, and the page shows the time of the shop."""
    assert shop.sandbox is not None
    async with (
        opened(browser, shop.sandbox.url, width=width) as page,
        SandboxClient(shop.sandbox.url) as client,
    ):
        before = (await client.get("/sandbox/clock"))["ahead_s"]
        await page.get_by_role("button", name="The shop's clock").focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="The shop's clock")
        await expect(dialog).to_be_visible()
        await dialog.get_by_role("button", name="+1 day").focus()
        await page.keyboard.press("Enter")
        days = before // 86_400 + 1
        await expect(dialog.get_by_role("status")).to_have_text(f"{days} d ahead")
        assert (await client.get("/sandbox/clock"))["ahead_s"] == before + 86_400
        assert await page.evaluate(FITS)
        assert await faults(page, "#clock-dialog") == []
        await seen(page, f"clock-{width}")
        await dialog.get_by_role("button", name="Done").click()
        await expect(page.get_by_role("button", name="The shop's clock")).to_be_focused()
        await seen(page, f"clock-bar-{width}")


async def test_a_lone_sandbox_shows_no_clock(browser: Browser, sandbox: Sandbox) -> None:
    """W-81: there is no shop whose clock it could move."""
    async with opened(browser, sandbox.url) as page:
        await expect(page.locator("#clock-ahead")).to_have_text("The real time")
        await expect(page.locator("#clock")).to_be_hidden()
