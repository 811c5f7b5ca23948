"""Crypto Pay's invoices: made, listed newest first, and deleted."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import HEADERS, TOKEN, call, created, read
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient

OPEN_LIMITS = {
    "description": "ы" * 1024,
    "hidden_message": "ы" * 2048,
    "payload": "ы" * 2048,
    "paid_btn_name": "openBot",
    "paid_btn_url": "https://t.me/turnpike_bot",
    "expires_in": 2_678_400,
    "allow_comments": False,
    "allow_anonymous": False,
}


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


async def ids(provider: CryptoPay, **wanted: object) -> list[int]:
    items = (await call(provider, "getInvoices", **wanted)).result["items"]
    return [item["invoice_id"] for item in items]


async def test_get_me_describes_the_app(provider: CryptoPay) -> None:
    assert (await call(provider, "getMe")).result == {
        "app_id": 4242,
        "name": "Turnpike",
        "payment_processing_bot_username": "CryptoTestnetBot",
    }


async def test_a_fiat_invoice_has_its_fields(provider: CryptoPay) -> None:
    invoice = await created(provider, amount="149.00", accepted_assets="USDT,TON", expires_in=1800)
    number, key = invoice.pop("invoice_id"), invoice.pop("hash")
    assert isinstance(number, int)
    pay_url = f"{provider.url}/pay/{key}"
    assert invoice == {
        "currency_type": "fiat",
        "fiat": "RUB",
        "amount": "149",
        "accepted_assets": ["USDT", "TON"],
        "bot_invoice_url": pay_url,
        "mini_app_invoice_url": pay_url,
        "web_app_invoice_url": pay_url,
        "status": "active",
        "created_at": "2026-11-30T10:00:00.000Z",
        "expiration_date": "2026-11-30T10:30:00.000Z",
        "allow_comments": True,
        "allow_anonymous": True,
    }


async def test_a_crypto_invoice_names_its_asset(provider: CryptoPay) -> None:
    """`currency_type` is crypto when it is not given. An invoice without a lifetime has no end."""
    invoice = (await call(provider, "createInvoice", asset="TON", amount="1.25000000")).result
    assert (invoice["currency_type"], invoice["asset"], invoice["amount"]) == (
        "crypto",
        "TON",
        "1.25",
    )
    assert not {"fiat", "accepted_assets", "expiration_date"} & set(invoice)


async def test_every_field_takes_its_longest_value(provider: CryptoPay) -> None:
    invoice = await created(provider, **OPEN_LIMITS)
    given = {name: value for name, value in OPEN_LIMITS.items() if name != "expires_in"}
    assert given.items() <= invoice.items()
    assert invoice["expiration_date"] == "2026-12-31T10:00:00.000Z"


async def test_a_fiat_invoice_accepts_every_asset(provider: CryptoPay) -> None:
    accepted = (await created(provider))["accepted_assets"]
    assert {"USDT", "TON", "BTC", "SOL", "XAUT", "SEND"} <= set(accepted)


@pytest.mark.parametrize("by", ["query", "form", "multipart", "get"])
async def test_parameters_come_in_four_forms(provider: CryptoPay, by: str) -> None:
    """Texts are numbers and flags there: a query and a form know no other type."""
    fields = {"asset": "USDT", "amount": "2.5", "expires_in": "60", "allow_comments": "false"}
    url = f"{provider.url}/api/createInvoice"
    async with aiohttp.ClientSession(headers=HEADERS) as http:
        if by == "get":
            request = http.get(url, params=fields)
        elif by == "query":
            request = http.post(url, params=fields)
        elif by == "form":
            request = http.post(url, data=fields)
        else:
            with aiohttp.MultipartWriter("form-data") as parts:
                for name, value in fields.items():
                    parts.append(value).set_content_disposition("form-data", name=name)
            request = http.post(url, data=parts)
        async with request as answer:
            invoice = (await answer.json())["result"]
    assert (invoice["amount"], invoice["allow_comments"]) == ("2.5", False)
    assert invoice["expiration_date"] == "2026-11-30T10:01:00.000Z"


async def test_invoices_are_listed_newest_first(provider: CryptoPay) -> None:
    made = [(await created(provider))["invoice_id"] for _ in range(5)]
    assert await ids(provider) == made[::-1]
    assert await ids(provider, offset=1, count=2) == [made[3], made[2]]
    assert await ids(provider, offset=5) == []


async def test_a_page_has_a_hundred_unless_asked(provider: CryptoPay) -> None:
    for _ in range(101):
        await created(provider)
    assert len(await ids(provider)) == 100
    assert len(await ids(provider, count=1000)) == 101


async def test_filters_select_currency_ids_and_status(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    rub, usd = await created(provider), await created(provider, fiat="USD", amount="2")
    ton = (await call(provider, "createInvoice", asset="TON", amount="1")).result
    await owner.pay(ton["invoice_id"], "TON")
    assert await ids(provider, asset="TON") == [ton["invoice_id"]]
    assert await ids(provider, fiat="RUB") == [rub["invoice_id"]]
    assert await ids(provider, status="paid") == [ton["invoice_id"]]
    assert await ids(provider, status="active") == [usd["invoice_id"], rub["invoice_id"]]
    both = f"{rub['invoice_id']},{ton['invoice_id']},1"
    assert await ids(provider, invoice_ids=both) == [ton["invoice_id"], rub["invoice_id"]]
    assert await ids(provider, invoice_ids=usd["invoice_id"]) == [usd["invoice_id"]]


async def test_an_expired_invoice_is_listed_without_filter(
    provider: CryptoPay, clock: MovedClock
) -> None:
    """It is neither active nor paid, so only its id or the whole list finds it."""
    invoice = await created(provider, expires_in=60)
    clock.move(seconds=59.999)
    assert (await read(provider, invoice["invoice_id"]))["status"] == "active"
    clock.move(milliseconds=1)
    assert (await read(provider, invoice["invoice_id"]))["status"] == "expired"
    assert await ids(provider) == [invoice["invoice_id"]]
    assert await ids(provider, status="active") == await ids(provider, status="paid") == []


async def test_an_open_invoice_can_be_deleted(provider: CryptoPay) -> None:
    invoice = await created(provider)
    deleted = {"invoice_id": invoice["invoice_id"]}
    assert (await call(provider, "deleteInvoice", **deleted)).result is True
    assert await ids(provider) == []
    again = await call(provider, "deleteInvoice", **deleted)
    assert again.refusal == "400 INVOICE_NOT_FOUND"
    assert (await created(provider))["invoice_id"] > invoice["invoice_id"], "ids are not used again"


async def test_a_paid_invoice_cannot_be_deleted(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    invoice = await created(provider)
    await owner.pay(invoice["invoice_id"], "USDT")
    answer = await call(provider, "deleteInvoice", invoice_id=invoice["invoice_id"])
    assert answer.refusal == "400 INVOICE_NOT_FOUND"
    assert (await read(provider, invoice["invoice_id"]))["status"] == "paid"


async def test_rates_exist_for_every_pair(provider: CryptoPay, owner: CryptoPayClient) -> None:
    await owner.set_rate("TON", "3.5", is_valid=False)
    rates = {
        (r["source"], r["target"]): r for r in (await call(provider, "getExchangeRates")).result
    }
    assert rates["TON", "RUB"] == {
        "is_valid": False,
        "is_crypto": True,
        "is_fiat": False,
        "source": "TON",
        "target": "RUB",
        "rate": "280.875",
    }
    assert rates["USDT", "USD"]["is_valid"] is True
    assert len(rates) == 11 * 20


async def test_currencies_tell_their_decimals(provider: CryptoPay) -> None:
    currencies = {one["code"]: one for one in (await call(provider, "getCurrencies")).result}
    assert currencies["USDT"] == {
        "is_blockchain": False,
        "is_stablecoin": True,
        "is_fiat": False,
        "name": "Tether",
        "code": "USDT",
        "url": "https://tether.to/",
        "decimals": 18,
    }
    assert currencies["TON"]["is_blockchain"] is True
    assert currencies["RUB"] == {
        "is_blockchain": False,
        "is_stablecoin": False,
        "is_fiat": True,
        "name": "Russian ruble",
        "code": "RUB",
        "decimals": 2,
    }
