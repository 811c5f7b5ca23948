"""[Try this key] in the page: what came of it stays beside the key."""

from aiogram import Bot
from playwright.async_api import Browser, expect

from tests.browser.conftest import opened, seen
from tests.browser.everything import KEY, talk
from turnpike_local.sandbox import Sandbox, SandboxClient

TEXT = f"Your key\n<code>{KEY}</code>"


async def test_the_outcome_stays_beside_the_key(
    browser: Browser, sandbox: Sandbox, client: SandboxClient, bot: Bot
) -> None:
    """W-66: by keyboard; the focus stays, and a message that is drawn again keeps the sentence.

    Nothing listens at the port of this key.
    """
    made = await talk(client, bot)
    screen = await made.screen(TEXT, "Back")
    async with opened(browser, sandbox.url) as page:
        button = page.get_by_role("button", name="Try this key")
        await button.focus()
        await page.keyboard.press("Enter")
        sentence = page.get_by_text("The node does not answer at 127.0.0.1:9.")
        await expect(sentence).to_be_in_viewport()
        await expect(button).to_be_focused()
        await seen(page, "key-silent")
        await made.edit(screen, f"{TEXT}\nEdited", "Back")
        await expect(page.get_by_role("log")).to_contain_text("Edited")
        await expect(sentence).to_be_visible()
        await expect(button).to_be_focused()
