"""Crypto Pay reports paid invoices: signed, repeated, late, twice, never, or switched off."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clock import MovedClock
from tests.kit.cryptopay import (
    FAST,
    HANGS,
    NOTICES,
    TOKEN,
    Json,
    Webhook,
    created,
    read,
    webhook,
)
from tests.kit.waiting import until
from turnpike_local.cryptopay import CryptoPay, CryptoPayClient, Limits
from turnpike_local.cryptopay.client import CryptoPayError


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def provider(tmp_path: Path, clock: MovedClock) -> AsyncIterator[CryptoPay]:
    async with CryptoPay(tmp_path, TOKEN, limits=FAST, clock=clock) as running:
        yield running


@pytest.fixture
async def app() -> AsyncIterator[Webhook]:
    async with webhook() as taking:
        yield taking


@pytest.fixture
async def owner(provider: CryptoPay, app: Webhook) -> AsyncIterator[CryptoPayClient]:
    async with CryptoPayClient(provider.url) as client:
        await client.set_webhook(app.url)
        yield client


async def paid(provider: CryptoPay, owner: CryptoPayClient) -> int:
    invoice_id: int = (await created(provider))["invoice_id"]
    await owner.pay(invoice_id, "USDT")
    return invoice_id


async def nothing_waits(owner: CryptoPayClient) -> bool:
    app = await owner.app()
    assert app["posts_notices"]
    return bool(app["waiting_notices"] == 0)


def updates(app: Webhook) -> list[Json]:
    return [json.loads(body) for body, _ in app.got]


async def came(app: Webhook, times: int) -> None:
    await until(lambda: len(app.got) == times)


async def failed(owner: CryptoPayClient, times: int) -> None:
    async def enough() -> bool:
        return bool((await owner.app())["webhook_failures"] == times)

    await until(enough)


async def test_a_notice_holds_the_invoice(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    invoice_id = await paid(provider, owner)
    await until(lambda: nothing_waits(owner))
    [update] = updates(app)
    assert isinstance(update.pop("update_id"), int)
    assert update == {
        "update_type": "invoice_paid",
        "request_date": "2026-11-30T10:00:00.000Z",
        "payload": await read(provider, invoice_id),
    }


async def test_a_notice_is_signed(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    """HMAC-SHA256 with the digest of the token as its key, over the body as it was sent."""
    await paid(provider, owner)
    await came(app, 1)
    [(body, signature)] = app.got
    key = hashlib.sha256(TOKEN.encode()).digest()
    assert signature == hmac.new(key, body, hashlib.sha256).hexdigest()


async def test_update_ids_are_not_unique(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    invoices = {await paid(provider, owner) for _ in range(4)}
    await came(app, 4)
    assert {one["payload"]["invoice_id"] for one in updates(app)} == invoices
    assert len({one["update_id"] for one in updates(app)}) < 4


@pytest.mark.parametrize("status", [204, 307, 400, 500])
async def test_every_answer_but_200_is_repeated(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook, clock: MovedClock, status: int
) -> None:
    """W-75: the pauses double, and each repeat is the same notice with another date."""
    app.statuses = [status, status]
    invoice_id = await paid(provider, owner)
    for attempt, pause_s in enumerate((1, 2), start=1):
        await failed(owner, attempt)
        clock.move(seconds=pause_s - 0.001)
        await asyncio.sleep(5 * NOTICES.look_every_s)
        assert len(app.got) == attempt
        clock.move(milliseconds=1)
        await came(app, attempt + 1)
    await until(lambda: nothing_waits(owner))
    assert {one["payload"]["invoice_id"] for one in updates(app)} == {invoice_id}
    assert len({one["update_id"] for one in updates(app)}) == 1
    assert len({one["request_date"] for one in updates(app)}) == 3


async def test_a_dead_webhook_counts_as_failure(
    provider: CryptoPay, owner: CryptoPayClient
) -> None:
    await owner.set_webhook("http://127.0.0.1:1/nobody")
    await paid(provider, owner)
    await failed(owner, 1)


async def test_a_silent_webhook_counts_as_failure(
    tmp_path: Path, app: Webhook, clock: MovedClock
) -> None:
    """W-75: and it is asked again."""
    app.statuses = [HANGS, HANGS]
    limits = Limits(notices=replace(NOTICES, timeout_s=0.2))
    async with (
        CryptoPay(tmp_path, TOKEN, limits=limits, clock=clock) as provider,
        CryptoPayClient(provider.url) as owner,
    ):
        await owner.set_webhook(app.url)
        await paid(provider, owner)
        await failed(owner, 1)
        clock.move(seconds=1)
        await failed(owner, 2)


async def test_seventeen_failures_switch_it_off(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook, clock: MovedClock
) -> None:
    """W-75: the seventeenth in three days. Waiting notices are dropped, later ones are not sent."""
    app.statuses = [500] * 17
    await paid(provider, owner)
    for attempt in range(1, 17):
        await failed(owner, attempt)
        clock.move(hours=4 if attempt < 15 else 6)  # 68 hours in all.
    await until(lambda: nothing_waits(owner))
    state = await owner.app()
    assert (state["webhook"], state["webhook_failures"], len(app.got)) == ("", 17, 17)
    await paid(provider, owner)
    assert await nothing_waits(owner)
    await owner.set_webhook(app.url)
    assert (await owner.app())["webhook_failures"] == 0
    await paid(provider, owner)
    await came(app, 18)


async def test_failures_are_forgotten_in_three_days(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook, clock: MovedClock
) -> None:
    """W-75: sixteen failures, and one more after three days, leave it on."""
    app.statuses = [500] * 17
    await paid(provider, owner)
    for attempt in range(1, 16):
        await failed(owner, attempt)
        clock.move(hours=4 if attempt < 15 else 6)  # 62 hours in all.
    await failed(owner, 16)
    clock.move(hours=11)
    await came(app, 17)
    await failed(owner, 16)  # The first one is forgotten.
    clock.move(hours=6)
    await until(lambda: nothing_waits(owner))
    assert (await owner.app())["webhook"] == app.url
    assert len(app.got) == 18


async def test_a_late_notice_comes_in_its_time(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook, clock: MovedClock
) -> None:
    """W-75: an hour late; the next payment is told at once."""
    await owner.plan_notice("late", late_s=3600)
    late = await paid(provider, owner)
    prompt = await paid(provider, owner)
    await came(app, 1)
    clock.move(seconds=3600)
    await came(app, 2)
    assert [one["payload"]["invoice_id"] for one in updates(app)] == [prompt, late]


async def test_a_notice_may_never_come(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    """W-75: only the listing knows of the payment then."""
    await owner.plan_notice("never")
    silent = await paid(provider, owner)
    told = await paid(provider, owner)
    await until(lambda: nothing_waits(owner))
    assert [one["payload"]["invoice_id"] for one in updates(app)] == [told]
    assert (await read(provider, silent))["status"] == "paid"


async def test_a_notice_may_come_twice(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    """W-75: by a planned fault, and again whenever a person wants it."""
    await owner.plan_notice("twice")
    invoice_id = await paid(provider, owner)
    await until(lambda: nothing_waits(owner))
    await owner.repeat(invoice_id)
    await until(lambda: nothing_waits(owner))
    assert [one["payload"]["invoice_id"] for one in updates(app)] == [invoice_id] * 3


async def test_an_unpaid_invoice_has_no_notice(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    open_id = (await created(provider))["invoice_id"]
    with pytest.raises(CryptoPayError, match="not paid"):
        await owner.repeat(open_id)
    await owner.expire(open_id)
    assert await nothing_waits(owner)
    assert app.got == []


async def test_notices_stop_without_a_webhook(
    provider: CryptoPay, owner: CryptoPayClient, app: Webhook
) -> None:
    await owner.set_webhook("")
    await paid(provider, owner)
    assert await nothing_waits(owner)
    assert app.got == []
