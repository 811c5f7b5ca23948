"""The stand-in for Crypto Pay refuses what the provider refuses, and a wrong client with it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.cryptopay import HEADERS, TOKEN, Answer, call, created
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient
from turnpike_local.cryptopay.client import CryptoPayError

CRYPTO = {"asset": "USDT", "amount": "5"}
FIAT = {"currency_type": "fiat", "fiat": "RUB", "amount": "149"}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN) as running:
        yield running


async def sent(provider: CryptoPay, verb: str, path: str, **options: Any) -> Answer:
    async with (
        aiohttp.ClientSession() as http,
        http.request(verb, f"{provider.url}{path}", **options) as answer,
    ):
        return Answer(answer.status, await answer.json())


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({}, "ASSET_REQUIRED"),
        ({"asset": "DOGE", "amount": "5"}, "ASSET_INVALID"),
        ({"asset": "usdt", "amount": "5"}, "ASSET_INVALID"),
        ({"asset": "USDT"}, "AMOUNT_REQUIRED"),
        ({"asset": "USDT", "amount": ""}, "AMOUNT_REQUIRED"),
        (CRYPTO | {"amount": 5}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": 5.5}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "0"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "-5"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "5,5"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "1e3"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "٥"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "5.123456789"}, "AMOUNT_INVALID"),
        (CRYPTO | {"amount": "0.0099"}, "AMOUNT_TOO_SMALL"),
        (CRYPTO | {"amount": "25001"}, "AMOUNT_TOO_BIG"),
        (CRYPTO | {"currency_type": "coin"}, "CURRENCY_TYPE_INVALID"),
        (CRYPTO | {"fiat": "RUB"}, "FIAT_INVALID"),
        (CRYPTO | {"accepted_assets": "TON"}, "ACCEPTED_ASSETS_INVALID"),
        ({"currency_type": "fiat", "amount": "149"}, "FIAT_REQUIRED"),
        (FIAT | {"fiat": "RUR"}, "FIAT_INVALID"),
        (FIAT | {"asset": "TON"}, "ASSET_INVALID"),
        (FIAT | {"amount": "149.001"}, "AMOUNT_INVALID"),
        (FIAT | {"amount": "0.01"}, "AMOUNT_TOO_SMALL"),
        (FIAT | {"amount": "2006251"}, "AMOUNT_TOO_BIG"),
        (FIAT | {"accepted_assets": "USDT,DOGE"}, "ACCEPTED_ASSETS_INVALID"),
        (FIAT | {"accepted_assets": "USDT,USDT"}, "ACCEPTED_ASSETS_INVALID"),
        (FIAT | {"accepted_assets": "USDT,"}, "ACCEPTED_ASSETS_INVALID"),
        (FIAT | {"accepted_assets": "," * 50}, "ACCEPTED_ASSETS_INVALID"),
        (CRYPTO | {"description": "x" * 1025}, "DESCRIPTION_INVALID"),
        (CRYPTO | {"description": "\ud800"}, "DESCRIPTION_INVALID"),
        (CRYPTO | {"description": 7}, "DESCRIPTION_INVALID"),
        (CRYPTO | {"hidden_message": "x" * 2049}, "HIDDEN_MESSAGE_INVALID"),
        (CRYPTO | {"payload": "x" * 4097}, "PAYLOAD_INVALID"),
        (CRYPTO | {"payload": "ы" * 2049}, "PAYLOAD_INVALID"),
        (CRYPTO | {"paid_btn_name": "openBot"}, "PAID_BTN_URL_REQUIRED"),
        (CRYPTO | {"paid_btn_url": "https://t.me/x"}, "PAID_BTN_NAME_REQUIRED"),
        (
            CRYPTO | {"paid_btn_name": "open", "paid_btn_url": "https://a.b"},
            "PAID_BTN_NAME_INVALID",
        ),
        (
            CRYPTO | {"paid_btn_name": "openBot", "paid_btn_url": "javascript:alert(1)"},
            "PAID_BTN_URL_INVALID",
        ),
        (CRYPTO | {"expires_in": 0}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"expires_in": 2_678_401}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"expires_in": 1.5}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"expires_in": True}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"expires_in": "soon"}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"expires_in": 10**30}, "EXPIRES_IN_INVALID"),
        (CRYPTO | {"allow_comments": "maybe"}, "ALLOW_COMMENTS_INVALID"),
        (CRYPTO | {"allow_anonymous": 2}, "ALLOW_ANONYMOUS_INVALID"),
        (CRYPTO | {"swap_to": "USDT"}, "UNKNOWN_PARAMETER_SWAP_TO"),
        (CRYPTO | {"expire_in": 60}, "UNKNOWN_PARAMETER_EXPIRE_IN"),
    ],
)
async def test_create_invoice_refuses(
    provider: CryptoPay, fields: dict[str, object], refusal: str
) -> None:
    """W-73: nothing is made then."""
    assert (await call(provider, "createInvoice", **fields)).refusal == f"400 {refusal}"
    assert (await call(provider, "getInvoices")).result == {"items": []}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"count": 0}, "COUNT_INVALID"),
        ({"count": 1001}, "COUNT_INVALID"),
        ({"offset": -1}, "OFFSET_INVALID"),
        ({"status": "expired"}, "STATUS_INVALID"),
        ({"asset": "RUB"}, "ASSET_INVALID"),
        ({"fiat": "USDT"}, "FIAT_INVALID"),
        ({"invoice_ids": "1,two"}, "INVOICE_IDS_INVALID"),
        ({"invoice_ids": ",".join(["1"] * 1001)}, "INVOICE_IDS_INVALID"),
        ({"from": "2026-11-30"}, "UNKNOWN_PARAMETER_FROM"),
    ],
)
async def test_get_invoices_refuses(
    provider: CryptoPay, fields: dict[str, object], refusal: str
) -> None:
    """W-73: there is no filter by date, and none for expired invoices."""
    assert (await call(provider, "getInvoices", **fields)).refusal == f"400 {refusal}"


async def test_the_largest_allowed_amounts_are_taken(provider: CryptoPay) -> None:
    """W-73: the bounds themselves are inside, in USD at the rate of the moment."""
    await created(provider, amount="2006250")
    await created(provider, amount="0.81")
    for amount in ("0.01", "25000"):
        fields = {"asset": "USDC", "amount": amount}
        async with CryptoPayClient(provider.url) as owner:
            await owner.set_rate("USDC", "1")
        assert (await call(provider, "createInvoice", **fields)).status == 200
    thousand = ",".join(["1"] * 1000)
    assert (await call(provider, "getInvoices", invoice_ids=thousand)).status == 200


@pytest.mark.parametrize("fields", [{"accepted_assets": ["USDT", "TON"]}, {"payload": {"a": 1}}])
async def test_a_list_is_an_error_of_theirs(provider: CryptoPay, fields: dict[str, object]) -> None:
    """W-73: the real one answers 500 to a list where it wants `USDT,TON`."""
    assert (await call(provider, "createInvoice", **(FIAT | fields))).refusal == "500 APP_ERROR"


async def test_an_invoice_to_delete_has_an_id(provider: CryptoPay) -> None:
    assert (await call(provider, "deleteInvoice")).refusal == "400 INVOICE_ID_REQUIRED"
    for wrong in ("x", 0):
        answer = await call(provider, "deleteInvoice", invoice_id=wrong)
        assert answer.refusal == "400 INVOICE_ID_INVALID"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Crypto-Pay-API-Token": "4242:wrong"},
        {"Crypto-Pay-API-Token": "ключ"},
        {"Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_a_wrong_token_is_refused(provider: CryptoPay, headers: dict[str, str]) -> None:
    """W-73: also for a method that does not exist."""
    for method in ("getMe", "createInvoice", "none"):
        answer = await sent(provider, "GET", f"/api/{method}", headers=headers)
        assert answer.refusal == "401 UNAUTHORIZED"


@pytest.mark.parametrize(("verb", "method"), [("GET", "getme"), ("POST", "x"), ("PUT", "getMe")])
async def test_an_unknown_method_is_refused(provider: CryptoPay, verb: str, method: str) -> None:
    answer = await sent(provider, verb, f"/api/{method}", headers=HEADERS)
    assert answer.refusal == "405 METHOD_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "kind", "refusal"),
    [
        (b"{", "application/json", "400 BODY_INVALID"),
        (b"[]", "application/json", "400 BODY_INVALID"),
        (b"\xff", "application/json", "400 BODY_INVALID"),
        (b"[" * 100_000, "application/json", "400 BODY_INVALID"),
        (b"{}", "application/json; charset=none", "400 BODY_INVALID"),
        (b"asset=USDT", "text/plain", "400 CONTENT_TYPE_INVALID"),
        (b" " * 300_000, "application/json", "413 REQUEST_ENTITY_TOO_LARGE"),
    ],
)
async def test_an_unreadable_body_is_refused(
    provider: CryptoPay, body: bytes, kind: str, refusal: str
) -> None:
    """W-73: none of them is an error of the stand-in."""
    headers = {**HEADERS, "Content-Type": kind}
    answer = await sent(provider, "POST", "/api/createInvoice", data=body, headers=headers)
    assert answer.refusal == refusal


async def test_a_file_is_no_parameter(provider: CryptoPay) -> None:
    with aiohttp.MultipartWriter("form-data") as parts:
        parts.append("x").set_content_disposition("form-data", name="payload", filename="x")
    answer = await sent(provider, "POST", "/api/createInvoice", data=parts, headers=HEADERS)
    assert answer.refusal == "500 APP_ERROR"


@pytest.mark.parametrize("token", ["", "4242", "4242:", "x:secret", "²:secret"])
def test_a_malformed_token_starts_nothing(tmp_path: Path, token: str) -> None:
    with pytest.raises(ValueError, match="a number, a colon and a secret"):
        CryptoPay(tmp_path, token)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("webhook", {"url": "http://example.org/"}),
        ("webhook", {"url": 1}),
        ("people", {}),
        ("people", {"user_id": True}),
        ("balance", {"asset": "USDT", "add": "-1"}),
        ("balance", {"asset": "USDT", "add": "1000000000.1"}),
        ("balance", {"asset": "RUB", "add": "1"}),
        ("rates", {"asset": "USDT", "usd": "0"}),
        ("rates", {"asset": "USDT", "usd": "0.00009999"}),
        ("rates", {"asset": "USDT", "usd": "10000001"}),
        ("rates", {"asset": "USDT", "usd": "1", "is_valid": 1}),
        ("faults", {"answer": "404"}),
        ("faults", {"answer": "500", "count": 10_001}),
        ("faults", {"notice": "early"}),
        ("faults", {"notice": "late", "late_s": -1}),
        ("app", []),
        ("app", {"transfers": "yes"}),
        ("invoices/1/pay", {"asset": "USDT"}),
        ("invoices/1/pay", {"asset": "USDT", "comment": "\ud800"}),
    ],
)
async def test_the_control_api_refuses(provider: CryptoPay, path: str, body: object) -> None:
    """A mistake of a test shows with a sentence, and changes nothing."""
    async with CryptoPayClient(provider.url) as owner:
        before = await owner.app()
        with pytest.raises(CryptoPayError, match=r"\w\.$"):
            await owner.request("POST", path, json=body)
        assert await owner.app() == before


async def test_a_refused_act_has_a_reason(provider: CryptoPay) -> None:
    answer = await sent(provider, "POST", "/stand-in/invoices/1/expire", json={})
    assert answer.status == 409
    assert answer.body == {"error": "No such invoice.", "reason": "unknown"}
