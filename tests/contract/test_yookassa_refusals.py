"""The stand-in for YooKassa refuses a wrong merchant, with the provider's own errors."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.yookassa import Till, card_on_hold, order, rubles, till
from turnpike_local.yookassa import Shop


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened
        # Whatever was refused left nothing behind.
        assert await opened.merchant.listed() == []


def of(path: str, value: Any) -> Any:
    """An order in which one nested field is something else."""
    outer, _, inner = path.partition(".")
    body = order()
    body[outer] = {**body[outer], inner: value}
    return body


WRONG = [
    ([1], None),
    (order(amount=None), "amount"),
    (order(amount="149.00"), "amount"),
    (of("amount.value", 149.0), "amount.value"),
    (of("amount.value", "149"), "amount.value"),
    (of("amount.value", "149.0"), "amount.value"),
    (of("amount.value", "149,00"), "amount.value"),
    (of("amount.value", "0149.00"), "amount.value"),
    (of("amount.value", "-149.00"), "amount.value"),
    (of("amount.value", "0.00"), "amount.value"),
    (of("amount.value", "0.99"), "amount.value"),
    (of("amount.value", "700000.01"), "amount.value"),
    (of("amount.currency", "USD"), "amount.currency"),
    (of("amount.fee", "1.00"), "amount.fee"),
    (order(amount=rubles("350000.01"), payment_method_data={"type": "bank_card"}), "amount.value"),
    (order(capture=None, payment_method_data={"type": "bank_card"}), "capture"),
    (order(capture="true"), "capture"),
    ({**order(), "capture": None}, "capture"),
    (order(capture=False), "capture"),
    (order(description="x" * 129), "description"),
    (order(description=7), "description"),
    (order(payment_method_data={"type": "cash"}), "payment_method_data.type"),
    (order(payment_method_data={}), "payment_method_data.type"),
    (order(confirmation=None), "confirmation"),
    (of("confirmation.type", "embedded"), "confirmation.type"),
    (of("confirmation.locale", "de_DE"), "confirmation.locale"),
    (of("confirmation.enforce", 1), "confirmation.enforce"),
    (of("confirmation.return_url", "javascript:alert(1)"), "confirmation.return_url"),
    (of("confirmation.return_url", "https://t.me/" + "x" * 2036), "confirmation.return_url"),
    (order(confirmation={"type": "redirect"}), "confirmation.return_url"),
    (order(save_payment_method=1), "save_payment_method"),
    (order(merchant_customer_id="x" * 201), "merchant_customer_id"),
    (order(client_ip="localhost"), "client_ip"),
    (order(payment_method_data=None, payment_method_id="m"), "confirmation"),
    (order(payment_method_id="m"), "payment_method_data"),
    (
        order(payment_method_data=None, confirmation=None, payment_method_id="m"),
        "payment_method_id",
    ),
    (order(metadata=["7"]), "metadata"),
    (order(metadata={str(number): "x" for number in range(17)}), "metadata"),
    (order(metadata={"k" * 33: "x"}), f"metadata.{'k' * 32}"),
    (order(metadata={"order": "x" * 513}), "metadata.order"),
    (order(metadata={"order": 7}), "metadata.order"),
    (order(airline={}), "airline"),
]


@pytest.mark.parametrize(("body", "parameter"), WRONG)
async def test_a_wrong_payment_is_refused(running: Till, body: Any, parameter: str) -> None:
    """W-70: each names the field that is wrong."""
    answer = await running.merchant.refused("payments", body, parameter=parameter)
    assert answer["id"]
    assert answer["description"]


@pytest.mark.parametrize(
    "body",
    [
        order(
            amount=rubles("1.00"),
            description="x" * 128,
            metadata={f"{number:032}": "x" * 512 for number in range(16)},
            merchant_customer_id="x" * 200,
            client_ip="2a02:5180::1",
        ),
        order(amount=rubles("700000.00")),
        card_on_hold(amount=rubles("350000.00")),
        of("confirmation.return_url", "https://t.me/" + "x" * 2035),
    ],
)
async def test_the_longest_fields_are_accepted(tmp_path: Path, body: Any) -> None:
    async with till(tmp_path) as running:
        assert (await running.merchant.post("payments", body))[0] == 200


async def test_a_method_that_the_shop_lacks_is_refused(tmp_path: Path) -> None:
    async with till(tmp_path, shop=Shop(methods=("bank_card",))) as running:
        wrong = "payment_method_data.type"
        await running.merchant.refused("payments", order(), parameter=wrong)


async def test_saving_needs_the_manager_s_consent(tmp_path: Path) -> None:
    async with till(tmp_path, shop=Shop(may_save_methods=False)) as running:
        status, answer = await running.merchant.post("payments", order(save_payment_method=True))
        assert (status, answer["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer test_secret",
        "Basic ???",
        "Basic " + base64.b64encode(b"100500:wrong").decode(),
        "Basic " + base64.b64encode(b"test_secret:100500").decode(),
    ],
)
@pytest.mark.parametrize("path", ["me", "payments", "refunds/x", "payment_methods/x"])
async def test_wrong_credentials_are_refused(
    running: Till, authorization: str | None, path: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with running.merchant.http.get(f"/v3/{path}", headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["code"] == "invalid_credentials"
    async with running.merchant.http.post("/v3/payments", headers=headers, json={}) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("key", ["", "x" * 65, "two words", "ключ", "a/b"])
async def test_a_malformed_key_is_refused(running: Till, key: str) -> None:
    status, answer = await running.merchant.post("payments", order(), key=key)
    assert (status, answer["code"], answer["parameter"]) == (
        400,
        "invalid_request",
        "Idempotence-Key",
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"amount": NaN}', b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(running: Till, body: bytes) -> None:
    headers = {
        **running.merchant.headers,
        "Idempotence-Key": "k",
        "Content-Type": "application/json",
    }
    async with running.merchant.http.post("/v3/payments", data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "invalid_request"


async def test_another_content_type_gets_no_body(running: Till) -> None:
    headers = {**running.merchant.headers, "Idempotence-Key": "k"}
    async with running.merchant.http.post("/v3/payments", data={"a": 1}, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (415, b"")


async def test_another_method_gets_no_body(running: Till) -> None:
    http, headers = running.merchant.http, running.merchant.headers
    async with http.delete("/v3/payments", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (405, b"")
    async with http.get(f"/v3/payments/{'0' * 36}/cancel", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (405, b"")


@pytest.mark.parametrize("path", ["payments/x", "refunds/x", "payment_methods/x", "invoices"])
async def test_an_unknown_object_is_not_found(running: Till, path: str) -> None:
    status, answer = await running.merchant.get(path)
    assert (status, answer["type"], answer["code"]) == (404, "error", "not_found")


async def test_a_large_body_is_refused(running: Till) -> None:
    headers = {**running.merchant.headers, "Idempotence-Key": "k"}
    body = order(description="x" * 300_000)
    async with running.merchant.http.post("/v3/payments", json=body, headers=headers) as answer:
        assert answer.status == 413
