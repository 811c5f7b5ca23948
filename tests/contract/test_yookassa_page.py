"""The pay page of the stand-in for YooKassa, as a browser without scripts gets it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.yookassa import Till, card_on_hold, order, rubles, till


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


async def shown(running: Till, url: str, **headers: str) -> str:
    async with running.merchant.http.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return await answer.text()


async def press(running: Till, url: str, **form: str) -> str:
    async with running.merchant.http.post(url, data=form) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def link(running: Till, body: Any) -> tuple[str, str]:
    """The id of a new payment, and the address of its page."""
    made = await running.merchant.done("payments", body)
    return made["id"], made["confirmation"]["confirmation_url"]


def heading(page: str) -> str:
    found = re.search("<h1>(.+)</h1>", page)
    assert found
    return found.group(1)


async def status_of(running: Till, payment_id: str) -> str:
    return str((await running.merchant.payment(payment_id))["status"])


async def test_a_person_pays_on_the_page(running: Till) -> None:
    payment_id, url = await link(running, order())
    page = await shown(running, url)
    assert "149,00\u00a0₽" in page
    assert "Basic, 1 month" in page
    assert ('value="sbp" checked' in page, 'value="bank_card"' in page) == (True, False)
    paid = await press(running, url, act="pay", method="sbp")
    assert heading(paid) == "Оплата прошла"
    assert 'href="https://t.me/turnpike_bot"' in paid
    assert "<form" not in paid
    assert await status_of(running, payment_id) == "succeeded"


async def test_a_second_press_shows_the_first(running: Till) -> None:
    payment_id, url = await link(running, order())
    await press(running, url, act="decline")
    assert heading(await press(running, url, act="pay")) == "Оплата не прошла"
    assert await status_of(running, payment_id) == "canceled"


async def test_a_person_refuses_on_the_page(running: Till) -> None:
    payment_id, url = await link(running, order())
    assert heading(await press(running, url, act="decline")) == "Оплата не прошла"
    refused = await running.merchant.payment(payment_id)
    assert refused["cancellation_details"]["reason"] == "general_decline"


async def test_a_card_is_held_on_the_page(running: Till) -> None:
    payment_id, url = await link(running, card_on_hold())
    assert "будут заблокированы" in await shown(running, url)
    held = await press(running, url, act="pay", method="bank_card")
    assert heading(held) == "Деньги заблокированы"
    assert await status_of(running, payment_id) == "waiting_for_capture"


async def test_the_page_offers_possible_methods_only(running: Till) -> None:
    payment_id, url = await link(running, order(payment_method_data=None, capture=False))
    assert re.findall('value="(sbp|bank_card)"', await shown(running, url)) == ["bank_card"]
    async with running.merchant.http.post(url, data={"act": "pay", "method": "sbp"}) as answer:
        assert answer.status == 400
    assert await status_of(running, payment_id) == "pending"


async def test_a_saved_method_is_announced(running: Till) -> None:
    _, url = await link(running, order(save_payment_method=True))
    assert "Способ оплаты сохранится" in await shown(running, url)


async def test_an_expired_link_says_so(running: Till) -> None:
    _, url = await link(running, order())
    running.clock.move(seconds=3600)
    page = await shown(running, url)
    assert heading(page) == "Срок ссылки истёк"
    assert "Деньги не списаны" in page


async def test_an_unknown_link_is_not_found(running: Till) -> None:
    for path in ("/checkout/payments/v2/contract", "/checkout/payments/v2/contract?orderId=x"):
        async with running.merchant.http.get(path) as answer:
            assert (answer.status, heading(await answer.text())) == (404, "Такой ссылки нет")
        async with running.merchant.http.post(path, data={"act": "pay"}) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("locale", "asked", "browser", "expected"),
    [
        (None, "", "", "ru"),
        (None, "", "de", "ru"),
        (None, "", "en-GB,en;q=0.9", "en"),
        ("en_US", "", "ru", "en"),
        ("ru_RU", "", "en", "ru"),
        ("ru_RU", "&lang=en", "ru", "en"),
    ],
)
async def test_the_page_speaks_russian_and_english(
    running: Till, locale: str | None, asked: str, browser: str, expected: str
) -> None:
    confirmation = {"type": "redirect", "return_url": "https://t.me/turnpike_bot"}
    if locale:
        confirmation["locale"] = locale
    _, url = await link(running, order(confirmation=confirmation))
    page = await shown(running, url + asked, **{"Accept-Language": browser})
    assert f'<html lang="{expected}">' in page
    assert heading(page) == {"ru": "Оплата заказа", "en": "Pay for the order"}[expected]
    other = {"ru": "en", "en": "ru"}[expected]
    assert f"&amp;lang={other}" in page


@pytest.mark.parametrize(
    ("chat_url", "href"),
    [("", "https://t.me/turnpike_bot"), ("http://127.0.0.1:8088/", "http://127.0.0.1:8088/")],
)
async def test_a_way_back_is_always_there(tmp_path: Path, chat_url: str, href: str) -> None:
    """Before and after the payment. A link into Telegram leads to the local chat."""
    async with till(tmp_path, chat_url=chat_url) as running:
        payment_id, url = await link(running, order())
        assert f'class="leave" href="{href}"' in await shown(running, url)
        await running.control.pay(payment_id)
        assert f'class="back" href="{href}"' in await shown(running, url)
        async with running.merchant.http.get(url.replace(payment_id, "none")) as answer:
            assert (f'href="{href}"' in await answer.text()) is bool(chat_url)


async def test_a_way_back_elsewhere_stays(tmp_path: Path) -> None:
    confirmation = {"type": "redirect", "return_url": "https://shop.example/paid"}
    async with till(tmp_path, chat_url="http://127.0.0.1:8088/") as running:
        _, url = await link(running, order(confirmation=confirmation))
        assert 'href="https://shop.example/paid"' in await shown(running, url)


async def test_texts_of_the_merchant_are_escaped(running: Till) -> None:
    confirmation = {"type": "redirect", "return_url": "https://t.me/?a=1&b='2'"}
    body = order(description="<script>alert(1)</script>", confirmation=confirmation)
    _, url = await link(running, body)
    assert "&lt;script&gt;" in await shown(running, url)
    paid = await press(running, url, act="pay", method="sbp")
    assert 'href="https://t.me/?a=1&amp;b=&#x27;2&#x27;"' in paid


@pytest.mark.parametrize(
    ("language", "amount"), [("ru", "123\u00a0456,05\u00a0₽"), ("en", "123,456.05\u00a0₽")]
)
async def test_an_amount_is_written_by_language(running: Till, language: str, amount: str) -> None:
    _, url = await link(running, order(amount=rubles("123456.05")))
    assert amount in await shown(running, f"{url}&lang={language}")


async def test_the_page_has_its_style(running: Till) -> None:
    async with running.merchant.http.get("/checkout/style.css") as answer:
        assert (answer.status, answer.content_type) == (200, "text/css")
