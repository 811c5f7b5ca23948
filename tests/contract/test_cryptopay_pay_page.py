"""The page on which a person pays an invoice of Crypto Pay, read as a browser reads it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import TOKEN, Json, call, created, read
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient
from turnpike_local.cryptopay.texts import TEXTS


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def provider(tmp_path: Path, clock: MovedClock) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN, clock=clock) as running:
        yield running


@pytest.fixture
async def owner(provider: CryptoPay) -> AsyncIterator[CryptoPayClient]:
    async with CryptoPayClient(provider.url) as client:
        yield client


async def page(
    invoice: Json, form: dict[str, str] | None = None, *, status: int = 200, language: str = ""
) -> str:
    """The page behind `bot_invoice_url`, or what a form of it leads to."""
    headers = {"Accept-Language": language} if language else {}
    async with aiohttp.ClientSession(headers=headers) as http:
        verb = "GET" if form is None else "POST"
        async with http.request(verb, invoice["bot_invoice_url"], data=form) as answer:
            assert answer.status == status
            assert answer.headers["Cache-Control"] == "no-store"
            assert "script" not in answer.headers["Content-Security-Policy"]
            return await answer.text()


def buttons(html: str) -> list[str]:
    return re.findall(r"<button name=asset value=(\w+)>", html)


async def test_the_page_offers_each_accepted_asset(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    await owner.set_rate("USDT", "1")
    invoice = await created(provider, accepted_assets="TON,USDT", description="A month")
    html = await page(invoice)
    assert buttons(html) == ["TON", "USDT"]
    for shown in ("149 RUB", "A month", "Pay 1.85669782 USDT", "1 USDT = 80.25 RUB"):
        assert shown in html


async def test_a_person_pays_with_a_button(provider: CryptoPay) -> None:
    button = {"paid_btn_name": "openBot", "paid_btn_url": "https://t.me/x?a=1&b=2"}
    invoice = await created(provider, hidden_message="Ключ <b>", **button)
    form = {"asset": "TON", "comment": "Спасибо", "anonymously": "1"}
    html = await page(invoice, form)
    paid = await read(provider, invoice["invoice_id"])
    assert (paid["paid_asset"], paid["comment"], paid["paid_anonymously"]) == (
        "TON",
        "Спасибо",
        True,
    )
    assert f"{paid['paid_amount']} TON, 2026-11-30 10:00 UTC" in html
    assert "Ключ &lt;b&gt;" in html
    assert 'href="https://t.me/x?a=1&amp;b=2" rel=noreferrer>Open bot</a>' in html
    assert "Ключ" not in await page(await created(provider, hidden_message="Ключ"))


async def test_the_way_back_leads_to_the_chat(tmp_path: Path) -> None:
    """Once from every page: by a link, or by a button of the shop that leads into Telegram."""
    chat = "http://127.0.0.1:8088/"
    async with CryptoPay(tmp_path, TOKEN, chat_url=chat) as provider:
        for url, href in (("https://t.me/x", chat), ("https://shop.example/x",) * 2):
            invoice = await created(provider, paid_btn_name="openBot", paid_btn_url=url)
            assert f'<a class=back href="{chat}">Back to the chat</a>' in await page(invoice)
            html = await page(invoice, {"asset": "TON"})
            assert f'href="{href}" rel=noreferrer>Open bot</a>' in html
            assert ("Back to the chat" in html) is (href != chat)
        gone = {"bot_invoice_url": f"{provider.url}/pay/IV{'0' * 16}"}
        assert "Back to the chat" in await page(gone, status=404)
        assert "Вернуться в чат" in await page(gone, status=404, language="ru")


async def test_a_second_tap_pays_nothing(provider: CryptoPay) -> None:
    """It shows the page of the first, with what the first paid."""
    invoice = await created(provider)
    await page(invoice, {"asset": "TON"})
    assert " TON, " in await page(invoice, {"asset": "USDT"})
    assert (await read(provider, invoice["invoice_id"]))["paid_asset"] == "TON"
    assert "Paid" in await page(invoice, {"expire": "1"})


async def test_a_person_lets_it_expire(provider: CryptoPay) -> None:
    invoice = await created(provider)
    html = await page(invoice, {"expire": "1"})
    assert "The invoice has expired" in html
    assert "149 RUB" in html
    assert "The invoice has expired" in await page(invoice, {"asset": "TON"})
    assert (await read(provider, invoice["invoice_id"]))["status"] == "expired"


async def test_the_page_counts_the_seconds(provider: CryptoPay, clock: MovedClock) -> None:
    """Rounded up, so that it is never reloaded before the end."""
    invoice = await created(provider, expires_in=3725)
    assert "<time data-left-s=3725>1:02:05</time>" in await page(invoice)
    clock.move(seconds=3724.5)
    assert "<time data-left-s=1>0:00:01</time>" in await page(invoice)
    clock.move(seconds=0.5)
    assert "The invoice has expired" in await page(invoice)
    assert "<time" not in await page(await created(provider))


async def test_a_deleted_invoice_is_gone(provider: CryptoPay) -> None:
    invoice = await created(provider)
    await call(provider, "deleteInvoice", invoice_id=invoice["invoice_id"])
    assert "There is no such invoice" in await page(invoice, status=404)
    assert "There is no such invoice" in await page(invoice, {"asset": "TON"}, status=404)


@pytest.mark.parametrize(
    ("fields", "form", "sentence"),
    [
        ({"accepted_assets": "USDT"}, {"asset": "TON"}, "does not accept this asset"),
        ({"allow_comments": False}, {"asset": "TON", "comment": "x"}, "takes no comment"),
        ({"allow_anonymous": False}, {"asset": "TON", "anonymously": "1"}, "paid anonymously."),
        ({}, {"asset": "BTC"}, "no rate now"),
        ({}, {}, "does not accept this asset"),
    ],
)
async def test_the_page_says_why_not(
    provider: CryptoPay, owner: CryptoPayClient, fields: Json, form: Json, sentence: str
) -> None:
    await owner.set_rate("BTC", "1", is_valid=False)
    invoice = await created(provider, **fields)
    html = await page(invoice, form, status=409)
    assert sentence in html.partition("role=alert")[2]
    assert (await read(provider, invoice["invoice_id"]))["status"] == "active"


async def test_the_page_asks_only_what_it_may(provider: CryptoPay, owner: CryptoPayClient) -> None:
    await owner.set_rate("TON", "1", is_valid=False)
    html = await page(await created(provider, allow_comments=False, allow_anonymous=False))
    assert "name=comment" not in html
    assert "name=anonymously" not in html
    assert "<button disabled>TON" in html
    crypto = (await call(provider, "createInvoice", asset="TON", amount="2")).result
    html = await page(crypto)
    assert (buttons(html), "1 TON =" in html) == (["TON"], False), "it needs no rate"


async def test_the_page_speaks_two_languages(provider: CryptoPay) -> None:
    invoice = await created(provider)
    russian = await page(invoice, language="ru-RU,ru;q=0.9")
    assert "<html lang=ru>" in russian
    assert "Пусть истечёт" in russian
    assert await page({"bot_invoice_url": f"{invoice['bot_invoice_url']}?lang=ru"}) == russian
    english = {"bot_invoice_url": f"{invoice['bot_invoice_url']}?lang=en"}
    assert "Let it expire" in await page(english, language="ru")
    assert "Let it expire" in await page(invoice, language="de")


async def test_a_paid_page_keeps_its_language(provider: CryptoPay) -> None:
    invoice = await created(provider)
    chosen = {"bot_invoice_url": f"{invoice['bot_invoice_url']}?lang=ru"}
    assert "Оплачено" in await page(chosen, {"asset": "TON"}, language="en")


def test_both_languages_have_the_same_texts() -> None:
    """The same names, and the same fields in each."""
    fields = re.compile(r"{\w+}")
    names = {
        language: {name: sorted(fields.findall(text)) for name, text in texts.items()}
        for language, texts in TEXTS.items()
    }
    assert names["ru"] == names["en"]


async def test_texts_of_the_shop_are_escaped(provider: CryptoPay) -> None:
    """A description is text, whatever it holds."""
    html = await page(await created(provider, description="<script>alert(1)</script>"))
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>" not in html


async def test_the_page_brings_its_own_files(provider: CryptoPay) -> None:
    html = await page(await created(provider))
    async with aiohttp.ClientSession(provider.url) as http:
        for file in re.findall(r"(?:href|src)=(/page/[\w.]+)", html):
            async with http.get(file) as answer:
                assert (answer.status, len(await answer.text()) > 100) == (200, True)
        for path, status in (("/page/none.css", 404), ("/favicon.ico", 204), ("/pay/IVx", 404)):
            async with http.get(path) as answer:
                assert answer.status == status


async def test_enter_in_the_comment_pays_nothing(provider: CryptoPay) -> None:
    """A browser presses the first button of a form then: it is one that does nothing."""
    html = await page(await created(provider))
    first = re.search(r"<button[^>]*>", html)
    assert first
    assert first.group() == "<button disabled hidden>"
