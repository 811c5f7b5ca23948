"""The ways to pay on a phone: every screen in both languages, and a purchase from the balance."""

import re

import pytest
from aiogram import Bot
from playwright.async_api import Browser, Page, expect

from bot_gateway.chats.visit import keyboard
from shared.platform.texts import LANGUAGES
from tests.browser.conftest import opened, seen
from tests.browser.everything import talk
from tests.browser.test_chat import FITS
from tests.browser.test_purchase import Hand
from tests.kit.bot_screens import SCREENS, saying
from turnpike_local.sandbox import Sandbox, SandboxClient

BUYING = (
    "ways of all kinds",
    "ways beside a balance",
    "ways beside enough",
    "rest beside the balance",
    "invoice beside the balance",
    "invoice that is prepared",
)
ADDING = ("balance", "history", "top-up", "amount", "not an amount", "ways of a top-up")
CUT = """() => [...document.querySelectorAll("[role=log] button, [role=log] a")]
  .filter(node => node.scrollWidth > node.clientWidth)
  .map(node => node.textContent)"""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("part", "names"), [("buying", BUYING), ("adding", ADDING)])
async def test_every_screen_of_money_fits_a_phone(
    browser: Browser,
    sandbox: Sandbox,
    client: SandboxClient,
    bot: Bot,
    language: str,
    part: str,
    names: tuple[str, ...],
) -> None:
    """R-81, W-65: no button is cut, and nothing scrolls sideways, on the narrowest phone too."""
    person = (await talk(client, bot)).person
    for name in names:
        shown = SCREENS[name](saying(language))
        await bot.send_message(
            person.id, shown.text, parse_mode="HTML", reply_markup=keyboard(shown)
        )
    for width in (320, 390):
        async with opened(browser, sandbox.url, width=width, height=2_600) as page:
            await expect(page.get_by_role("log").get_by_role("article")).to_have_count(
                len(names) + 1
            )
            await seen(page, f"money-{part}-{language}-{width}")
            assert await page.evaluate(FITS) == []
            assert await page.evaluate(CUT) == []


async def test_a_topup_buys_from_the_balance(page: Page) -> None:
    """R-83: one message says what was added, and one what was bought and what is left."""
    await page.set_viewport_size({"width": 390, "height": 800})
    hand = Hand(page)
    await hand.add_person("Tina", "en")
    await hand.press("Accept", "Balance", "Top up", "^500", "Stars", "Pay")
    await page.locator("#pay-confirm").click()
    await expect(hand.messages).to_contain_text("Balance topped up: 500")
    await seen(page, "topped-up")
    await hand.press("Buy", "Basic", "^1 month")
    await hand.ready("from the balance")
    await seen(page, "ways-with-balance")
    await hand.press("from the balance")
    await expect(hand.key()).to_have_count(1)
    await expect(hand.messages).to_contain_text(
        re.compile("You paid 149.₽ from your balance. Your wallet now holds 351.₽")
    )
    await seen(page, "bought-from-balance")
    await hand.press("^💰 Balance")
    await expect(hand.messages).to_contain_text("balance topped up")
    await seen(page, "balance-lines")
