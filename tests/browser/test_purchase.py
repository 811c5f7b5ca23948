"""A purchase by hand, in the page that `make up` prints."""

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import seen
from turnpike_local.stack import Stack
from turnpike_local.xray import fetch_through


class Hand:
    """Presses what a person would press in the chat."""

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
        """The newest button with each name, one after the other."""
        for name in names:
            await self.messages.get_by_role("button", name=re.compile(name)).last.click()

    async def pay(self) -> None:
        await self.press("Pay|Оплатить")
        sheet = self.page.get_by_role("dialog").filter(has=self.page.locator("#pay-confirm"))
        await expect(sheet).to_be_visible()
        await seen(self.page, "pay-sheet")
        await sheet.locator("#pay-confirm").click()

    def key(self) -> Locator:
        return self.messages.locator("code", has_text="vless://")


async def test_two_people_an_invitation_and_a_purchase_that_carries_traffic(page: Page, shop: Stack) -> None:
    hand = Hand(page)
    await hand.add_person("Алиса", "ru")
    await seen(page, "welcome-ru")
    await hand.press("Принять", "Пригласить")
    await seen(page, "invite")
    await hand.press("Поделиться")
    follow = page.get_by_role("dialog", name="Who follows this link?")
    await follow.get_by_label("Somebody new").fill("Bob")
    await follow.get_by_label("Language").select_option("en")
    await follow.get_by_role("button", name="Create and follow").click()
    await hand.press("Accept", "Buy", "Basic", "^1 month", "Stars")
    await seen(page, "invoice")
    await hand.pay()
    await expect(hand.key()).to_have_count(1)
    await expect(page.get_by_role("region", name="The story as it happens")).to_contain_text("payments")
    await page.wait_for_timeout(
        1500
    )  # Spans arrive up to half a second after they ended; this is for the picture only.
    await seen(page, "bought")

    key = (await hand.key().inner_text()).strip()
    assert shop.sandbox is not None
    assert "Traffic reached" in await fetch_through(key, f"{shop.sandbox.url}/page")

    await page.get_by_role("tab", name=re.compile("Алиса")).click()
    await expect(hand.messages).to_contain_text("14,90")
    await seen(page, "reward-ru")


async def test_every_screen_of_the_menu_opens_and_leads_back(page: Page) -> None:
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


async def test_the_chosen_person_s_tab_is_in_view_among_many(page: Page) -> None:
    for number in range(14):
        await page.evaluate(
            "name => fetch('/sandbox/people', {method: 'POST', headers: {'Content-Type': 'application/json'},"
            " body: JSON.stringify({first_name: name, language_code: 'en'})})",
            f"Somebody {number}",
        )
    await Hand(page).add_person("The last of many", "en")
    chosen = page.get_by_role("tab", selected=True)
    await expect(chosen).to_contain_text("The last of many")
    await expect(chosen).to_be_in_viewport(ratio=0.95)
    await seen(page, "many-people")
    await page.reload()
    await expect(chosen).to_be_in_viewport(ratio=0.95)


async def test_one_service_is_not_called_services(page: Page) -> None:
    one = """async () => {
        const { StoryView } = await import("./story.js");
        const view = new StoryView();
        const span = {span_id: "a", parent_id: null, service: "turnpike-bot", name: "one", kind: "server",
                      start_ns: 0, end_ns: 1e6, status: "ok", attributes: {}};
        view.spans = [span];
        view.draw();
        return document.getElementById("story-summary").textContent;
    }"""
    assert str(await page.evaluate(one)).startswith("1 step in 1 service, ")
