"""A link to pay, from the chat to the provider's page and back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import opened, seen
from tests.browser.everything import talk
from tests.kit.yookassa import Till, order, till
from turnpike_local.sandbox import Sandbox, SandboxClient


@pytest.fixture
async def running(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[Till]:
    async with till(tmp_path / "yookassa", chat_url=f"{sandbox.url}/") as started:
        yield started


async def followed(page: Page, name: str) -> Page:
    """The new tab that this link opens."""
    async with page.context.expect_page() as opening:
        await page.get_by_role("log").get_by_role("link", name=name).click()
    tab = await opening.value
    assert await tab.evaluate("opener") is None, "it could change the chat's page"
    return tab


async def test_a_link_to_pay_leads_there_and_back(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, running: Till
) -> None:
    """In a new tab, which leads back to the chat of the person that paid."""
    await client.new_person("Ada")
    made = await talk(client, bot, "Bob")
    payment = await running.merchant.done("payments", order())
    await made.link("Pay by SBP", payment["confirmation"]["confirmation_url"])
    async with opened(browser, sandbox.url) as page:
        await page.get_by_role("tab", name="Bob").click()
        await seen(page, "pay-link")
        tab = await followed(page, "Pay by SBP")
        await tab.get_by_role("button", name="Pay", exact=True).click()
        await tab.get_by_role("link", name="Back to the shop").click()
        await expect(tab.get_by_role("tab", name="Bob", selected=True)).to_be_visible()
        await expect(tab.get_by_role("log")).to_contain_text("The page")
    paid = await running.merchant.payment(payment["id"])
    assert paid["status"] == "succeeded"


async def test_a_link_in_a_text_opens_a_tab(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, running: Till
) -> None:
    payment = await running.merchant.done("payments", order())
    made = await talk(client, bot)
    await made.link("Pay by SBP", payment["confirmation"]["confirmation_url"])
    async with opened(browser, sandbox.url) as page:
        tab = await followed(page, "The page")
        await expect(tab.get_by_role("button", name="Pay", exact=True)).to_be_visible()
