"""The chat: names that run from the right, narrow screens, and the newest message."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.browser.conftest import opened, seen
from tests.browser.everything import Talk, everything, talk
from tests.kit.waiting import until
from turnpike_local.sandbox import Sandbox, SandboxClient

# A mark after a Hebrew word stands to their left only where the text has its own direction.
HEBREW = "דנה!"
WORD = "w" * 300
LATE_S = 0.5
LONG_NAME = "Wolfeschlegelsteinhausenbergerdorff the First of the Long Names"
MARK_IS_LEFT = """node => {
  const text = [...node.childNodes].find(one => one.nodeType === 3);
  const at = (begin, end) => {
    const range = document.createRange();
    range.setStart(text, begin);
    range.setEnd(text, end);
    return range.getBoundingClientRect().x;
  };
  return at(text.length - 1, text.length) < at(0, 1);
}"""
FITS = """() => [document.documentElement, ...document.querySelectorAll(
  ".chat, .messages, .chat-head, .compose, .bar, dialog[open], #commands")]
  .filter(node => node.checkVisibility() && node.scrollWidth > node.clientWidth)
  .map(node => node.id || node.className || node.tagName)"""
TO_END_PX = "list => list.scrollHeight - list.scrollTop - list.clientHeight"


@pytest.fixture
async def made(client: SandboxClient, bot: Bot) -> Talk:
    """A chat that is longer than the screen."""
    made = await talk(client, bot)
    for number in range(20):
        await made.screen(f"Message {number}", "Buy")
    return made


@pytest.fixture
async def page(browser: Browser, sandbox: Sandbox, made: Talk) -> AsyncIterator[Page]:
    del made
    async with opened(browser, sandbox.url) as page:
        await expect(page.get_by_text("Message 19")).to_be_in_viewport()
        yield page


async def is_at_end(page: Page) -> bool:
    return float(await log(page).evaluate(TO_END_PX)) < 1


def log(page: Page) -> Locator:
    return page.get_by_role("log")


async def test_a_right_to_left_text_has_its_direction(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-65: a name among names, a name to choose, and a message."""
    dana = await talk(client, bot, HEBREW)
    await dana.person.say("https://t.me/turnpike_bot?start=r_x")
    await dana.person.say(HEBREW)
    async with opened(browser, sandbox.url) as page:
        name = page.get_by_role("tab").locator("bdi")
        await until(lambda: name.evaluate(MARK_IS_LEFT))
        said = log(page).locator("bdi").last
        await until(lambda: said.evaluate(MARK_IS_LEFT))
        await log(page).get_by_role("link").click()
        choice = page.get_by_role("dialog").locator(".choices bdi")
        await until(lambda: choice.evaluate(MARK_IS_LEFT))


@pytest.mark.parametrize("width", [320, 390])
async def test_a_narrow_screen_has_no_sideways_scrolling(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, width: int
) -> None:
    """W-65: with a long name, a long word, each dialog and the menu."""
    made = await everything(client, bot, LONG_NAME)
    await made.person.say(WORD)
    async with opened(browser, sandbox.url, width=width, height=640) as page:
        await expect(log(page)).to_contain_text(WORD)
        assert await page.evaluate(FITS) == []
        await page.get_by_role("button", name="Menu", exact=True).click()
        assert await page.evaluate(FITS) == []
        await page.keyboard.press("Escape")
        await seen(page, f"narrow-{width}")
        for dialog in ("pay", "person", "link"):
            await page.evaluate(f"document.getElementById('{dialog}-dialog').showModal()")
            assert await page.evaluate(FITS) == [], dialog
            await page.keyboard.press("Escape")


async def test_the_newest_message_comes_into_view(page: Page, made: Talk) -> None:
    """W-65: many at once, then a picture, whose height is known late."""
    for number in range(5):
        await made.screen(f"More {number}", "Buy")
    await expect(page.get_by_text("More 4")).to_be_in_viewport()
    await made.picture()
    await expect(page.get_by_text("Scan it")).to_be_in_viewport()
    await until(lambda: is_at_end(page))


async def test_a_list_that_grew_meanwhile_is_followed(page: Page) -> None:
    """W-65: the event of a scroll comes a frame later, when a picture has made the list longer."""
    grown = await log(page).evaluate(
        """list => {
            list.lastElementChild.style.minHeight = "500px";
            list.dispatchEvent(new Event("scroll"));
            return list.scrollHeight - list.scrollTop - list.clientHeight;
        }"""
    )
    assert grown > 60
    await page.get_by_role("button", name="Add Stars").click()  # The chat is drawn again.
    await until(lambda: is_at_end(page))


async def test_a_reader_above_is_left_there(page: Page, made: Talk) -> None:
    """W-65: a small button leads to the new message."""
    newer = page.get_by_role("button", name="New message")
    await log(page).evaluate("list => list.scrollTo(0, 100)")
    await made.picture()
    await expect(newer).to_be_visible()
    await expect(page.get_by_alt_text("Photo")).to_have_js_property("complete", value=True)
    assert await log(page).evaluate("list => list.scrollTop") == 100
    await seen(page, "new-message")
    await newer.click()
    await expect(page.get_by_text("Scan it")).to_be_in_viewport()
    await expect(newer).to_be_hidden()
    await expect(log(page)).to_be_focused()


async def test_the_first_person_is_shown_with_their_chat(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-65: every event of the chat comes before the page knows the person."""
    async with opened(browser, sandbox.url) as page:
        await expect(page.get_by_text("Add a person and press Start.")).to_be_visible()

        async def late(route: Route) -> None:
            await asyncio.sleep(LATE_S)
            await route.continue_()

        await page.route("**/sandbox/people", late)
        made = await talk(client, bot)
        await made.screen("Hello", "Buy")
        await expect(log(page).get_by_text("Hello")).to_be_visible()


async def test_an_own_message_is_always_shown(page: Page) -> None:
    await log(page).evaluate("list => list.scrollTo(0, 100)")
    await page.get_by_role("textbox", name="Message").fill("It is me")
    await page.keyboard.press("Enter")
    await expect(log(page).get_by_text("It is me")).to_be_in_viewport()
