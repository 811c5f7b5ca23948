"""The whole shop, and a real browser that opens its page."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.picture import MAX_BYTES, Picture
from tests.kit.sandbox import TOKEN, UNLIMITED, bot_of
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.stack import Stack

SCREENSHOTS = Path(__file__).parent / "screenshots"
DOCS = Path(__file__).parents[2] / "docs"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STEP_TIMEOUT_MS = 30_000
expect.set_options(timeout=STEP_TIMEOUT_MS)  # `expect` has its own: 5 s by default.


@pytest.fixture(scope="session")
async def shop(servers_dir: Path) -> AsyncIterator[Stack]:
    async with Stack(servers_dir / "shop") as stack:
        yield stack


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    assert chromium, "chromium is missing: apt-get install chromium, or set CHROMIUM to its path"
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        await opened.close()


@pytest.fixture
async def page(browser: Browser, shop: Stack) -> AsyncIterator[Page]:
    """The sandbox's page in a whole shop."""
    assert shop.sandbox is not None
    async with opened(browser, shop.sandbox.url) as page:
        yield page


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox without a shop: the test is the bot."""
    async with Sandbox(tmp_path, TOKEN, limits=UNLIMITED) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.url) as client:
        yield client


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with bot_of(sandbox) as bot:
        yield bot


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    *,
    width: int = 1360,
    height: int = 860,
    scheme: Literal["light", "dark"] = "light",
) -> AsyncIterator[Page]:
    """A page of this size in pixels. An error on its console fails the test."""
    page = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(STEP_TIMEOUT_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    await page.goto(url)
    yield page
    await page.close()
    assert not errors, errors


def keep(picture: Picture) -> None:
    """Save the picture beside the screenshots, and for README with TURNPIKE_PICTURE=1."""
    saved = SCREENSHOTS / "purchase.gif"
    picture.save(saved)
    assert saved.stat().st_size <= MAX_BYTES
    if os.environ.get("TURNPIKE_PICTURE") == "1":
        shutil.copy(saved, DOCS)


async def seen(page: Page, name: str) -> None:
    """Save a screenshot, for a review by eye, with every animation at its end."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
