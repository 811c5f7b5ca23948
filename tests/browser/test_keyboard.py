"""The keyboard: Tab reaches every control, and a redraw never loses the focus."""

from collections.abc import AsyncIterator

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import opened
from tests.browser.contrast import ring
from tests.browser.everything import Talk, everything, talk
from turnpike_local.sandbox import Sandbox, SandboxClient

RING = 3.0

NAME = """node => node.id || `${node.closest("[data-part]")?.dataset.part ?? ""}
${node.getAttribute("aria-label") ?? node.textContent}`.replace(/\\s+/g, " ").trim()"""
FOCUSED = f"({NAME})(document.activeElement)"
# The controls of the chat's page in the order of their appearance: by rows, each from the left.
SEEN = f"""() => [...document.querySelectorAll(
  ".bar button, .chat a[href], .chat button, .chat input, #messages")]
  .filter(node => node.checkVisibility() && node.tabIndex >= 0).map({NAME})"""
AT = "document.activeElement.getBoundingClientRect().toJSON()"


@pytest.fixture
async def made(client: SandboxClient, bot: Bot) -> Talk:
    return await talk(client, bot)


@pytest.fixture
async def page(browser: Browser, sandbox: Sandbox, made: Talk) -> AsyncIterator[Page]:
    """The chat of a person who received nothing yet."""
    del made
    async with opened(browser, sandbox.url) as page:
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        yield page


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("log").get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("width", [1360, 390])
async def test_tab_reaches_every_control(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot, width: int
) -> None:
    """W-64: each has a ring that can be seen. The bar's order is by rows, from the left."""
    await everything(client, bot)
    await client.new_person("Bob")
    async with opened(browser, sandbox.url, width=width) as page:
        await expect(page.get_by_text("Repeat report")).to_be_visible()
        await page.get_by_role("heading", name="Turnpike").click()  # Tab begins here.
        wanted = await page.evaluate(SEEN)
        reached: list[str] = []
        bar: list[tuple[int, float]] = []
        for _ in wanted:
            await page.keyboard.press("Tab")
            name = await page.evaluate(FOCUSED)
            if (reached and name == reached[0]) or not wanted[len(reached) :]:
                break
            reached.append(name)
            assert await ring(page) >= RING, name
            at = await page.evaluate(AT)
            if at["y"] < 80:
                bar.append((round(at["y"] / 50), at["x"]))
        assert reached == wanted
        assert bar == sorted(bar)


async def test_a_redrawn_button_keeps_the_focus(page: Page, made: Talk) -> None:
    """W-64: the text changes, and so does the place of the button."""
    screen = await made.screen("One", "Buy", "My access")
    await button(page, "My access").focus()
    await made.edit(screen, "Two", "Buy", "Invite", "My access")
    await expect(page.get_by_role("log")).to_contain_text("Two")
    await expect(button(page, "My access")).to_be_focused()


async def test_a_screen_without_the_button_keeps_the_focus(page: Page, made: Talk) -> None:
    """W-64: a press on Enter leads to the next screen, and the focus stays in it."""
    screen = await made.screen("One", "Buy", "My access")
    await button(page, "My access").focus()
    await made.edit(screen, "Two", "Back")
    await expect(button(page, "Back")).to_be_focused()


async def test_a_deleted_message_hands_on_the_focus(page: Page, made: Talk) -> None:
    """W-64: to its neighbour, the newest one before it."""
    first = await made.screen("One", "Buy")
    second = await made.screen("Two", "Delete")
    await button(page, "Delete").focus()
    await made.bot.delete_message(made.person.id, second)
    await expect(button(page, "Buy")).to_be_focused()
    await made.bot.delete_message(made.person.id, first)
    await expect(button(page, "/start")).to_be_focused()


async def test_start_leads_into_the_field(
    browser: Browser, sandbox: Sandbox, client: SandboxClient
) -> None:
    """W-64: the button goes away after the press."""
    await client.new_person("Alice")
    async with opened(browser, sandbox.url) as page:
        await expect(page.get_by_role("button", name="Start")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("textbox", name="Message")).to_be_focused()


async def test_arrow_keys_move_among_people(page: Page, client: SandboxClient) -> None:
    """W-64: the list is one stop of Tab; the focus stays in it while chats change."""
    for name in ("Bob", "Carol"):
        await client.new_person(name)
    tabs = page.get_by_role("tab")
    await expect(tabs).to_have_count(3)
    await tabs.first.focus()
    for key, name in (
        ("ArrowRight", "Bob"),
        ("End", "Carol"),
        ("ArrowRight", "Alice"),
        ("ArrowLeft", "Carol"),
        ("Home", "Alice"),
    ):
        await page.keyboard.press(key)
        chosen = page.get_by_role("tab", selected=True)
        await expect(chosen).to_contain_text(name)
        await expect(chosen).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Add person")).to_be_focused()


async def test_a_new_message_keeps_a_focused_tab(
    page: Page, client: SandboxClient, bot: Bot
) -> None:
    """W-64: the mark of an unread message draws the people again."""
    bob = await talk(client, bot, "Bob")
    await page.get_by_role("tab", name="Alice").focus()
    await bob.screen("Hello")
    await expect(page.locator(".people .unread")).to_contain_text("Bob")
    await expect(page.get_by_role("tab", name="Alice")).to_be_focused()


async def test_the_pay_sheet_holds_the_focus(page: Page, made: Talk) -> None:
    """W-64: Tab goes round in it, in both directions."""
    await made.invoice()
    await page.locator("button.pays").click()
    await expect(page.get_by_role("dialog")).to_be_visible()  # It opens after an answer.
    inside = "document.activeElement.closest('dialog')?.id"
    for key in ("Tab", "Tab", "Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab"):
        await page.keyboard.press(key)
        assert await page.evaluate(inside) == "pay-dialog", key


async def test_escape_returns_the_focus(page: Page, made: Talk) -> None:
    """W-64: also where the invoice was drawn again, or deleted, behind the sheet."""
    await made.screen("One", "Buy")
    invoice = await made.invoice()
    sheet = page.get_by_role("dialog")
    for label in ("Pay once", None):
        pays = page.locator("button.pays")
        await pays.focus()
        await page.keyboard.press("Enter")
        await expect(sheet).to_be_visible()
        if label is not None:
            await made.relabel(invoice, label)
            await expect(pays).to_have_text(label)
        else:
            await made.bot.delete_message(made.person.id, invoice)
            await expect(pays).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(sheet).to_be_hidden()
        await expect(pays if label else button(page, "Buy")).to_be_focused()


async def test_a_payment_keeps_the_focus_on_its_button(page: Page, made: Talk) -> None:
    """W-64: the button waits for the shop without being disabled, and then pays again."""
    await made.invoice(stars=20_000)
    await page.locator("button.pays").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.locator("#pay-confirm").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#pay-outcome")).to_contain_text("Not enough Stars")
    await expect(page.locator("#pay-confirm")).to_be_focused()
