"""The life of a payment at the stand-in for YooKassa, as the merchant sees it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.clock import MovedClock
from tests.kit.yookassa import Till, card_on_hold, order, rubles, till
from turnpike_local.yookassa import Shop
from turnpike_local.yookassa.client import ControlError


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


async def test_a_new_payment_waits_for_its_payer(running: Till) -> None:
    made = await running.merchant.done("payments", order(merchant_customer_id="77"))
    assert len(made["id"]) == 36
    address = f"{running.url}/checkout/payments/v2/contract?orderId={made['id']}"
    assert made == {
        "id": made["id"],
        "status": "pending",
        "paid": False,
        "refundable": False,
        "test": True,
        "amount": rubles("149.00"),
        "description": "Basic, 1 month",
        "merchant_customer_id": "77",
        "metadata": {"order": "7"},
        "recipient": {"account_id": "100500", "gateway_id": "100700"},
        "created_at": "2026-11-30T10:00:00.000Z",
        "confirmation": {
            "type": "redirect",
            "return_url": "https://t.me/turnpike_bot",
            "confirmation_url": address,
        },
        "payment_method": {
            "type": "sbp",
            "id": made["id"],
            "saved": False,
            "status": "inactive",
        },
    }
    assert await running.merchant.payment(made["id"]) == made


async def test_a_paid_payment_succeeds_less_its_fee(running: Till) -> None:
    """The fee is 0.7 % of 149.00, and 22 % VAT on it: 1.04 and 0.23."""
    made = await running.merchant.done("payments", order())
    running.clock.move(seconds=60)
    await running.control.pay(made["id"])
    paid = await running.merchant.payment(made["id"])
    assert (paid["status"], paid["paid"], paid["refundable"]) == ("succeeded", True, True)
    assert paid["captured_at"] == "2026-11-30T10:01:00.000Z"
    assert paid["income_amount"] == rubles("147.73")
    assert paid["payment_method"]["sbp_operation_id"]
    assert set(paid["payment_method"]["payer_bank_details"]) == {"bank_id", "bic"}
    assert not {"confirmation", "expires_at", "refunded_amount"} & paid.keys()
    with pytest.raises(ControlError, match="The payment is succeeded"):
        await running.control.pay(made["id"])


async def test_a_declined_payment_names_party_and_reason(running: Till) -> None:
    made = await running.merchant.done("payments", order())
    await running.control.decline(made["id"], "insufficient_funds")
    declined = await running.merchant.payment(made["id"])
    assert (declined["status"], declined["paid"]) == ("canceled", False)
    assert declined["cancellation_details"] == {
        "party": "payment_network",
        "reason": "insufficient_funds",
    }
    with pytest.raises(ControlError, match="One of"):
        await running.control.decline(made["id"], "bad_mood")


async def test_a_link_ends_after_an_hour(running: Till) -> None:
    made = await running.merchant.done("payments", order())
    running.clock.move(seconds=3599)
    assert (await running.merchant.payment(made["id"]))["status"] == "pending"
    running.clock.move(seconds=1)
    ended = await running.merchant.payment(made["id"])
    assert ended["status"] == "canceled"
    assert ended["cancellation_details"] == {
        "party": "yoo_money",
        "reason": "expired_on_confirmation",
    }
    with pytest.raises(ControlError, match="The payment is canceled"):
        await running.control.pay(made["id"])


async def test_a_link_ends_when_a_test_asks(running: Till) -> None:
    made = await running.merchant.done("payments", order())
    ended = await running.control.expire(made["id"])
    assert ended["cancellation_details"]["reason"] == "expired_on_confirmation"
    with pytest.raises(ControlError, match="The payment is canceled"):
        await running.control.expire(made["id"])


async def test_a_card_on_hold_is_captured(running: Till) -> None:
    held = await running.held()
    assert (held["status"], held["paid"], held["refundable"]) == (
        "waiting_for_capture",
        True,
        False,
    )
    assert held["expires_at"] == "2026-12-07T10:00:00.000Z"
    assert held["payment_method"]["card"]["last4"] == "4444"
    running.clock.move(seconds=3600)
    captured = await running.merchant.done(f"payments/{held['id']}/capture")
    assert (captured["status"], captured["amount"]) == ("succeeded", rubles("149.00"))
    assert captured["captured_at"] == "2026-11-30T11:00:00.000Z"
    # 3.5 % of 149.00 is 5.22, and the VAT on it 1.15.
    assert captured["income_amount"] == rubles("142.63")


async def test_a_part_of_a_hold_is_captured(running: Till) -> None:
    held = await running.held()
    path = f"payments/{held['id']}/capture"
    await running.merchant.refused(path, {"amount": rubles("149.01")}, parameter="amount.value")
    captured = await running.merchant.done(path, {"amount": rubles("100.00")})
    assert captured["amount"] == rubles("100.00")


async def test_a_hold_is_canceled_by_the_merchant(running: Till) -> None:
    held = await running.held()
    canceled = await running.merchant.done(f"payments/{held['id']}/cancel")
    assert canceled["status"] == "canceled"
    assert canceled["cancellation_details"] == {
        "party": "merchant",
        "reason": "canceled_by_merchant",
    }


async def test_a_cancel_may_have_no_body(running: Till) -> None:
    """The contract gives a body to a capture, and none to a cancel."""
    held = await running.held()
    headers = {**running.merchant.headers, "Idempotence-Key": "k"}
    path = f"/v3/payments/{held['id']}"
    async with running.merchant.http.post(f"{path}/capture", headers=headers) as answer:
        assert answer.status == 415
    async with running.merchant.http.post(f"{path}/cancel", headers=headers) as answer:
        assert (await answer.json())["status"] == "canceled"


async def test_a_forgotten_hold_ends_after_seven_days(running: Till) -> None:
    held = await running.held()
    running.clock.move(seconds=7 * 24 * 3600)
    ended = await running.merchant.payment(held["id"])
    assert ended["cancellation_details"] == {"party": "yoo_money", "reason": "expired_on_capture"}


@pytest.mark.parametrize("act", ["capture", "cancel"])
async def test_only_a_hold_is_captured_or_canceled(running: Till, act: str) -> None:
    waiting = await running.merchant.done("payments", order())
    paid = await running.paid()
    for payment in (waiting, paid):
        await running.merchant.refused(
            f"payments/{payment['id']}/{act}", {}, parameter="payment_id"
        )
    status, answer = await running.merchant.post(f"payments/{'0' * 36}/{act}", {})
    assert (status, answer["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("changes", "methods"),
    [
        ({}, {"sbp", "bank_card"}),
        ({"capture": False}, {"bank_card"}),
        ({"amount": rubles("500000.00")}, {"sbp"}),
    ],
)
async def test_a_payer_chooses_among_possible_methods(
    running: Till, changes: Any, methods: set[str]
) -> None:
    possible = set()
    for method in ("sbp", "bank_card"):
        made = await running.merchant.done("payments", order(payment_method_data=None, **changes))
        assert "payment_method" not in made
        try:
            paid = await running.control.pay(made["id"], method=method)
        except ControlError:
            continue
        possible.add(paid["payment_method"]["type"])
    assert possible == methods


async def test_me_describes_the_shop(tmp_path: Path) -> None:
    shop = Shop(shop_id="77", methods=("bank_card",), fiscalization="yoo_receipt")
    async with till(tmp_path, shop=shop) as running:
        assert await running.merchant.get("me") == (
            200,
            {
                "account_id": "77",
                "status": "enabled",
                "test": True,
                "fiscalization_enabled": True,
                "fiscalization": {"enabled": True, "provider": "yoo_receipt"},
                "payment_methods": ["bank_card"],
            },
        )


async def test_a_disabled_shop_takes_no_payment(tmp_path: Path) -> None:
    async with till(tmp_path, shop=Shop(enabled=False)) as running:
        assert (await running.merchant.get("me"))[1]["status"] == "disabled"
        status, answer = await running.merchant.post("payments", order())
        assert (status, answer["code"]) == (403, "forbidden")


async def test_a_restart_keeps_payments_and_keys(tmp_path: Path) -> None:
    """W-72: a payment, its hold and the answer of its key outlive the process."""
    clock, body = MovedClock(), card_on_hold()
    async with till(tmp_path, clock=clock) as running:
        made = await running.merchant.done("payments", body, key="k")
        await running.control.pay(made["id"])
    async with till(tmp_path, clock=clock) as running:
        again = await running.merchant.done("payments", body, key="k")
        assert again["id"] == made["id"]
        assert await running.merchant.listed() == [made["id"]]
        await running.merchant.done(f"payments/{made['id']}/capture")


async def test_the_stand_in_is_healthy(running: Till) -> None:
    assert await running.control.health() == {"ok": True}


async def test_a_request_of_another_site_is_refused(running: Till) -> None:
    made = await running.merchant.done("payments", order())
    headers = {"Origin": "https://evil.example"}
    path = f"/stand-in/payments/{made['id']}/pay"
    async with running.merchant.http.post(path, json={}, headers=headers) as answer:
        assert answer.status == 403
    async with aiohttp.ClientSession(running.url) as http:
        answer = await http.post(path, data="{}")
        assert answer.status == 400
    assert (await running.merchant.payment(made["id"]))["status"] == "pending"
