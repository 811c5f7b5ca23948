"""The client's receipts for the tax office, against the stand-in of YooKassa."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from payments.domain.provider import (
    FiscalReceipt,
    Opened,
    RefundDone,
    Refusal,
    Registering,
    Unknown,
    Unsupported,
)
from payments.providers.yookassa.client import Yookassa
from tests.kit.providers import (
    STAGES,
    YookassaStage,
    asked_by,
    read_one,
    started,
)
from tests.kit.yookassa import till
from turnpike_local.yookassa import Shop

SHOP = Shop(fiscalization="yoo_receipt")
TERMS = ("a@example.org", "VPN", "service", 11, 2)
WHOLE = FiscalReceipt(*TERMS, service_minor=14900, advance_minor=0)
ADVANCE = FiscalReceipt(*TERMS, service_minor=0, advance_minor=14900)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[YookassaStage]:
    async with till(tmp_path, shop=SHOP) as running:
        client = Yookassa(SHOP.shop_id, SHOP.secret_key, f"{running.url}/v3", sends_receipts=True)
        async with started(client):
            yield YookassaStage(client, running)


async def paid(shop: YookassaStage, receipt: FiscalReceipt = ADVANCE) -> str:
    opened = await shop.provider.open(asked_by("sbp", shop.now(), receipt=receipt))
    assert isinstance(opened, Opened), opened
    await shop.pay(opened.reference)
    return opened.reference


@pytest.mark.parametrize("receipt", [WHOLE, ADVANCE])
async def test_a_receipt_goes_with_its_payment(shop: YookassaStage, receipt: FiscalReceipt) -> None:
    """R-110: the shop refuses a payment without one."""
    reference = await paid(shop, receipt)
    assert (await read_one(shop, reference)).registration == "succeeded"
    without = await shop.provider.open(asked_by("sbp", shop.now()))
    assert isinstance(without, Refusal)


async def test_a_registration_is_read_back(shop: YookassaStage) -> None:
    """R-111: by a payment, and by its page of the listing."""
    await shop.till.control.plan_registration("pending")
    reference = await paid(shop)
    assert (await read_one(shop, reference)).registration == "pending"
    assert await shop.provider.read_registration("payment", reference) == "pending"
    await shop.till.control.settle_registration(reference, "canceled")
    assert await shop.provider.read_registration("payment", reference) == "canceled"
    assert await shop.provider.read_registration("payment", str(uuid4())) is None


@pytest.mark.parametrize("how", ["lost", "500", "202"])
async def test_an_offset_is_made_once(shop: YookassaStage, how: str) -> None:
    """R-112: an unclear answer is repeated with the same key."""
    reference, key = await paid(shop), uuid4()
    await shop.till.control.plan_answer(how, call="POST /v3/receipts")
    assert isinstance(await shop.provider.register(reference, WHOLE, key), Unknown)
    made = await shop.provider.register(reference, WHOLE, key)
    assert isinstance(made, Registering)
    assert made.state == "succeeded"
    assert await shop.provider.read_registration("offset", made.reference) == "succeeded"
    [receipt] = await shop.till.control.receipts()
    assert (receipt["payment_id"], receipt["settlement"]) == (reference, "prepayment")
    assert (receipt["amount_minor"], receipt["email"]) == (14900, "a@example.org")


async def test_an_offset_needs_its_payment(shop: YookassaStage) -> None:
    answer = await shop.provider.register(str(uuid4()), WHOLE, uuid4())
    assert isinstance(answer, Refusal)


async def test_a_part_of_a_refund_has_its_receipt(shop: YookassaStage) -> None:
    """R-113: an advance that was used in part goes back as both."""
    reference = await paid(shop)
    receipt = FiscalReceipt(*TERMS, service_minor=4000, advance_minor=900)
    without = await shop.provider.refund(reference, 4900, "RUB", uuid4())
    assert isinstance(without, Refusal)
    done = await shop.provider.refund(reference, 4900, "RUB", uuid4(), receipt)
    assert isinstance(done, RefundDone)
    assert await shop.provider.read_registration("refund", done.reference) == "succeeded"


async def test_crypto_pay_registers_nothing(tmp_path: Path) -> None:
    async with STAGES["cryptobot"](tmp_path) as stage:
        for answer in (
            await stage.provider.register("1", WHOLE, uuid4()),
            await stage.provider.read_registration("payment", "1"),
        ):
            assert isinstance(answer, Unsupported)


async def test_receipts_agree_with_the_cabinet(shop: YookassaStage, tmp_path: Path) -> None:
    """R-114: on there and off here, or the reverse, is told at the start."""
    told = [one.sentence for one in await shop.provider.check()]
    assert not any("receipts" in sentence for sentence in told)
    off = Yookassa(SHOP.shop_id, SHOP.secret_key, f"{shop.till.url}/v3")
    async with started(off):
        assert any(one.blocks and "TURNPIKE_RECEIPTS" in one.sentence for one in await off.check())
    (tmp_path / "other").mkdir()
    async with till(tmp_path / "other") as other:
        on = Yookassa(SHOP.shop_id, SHOP.secret_key, f"{other.url}/v3", sends_receipts=True)
        async with started(on):
            found = [one for one in await on.check() if "TURNPIKE_RECEIPTS" in one.sentence]
    assert [one.blocks for one in found] == [False]
