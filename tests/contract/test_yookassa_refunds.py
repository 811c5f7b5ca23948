"""Refunds at the stand-in for YooKassa: never more than was paid."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.yookassa import Till, order, rubles, till
from turnpike_local.yookassa.client import ControlError

THREE_YEARS_S = 3 * 365 * 24 * 3600


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


def of(payment: Any, value: str = "149.00", **changes: Any) -> Any:
    return {"payment_id": payment["id"], "amount": rubles(value), **changes}


def operation_id(refund: Any) -> str:
    """The number by which a payer's bank finds a transfer."""
    return str(refund["id"]).replace("-", "").upper()


async def test_a_refund_returns_the_whole_payment(running: Till) -> None:
    paid = await running.paid()
    asked = of(paid, description="changed their mind", metadata={"order": "7"})
    refund = await running.merchant.done("refunds", asked)
    assert refund == {
        "id": refund["id"],
        "payment_id": paid["id"],
        "status": "succeeded",
        "amount": rubles("149.00"),
        "created_at": "2026-11-30T10:00:00.000Z",
        "description": "changed their mind",
        "metadata": {"order": "7"},
        "refund_method": {"type": "sbp", "sbp_operation_id": operation_id(refund)},
    }
    assert await running.merchant.get(f"refunds/{refund['id']}") == (200, refund)
    refunded = await running.merchant.payment(paid["id"])
    assert refunded["status"] == "succeeded"
    assert refunded["refunded_amount"] == rubles("149.00")
    assert not refunded["refundable"]
    # The fee stays with YooKassa.
    assert refunded["income_amount"] == paid["income_amount"]


async def test_parts_never_exceed_the_payment(running: Till) -> None:
    paid = await running.paid()
    await running.merchant.done("refunds", of(paid, "100.00"))
    await running.merchant.refused("refunds", of(paid, "49.01"), parameter="amount.value")
    assert (await running.merchant.payment(paid["id"]))["refundable"]
    await running.merchant.done("refunds", of(paid, "49.00"))
    await running.merchant.refused("refunds", of(paid, "0.01"), parameter="amount.value")


async def test_refunds_at_once_never_exceed_the_payment(running: Till) -> None:
    paid = await running.paid()
    asked = [running.merchant.post("refunds", of(paid, "100.00")) for _ in range(10)]
    statuses = sorted(status for status, _ in await asyncio.gather(*asked))
    assert statuses == [200] + [400] * 9


async def test_a_repeated_refund_happens_once(running: Till) -> None:
    paid = await running.paid()
    await running.control.plan_answer("500", call="POST /v3/refunds")
    status, _ = await running.merchant.post("refunds", of(paid, "49.00"), key="k")
    assert status == 500
    refund = await running.merchant.done("refunds", of(paid, "49.00"), key="k")
    assert await running.merchant.listed("refunds") == [refund["id"]]


async def test_only_a_captured_amount_is_refunded(running: Till) -> None:
    held = await running.held()
    await running.merchant.refused("refunds", of(held), parameter="payment_id")
    part = {"amount": rubles("100.00")}
    await running.merchant.done(f"payments/{held['id']}/capture", part)
    await running.merchant.refused("refunds", of(held, "100.01"), parameter="amount.value")
    refund = await running.merchant.done("refunds", of(held, "100.00"))
    assert "refund_method" not in refund  # The contract has none for cards.


async def test_an_unpaid_payment_is_not_refunded(running: Till) -> None:
    made = await running.merchant.done("payments", order())
    await running.merchant.refused("refunds", of(made), parameter="payment_id")
    await running.control.decline(made["id"])
    await running.merchant.refused("refunds", of(made), parameter="payment_id")
    with pytest.raises(ControlError, match="The payment is canceled"):
        await running.control.refund_in_cabinet(made["id"])


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"payment_id": "0" * 36}, "payment_id"),
        ({"payment_id": "short"}, "payment_id"),
        ({"amount": "149.00"}, "amount"),
        ({"amount": rubles("1")}, "amount.value"),
        ({"description": "x" * 251}, "description"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"reason": "none"}, "reason"),
    ],
)
async def test_a_wrong_refund_is_refused(running: Till, changes: Any, parameter: str) -> None:
    """W-70: and nothing is refunded."""
    paid = await running.paid()
    await running.merchant.refused("refunds", {**of(paid), **changes}, parameter=parameter)
    assert await running.merchant.listed("refunds") == []


async def test_refunds_end_after_three_years(running: Till) -> None:
    paid = await running.paid()
    running.clock.move(seconds=THREE_YEARS_S - 1)
    await running.merchant.done("refunds", of(paid, "1.00"))
    running.clock.move(seconds=1)
    await running.merchant.refused("refunds", of(paid, "1.00"), parameter="payment_id")


async def test_a_pending_refund_reserves_its_amount(running: Till) -> None:
    paid = await running.paid()
    await running.control.plan_refund()
    refund = await running.merchant.done("refunds", of(paid, "100.00"))
    assert (refund["status"], refund["refund_method"]) == ("pending", {"type": "sbp"})
    assert "refunded_amount" not in await running.merchant.payment(paid["id"])
    await running.merchant.refused("refunds", of(paid, "49.01"), parameter="amount.value")
    settled = await running.control.settle(refund["id"])
    assert settled["status"] == "succeeded"
    assert settled["refund_method"]["sbp_operation_id"] == operation_id(refund)
    refunded = await running.merchant.payment(paid["id"])
    assert refunded["refunded_amount"] == rubles("100.00")
    with pytest.raises(ControlError, match="The refund is succeeded"):
        await running.control.settle(refund["id"])


@pytest.mark.parametrize(
    ("reason", "party"),
    [("insufficient_funds", "yoo_money"), ("rejected_by_payee", "refund_network")],
)
async def test_a_canceled_refund_frees_its_amount(running: Till, reason: str, party: str) -> None:
    paid = await running.paid()
    await running.control.plan_refund(reason)
    at_once = await running.merchant.done("refunds", of(paid))
    await running.control.plan_refund()
    later = await running.merchant.done("refunds", of(paid))
    await running.control.settle(later["id"], reason)
    for refund in (at_once, later):
        _, shown = await running.merchant.get(f"refunds/{refund['id']}")
        assert shown["status"] == "canceled"
        assert shown["cancellation_details"] == {"party": party, "reason": reason}
    await running.merchant.done("refunds", of(paid))


async def test_the_cabinet_refunds_what_is_left(running: Till) -> None:
    paid = await running.paid()
    part = await running.control.refund_in_cabinet(paid["id"], rubles("49.00"))
    rest = await running.control.refund_in_cabinet(paid["id"])
    assert (part["metadata"], rest["amount"]) == ({}, rubles("100.00"))
    assert await running.merchant.listed("refunds") == [rest["id"], part["id"]]
    with pytest.raises(ControlError, match="greater than what is left"):
        await running.control.refund_in_cabinet(paid["id"])


async def test_a_chargeback_shows_in_the_register_only(running: Till) -> None:
    """The API keeps saying that the payment succeeded."""
    paid = await running.paid()
    assert await running.control.charge_back(paid["id"]) == paid
    assert await running.merchant.listed("refunds") == []
    (listed,) = await running.control.chargebacks()
    assert (listed["payment_id"], listed["amount"]) == (paid["id"], rubles("149.00"))
    assert [one["event"] for one in await running.control.notices()] == ["payment.succeeded"]
    with pytest.raises(ControlError, match="charged back once"):
        await running.control.charge_back(paid["id"])
