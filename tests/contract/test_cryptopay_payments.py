"""A payer pays an invoice of Crypto Pay: the amount at a rate, the fee, the balance, the end."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import TOKEN, Json, call, created, read
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient, Limits
from turnpike_local.cryptopay.client import CryptoPayError

PAYMENT_OF_FIAT = {
    *("paid_asset", "paid_amount", "paid_fiat_rate", "fee_asset", "fee_amount", "fee_in_usd"),
    *("paid_usd_rate", "paid_at", "paid_anonymously"),
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


async def balance(provider: CryptoPay, asset: str) -> Json:
    balances = {
        one.pop("currency_code"): one for one in (await call(provider, "getBalance")).result
    }
    found: Json = balances[asset]
    return found


async def test_a_fiat_price_is_paid_at_the_rate(
    provider: CryptoPay, owner: CryptoPayClient, clock: MovedClock
) -> None:
    """149 RUB at 80.25 RUB for a USDT: rounded up, so that nobody pays less than the price."""
    await owner.set_rate("USDT", "1")
    before = await created(provider)
    clock.move(seconds=90)
    await owner.pay(before["invoice_id"], "USDT", comment="Спасибо", anonymously=True)
    paid = await read(provider, before["invoice_id"])
    assert set(paid) - set(before) == PAYMENT_OF_FIAT | {"comment"}
    assert {name: paid[name] for name in set(paid) - set(before)} == {
        "paid_asset": "USDT",
        "paid_amount": "1.85669782",
        "paid_fiat_rate": "80.25",
        "paid_usd_rate": "1",
        "fee_asset": "USDT",
        "fee_amount": "0.05570093",
        "fee_in_usd": "0.05570093",
        "paid_at": "2026-11-30T10:01:30.000Z",
        "paid_anonymously": True,
        "comment": "Спасибо",
    }
    assert (paid["status"], paid["amount"]) == ("paid", "149")


async def test_the_balance_gets_what_arrives(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """`paid_amount` less `fee_amount`, exactly, however often."""
    assert await balance(provider, "TON") == {"available": "0", "onhold": "0"}
    arrived = Decimal(0)
    for _ in range(3):
        invoice = await created(provider)
        await owner.pay(invoice["invoice_id"], "TON")
        paid = await read(provider, invoice["invoice_id"])
        arrived += Decimal(paid["paid_amount"]) - Decimal(paid["fee_amount"])
    assert Decimal((await balance(provider, "TON"))["available"]) == arrived


async def test_a_crypto_invoice_has_no_paid_amount(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    """The asset and the amount of the invoice are what was paid; only fiat needs the others."""
    invoice = (await call(provider, "createInvoice", asset="TON", amount="2")).result
    await owner.pay(invoice["invoice_id"], "TON")
    paid = await read(provider, invoice["invoice_id"])
    assert not {"paid_asset", "paid_amount", "paid_fiat_rate"} & set(paid)
    assert (paid["fee_asset"], paid["fee_amount"], paid["fee_in_usd"]) == ("TON", "0.06", "0.1872")
    assert (await balance(provider, "TON"))["available"] == "1.94"


async def test_the_fee_is_a_percentage(tmp_path: Path) -> None:
    async with (
        CryptoPay(tmp_path, TOKEN, limits=Limits(fee_percent=Decimal(0))) as provider,
        CryptoPayClient(provider.url) as owner,
    ):
        invoice = await created(provider)
        await owner.pay(invoice["invoice_id"], "TRX")
        paid = await read(provider, invoice["invoice_id"])
        assert paid["fee_amount"] == "0"
        assert (await balance(provider, "TRX"))["available"] == paid["paid_amount"]


async def test_an_amount_has_the_decimals_of_its_asset(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    """TRX and XAUT have six; no amount has more than eight."""
    for asset, places in (("TRX", 6), ("XAUT", 6), ("BTC", 8), ("ETH", 8)):
        await owner.set_rate(asset, "0.7777777")
        invoice = await created(provider)
        await owner.pay(invoice["invoice_id"], asset)
        amount = (await read(provider, invoice["invoice_id"]))["paid_amount"]
        assert len(amount.partition(".")[2]) == places


async def test_the_rate_of_the_moment_counts(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """The rate may move between the invoice and the payment."""
    invoice = await created(provider)
    await owner.set_rate("TON", "1")
    await owner.set_rate("TON", "2")
    await owner.pay(invoice["invoice_id"], "TON")
    await owner.set_rate("TON", "3")
    paid = await read(provider, invoice["invoice_id"])
    assert (paid["paid_usd_rate"], paid["paid_fiat_rate"]) == ("2", "160.5")


async def test_an_invoice_is_paid_once(provider: CryptoPay, owner: CryptoPayClient) -> None:
    invoice = await created(provider)
    await owner.pay(invoice["invoice_id"], "TON")
    once = await balance(provider, "TON")
    with pytest.raises(CryptoPayError, match="is paid"):
        await owner.pay(invoice["invoice_id"], "TON")
    assert await balance(provider, "TON") == once


async def test_an_expired_invoice_cannot_be_paid(
    provider: CryptoPay, owner: CryptoPayClient, clock: MovedClock
) -> None:
    invoice = await created(provider, expires_in=60)
    clock.move(seconds=60)
    with pytest.raises(CryptoPayError, match="is expired"):
        await owner.pay(invoice["invoice_id"], "TON")
    assert (await balance(provider, "TON"))["available"] == "0"


async def test_a_payer_can_let_it_expire(provider: CryptoPay, owner: CryptoPayClient) -> None:
    """Also an invoice without a lifetime. A paid one stays paid."""
    left, paid = await created(provider), await created(provider)
    await owner.pay(paid["invoice_id"], "TON")
    for invoice in (left, paid):
        await owner.expire(invoice["invoice_id"])
    assert (await read(provider, left["invoice_id"]))["status"] == "expired"
    assert (await read(provider, paid["invoice_id"]))["status"] == "paid"


@pytest.mark.parametrize(
    ("fields", "how", "sentence"),
    [
        ({"accepted_assets": "USDT"}, {}, "does not accept"),
        ({"allow_comments": False}, {"comment": "x"}, "takes no comment"),
        ({}, {"comment": "x" * 1025}, "value"),
        ({"allow_anonymous": False}, {"anonymously": True}, "anonymously"),
    ],
)
async def test_a_payer_is_held_to_the_invoice(
    provider: CryptoPay, owner: CryptoPayClient, fields: Json, how: Json, sentence: str
) -> None:
    invoice = await created(provider, **fields)
    with pytest.raises(CryptoPayError, match=sentence):
        await owner.pay(invoice["invoice_id"], "TON", **how)
    assert (await read(provider, invoice["invoice_id"]))["status"] == "active"


async def test_nobody_pays_at_an_invalid_rate(provider: CryptoPay, owner: CryptoPayClient) -> None:
    await owner.set_rate("TON", "3", is_valid=False)
    invoice = await created(provider)
    with pytest.raises(CryptoPayError, match="not valid now"):
        await owner.pay(invoice["invoice_id"], "TON")
    await owner.pay(invoice["invoice_id"], "USDT")
