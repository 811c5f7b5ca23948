"""Every way to pay, by hand, from the chat to the key and back again: the same in each language."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from shared.messaging.jetstream import consumer_lag
from shared.messaging.rpc import Bus
from tests.browser.walk import SHOWN_WITHIN_MS, Language, Walker, Way, walking
from tests.kit.waiting import until
from turnpike_cli.audit import audit
from turnpike_local.stack import Stack

WAYS: tuple[Way, ...] = ("stars", "sbp", "card", "crypto")
BY_PAGE: tuple[Way, ...] = ("sbp", "card", "crypto")
PATIENCE_S = 120.0


class EveryWay:
    """In one language, in a whole shop of its own: as `make up` starts it."""

    language: Language

    @pytest.fixture(scope="class")
    async def own_shop(
        self, servers_dir: Path, request: pytest.FixtureRequest
    ) -> AsyncIterator[Stack]:
        """Every test of the class adds people to it."""
        async with Stack(servers_dir / f"ways-{request.cls.language}") as stack:
            yield stack
            await holds(stack)

    @pytest.fixture
    async def walker(self, browser: Browser, own_shop: Stack) -> AsyncIterator[Walker]:
        assert own_shop.sandbox is not None
        async with walking(browser, own_shop.sandbox.url, self.language) as walker:
            yield walker

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_way_buys_tops_up_and_completes(self, walker: Walker, way: Way) -> None:
        """R-126: a key, more time from the balance, and more time by paying what is missing.

        Each purchase is told in one message, which names the end and leads to the key.
        """
        words = walker.words
        await walker.arrives(f"{way} {walker.language}")
        await walker.press(*words.start)
        await walker.ready(words.ways[way])
        await walker.sees(f"{way}-ways", way if way == "sbp" else "")
        await walker.pays(way, picture=way)
        await walker.reads(words.paid)
        await walker.sees(f"{way}-paid", way)
        await the_key_works(walker)

        await walker.asks_for_menu()
        await walker.press(*words.topup)
        await walker.pays(way)
        await walker.reads(words.topped_up)
        await walker.press(*words.plans, words.from_balance)
        await walker.reads(words.extended)
        await walker.reads(words.left_in_wallet)
        await walker.sees(f"{way}-from-balance", way)

        await walker.press(*words.plans, words.missing)
        await walker.reads(words.the_rest)
        await walker.sees(f"{way}-missing", way if way == "card" else "")
        await walker.pays(way, picture=f"{way}-missing" if way == "card" else "")
        await walker.reads(words.extended, 2)
        await walker.reads(words.paid)
        await walker.sees(f"{way}-completed", way)

    @pytest.mark.parametrize("way", BY_PAGE)
    async def test_a_refused_payment_leads_on(self, walker: Walker, way: Way) -> None:
        """R-125: page and chat say that nothing was charged; the same order is paid then."""
        words = walker.words
        await walker.arrives(f"no {way} {walker.language}")
        await walker.press(*words.start, words.ways[way])
        await walker.follows()
        refuse, ends = words.page_decline, words.page_failed
        if way == "crypto":
            refuse, ends = words.page_expire, words.page_expired
        await walker.press_on_page(way, refuse, ends, picture=f"{way}-refused")
        await walker.page.go_back()
        await walker.page.go_forward()
        await walker.page.reload()
        await expect(walker.page.get_by_text(re.compile(ends))).to_be_visible()
        await walker.page.get_by_role(
            "link", name=re.compile(f"{words.page_back}|chat|чат")
        ).click()
        await walker.reads(words.failed)
        await walker.sees(f"{way}-refused-chat", way)
        await walker.pays(way)
        await walker.reads(words.paid)

    async def test_an_old_page_is_no_dead_end(self, walker: Walker) -> None:
        """R-127: the order was paid another way meanwhile: the money is in the wallet, and told."""
        words = walker.words
        await walker.arrives(f"twice {walker.language}")
        await walker.press(*words.start, words.ways["sbp"])
        chat = walker.page
        await walker.follows()
        old, walker.page = walker.page, chat
        await walker.press("Back|Назад", *words.plans[1:])
        await walker.pays("stars")
        await walker.reads(words.paid)
        walker.page = old
        await walker.press_on_page("sbp", words.page_pay, words.page_paid)
        await walker.returns()
        await walker.reads(words.not_counted)
        await walker.sees("paid-twice", "yes")
        await walker.press(*words.plans, words.from_balance)
        await walker.reads(words.extended)

    async def test_two_presses_on_pay_are_one_payment(self, walker: Walker) -> None:
        """R-126: in two tabs with the same page; the second one shows how it ended."""
        words = walker.words
        await walker.arrives(f"tabs {walker.language}")
        await walker.press(*words.start, words.ways["card"])
        await walker.follows()
        first, second = walker.page, await walker.context.new_page()
        await second.goto(first.url)
        await walker.press_on_page("card", words.page_pay, words.page_paid)
        walker.page = second
        await walker.press_on_page("card", words.page_pay, words.page_paid)
        await walker.returns()
        await walker.reads(words.paid)
        await expect(walker.messages.locator("code", has_text="vless://")).to_have_count(1)


async def holds(stack: Stack) -> None:
    """Every handler has caught up, and every invariant holds."""
    bus = Bus(stack.broker.url, "test")
    await bus.open()

    async def no_lag() -> bool:
        return not any((await consumer_lag(bus.client)).values())

    async def no_violation() -> bool:
        found = await audit(bus)
        return bool(found) and not any(one.finding.violations for one in found)

    try:
        await until(no_lag, within_s=PATIENCE_S)
        await until(no_violation, within_s=PATIENCE_S)
    finally:
        await bus.close()


async def the_key_works(walker: Walker) -> None:
    await expect(walker.messages.locator("code", has_text="vless://")).to_have_count(1)
    await walker.messages.get_by_role("button", name="Try this key").click()
    await expect(walker.messages).to_contain_text(
        "It works: a page came through this key.", timeout=SHOWN_WITHIN_MS
    )
