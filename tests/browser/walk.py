"""A person on a phone walks through the shop: the chat, the pay pages, and the way back."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import STEP_TIMEOUT_MS, seen
from tests.browser.test_chat import FITS

Language = Literal["en", "ru"]
Way = Literal["stars", "sbp", "card", "crypto", "telegram"]

WIDTH, HEIGHT = 390, 844
NARROW = 320
SHOWN_WITHIN_MS = 60_000


@dataclass(frozen=True)
class Words:
    """The words that the person reads and presses."""

    start: tuple[str, ...]
    """The buttons from the welcome to the ways to pay for a month of Basic."""
    plans: tuple[str, ...]
    """The same from any later screen."""
    topup: tuple[str, ...]
    """The buttons from the menu to the ways of a top-up of 250 rubles."""
    ways: dict[Way, str]
    pay: str
    from_balance: str
    missing: str
    the_rest: str
    paid: str
    extended: str
    topped_up: str
    left_in_wallet: str
    failed: str
    not_counted: str
    page_pay: str
    page_decline: str
    page_expire: str
    page_paid: str
    page_failed: str
    page_expired: str
    page_back: str


EN = Words(
    start=("Accept", "Buy", "Basic", "^1 month"),
    plans=("Buy", "Basic", "^1 month"),
    topup=("^💰 Balance", "Top up", "^250"),
    ways={
        "stars": "Stars",
        "sbp": "^SBP",
        "card": "^Card ·",
        "crypto": "Crypto",
        "telegram": "^Card in Telegram",
    },
    pay="^Pay ",
    from_balance="from the balance",
    missing="more, the rest",
    the_rest="The rest comes from your balance.",
    paid="Paid. Your access is ready",
    extended="Paid. Extended until",
    topped_up="Balance topped up: 250",
    left_in_wallet="Your wallet now holds 101",
    failed="The payment did not go through. Nothing was charged.",
    not_counted="This order was already paid",
    page_pay="^Pay",
    page_decline="Refuse",
    page_expire="Let it expire",
    page_paid="^(✓ )?Paid$",
    page_failed="^Not paid$",
    page_expired="^The invoice has expired$",
    page_back="Back to the shop|Return",
)
RU = Words(
    start=("Принять", "Купить", "Базовый", "^1 месяц"),
    plans=("Купить", "Базовый", "^1 месяц"),
    topup=("^💰 Баланс", "Пополнить", "^250"),
    ways={
        "stars": "Звёзды",
        "sbp": "^СБП",
        "card": "^Карта ·",
        "crypto": "Криптовалюта",
        "telegram": "^Карта в Telegram",
    },
    pay="^Оплатить ",
    from_balance="с баланса",
    missing="^Доплатить",
    the_rest="Остальное спишем с баланса.",
    paid="Оплачено. Доступ готов",
    extended="Оплачено. Доступ продлён до",
    topped_up="Баланс пополнен на 250",
    left_in_wallet="В кошельке осталось 101",
    failed="Оплата не прошла, деньги не списаны.",
    not_counted="Этот заказ уже был оплачен",
    page_pay="^Оплатить",
    page_decline="Отказаться",
    page_expire="Пусть истечёт",
    page_paid="^(✓ )?(Оплачено|Оплата прошла)$",
    page_failed="^Оплата не прошла$",
    page_expired="^Срок счёта истёк$",
    page_back="Вернуться",
)
WORDS: dict[Language, Words] = {"en": EN, "ru": RU}


class Walker:
    """One person. `page` is the tab with the chat that was opened last."""

    def __init__(self, context: BrowserContext, page: Page, language: Language) -> None:
        self.context = context
        self.page = page
        self.language = language
        self.words = WORDS[language]
        self.followed = "none yet"
        """The link to the pay page that was followed last. It stays in the chat."""

    @property
    def messages(self) -> Locator:
        return self.page.get_by_role("log", name="Messages")

    async def arrives(self, name: str) -> None:
        await self.page.get_by_role("button", name="Add person").click()
        dialog = self.page.get_by_role("dialog", name="Add a person")
        await dialog.get_by_label("First name").fill(name)
        await dialog.get_by_label("Language").select_option(self.language)
        await dialog.get_by_role("button", name="Create").click()
        chat = self.page.get_by_role("region", name="Chat")
        await chat.get_by_role("button", name="Start", exact=True).click()

    async def asks_for_menu(self) -> None:
        """By the command, as after a message that has no button for it."""
        await self.says("/start")

    async def says(self, command: str) -> None:
        """Choose a command from the bot's menu."""
        await self.page.get_by_role("button", name="Menu", exact=True).click()
        await self.page.locator("#commands").get_by_role("button", name=command).click()

    async def press(self, *names: str) -> None:
        """Press the newest button with each name, one after the other."""
        for name in names:
            await self.button(name).last.click(timeout=SHOWN_WITHIN_MS)

    def button(self, name: str) -> Locator:
        return self.messages.get_by_role("button", name=re.compile(name))

    async def ready(self, name: str) -> None:
        """Wait for a button with the name."""
        await expect(self.button(name).last).to_be_visible(timeout=SHOWN_WITHIN_MS)

    async def reads(self, text: str, count: int = 1) -> None:
        """So many messages with this text are in the chat."""
        messages = self.messages.get_by_role("article").filter(has_text=text)
        await expect(messages).to_have_count(count, timeout=SHOWN_WITHIN_MS)

    async def pays(self, way: Way, *, picture: str = "") -> None:
        """From the ways to pay to the chat that the pay page leads back to."""
        await self.press(self.words.ways[way])
        if way in ("stars", "telegram"):
            await self.messages.locator("button.pays").last.click(timeout=SHOWN_WITHIN_MS)
            await self.sees(f"{picture}-sheet", picture)
            await self.page.locator("#pay-confirm").click(timeout=SHOWN_WITHIN_MS)
            return
        await self.follows(picture=picture)
        await self.press_on_page(way, self.words.page_pay, self.words.page_paid, picture=picture)
        await self.returns()

    async def follows(self, *, picture: str = "") -> None:
        """To the pay page, which opens in a tab of its own."""
        link = self.messages.get_by_role("link", name=re.compile(self.words.pay)).last
        await expect(link).to_be_visible(timeout=SHOWN_WITHIN_MS)
        await expect(link).not_to_have_attribute("href", self.followed, timeout=SHOWN_WITHIN_MS)
        self.followed = await link.get_attribute("href") or ""
        await self.sees(f"{picture}-invoice", picture)
        async with self.context.expect_page() as opening:
            await link.click()
        self.page = await opening.value
        self.page.set_default_timeout(STEP_TIMEOUT_MS)

    async def press_on_page(self, way: Way, button: str, ends: str, *, picture: str = "") -> None:
        """Press this on the pay page, up to the heading or the sentence that tells the end."""
        await self.sees(f"{picture}-page", picture)
        pressed = self.page.get_by_role("button", name=re.compile(button))
        if way == "crypto" and button == self.words.page_pay:
            pressed = pressed.filter(has_text="TON")
        await pressed.click()
        await expect(self.page.get_by_text(re.compile(ends))).to_be_visible(timeout=SHOWN_WITHIN_MS)
        await self.sees(f"{picture}-page-end", picture)

    async def returns(self) -> None:
        """By the page's link, to the chat of the same person."""
        await self.page.get_by_role("link", name=re.compile(self.words.page_back)).click()
        await expect(self.messages).to_be_visible(timeout=SHOWN_WITHIN_MS)

    async def sees(self, name: str, wanted: str) -> None:
        """Keep pictures of this screen where `wanted` is not empty. It fits each of them."""
        if not wanted:
            return
        for width in (NARROW, WIDTH):
            await self.page.set_viewport_size({"width": width, "height": HEIGHT})
            excess = "document.documentElement.scrollWidth - innerWidth"
            assert await self.page.evaluate(excess) <= 0
            assert await self.page.evaluate(FITS) == []
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme=scheme)
                await seen(self.page, f"way-{name}-{self.language}-{width}-{scheme}")
        await self.page.emulate_media(color_scheme="light")


@asynccontextmanager
async def walking(browser: Browser, url: str, language: Language) -> AsyncIterator[Walker]:
    """A browser of this language. An error on the console of any of its tabs fails the test."""
    context = await browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        locale={"en": "en-GB", "ru": "ru-RU"}[language],
    )
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page = await context.new_page()
    page.set_default_timeout(STEP_TIMEOUT_MS)
    await page.goto(url)
    yield Walker(context, page, language)
    await context.close()
    assert not errors, errors
