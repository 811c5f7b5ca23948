"""Contrast: each text and field of the chat can be read, light and dark."""

from typing import Literal

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import opened
from tests.browser.contrast import faults
from tests.browser.everything import everything
from turnpike_local.sandbox import Sandbox, SandboxClient

Scheme = Literal["light", "dark"]


async def chat_is_shown(page: Page) -> None:
    await expect(page.get_by_text("Repeat report")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_chat_can_be_read(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, scheme: Scheme
) -> None:
    """W-63: every kind of message, the bar, the menu of commands, and a toast."""
    await everything(client, bot)
    async with opened(browser, sandbox.url, scheme=scheme) as page:
        await chat_is_shown(page)
        await page.get_by_role("button", name="Repeat report").click()
        await expect(page.locator(".toast")).to_be_visible()
        await page.get_by_role("button", name="Menu", exact=True).click()
        assert await faults(page, ".bar") == []
        assert await faults(page, ".chat") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_empty_page_can_be_read(
    browser: Browser, sandbox: Sandbox, scheme: Scheme
) -> None:
    """W-63: the greeting, the button that begins, and the dialog behind it."""
    async with opened(browser, sandbox.url, scheme=scheme) as page:
        await expect(page.get_by_text("Add a person and press Start.")).to_be_visible()
        assert await faults(page, ".chat") == []
        await page.get_by_role("button", name="Add the first person").click()
        assert await faults(page, "#person-dialog") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pay_sheet_can_be_read(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, scheme: Scheme
) -> None:
    """W-63"""
    await everything(client, bot)
    async with opened(browser, sandbox.url, scheme=scheme) as page:
        await chat_is_shown(page)
        await page.locator("button.pays").last.click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.evaluate(
            "document.getElementById('pay-outcome').textContent = 'Not enough Stars'"
        )
        assert await faults(page, "#pay-dialog") == []


async def test_a_faint_text_is_found(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """The colour of the receipt, as it was at first: 2.1 to 1 over the chat's background."""
    await everything(client, bot)
    async with opened(browser, sandbox.url) as page:
        await chat_is_shown(page)
        for rule in (".service { background: #0000003d }", ".again { opacity: .85 }"):
            await page.evaluate(
                "rule => { const [sheet] = document.styleSheets;"
                " sheet.insertRule(rule, sheet.cssRules.length); }",
                rule,
            )
        found = await faults(page, ".service")
        assert {fault["ratio"] < fault["least"] for fault in found} == {True}
        assert any("Repeat report" in fault["what"] for fault in found)
