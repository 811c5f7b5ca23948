"""Receipts apart from payments, at the stand-in of YooKassa."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.yookassa import Till, order, rubles, till
from turnpike_local.yookassa import Shop
from turnpike_local.yookassa.client import ControlError

PAYMENT = "215d8da0-000f-50be-b000-0003308c89be"
ITEM = {
    "description": "VPN",
    "quantity": 1,
    "amount": rubles("149.00"),
    "vat_code": 1,
    "payment_subject": "service",
    "payment_mode": "full_payment",
    "measure": "piece",
}
RECEIPT = {"customer": {"email": "a@example.org"}, "items": [ITEM]}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path, shop=Shop(fiscalization="yoo_receipt")) as opened:
        yield opened


def offset(payment: str, **changes: Any) -> Any:
    body = {
        "type": "payment",
        "payment_id": payment,
        "send": True,
        "settlements": [{"type": "prepayment", "amount": rubles("149.00")}],
        **RECEIPT,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


async def test_an_offset_is_registered(running: Till) -> None:
    paid = await running.paid(receipt=RECEIPT)
    made = await running.merchant.done("receipts", offset(paid["id"]))
    assert (made["type"], made["status"], made["payment_id"]) == (
        "payment",
        "succeeded",
        paid["id"],
    )
    assert await running.merchant.get(f"receipts/{made['id']}") == (200, made)
    assert (await running.merchant.get("receipts/rt-1"))[0] == 404


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"type": "refund"}, "type"),
        ({"send": None}, "send"),
        ({"send": False}, "send"),
        ({"settlements": None}, "settlements"),
        ({"settlements": [{"type": "gift", "amount": rubles("1.00")}]}, "settlements[0].type"),
        ({"settlements": [{"type": "prepayment", "amount": rubles("1.00")}]}, "receipt"),
        ({"items": []}, "receipt.items"),
        ({"customer": None}, "receipt.customer"),
        ({"payment_id": PAYMENT}, "payment_id"),
        ({"payment_id": None}, "payment_id"),
    ],
)
async def test_a_wrong_offset_is_refused(
    running: Till, changes: dict[str, Any], parameter: str
) -> None:
    paid = await running.paid(receipt=RECEIPT)
    wrong = offset(paid["id"], **changes)
    await running.merchant.refused("receipts", wrong, parameter=parameter)
    assert await running.control.receipts() == []


async def test_unpaid_payments_have_no_offset(running: Till) -> None:
    made = await running.merchant.done("payments", order(receipt=RECEIPT))
    await running.merchant.refused("receipts", offset(made["id"]), parameter="payment_id")


async def test_shops_without_a_register_make_none(tmp_path: Path) -> None:
    async with till(tmp_path) as plain:
        paid = await plain.paid()
        await plain.merchant.refused("receipts", offset(paid["id"]), parameter="receipt")


async def test_a_registration_can_wait(running: Till) -> None:
    paid = await running.paid(receipt=RECEIPT)
    await running.control.plan_registration("pending")
    made = await running.merchant.done("receipts", offset(paid["id"]))
    assert made["status"] == "pending"
    await running.control.settle_registration(made["id"])
    _, shown = await running.merchant.get(f"receipts/{made['id']}")
    assert shown["status"] == "succeeded"
    with pytest.raises(ControlError, match="not pending"):
        await running.control.settle_registration(made["id"])


async def test_a_registration_can_fail(running: Till) -> None:
    await running.control.plan_registration("canceled")
    paid = await running.paid(receipt=RECEIPT)
    assert paid["receipt_registration"] == "canceled"
