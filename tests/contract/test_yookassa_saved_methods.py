"""Saved methods: a charge without the payer, and what revokes it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.kit.yookassa import Till, card_on_hold, order, rubles, till
from turnpike_local.yookassa import Shop
from turnpike_local.yookassa.client import ControlError


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


def charge(method_id: str, **changes: Any) -> Any:
    fields = {"payment_method_data": None, "confirmation": None, "payment_method_id": method_id}
    return order(**fields, **changes)


async def test_a_method_is_saved_by_a_payment(running: Till) -> None:
    made = await running.merchant.done("payments", order(save_payment_method=True))
    assert made["payment_method"]["saved"] is False
    assert made["payment_method"]["status"] == "pending"
    assert (await running.merchant.get(f"payment_methods/{made['id']}"))[0] == 404
    paid = await running.control.pay(made["id"])
    assert (paid["payment_method"]["saved"], paid["payment_method"]["status"]) == (True, "active")
    status, method = await running.merchant.get(f"payment_methods/{paid['payment_method']['id']}")
    assert (status, method["type"], method["saved"], method["status"]) == (
        200,
        "sbp",
        True,
        "active",
    )
    assert method["holder"] == {"account_id": "100500", "gateway_id": "100700"}


async def test_an_unsaved_method_is_not_charged(running: Till) -> None:
    paid = await running.paid()
    asked = charge(paid["payment_method"]["id"])
    await running.merchant.refused("payments", asked, parameter="payment_method_id")


async def test_a_saved_method_pays_at_once(running: Till) -> None:
    method_id = await running.saved_method()
    charged = await running.merchant.done("payments", charge(method_id))
    assert (charged["status"], charged["payment_method"]["id"]) == ("succeeded", method_id)
    assert charged["payment_method"]["saved"]
    assert "confirmation" not in charged
    assert [one["event"] for one in await running.control.notices()] == ["payment.succeeded"] * 2


async def test_a_saved_method_ends_unused(running: Till) -> None:
    """Three years after its last charge, as payments do."""
    method_id = await running.saved_method()
    running.clock.move(days=3 * 365 - 1)
    await running.merchant.done("payments", charge(method_id))
    running.clock.move(days=3 * 365 - 1)
    assert (await running.merchant.get(f"payment_methods/{method_id}"))[0] == 200
    running.clock.move(days=1)
    assert (await running.merchant.get(f"payment_methods/{method_id}"))[0] == 404
    asked = charge(method_id)
    await running.merchant.refused("payments", asked, parameter="payment_method_id")


async def test_a_saved_card_pays_into_a_hold(running: Till) -> None:
    made = await running.merchant.done("payments", card_on_hold(save_payment_method=True))
    method_id = (await running.control.pay(made["id"]))["payment_method"]["id"]
    held = await running.merchant.done("payments", charge(method_id, capture=False))
    assert held["status"] == "waiting_for_capture"
    await running.merchant.done(f"payments/{held['id']}/capture")


async def test_a_saved_method_has_its_limits(running: Till) -> None:
    method_id = await running.saved_method()
    too_much = charge(method_id, amount=rubles("700000.01"))
    await running.merchant.refused("payments", too_much, parameter="amount.value")
    on_hold = charge(method_id, capture=False)
    await running.merchant.refused("payments", on_hold, parameter="capture")


@pytest.mark.parametrize(
    ("reason", "party", "status"),
    [
        ("permission_revoked", "yoo_money", "inactive"),
        ("insufficient_funds", "payment_network", "active"),
        ("card_expired", "payment_network", "active"),
        ("payment_method_restricted", "payment_network", "active"),
    ],
)
async def test_a_refused_charge_is_canceled(
    running: Till, reason: str, party: str, status: str
) -> None:
    """The answer is 200: only its status and reason tell."""
    method_id = await running.saved_method()
    await running.control.decline_saved(method_id, reason)
    refused = await running.merchant.done("payments", charge(method_id))
    assert (refused["status"], refused["paid"]) == ("canceled", False)
    assert refused["cancellation_details"] == {"party": party, "reason": reason}
    _, method = await running.merchant.get(f"payment_methods/{method_id}")
    assert method["status"] == status
    await running.control.decline_saved(method_id, None)
    assert (await running.merchant.done("payments", charge(method_id)))["status"] == "succeeded"


async def test_only_known_methods_and_reasons_are_declined(running: Till) -> None:
    method_id = await running.saved_method()
    with pytest.raises(ControlError, match="One of"):
        await running.control.decline_saved(method_id, "bad_mood")
    with pytest.raises(ControlError, match="not found"):
        await running.control.decline_saved("m", "insufficient_funds")


async def test_a_charge_can_stay_pending(running: Till) -> None:
    """It has no page: time, or the bank, ends it."""
    method_id = await running.saved_method()
    await running.control.plan_pending_charge()
    waiting = await running.merchant.done("payments", charge(method_id))
    assert (waiting["status"], "confirmation" in waiting) == ("pending", False)
    paid = await running.control.pay(waiting["id"])
    assert (paid["status"], paid["payment_method"]["id"]) == ("succeeded", method_id)
    await running.control.plan_pending_charge()
    waiting = await running.merchant.done("payments", charge(method_id))
    refused = await running.control.decline(waiting["id"], "insufficient_funds")
    assert refused["cancellation_details"]["reason"] == "insufficient_funds"


async def test_a_saved_method_is_not_saved_again(running: Till) -> None:
    asked = charge(await running.saved_method(), save_payment_method=True)
    await running.merchant.refused("payments", asked, parameter="save_payment_method")


async def test_a_shop_without_consent_saves_nothing(tmp_path: Path) -> None:
    """By default a live shop may neither save nor charge: YooKassa's manager allows it."""
    async with till(tmp_path) as running:
        method_id = await running.saved_method()
    async with till(tmp_path, shop=Shop(may_save_methods=False)) as running:
        for body in (order(save_payment_method=True), charge(method_id)):
            status, answer = await running.merchant.post("payments", body, key=uuid4().hex)
            assert (status, answer["code"]) == (403, "forbidden")
