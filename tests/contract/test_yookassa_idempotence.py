"""One idempotence key is one act, for 24 hours, also after an unclear answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.yookassa import Till, order, rubles, till

DAY_S = 24 * 3600


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


async def test_a_repeat_gets_the_first_answer(running: Till) -> None:
    """W-71: it is the stored one, even when the payment was paid meanwhile."""
    first = await running.merchant.done("payments", order(), key="k")
    await running.control.pay(first["id"])
    reordered = dict(reversed(order().items()))
    assert await running.merchant.done("payments", reordered, key="k") == first
    assert await running.merchant.listed() == [first["id"]]


async def test_repeats_at_once_make_one_payment(running: Till) -> None:
    requests = [running.merchant.done("payments", order(), key="k") for _ in range(20)]
    answers = await asyncio.gather(*requests)
    assert len({one["id"] for one in answers}) == 1
    assert len(await running.merchant.listed()) == 1


async def test_another_body_under_a_key_is_refused(running: Till) -> None:
    await running.merchant.done("payments", order(), key="k")
    other = order(amount=rubles("150.00"))
    status, answer = await running.merchant.post("payments", other, key="k")
    assert (status, answer["code"], answer["parameter"]) == (
        400,
        "invalid_request",
        "Idempotence-Key",
    )
    assert len(await running.merchant.listed()) == 1


async def test_another_call_under_a_key_is_refused(running: Till) -> None:
    held = await running.held()
    other = await running.held()
    await running.merchant.done(f"payments/{held['id']}/cancel", {}, key="k")
    for path in (f"payments/{held['id']}/capture", f"payments/{other['id']}/cancel"):
        status, answer = await running.merchant.post(path, {}, key="k")
        assert (status, answer["parameter"]) == (400, "Idempotence-Key")


async def test_a_refusal_belongs_to_its_key(running: Till) -> None:
    """After a 4xx, YooKassa asks for a new key."""
    wrong = order(capture=None)
    first = await running.merchant.post("payments", wrong, key="k")
    assert first[0] == 400
    assert await running.merchant.post("payments", wrong, key="k") == first
    status, answer = await running.merchant.post("payments", order(), key="k")
    assert (status, answer["parameter"]) == (400, "Idempotence-Key")
    await running.merchant.done("payments", order(), key="another")


async def test_a_key_is_forgotten_after_a_day(running: Till) -> None:
    first = await running.merchant.done("payments", order(), key="k")
    running.clock.move(seconds=DAY_S - 1)
    assert await running.merchant.done("payments", order(), key="k") == first
    running.clock.move(seconds=1)
    assert (await running.merchant.done("payments", order(), key="k"))["id"] != first["id"]


async def test_a_repeated_capture_captures_once(running: Till) -> None:
    held = await running.held()
    path = f"payments/{held['id']}/capture"
    first = await running.merchant.done(path, {}, key="k")
    assert await running.merchant.done(path, {}, key="k") == first


@pytest.mark.parametrize("answer", ["500", "500_before", "202", "429"])
async def test_after_an_unclear_answer_the_key_tells(running: Till, answer: str) -> None:
    """W-71: whether or not the call took effect, the same key makes one payment."""
    await running.control.plan_answer(answer, call="POST /v3/payments", retry_after_ms=7)
    expected = {
        "500": (500, "internal_server_error"),
        "500_before": (500, "internal_server_error"),
        "202": (202, None),
        "429": (429, "too_many_requests"),
    }
    status, unclear = await running.merchant.post("payments", order(), key="k")
    assert (status, unclear.get("code")) == expected[answer]
    assert unclear["retry_after"] == 7
    took_effect = await running.merchant.listed()
    assert len(took_effect) == (1 if answer in ("500", "202") else 0)
    made = await running.merchant.done("payments", order(), key="k")
    assert await running.merchant.listed() == [made["id"]]
    assert took_effect in ([], [made["id"]])


async def test_a_lost_answer_took_effect(running: Till) -> None:
    """W-71: the connection ends without an answer."""
    await running.control.plan_answer("lost", call="POST /v3/payments")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await running.merchant.post("payments", order(), key="k")
    (payment_id,) = await running.merchant.listed()
    assert (await running.merchant.done("payments", order(), key="k"))["id"] == payment_id


async def test_a_fault_is_for_its_call_only(running: Till) -> None:
    """W-71: `times` bounds it, and a call of another kind is answered."""
    await running.control.plan_answer("500", call="GET /v3/me", times=2)
    await running.merchant.done("payments", order())
    for status in (500, 500, 200):
        assert (await running.merchant.get("me"))[0] == status


@pytest.mark.parametrize("answer", ["500", "lost"])
async def test_a_saved_method_is_charged_once(running: Till, answer: str) -> None:
    """W-71: the charge happened although its answer did not say so."""
    method_id = await running.saved_method()
    charge = order(payment_method_data=None, confirmation=None, payment_method_id=method_id)
    await running.control.plan_answer(answer)
    try:
        await running.merchant.post("payments", charge, key="k")
    except aiohttp.ServerDisconnectedError:
        assert answer == "lost"
    charged = await running.merchant.done("payments", charge, key="k")
    assert charged["status"] == "succeeded"
    assert len(await running.merchant.listed()) == 2
