"""One contract of payment providers, held by every client against its stand-in."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from payments.domain.provider import (
    Balances,
    Forged,
    Hint,
    Opened,
    Refusal,
    SlowDown,
    Unknown,
    Unsupported,
)
from tests.kit import cryptopay, yookassa
from tests.kit.providers import (
    STAGES,
    CryptobotStage,
    Stage,
    YookassaStage,
    asked_by,
    opened_on,
    read_one,
)
from tests.kit.waiting import until


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with STAGES[request.param](tmp_path) as running:
        yield running


# Opening


async def test_an_invoice_is_opened_for_its_price(stage: Stage) -> None:
    """R-58: the price is in rubles, also where the payer pays in another asset."""
    asked, opened = await opened_on(stage)
    assert opened.pay_url is not None
    assert opened.pay_url.startswith("http")
    payment = await read_one(stage, opened.reference)
    assert payment.state == "pending"
    assert (payment.amount_minor, payment.currency) == (14900, "RUB")
    assert payment.payload == asked.payload
    assert (payment.paid_at, payment.arrived, payment.fee) == (None, None, None)


async def test_a_lifetime_is_sent_where_it_can_be(stage: Stage) -> None:
    _, opened = await opened_on(stage, expires_in_s=900)
    if stage.provider.name == "cryptobot":
        assert opened.expires_at == stage.now() + timedelta(seconds=900)
    else:
        assert opened.expires_at is None


@pytest.mark.parametrize("how", ["lost", "500_after"])
async def test_a_lost_answer_makes_no_second_invoice(stage: Stage, how: str) -> None:
    """R-56: the outcome says how to learn it, and what it says is enough."""
    asked = asked_by(stage.provider.ways[0], stage.now())
    await stage.break_next("create", how)
    lost = await stage.provider.open(asked)
    assert isinstance(lost, Unknown)
    again = await (
        stage.provider.find(asked) if lost.then == "find" else stage.provider.open(asked)
    )
    assert isinstance(again, Opened)
    assert await stage.count() == 1
    assert (await read_one(stage, again.reference)).payload == asked.payload


async def test_a_lost_answer_is_found_without_opening(stage: Stage) -> None:
    """R-56: among other invoices, on a later page, and with the same link."""
    asked, opened = await opened_on(stage)
    for _ in range(12):
        await opened_on(stage)
    before = await stage.count()
    assert await stage.provider.find(asked) == opened
    assert await stage.count() == before


async def test_nothing_is_found_where_nothing_was_opened(stage: Stage) -> None:
    """R-56: a failure before any effect leaves nothing, and a new try opens it."""
    asked = asked_by(stage.provider.ways[0], stage.now())
    await opened_on(stage)
    await stage.break_next("create", "500")
    assert isinstance(await stage.provider.open(asked), Unknown)
    assert await stage.provider.find(asked) is None
    assert isinstance(await stage.provider.open(asked), Opened)
    assert await stage.count() == 2


async def test_a_bounded_search_is_no_proof(stage: Stage) -> None:
    """R-56: beyond its bound the answer is unknown, so no other invoice is opened."""
    asked, _ = await opened_on(stage)
    for _ in range(100 if stage.provider.name == "yookassa" else 50):
        await opened_on(stage)
    assert isinstance(await stage.provider.find(asked), Unknown)


async def test_what_was_paid_meanwhile_is_found(stage: Stage) -> None:
    asked, opened = await opened_on(stage)
    await stage.pay(opened.reference)
    found = await stage.provider.find(asked)
    assert isinstance(found, Opened)
    assert (found.reference, found.pay_url) == (opened.reference, None)


async def test_too_many_calls_are_a_pause(stage: Stage) -> None:
    asked = asked_by(stage.provider.ways[0], stage.now())
    await stage.break_next("create", "429")
    answer = await stage.provider.open(asked)
    assert isinstance(answer, SlowDown)
    assert answer.retry_after_s > 0
    assert await stage.count() == 0


async def test_a_price_beyond_the_limits_is_refused(stage: Stage) -> None:
    asked = asked_by(stage.provider.ways[0], stage.now(), amount_minor=10**11)
    answer = await stage.provider.open(asked)
    assert isinstance(answer, Refusal)
    assert answer.code


async def test_another_way_or_currency_is_refused(stage: Stage) -> None:
    own = stage.provider.ways[0]
    other: Any = {"yookassa": "crypto", "cryptobot": "sbp"}[stage.provider.name]
    for asked in (asked_by(other, stage.now()), asked_by(own, stage.now(), currency="USDT")):
        assert isinstance(await stage.provider.open(asked), Refusal)
    assert await stage.count() == 0


# Reading back


async def test_a_paid_invoice_tells_what_arrived(stage: Stage) -> None:
    """R-58: price, arrival and fee each name their currency, and add up in one of them."""
    asked, opened = await opened_on(stage)
    stage.later(minutes=3)
    await stage.pay(opened.reference)
    payment = await read_one(stage, opened.reference)
    assert payment.state == "succeeded"
    assert (payment.amount_minor, payment.currency) == (14900, "RUB")
    assert payment.payload == asked.payload
    assert payment.way == asked.way
    assert payment.paid_at == stage.now()
    assert payment.arrived is not None
    assert payment.fee is not None
    assert payment.arrived.currency == payment.fee.currency
    if stage.provider.name == "cryptobot":
        assert payment.arrived.currency == "USDT"
        assert payment.fee.amount_minor > 0
    else:
        assert payment.arrived.amount_minor + payment.fee.amount_minor == 14900


async def test_an_expired_invoice_is_canceled(stage: Stage) -> None:
    _, opened = await opened_on(stage)
    await stage.expire(opened.reference)
    payment = await read_one(stage, opened.reference)
    assert payment.state == "canceled"
    assert payment.cancel_reason
    assert payment.paid_at is None


async def test_an_unknown_reference_is_absent(stage: Stage) -> None:
    _, opened = await opened_on(stage)
    for unknown in ("7", str(uuid4()), "../me", "1,2", ""):
        assert await stage.provider.read([unknown]) == {}
    assert await stage.provider.read([]) == {}
    assert await read_one(stage, opened.reference)


async def test_a_lost_read_is_unknown(stage: Stage) -> None:
    _, opened = await opened_on(stage)
    await stage.break_next("read", "lost")
    if stage.provider.name == "yookassa":  # aiohttp repeats a lost GET once by itself.
        await stage.break_next("read", "lost")
    assert isinstance(await stage.provider.read([opened.reference]), Unknown)
    await stage.break_next("read", "500")
    assert isinstance(await stage.provider.read([opened.reference]), Unknown)
    await stage.break_next("read", "429")
    assert isinstance(await stage.provider.read([opened.reference]), SlowDown)


# Notices


async def test_a_notice_leads_to_its_payment(stage: Stage) -> None:
    """R-20: the same client reads the real notice of its own invoice."""
    _, opened = await opened_on(stage)
    for headers, body in await delivered(stage, opened.reference):
        hint = stage.provider.parse_notice(headers, body, None)
        assert hint == Hint(opened.reference)
        assert (await read_one(stage, opened.reference)).state == "succeeded"


async def test_a_changed_notice_of_cryptobot_is_forged(tmp_path: Path) -> None:
    """R-59: one byte more, another signature, or none."""
    async with STAGES["cryptobot"](tmp_path) as stage:
        _, opened = await opened_on(stage)
        ((headers, body),) = await delivered(stage, opened.reference)
        forged: tuple[tuple[dict[str, str], bytes], ...] = (
            (headers, body + b" "),
            (headers, body.replace(b'"149"', b'"1.49"')),
            ({name: value[::-1] for name, value in headers.items()}, body),
            (dict.fromkeys(headers, "é"), body),
            ({}, body),
        )
        for wrong_headers, wrong_body in forged:
            notice = stage.provider.parse_notice(wrong_headers, wrong_body, None)
            assert isinstance(notice, Forged)


async def delivered(stage: Stage, reference: str) -> list[tuple[dict[str, str], bytes]]:
    """Pay, and return the notices as they were sent."""
    if isinstance(stage, CryptobotStage):
        async with cryptopay.webhook() as app:
            await stage.owner.set_webhook(app.url)
            await stage.pay(reference)
            await until(lambda: bool(app.got))
            return [({"Crypto-Pay-Api-Signature": sign}, body) for body, sign in app.got]
    assert isinstance(stage, YookassaStage)
    async with yookassa.notice_inbox() as inbox:
        await stage.till.control.set_notice_url(inbox.url)
        await stage.pay(reference)
        await until(lambda: bool(inbox.received))
        return [({}, json.dumps(one).encode()) for one in inbox.received]


# The balance


async def test_a_balance_is_told_or_named_missing(stage: Stage) -> None:
    """R-118: of each asset what arrived, less the fee; YooKassa has no such call."""
    _, opened = await opened_on(stage)
    await stage.pay(opened.reference)
    payment = await read_one(stage, opened.reference)
    told = await stage.provider.balance()
    if stage.provider.name == "yookassa":
        assert isinstance(told, Unsupported)
        return
    assert isinstance(told, Balances), told
    assert (told.sums, told.unreadable) == ((payment.arrived,), ())
