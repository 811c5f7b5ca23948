"""Stars in the page: a person who has too few adds some where they are missing."""

import asyncio

from aiogram import Bot
from playwright.async_api import Browser, expect

from tests.browser.conftest import opened, seen
from tests.browser.everything import talk
from turnpike_local.sandbox import Sandbox, SandboxClient


async def test_missing_stars_are_added_while_paying(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-66: the price is above what the button adds otherwise. By keyboard, up to the receipt."""
    poor = await talk(client, bot, "Poor", stars=10)
    await poor.invoice(stars=30_000)
    async with opened(browser, sandbox.url) as page:
        await page.locator("button.pays").click()
        add = page.get_by_role("dialog").get_by_role("button", name="Add Stars")
        await expect(add).to_be_visible()
        await seen(page, "pay-too-few")
        await add.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_contain_text("Balance: ★ 30,000")
        await expect(add).to_be_hidden()
        await expect(page.locator("#pay-confirm")).to_be_focused()
        approving = asyncio.create_task(poor.approve())
        await page.keyboard.press("Enter")
        await approving
        await expect(page.get_by_role("log")).to_contain_text("You paid ★ 30,000")
        await expect(page.locator("#stars")).to_have_text("★ 0")


async def test_stars_are_added_beside_the_balance(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-66"""
    rich = await talk(client, bot, "Rich", stars=985_000)
    async with opened(browser, sandbox.url) as page:
        add = page.get_by_role("button", name="Add Stars")
        await add.click()
        await expect(page.locator("#stars")).to_have_text("★ 995,000")
        assert (await rich.person.chat()).stars == 995_000
