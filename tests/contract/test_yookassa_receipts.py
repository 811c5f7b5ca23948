"""Receipts for the tax office, as YooKassa demands them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.yookassa import Till, card_on_hold, order, rubles, till
from turnpike_local.yookassa import Shop


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path, shop=Shop(fiscalization="yoo_receipt")) as opened:
        yield opened


def item(**changes: Any) -> Any:
    body = {
        "description": "VPN, 1 month",
        "quantity": 1,
        "amount": rubles("149.00"),
        "vat_code": 1,
        "payment_subject": "service",
        "payment_mode": "full_payment",
        "measure": "piece",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def receipt(**changes: Any) -> Any:
    body = {"customer": {"email": "a@example.org"}, "items": [item()], **changes}
    return {name: value for name, value in body.items() if value is not None}


WRONG = [
    (receipt(customer=None), "receipt.customer"),
    (receipt(customer={"phone": "79000000000"}), "receipt.customer.email"),
    (receipt(customer={"email": "a@b"}), "receipt.customer.email"),
    (receipt(customer={"email": "a@b.c", "phone": "+7"}), "receipt.customer.phone"),
    (receipt(customer={"email": "a@b.c", "name": "A"}), "receipt.customer.name"),
    (receipt(items=[]), "receipt.items"),
    (receipt(items=[item(amount=rubles("1.00"))] * 81), "receipt.items"),
    (receipt(items=[item(amount=rubles("148.99"))]), "receipt"),
    (receipt(items=[item(), item()]), "receipt"),
    (receipt(items=[item(description="x" * 129)]), "receipt.items[0].description"),
    (receipt(items=[item(vat_code=13)]), "receipt.items[0].vat_code"),
    (receipt(items=[item(vat_code=None)]), "receipt.items[0].vat_code"),
    (receipt(items=[item(measure=None)]), "receipt.items[0].measure"),
    (receipt(items=[item(measure="box")]), "receipt.items[0].measure"),
    (receipt(items=[item(payment_subject="vpn")]), "receipt.items[0].payment_subject"),
    (receipt(items=[item(payment_mode="later")]), "receipt.items[0].payment_mode"),
    (receipt(items=[item(quantity=0)]), "receipt.items[0].quantity"),
    (receipt(items=[item(quantity="1")]), "receipt.items[0].quantity"),
    (receipt(items=[item(quantity=1.0001)]), "receipt.items[0].quantity"),
    (receipt(items=[item(quantity=100_000)]), "receipt.items[0].quantity"),
    (receipt(items=[item(amount=None)]), "receipt.items[0].amount"),
    (receipt(tax_system_code=7), "receipt.tax_system_code"),
    (receipt(internet="yes"), "receipt.internet"),
    (receipt(timezone=12), "receipt.timezone"),
    (receipt(send=True), "receipt.send"),
]


@pytest.mark.parametrize(("wrong", "parameter"), WRONG)
async def test_a_wrong_receipt_is_refused(running: Till, wrong: Any, parameter: str) -> None:
    """W-70: a payment whose receipt the tax office would not get is not made."""
    await running.merchant.refused("payments", order(receipt=wrong), parameter=parameter)
    assert await running.merchant.listed() == []


async def test_a_shop_with_receipts_needs_one(running: Till) -> None:
    await running.merchant.refused("payments", order(), parameter="receipt")


async def test_a_receipt_is_registered_with_its_payment(running: Till) -> None:
    parts = [item(amount=rubles("49.50"), quantity=2), item(amount=rubles("50.00"), quantity=1.0)]
    made = await running.merchant.done("payments", order(receipt=receipt(items=parts)))
    assert made["receipt_registration"] == "pending"
    assert (await running.control.pay(made["id"]))["receipt_registration"] == "succeeded"


async def test_other_registers_take_a_phone_only(tmp_path: Path) -> None:
    """They also need no measure, and take a hundred items."""
    lines = [item(amount=rubles("1.49"), measure=None)] * 100
    by_phone = receipt(customer={"phone": "79000000000"}, items=lines)
    async with till(tmp_path, shop=Shop(fiscalization="atol")) as running:
        await running.merchant.done("payments", order(receipt=by_phone))
        nobody = receipt(customer={})
        wrong = "receipt.customer.email"
        await running.merchant.refused("payments", order(receipt=nobody), parameter=wrong)


async def test_a_part_of_a_hold_needs_its_receipt(running: Till) -> None:
    made = await running.merchant.done("payments", card_on_hold(receipt=receipt()))
    await running.control.pay(made["id"])
    path, part = f"payments/{made['id']}/capture", {"amount": rubles("100.00")}
    await running.merchant.refused(path, part, parameter="receipt")
    for_part = receipt(items=[item(amount=rubles("100.00"))])
    await running.merchant.done(path, {**part, "receipt": for_part})


async def test_a_part_of_a_refund_needs_its_receipt(running: Till) -> None:
    paid = await running.paid(receipt=receipt())
    part = {"payment_id": paid["id"], "amount": rubles("49.00")}
    await running.merchant.refused("refunds", part, parameter="receipt")
    await running.merchant.refused("refunds", {**part, "receipt": receipt()}, parameter="receipt")
    for_part = receipt(items=[item(amount=rubles("49.00"))])
    refund = await running.merchant.done("refunds", {**part, "receipt": for_part})
    assert refund["receipt_registration"] == "succeeded"


async def test_a_full_refund_repeats_the_receipt(running: Till) -> None:
    paid = await running.paid(receipt=receipt())
    asked = {"payment_id": paid["id"], "amount": paid["amount"]}
    await running.control.plan_refund()
    refund = await running.merchant.done("refunds", asked)
    assert refund["receipt_registration"] == "pending"
    settled = await running.control.settle(refund["id"])
    assert settled["receipt_registration"] == "succeeded"


async def test_the_cabinet_repeats_the_receipt(running: Till) -> None:
    paid = await running.paid(receipt=receipt())
    refund = await running.control.refund_in_cabinet(paid["id"])
    assert refund["receipt_registration"] == "succeeded"
