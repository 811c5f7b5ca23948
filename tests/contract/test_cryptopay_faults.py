"""Faults of Crypto Pay on demand: what an unclear answer leaves behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.cryptopay import TOKEN, call, created
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient
from turnpike_local.cryptopay.planned_faults import Answer

WISH = {"asset": "USDT", "amount": "5"}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def owner(provider: CryptoPay) -> AsyncIterator[CryptoPayClient]:
    async with CryptoPayClient(provider.url) as client:
        yield client


async def invoices(provider: CryptoPay) -> int:
    return len((await call(provider, "getInvoices")).result["items"])


@pytest.mark.parametrize(
    ("answer", "refusal", "made"),
    [
        ("429", "429 TOO_MANY_REQUESTS", 0),
        ("500", "500 APP_ERROR", 0),
        ("500_after", "500 APP_ERROR", 1),
    ],
)
async def test_an_error_may_follow_success(
    provider: CryptoPay, owner: CryptoPayClient, answer: Answer, refusal: str, made: int
) -> None:
    """W-74: two equal errors, and one of them made an invoice. The next call is well again."""
    await owner.plan_fault(answer, method="createInvoice")
    assert await invoices(provider) == 0, "another method is not concerned"
    assert (await call(provider, "createInvoice", **WISH)).refusal == refusal
    assert await invoices(provider) == made
    await created(provider)
    assert await invoices(provider) == made + 1


async def test_an_answer_may_be_lost(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """W-74: the invoice exists, and nobody was told its id."""
    await owner.plan_fault("lost", method="createInvoice")
    with pytest.raises(aiohttp.ClientError):
        await call(provider, "createInvoice", **WISH)
    assert await invoices(provider) == 1


async def test_a_lost_transfer_is_found_by_spend_id(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    """W-74: a repeat moves nothing, and the listing tells that the first one did."""
    await owner.allow(transfers=True)
    await owner.add_person(7)
    await owner.add_to_balance("USDT", "10")
    wish = {**WISH, "user_id": 7, "spend_id": "one"}
    await owner.plan_fault("lost", method="transfer")
    with pytest.raises(aiohttp.ClientError):
        await call(provider, "transfer", **wish)
    assert (await call(provider, "transfer", **wish)).refusal == "400 SPEND_ID_ALREADY_USED"
    [found] = (await call(provider, "getTransfers", spend_id="one")).result["items"]
    assert found["amount"] == "5"


async def test_a_wrong_call_keeps_its_refusal(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """A lost answer needs success: a refusal is told, and uses up the plan."""
    await owner.plan_fault("lost")
    assert (await call(provider, "createInvoice")).refusal == "400 ASSET_REQUIRED"
    await created(provider)


async def test_recovery_clears_all_plans(provider: CryptoPay, owner: CryptoPayClient) -> None:
    await owner.plan_fault("500", count=1000)
    await owner.plan_notice("never", count=1000)
    assert (await call(provider, "getMe")).refusal == "500 APP_ERROR"
    await owner.recover()
    await owner.set_webhook("http://127.0.0.1:1/")
    invoice = await created(provider)
    await owner.pay(invoice["invoice_id"], "USDT")
    assert (await owner.app())["waiting_notices"] == 1
