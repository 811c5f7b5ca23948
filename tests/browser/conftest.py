"""The whole shop and a real browser before it."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from turnpike_local.stack import Stack

SCREENSHOTS = Path(__file__).parent / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STEP_TIMEOUT_MS = 20_000


@pytest.fixture(scope="session")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "shop") as stack:
        yield stack


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "the journeys need chromium: apt-get install chromium, or name one in CHROMIUM"
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        await opened.close()


@pytest.fixture
async def page(browser: Browser, shop: Stack) -> AsyncIterator[Page]:
    """The sandbox's page, in which nothing may go wrong on the console."""
    page = await browser.new_page(viewport={"width": 1360, "height": 860})
    page.set_default_timeout(STEP_TIMEOUT_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    assert shop.sandbox is not None
    await page.goto(shop.sandbox.url)
    yield page
    await page.close()
    assert not wrong, wrong


async def seen(page: Page, name: str) -> None:
    """Keep what the person sees, for a look with one's own eyes."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")
