"""axe finds nothing serious in the page's main states: light and dark, on phones and a desk."""

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from aiogram import Bot
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import opened
from tests.browser.everything import everything
from turnpike_local.sandbox import Sandbox, SandboxClient

SERIOUS = ("serious", "critical")
FAINT = ".text { color: #cfd4da !important }"
ADD_RULE = """rule => {
  const [sheet] = document.styleSheets;
  sheet.insertRule(rule, sheet.cssRules.length);
}"""
Scheme = Literal["light", "dark"]


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    chosen: Scheme = request.param
    return chosen


@pytest.fixture(params=[320, 390, 1360])
async def page(
    browser: Browser, sandbox: Sandbox, request: pytest.FixtureRequest, scheme: Scheme
) -> AsyncIterator[Page]:
    async with opened(browser, sandbox.url, width=request.param, scheme=scheme) as page:
        yield page


async def findings(page: Page) -> list[str]:
    """The rules that are broken, each with the elements that break it."""
    await page.evaluate("document.getAnimations().forEach((one) => one.finish())")
    answer = (await Axe().run(page)).response
    assert answer["passes"], "axe looked at something"
    return [
        f"{broken['id']} ({broken['impact']}): {[node['html'] for node in broken['nodes']][:5]}"
        for broken in answer["violations"]
        if broken["impact"] in SERIOUS
    ]


async def test_axe_accepts_an_empty_page(page: Page) -> None:
    """W-63: before the first person, and with the dialog that adds one."""
    await expect(page.get_by_text("Add a person and press Start.")).to_be_visible()
    assert await findings(page) == []
    await page.get_by_role("button", name="Add the first person").click()
    assert await findings(page) == []


async def test_axe_accepts_the_main_states(page: Page, client: SandboxClient, bot: Bot) -> None:
    """W-63: a chat with a key, the pay sheet over it, and the trace."""
    await everything(client, bot)
    await expect(page.get_by_text("Try this key")).to_be_visible()
    await expect(page.locator("button.pays")).to_have_count(2)
    assert await findings(page) == []
    await page.locator("button.pays").last.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await findings(page) == []
    await page.keyboard.press("Escape")
    trace = page.get_by_role("button", name="Trace", exact=True)
    if await trace.is_visible():
        await trace.click()
    await expect(page.get_by_role("region", name="Payment trace")).to_be_visible()
    assert await findings(page) == []


async def test_axe_finds_an_injected_fault(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-63: the check can fail."""
    await everything(client, bot)
    async with opened(browser, sandbox.url) as page:
        await expect(page.get_by_text("Try this key")).to_be_visible()
        await page.evaluate(ADD_RULE, FAINT)
        found = await findings(page)
        assert [one for one in found if one.startswith("color-contrast (serious)")]
