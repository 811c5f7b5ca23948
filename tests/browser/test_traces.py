"""The Trace view of the page: purchases of several people, and the trace of one of them."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from shared.platform.telemetry import BOOKED
from tests.browser.conftest import STEP_TIMEOUT_MS, seen
from tests.kit.otlp import CLIENT, Made, bought, send
from tests.kit.sandbox import TOKEN, offer, pay
from tests.kit.sandbox import started as started_alone
from turnpike_local.sandbox import Sandbox, SandboxClient
from turnpike_local.sandbox.trace_control import PURCHASES_LISTED
from turnpike_local.scenario import started
from turnpike_local.stack import Stack

TRACE = f"{1:032x}"


@pytest.fixture
async def client(shop: Stack) -> AsyncIterator[SandboxClient]:
    assert shop.sandbox is not None
    async with SandboxClient(shop.sandbox.url) as acting:
        yield acting


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox without a shop: its spans are made by hand."""
    async with Sandbox(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def page_alone(browser: Browser, alone: Sandbox) -> AsyncIterator[Page]:
    page = await browser.new_page(viewport={"width": 1360, "height": 860})
    page.set_default_timeout(STEP_TIMEOUT_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(alone.url)
    yield page
    await page.close()
    assert not errors, errors


async def buy(client: SandboxClient, name: str, *, months: str = "1 month") -> str:
    """A new person buys Basic. Returns the trace, once the key has come and is in the trace."""
    person = await client.new_person(name)
    await started(person)
    for button in ("Buy", "Basic", months, "Stars"):
        await person.press(button)
    await person.pay()
    await person.receives("vless://")
    return str((await client.purchases())["newest"])


def line_of(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Purchases").get_by_role("link", name=name)


def shown(page: Page) -> Locator:
    """The heading of the trace that is shown."""
    return page.locator("#trace-of")


async def test_purchases_of_two_people_are_listed(page: Page, client: SandboxClient) -> None:
    """W-67. Name, plan, amount and state; the older one can be looked at."""
    await buy(client, "Anna <b>", months="1 month")
    await buy(client, "Борис", months="3 months")
    await expect(line_of(page, "Anna <b>")).to_contain_text("Basic")
    await expect(line_of(page, "Anna <b>")).to_contain_text("★ 99")
    await expect(line_of(page, "Anna <b>")).to_contain_text("message sent")
    await expect(line_of(page, "Борис")).to_contain_text("3 months")
    await expect(shown(page)).to_contain_text("Борис")
    await line_of(page, "Anna <b>").click()
    await expect(shown(page)).to_contain_text("Anna <b>")
    await expect(page.get_by_role("region", name="Payment trace")).to_contain_text("payments")
    await seen(page, "traces-two")


async def test_the_chosen_trace_survives_a_reload(page: Page, client: SandboxClient) -> None:
    """W-67. A later purchase does not take its place, and choosing a person keeps it."""
    trace = await buy(client, "Clara")
    await line_of(page, "Clara").click()
    await expect(page).to_have_url(re.compile(f"trace={trace}"))
    await buy(client, "Dmitri")
    await expect(line_of(page, "Dmitri")).to_be_visible()
    await page.get_by_role("tab", name="Dmitri").click()
    await page.reload()
    await expect(shown(page)).to_contain_text("Clara")
    await expect(page).to_have_url(re.compile(f"trace={trace}"))
    await page.get_by_role("button", name="Follow the newest").click()
    await expect(shown(page)).to_contain_text("Dmitri")
    await expect(page).not_to_have_url(re.compile("trace="))


async def test_the_newest_is_followed_until_a_choice(page: Page, client: SandboxClient) -> None:
    """W-67."""
    for name in ("Ella", "Fyodor"):
        await buy(client, name)
        await expect(shown(page)).to_contain_text(name)
    await expect(line_of(page, "Fyodor")).to_have_attribute("aria-current", "true")


async def test_a_copied_link_shows_the_same_trace(
    page: Page, browser: Browser, client: SandboxClient
) -> None:
    """W-67. On a phone the link opens the Trace view."""
    trace = await buy(client, "Gleb")
    await buy(client, "Hanna")
    phone = await browser.new_page(viewport={"width": 320, "height": 640})
    await phone.goto(f"{page.url.partition('#')[0]}#trace={trace}")
    await expect(shown(phone)).to_contain_text("Gleb")
    await seen(phone, "traces-phone")
    await expect(shown(phone)).to_be_visible()
    assert await phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await phone.close()
    await page.goto(f"{page.url.partition('#')[0]}#trace={'0' * 32}")
    await expect(page.locator("#trace-note")).to_contain_text("not known")


async def test_older_purchases_are_a_page_away(alone: Sandbox, page_alone: Page) -> None:
    """W-67."""
    async with SandboxClient(alone.url) as client:
        await offer(alone, f"{1:032x}", to=await started_alone(client, "Ivan"))
        for number in range(2, PURCHASES_LISTED + 3):
            await offer(alone, f"{number:032x}")
    page = page_alone
    await page.get_by_role("button", name="Older").click()
    await line_of(page, "Ivan").click()
    await expect(shown(page)).to_contain_text("Ivan")
    await expect(page.locator("#trace-note")).to_contain_text("no spans")
    await page.get_by_role("button", name="Newer").click()
    await expect(line_of(page, "Ivan")).to_have_count(0)


def calls(*, circle: bool = False) -> list[Made]:
    """A press that asks payments twice: the answers are below calls, and above SQL.

    The SQL of the first answer comes after the second answer. With `circle`, two more spans are
    each other's parents, which a broken export could contain.
    """
    broken = [Made(TRACE, 20, "one", 21), Made(TRACE, 21, "two", 20)]
    return [
        Made(TRACE, 1, "press"),
        Made(TRACE, 2, "ask", 1, kind=CLIENT),
        Made(TRACE, 3, "answer", 2),
        Made(TRACE, 4, "ask again", 1, kind=CLIENT),
        Made(TRACE, 5, "answer again", 4),
        Made(TRACE, 6, "insert orders", 3, kind=CLIENT),
        Made(TRACE, 7, "trigger", 6),
        *(broken if circle else []),
    ]


async def levels(page: Page) -> list[tuple[str, int]]:
    """The lines of the waterfall: the span's name and its level, from 1."""
    found = await page.locator("#waterfall .span").evaluate_all(
        "lines => lines.map(({dataset: {span, level}}) => [span, Number(level)])"
    )
    return [(name, level) for name, level in found]


async def test_hidden_calls_leave_depths_right(alone: Sandbox, page_alone: Page) -> None:
    """W-68. A child of a hidden span is below its nearest visible ancestor."""
    await offer(alone, TRACE)
    await send(alone.url, *calls())
    await expect(page_alone.locator("#waterfall .span")).to_have_count(4)
    assert await levels(page_alone) == [
        ("press", 1),
        ("answer", 2),
        ("trigger", 3),
        ("answer again", 2),
    ]
    switch = page_alone.get_by_role("checkbox", name="SQL and HTTP")
    await expect(switch).not_to_be_checked()
    await expect(page_alone.locator("#hidden-count")).to_have_text("3 hidden")
    await switch.check()
    await expect(page_alone.locator("#waterfall .span")).to_have_count(7)
    assert await levels(page_alone) == [
        ("press", 1),
        ("ask", 2),
        ("answer", 3),
        ("insert orders", 4),
        ("trigger", 5),
        ("ask again", 2),
        ("answer again", 3),
    ]
    await expect(page_alone.locator("#hidden-count")).to_have_text("")


async def test_a_failed_call_is_never_hidden(alone: Sandbox, page_alone: Page) -> None:
    """W-68. The failed call is the one that the reader looks for."""
    await offer(alone, TRACE)
    await send(alone.url, *calls(), Made(TRACE, 8, "xray.ensure", 1, kind=CLIENT, failed=True))
    await expect(page_alone.locator("#waterfall .span")).to_have_count(5)
    assert ("xray.ensure", 2) in await levels(page_alone)
    await expect(page_alone.locator("#hidden-count")).to_have_text("3 hidden")


async def test_spans_in_a_circle_are_drawn(alone: Sandbox, page_alone: Page) -> None:
    """W-68. Each is a root: they must not hang the page or vanish."""
    await offer(alone, TRACE)
    await send(alone.url, *calls(circle=True))
    await expect(page_alone.locator("#waterfall .span")).to_have_count(6)
    assert (await levels(page_alone))[-2:] == [("one", 1), ("two", 1)]


def counted(page: Page) -> Locator:
    return page.get_by_role("status").filter(has_text="report")


async def test_four_reports_are_proved_one_booking(
    page: Page, client: SandboxClient, shop: Stack
) -> None:
    """W-69. On the real shop. A booking that is added by hand is shown as wrong."""
    trace = await buy(client, "Karl")
    charge = (await client.payments())[-1]["charge"]
    for _ in range(3):
        await client.repeat(charge, same_update=False)
    await expect(shown(page)).to_contain_text("Karl")
    await expect(counted(page)).to_have_text(
        "✓ Proved by this trace: 4 reports → 1 booking → 1 access → 1 message"
    )
    await seen(page, "traces-proved")
    assert shop.sandbox is not None
    twice = Made(trace, 1, "by hand", attributes={BOOKED: "wallet"}, start_ns=time.time_ns())
    await send(shop.sandbox.url, twice)
    await expect(counted(page)).to_contain_text("✗ Wrong: 2 bookings for 1 charge")
    await expect(counted(page).get_by_role("strong")).to_have_text("2 bookings")
    red = await page.evaluate("getComputedStyle(document.querySelector('#counted strong')).color")
    assert red == "rgb(201, 60, 55)"
    await seen(page, "traces-wrong")


async def test_missing_spans_are_told_as_no_proof(alone: Sandbox, page_alone: Page) -> None:
    """W-69. All steps are there, and a span is below one that never arrived."""
    async with SandboxClient(alone.url) as client:
        mila = await started_alone(client, "Mila")
        await offer(alone, TRACE, to=mila)
        await expect(page_alone.locator("#counted")).to_be_hidden()
        await pay(alone, mila)
    await expect(page_alone.locator("#counted")).to_contain_text("no booking yet")
    await send(alone.url, *bought(TRACE), Made(TRACE, 9, "child", 8))
    await expect(page_alone.locator("#counted")).to_have_text(
        "Incomplete, no proof: 1 span of this trace did not arrive. "
        "Counted: 1 report → 1 booking → 1 access → 1 message"
    )


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.textContent"))


async def test_the_list_is_used_with_keys(alone: Sandbox, page_alone: Page) -> None:
    """W-68. One tab stop; arrows, Home and End move, Enter opens; a redraw keeps the focus."""
    page = page_alone
    async with SandboxClient(alone.url) as client:
        for number, name in enumerate(("Nina", "Oleg", "Petr"), start=1):
            await offer(alone, f"{number:032x}", to=await started_alone(client, name))
    await expect(line_of(page, "Petr")).to_have_attribute("tabindex", "0")
    assert await page.locator("#purchases [tabindex='0']").count() == 1
    await line_of(page, "Petr").focus()
    seen_names = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Home", "End", "ArrowUp"):
        await page.keyboard.press(key)
        seen_names.append((await focused(page))[:4])
    assert seen_names == ["Oleg", "Nina", "Nina", "Petr", "Nina", "Oleg"]
    await page.keyboard.press("Enter")
    await expect(shown(page)).to_contain_text("Oleg")
    await offer(alone, f"{4:032x}", "Newer")
    await send(alone.url, Made(f"{4:032x}", 1))
    await expect(page.locator("#purchases li")).to_have_count(4)
    assert (await focused(page))[:4] == "Oleg"


async def test_the_spans_are_a_table_for_keys(alone: Sandbox, page_alone: Page) -> None:
    """W-68. Each row tells level and service; Enter opens what the span holds."""
    page = page_alone
    await offer(alone, TRACE)
    await send(alone.url, *calls())
    table = page.get_by_role("table", name="Spans")
    await expect(table.get_by_role("columnheader")).to_have_text(["Start", "Span", "Took"])
    first = table.get_by_role("button", name="level 1, payments: press")
    await first.focus()
    await page.keyboard.press("ArrowDown")
    answer = table.get_by_role("button", name="level 2, payments: answer", exact=True)
    await expect(answer).to_be_focused()
    await expect(answer).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("Enter")
    await expect(answer).to_have_attribute("aria-expanded", "true")
    await expect(table.get_by_role("definition").last).to_have_text(TRACE)
    await send(alone.url, Made(TRACE, 30, "later", 1))
    await expect(table.get_by_role("button", name="later")).to_be_visible()
    await expect(answer).to_be_focused()
    await expect(answer).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("Enter")
    await expect(table.get_by_role("definition")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 390])
async def test_the_trace_fits_a_phone(alone: Sandbox, page_alone: Page, width: int) -> None:
    """W-68. Long names are cut or broken; neither the page nor a part of it moves sideways."""
    page = page_alone
    await page.set_viewport_size({"width": width, "height": 640})
    async with SandboxClient(alone.url) as client:
        long = await started_alone(client, "Ж" * 64)
        await offer(alone, TRACE, "W" * 32, to=long)
        await pay(alone, long)
    deep = [Made(TRACE, at, "y" * 90, at - 1) for at in range(9, 30)]
    await send(alone.url, *bought(TRACE), *deep)
    await page.get_by_role("button", name="Trace").click()
    await page.locator("#waterfall button").first.click()
    await expect(page.locator("#counted")).to_be_visible()
    for part in ("html", ".trace", "#purchases", "#waterfall"):
        wide = "part => part.scrollWidth - part.clientWidth"
        assert await page.locator(part).evaluate(wide) == 0, part
