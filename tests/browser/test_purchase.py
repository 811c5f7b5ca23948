"""A purchase in the page whose link `make up` prints."""

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import keep, seen
from tests.browser.picture import VIEWPORT, Picture
from turnpike_local.stack import Stack
from turnpike_local.xray import fetch_through


class Hand:
    """Uses the chat like a person."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chat = page.get_by_role("region", name="Chat")
        self.messages = page.get_by_role("log", name="Messages")

    async def add_person(self, name: str, language: str) -> None:
        await self.page.get_by_role("button", name="Add person").click()
        dialog = self.page.get_by_role("dialog", name="Add a person")
        await dialog.get_by_label("First name").fill(name)
        await dialog.get_by_label("Language").select_option(language)
        await dialog.get_by_role("button", name="Create").click()
        await self.chat.get_by_role("button", name="Start", exact=True).click()

    async def press(self, *names: str) -> None:
        """Press the newest button with each name, one after the other."""
        for name in names:
            await self.messages.get_by_role("button", name=re.compile(name)).last.click()

    async def ready(self, name: str) -> None:
        """Wait until there is a button with the name."""
        await expect(
            self.messages.get_by_role("button", name=re.compile(name)).last
        ).to_be_visible()

    async def pay(self, picture: Picture) -> None:
        await self.press("Pay|Оплатить")
        sheet = self.page.get_by_role("dialog").filter(has=self.page.locator("#pay-confirm"))
        await expect(sheet).to_be_visible()
        await seen(self.page, "pay-sheet")
        await picture.take(self.page)
        await sheet.locator("#pay-confirm").click()

    def key(self) -> Locator:
        return self.messages.locator("code", has_text="vless://")


async def test_an_invited_person_buys_a_working_key(page: Page, shop: Stack) -> None:
    """Two people, an invitation, a purchase whose key carries traffic, and the inviter's reward."""
    await page.set_viewport_size(VIEWPORT)
    hand, picture = Hand(page), Picture()
    await hand.add_person("Алиса", "ru")
    await seen(page, "welcome-ru")
    await hand.press("Принять", "Пригласить")
    await seen(page, "invite")
    await hand.press("Поделиться")
    follow = page.get_by_role("dialog", name="Who follows this link?")
    await follow.get_by_label("A new person").fill("Bob")
    await follow.get_by_label("Language").select_option("en")
    await follow.get_by_role("button", name="Create and follow").click()
    for name in ("Accept", "Buy", "Basic", "^1 month", "Stars"):
        await hand.ready(name)
        await picture.take(page)
        await hand.press(name)
    await hand.ready("Pay|Оплатить")
    await seen(page, "invoice")
    await picture.take(page)
    await hand.pay(picture)
    await expect(hand.key()).to_have_count(1)
    trace = page.get_by_role("region", name="Payment trace")
    await expect(trace).to_contain_text("payments")
    # Spans arrive up to half a second after they ended. The wait is for the picture only.
    await page.wait_for_timeout(1500)
    await seen(page, "bought")
    await picture.take(page)

    key = (await hand.key().inner_text()).strip()
    assert shop.sandbox is not None
    assert "Traffic reached" in await fetch_through(key, f"{shop.sandbox.url}/page")

    await hand.messages.get_by_role("button", name="Try this key").click()
    await expect(hand.messages).to_contain_text("It works: a page came through this key.")
    await seen(page, "key-works")

    await page.get_by_role("tab", name=re.compile("Алиса")).click()
    await expect(hand.messages).to_contain_text("14,90")
    await seen(page, "reward-ru")
    await picture.take(page)
    keep(picture)


async def test_every_screen_of_the_menu_leads_back(page: Page) -> None:
    hand = Hand(page)
    await hand.add_person("Carol <b>&", "en")
    await hand.press("Accept")
    for screen, sentence in (
        ("My access", "no access"),
        ("Balance", "Wallet"),
        ("Invite", "Your link"),
        ("Language", "Language"),
    ):
        await hand.press(screen)
        await expect(hand.messages).to_contain_text(sentence)
        await seen(page, f"screen-{screen.lower().replace(' ', '-')}")
        await hand.press("Back|Menu|English")
    await expect(hand.messages.get_by_role("article")).to_have_count(2)


@pytest.mark.parametrize("width", [390])
async def test_the_page_fits_a_phone(page: Page, width: int) -> None:
    hand = Hand(page)
    await page.set_viewport_size({"width": width, "height": 800})
    await hand.add_person("Dora", "en")
    await hand.press("Accept")
    await seen(page, "phone")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_the_menu_of_commands_closes_with_escape(page: Page) -> None:
    hand = Hand(page)
    await hand.add_person("Erin", "en")
    menu = page.get_by_role("button", name="Menu", exact=True)
    await menu.click()
    await expect(page.locator("#commands")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#commands")).to_be_hidden()
    await expect(menu).to_be_focused()


async def test_the_chosen_person_is_visible_among_many(page: Page) -> None:
    for number in range(14):
        await page.evaluate(
            "name => fetch('/sandbox/people', {method: 'POST',"
            " headers: {'Content-Type': 'application/json'},"
            " body: JSON.stringify({first_name: name, language_code: 'en'})})",
            f"Person {number}",
        )
    await Hand(page).add_person("The last of many", "en")
    chosen = page.get_by_role("tab", selected=True)
    await expect(chosen).to_contain_text("The last of many")
    await expect(chosen).to_be_in_viewport(ratio=0.95)
    await seen(page, "many-people")
    await page.reload()
    await expect(chosen).to_be_in_viewport(ratio=0.95)


async def test_one_service_is_counted_in_the_singular(page: Page) -> None:
    one = """async () => {
        const { Waterfall } = await import("./waterfall.js");
        const view = new Waterfall();
        const span = {span_id: "a", parent_id: null, service: "bot-gateway", name: "one",
                      kind: "server", start_ns: 0, end_ns: 1e6, status: "ok", attributes: {}};
        view.show([span], { isNew: true });
        return document.getElementById("trace-summary").textContent;
    }"""
    assert str(await page.evaluate(one)).startswith("1 step in 1 service, ")
