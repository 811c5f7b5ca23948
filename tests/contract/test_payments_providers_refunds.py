"""Refunds, held money and the shop at the start: against the stand-ins, by each provider."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from payments.domain.provider import (
    Finding,
    Payment,
    Refund,
    RefundDone,
    RefundPage,
    RefundPending,
    Refusal,
    SlowDown,
    Unknown,
    Unsupported,
)
from payments.providers.yookassa.client import Yookassa
from tests.kit.providers import (
    CLIENTS,
    SHOP,
    STAGES,
    YookassaStage,
    asked_by,
    cryptobot_stage,
    opened_on,
    read_one,
    started,
    yookassa_stage,
)
from tests.kit.yookassa import card_on_hold, till


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[YookassaStage]:
    async with yookassa_stage(tmp_path) as running:
        yield running


async def test_crypto_pay_has_no_refunds(tmp_path: Path) -> None:
    async with STAGES["cryptobot"](tmp_path) as stage:
        provider, now = stage.provider, stage.now()
        for answer in (
            await provider.refund("1", 1, "RUB", uuid4()),
            await provider.read_refund("1"),
            await provider.list_refunds(now, now, None),
            await provider.capture("1", 1, "RUB"),
            await provider.cancel("1"),
        ):
            assert isinstance(answer, Unsupported)
            assert answer.sentence


async def refundable(shop: YookassaStage) -> str:
    _, opened = await opened_on(shop)
    await shop.pay(opened.reference)
    return opened.reference


@pytest.mark.parametrize("parts", [(14900,), (4900, 10000)])
async def test_a_refund_returns_all_or_a_part(shop: YookassaStage, parts: tuple[int, ...]) -> None:
    reference = await refundable(shop)
    for part in parts:
        assert isinstance(await shop.provider.refund(reference, part, "RUB", uuid4()), RefundDone)
    assert (await read_one(shop, reference)).refunded_minor == 14900
    page = await shop.provider.list_refunds(
        shop.now() - timedelta(hours=1), shop.now() + timedelta(seconds=1), None
    )
    assert isinstance(page, RefundPage)
    assert sorted(one.amount_minor for one in page.refunds) == sorted(parts)
    assert {one.payment for one in page.refunds} == {reference}


@pytest.mark.parametrize("how", ["lost", "500", "202"])
async def test_a_refund_with_one_key_happens_once(shop: YookassaStage, how: str) -> None:
    reference, key = await refundable(shop), uuid4()
    await shop.till.control.plan_answer(how, call="POST /v3/refunds")
    lost = await shop.provider.refund(reference, 4900, "RUB", key)
    assert isinstance(lost, Unknown)
    assert lost.then == "repeat"
    done = await shop.provider.refund(reference, 4900, "RUB", key)
    assert isinstance(done, RefundDone)
    assert await shop.provider.refund(reference, 4900, "RUB", key) == done
    assert (await read_one(shop, reference)).refunded_minor == 4900


async def test_more_than_was_paid_is_not_refunded(shop: YookassaStage) -> None:
    reference = await refundable(shop)
    answer = await shop.provider.refund(reference, 14901, "RUB", uuid4())
    assert isinstance(answer, Refusal)
    assert answer.code == "invalid_request"
    assert isinstance(await shop.provider.refund(reference, 1, "ABC", uuid4()), Refusal)
    assert (await read_one(shop, reference)).refunded_minor == 0


async def test_a_pending_refund_tells_its_end(shop: YookassaStage) -> None:
    reference = await refundable(shop)
    await shop.till.control.plan_refund()
    pending = await shop.provider.refund(reference, 14900, "RUB", uuid4())
    assert isinstance(pending, RefundPending)
    await shop.till.control.settle(pending.reference, "insufficient_funds")
    refund = await shop.provider.read_refund(pending.reference)
    assert isinstance(refund, Refund)
    assert (refund.state, refund.cancel_reason) == ("canceled", "insufficient_funds")
    assert await shop.provider.read_refund(str(uuid4())) is None


async def test_a_canceled_refund_is_a_refusal(shop: YookassaStage) -> None:
    reference = await refundable(shop)
    await shop.till.control.plan_refund("rejected_by_payee")
    answer = await shop.provider.refund(reference, 14900, "RUB", uuid4())
    assert isinstance(answer, Refusal)
    assert answer.code == "rejected_by_payee"


# Keys


async def test_a_key_opens_one_payment(shop: YookassaStage) -> None:
    """R-56: the same key is the same payment, also after 202, and while it is unclear."""
    asked = asked_by("card", shop.now())
    await shop.till.control.plan_answer("202", call="POST /v3/payments", retry_after_ms=700)
    unfinished = await shop.provider.open(asked)
    assert unfinished == Unknown("HTTP 202", "repeat", 0.7)
    first = await shop.provider.open(asked)
    assert await shop.provider.open(asked) == first
    assert await shop.count() == 1


async def test_a_pause_is_as_long_as_told(shop: YookassaStage) -> None:
    await shop.till.control.plan_answer("429", call="POST /v3/payments", retry_after_ms=2500)
    assert await shop.provider.open(asked_by("sbp", shop.now())) == SlowDown(2.5)


# Held money


async def held(shop: YookassaStage) -> str:
    made = await shop.till.merchant.done("payments", card_on_hold())
    await shop.pay(made["id"])
    assert (await read_one(shop, made["id"])).state == "held"
    return str(made["id"])


@pytest.mark.parametrize("amount_minor", [14900, 10000])
async def test_held_money_is_captured_once(shop: YookassaStage, amount_minor: int) -> None:
    reference = await held(shop)
    await shop.till.control.plan_answer("lost", call="POST /v3/payments/{id}/capture")
    assert isinstance(await shop.provider.capture(reference, amount_minor, "RUB"), Unknown)
    captured = await shop.provider.capture(reference, amount_minor, "RUB")
    assert isinstance(captured, Payment)
    assert (captured.state, captured.amount_minor) == ("succeeded", amount_minor)


async def test_held_money_can_go_back(shop: YookassaStage) -> None:
    reference = await held(shop)
    canceled = await shop.provider.cancel(reference)
    assert isinstance(canceled, Payment)
    assert (canceled.state, canceled.cancel_reason) == ("canceled", "canceled_by_merchant")
    assert isinstance(await shop.provider.capture(reference, 14900, "RUB"), Refusal)
    assert isinstance(await shop.provider.cancel("../me"), Refusal)


# The start


async def test_a_good_account_has_no_blocking_findings(tmp_path: Path) -> None:
    """R-10. Both stand-ins are test accounts, which is said and blocks nothing."""
    for name, opened in STAGES.items():
        async with opened(tmp_path / name) as stage:
            findings = await stage.provider.check()
            assert [one.blocks for one in findings] == [False]
            assert "test" in findings[0].sentence


async def test_wrong_keys_block(tmp_path: Path) -> None:
    """R-10: the sentence names the setting, and no key."""
    async with yookassa_stage(tmp_path / "1") as one, cryptobot_stage(tmp_path / "2") as two:
        addresses = {"yookassa": f"{one.till.url}/v3", "cryptobot": two.running.url}
        for name, url in addresses.items():
            async with started(CLIENTS[name](url)) as client:
                (finding,) = await client.check()
                assert finding.blocks
                assert "TURNPIKE_" in finding.sentence
                assert "hunter2" not in finding.sentence
                assert isinstance(await client.open(asked_by(client.ways[0], one.now())), Refusal)


async def test_a_shop_that_cannot_sell_says_so(tmp_path: Path) -> None:
    off = replace(SHOP, enabled=False, methods=("bank_card",), fiscalization="yoo_receipt")
    async with (
        till(tmp_path, shop=off) as opened,
        started(Yookassa(off.shop_id, off.secret_key, f"{opened.url}/v3")) as provider,
    ):
        findings = await provider.check()
    assert Finding("YooKassa has disabled the shop.", blocks=True) in findings
    assert Finding("The shop at YooKassa cannot take payments by sbp.", blocks=False) in findings
    assert any("receipts" in one.sentence and one.blocks for one in findings)
