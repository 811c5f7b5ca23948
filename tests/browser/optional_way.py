"""The ways to pay that are off by default, by hand: a saved method, and a card in Telegram."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, expect

from tests.browser.every_way import holds, the_key_works
from tests.browser.walk import Language, Walker, Way, walking
from turnpike_local.providers import PROVIDER_TOKEN
from turnpike_local.stack import Stack
from turnpike_local.yookassa import YookassaControl

# The stand-in of YooKassa saves methods in each shop of `make up`: TURNPIKE_YOOKASSA_SAVES_METHODS.
SETTINGS = {"TURNPIKE_PROVIDER_TOKEN": PROVIDER_TOKEN}


@dataclass(frozen=True)
class Words:
    """The words of these two ways."""

    remember: str
    remembers: str
    consent: str
    card: str
    account: str
    no_funds: str
    balance: str
    forget: str
    question: str
    yes: str
    payments: str


WORDS: dict[Language, Words] = {
    "en": Words(
        remember="^☐ Remember this",
        remembers="^☑ Remember this",
        consent="Next time one tap is enough",
        card="^⚡ Card ",
        account="^⚡ SBP account",
        no_funds="There is not enough money on your card or account. Nothing was charged.",
        balance="^💰 Balance",
        forget="^🗑 Forget",
        question="It will never be charged here again.",
        yes="Yes, forget it",
        payments="Your last payments",
    ),
    "ru": Words(
        remember="^☐ Запомнить",
        remembers="^☑ Запомнить",
        consent="В следующий раз хватит одного нажатия",
        card="^⚡ Карта ",
        account="^⚡ Счёт СБП",
        no_funds="Не хватает денег. Ничего не списано.",
        balance="^💰 Баланс",
        forget="^🗑 Забыть",
        question="Больше мы ничего оттуда не спишем.",
        yes="Да, забыть",
        payments="Ваши последние платежи",
    ),
}


class OptionalWay:
    """In one language, in a whole shop of its own where both ways are on."""

    language: Language

    @pytest.fixture(scope="class")
    async def own_shop(
        self, servers_dir: Path, request: pytest.FixtureRequest
    ) -> AsyncIterator[Stack]:
        folder = servers_dir / f"optional-{request.cls.language}"
        async with Stack(folder, settings=SETTINGS) as stack:
            yield stack
            await holds(stack)

    @pytest.fixture
    async def walker(self, browser: Browser, own_shop: Stack) -> AsyncIterator[Walker]:
        assert own_shop.sandbox is not None
        async with walking(browser, own_shop.sandbox.url, self.language) as walker:
            yield walker

    @pytest.fixture
    async def yookassa(self, own_shop: Stack) -> AsyncIterator[YookassaControl]:
        async with YookassaControl(own_shop.urls["yookassa"]) as control:
            yield control

    async def test_a_remembered_card_pays_and_is_forgotten(self, walker: Walker) -> None:
        """R-131, R-136, R-133, R-153: by consent, by one tap, and after a question no more."""
        words, ours = walker.words, WORDS[self.language]
        await walker.arrives(f"saves {self.language}")
        await walker.press(*words.start)
        await pays_and_is_remembered(walker, "card")
        await the_key_works(walker)

        await walker.asks_for_menu()
        await walker.press(*words.plans)
        await walker.ready(ours.card)
        await walker.sees("saved-ways", "saved")
        await walker.press(ours.card)
        await walker.reads(words.extended)
        await walker.sees("saved-charged", "saved")
        await walker.says("/paysupport")
        await walker.reads(ours.payments)
        await expect(charges_in(walker)).to_have_count(2)
        await walker.sees("saved-payments", "saved")

        await walker.asks_for_menu()
        await walker.press(ours.balance, ours.forget)
        await walker.reads(ours.question)
        await walker.sees("saved-question", "saved")
        await walker.press(ours.yes)
        await walker.reads(ours.question, 0)
        await walker.sees("saved-forgotten", "saved")
        await expect(walker.button(ours.forget)).to_have_count(0)
        await walker.asks_for_menu()
        await walker.press(*words.plans)
        await walker.ready(words.ways["card"])
        await expect(walker.button(ours.card)).to_have_count(0)

    async def test_a_refused_charge_leads_to_other_ways(
        self, walker: Walker, yookassa: YookassaControl
    ) -> None:
        """R-136: a sentence says why; the same order is paid another way then."""
        words, ours = walker.words, WORDS[self.language]
        await walker.arrives(f"refused {self.language}")
        await walker.press(*words.start)
        await pays_and_is_remembered(walker, "sbp")
        await walker.says("/paysupport")
        await walker.reads(ours.payments)
        # YooKassa's id of a saved method is that of the payment that saved it.
        [saved] = await charges_in(walker).all_inner_texts()
        await yookassa.decline_saved(saved, "insufficient_funds")

        await walker.asks_for_menu()
        await walker.press(*words.plans, ours.account)
        await walker.reads(ours.no_funds)
        await walker.sees("saved-refused", "saved")
        await walker.pays("card")
        await walker.reads(words.extended)

    async def test_a_card_in_telegram_buys_a_key(self, walker: Walker) -> None:
        """R-138: by Telegram's own sheet, in rubles."""
        words = walker.words
        await walker.arrives(f"card {self.language}")
        await walker.press(*words.start)
        await walker.ready(words.ways["telegram"])
        await walker.sees("telegram-ways", "telegram")
        await walker.pays("telegram", picture="telegram")
        await expect(walker.page.locator("#pay-coin")).to_have_text("₽")
        await walker.reads(words.paid)
        await walker.sees("telegram-paid", "telegram")
        await the_key_works(walker)


def charges_in(walker: Walker) -> Locator:
    """The numbers of the person's payments, on the screen of /paysupport."""
    screen = walker.messages.get_by_role("article")
    return screen.filter(has_text=WORDS[walker.language].payments).locator("code")


async def pays_and_is_remembered(walker: Walker, way: Way) -> None:
    """From the ways to pay to the key, by an invoice with consent."""
    ours = WORDS[walker.language]
    await walker.press(walker.words.ways[way], ours.remember)
    await walker.ready(ours.remembers)
    await walker.reads(ours.consent)
    await walker.sees(f"{way}-consent", way)
    await walker.follows()
    await walker.press_on_page(
        way, walker.words.page_pay, walker.words.page_paid, picture=f"{way}-consent"
    )
    await walker.returns()
    await walker.reads(walker.words.paid)
