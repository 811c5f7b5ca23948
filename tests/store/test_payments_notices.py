"""Notices of providers: stored, read back once, and booked by the one confirm."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import ValidationError

from payments import webhooks
from payments.domain.provider import (
    Payment,
    Refusal,
    Sum,
    Unavailable,
    Unknown,
    Unreadable,
    Unsupported,
)
from payments.domain.read_back import MOST_TRIES
from payments.settings import Settings, networks_from
from payments.store import notices
from payments.webhooks import peer_of
from shared.contracts.payload import write_payload
from shared.platform.db import Database
from tests.kit.fake_provider import NOON, Fault
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import Till, a_till, pause_long, post

LARGE = b" " * (webhooks.MAX_BYTES + 1)
PARKED = "no notice of a provider is parked"
TRIES = "select max(tries) from notices"
FAILURES = "select failures from provider_pace where acquirer = 'yookassa' and lane = 'notice'"


@pytest.fixture
async def till(fresh_database: MakeDatabase) -> AsyncIterator[Till]:
    async with a_till(fresh_database) as till:
        yield till


def told(reference: str) -> bytes:
    return json.dumps({"reference": reference}).encode()


async def test_notice_is_read_back_and_booked(till: Till) -> None:
    """M-22: the amounts of a notice are not even read."""
    _, reference = await till.opened(uuid4())
    till.provider.pay(reference, arrived=Sum("RUB", 14378), fee=Sum("RUB", 522))
    assert await till.notice(reference, amount="1.00") == 200
    assert await till.turn(till.reader) == 1
    assert await till.bookings() == [("bought", "paid")]
    assert await till.notices() == [("done", "booked")]


async def test_equal_notices_book_once(till: Till) -> None:
    """R-11: a hundred at once, by two pools, and four workers that read them back."""
    _, reference = await till.opened(uuid4())
    till.provider.pay(reference)
    second = Database(till.dsn, name="second")
    await second.open()
    hooks = [till.webhook(), till.webhook(second)] * 50
    answers = await asyncio.gather(*(post(hook, told(reference)) for hook in hooks))
    assert {status for status, _ in answers} == {200}
    assert sorted(text for _, text in answers) == ["received", *["repeated"] * 99]
    readers = [till.reader for _ in range(4)]
    readers[0].database = readers[1].database = second
    await asyncio.gather(*(reader.round() for reader in readers))
    await second.close()
    assert till.provider.calls.count("read") == 1
    assert await till.bookings() == [("bought", "paid")]


async def test_notice_during_a_reading_is_read(till: Till) -> None:
    """R-74: the answer that is under way may be older than what this notice tells."""
    _, reference = await till.opened(uuid4())
    await till.notice(reference)
    await notices.claim("yookassa", 1, 1, uuid4(), 60, till.database)
    till.provider.pay(reference)
    assert await post(till.webhook(), told(reference)) == (200, "received")
    await till.database.execute("update provider_pace set next_at = now()")
    assert await till.reader.round() == 1
    assert await till.bookings() == [("bought", "paid")]
    await till.turn(till.reader)
    assert await till.notices() == [("done", "booked")] * 2


async def test_notice_before_the_opening_is_recorded(till: Till) -> None:
    """R-73: the payload names the order; the reference comes later."""
    till.provider.fails("open", Fault(Unknown("TimeoutError", "find"), done=True))
    asked = await till.ask(uuid4())
    await till.turn(till.opener)
    [reference] = till.provider.opened
    till.provider.pay(reference)
    await till.notice(reference)
    await till.turn(till.reader)
    await till.turn(till.opener)
    assert await till.bookings() == [("bought", "paid")]
    assert (await till.row(asked.invoice))["reference"] == reference


@pytest.mark.parametrize(
    ("body", "headers", "answer"),
    [
        (told("r"), {"x-sign": "wrong"}, (401, "forged")),
        (b"{", {}, (400, "malformed")),
        (LARGE, {}, (413, "too large")),
        (b'{"event": "payout.succeeded"}', {}, (200, "ignored")),
    ],
)
async def test_bad_notice_stores_nothing(
    till: Till, body: bytes, headers: dict[str, str], answer: tuple[int, str]
) -> None:
    """R-08: a forgery is refused, and an event that nobody follows is not repeated for a day."""
    assert await post(till.webhook(), body, headers=headers) == answer
    assert await till.notices() == []


async def test_only_a_post_is_taken(till: Till) -> None:
    assert await post(till.webhook(), told("r"), method="GET") == (405, "only POST")


async def test_large_notice_is_refused_in_chunks(till: Till) -> None:
    """No more is read than the bound, even if a header tells another length."""
    half = LARGE[: len(LARGE) // 2 + 1]
    assert (await post(till.webhook(), half, half, b""))[0] == 413


async def test_provider_repeats_while_the_database_is_away(till: Till) -> None:
    """R-06: 503 until the row is written."""
    away = Database(till.dsn, name="away")
    assert (await post(till.webhook(away), told("r")))[0] == 503
    assert await till.notices() == []


async def test_unknown_reference_is_refused(till: Till) -> None:
    """R-17: nobody at the provider knows the payment, so there is no money."""
    await till.notice("invented")
    await till.turn(till.reader)
    assert await till.notices() == [("refused", "unknown")]
    assert await till.bookings() == []


async def test_invented_notices_have_a_bound(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-75: those of our invoices are taken all the same."""
    monkeypatch.setattr(webhooks, "MAX_UNKNOWN_WAITING", 3)
    _, reference = await till.opened(uuid4())
    statuses = [await till.notice(f"invented-{at}") for at in range(5)]
    assert statuses == [200, 200, 200, 503, 503]
    assert await till.notice(reference) == 200


async def test_foreign_payment_is_refused(till: Till) -> None:
    """Another shop of the same merchant: nothing of it is ours."""
    till.provider.payments["f"] = Payment("f", "succeeded", "RUB", 100, "17", NOON, paid_at=NOON)
    await till.notice("f")
    await till.turn(till.reader)
    assert await till.notices() == [("refused", "foreign")]


async def test_money_of_an_unknown_order_is_parked(till: Till) -> None:
    payload = write_payload(uuid4(), uuid4(), None)
    till.provider.payments["u"] = Payment("u", "succeeded", "RUB", 100, payload, NOON, paid_at=NOON)
    await till.notice("u")
    await till.turn(till.reader)
    assert await till.notices() == [("done", "booked")]
    assert await till.bookings() == [("suspense", "payer_unknown")]


async def test_failing_notice_holds_no_other(till: Till) -> None:
    """R-76: it is read by itself, ever more rarely, and parked in the end."""
    till.expected.add(PARKED)
    opened = [await till.opened(uuid4()) for _ in range(5)]
    bad, *good = [reference for _, reference in opened]
    till.provider.always[bad] = Unknown("500")
    for reference in (bad, *good):
        till.provider.pay(reference)
        await till.notice(reference)
    for _ in range(8):
        await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")] * 4
    for _ in range(MOST_TRIES):
        await till.turn(till.reader)
    assert sorted(await till.notices()) == [*[("done", "booked")] * 4, ("parked", "failed")]


async def test_unbookable_payment_holds_no_other(till: Till) -> None:
    """R-76: a payment that the database refuses is bisected until it is alone."""
    opened = [await till.opened(uuid4()) for _ in range(3)]
    references = [reference for _, reference in opened]
    for reference in references:
        till.provider.pay(reference)
        await till.notice(reference)
    bad = till.provider.payments[references[1]]
    assert isinstance(bad, Payment)
    till.provider.payments[references[1]] = replace(bad, amount_minor=2**70)
    await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")] * 2
    assert await till.database.fetchval(TRIES) == 1
    till.provider.payments[references[1]] = bad
    await till.turn(till.reader)
    assert len(await till.bookings()) == 3


async def test_down_provider_fails_no_notice(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-71: they wait as they are, and the first answer lets them all be read."""
    pause_long(monkeypatch)
    opened = [await till.opened(uuid4()) for _ in range(7)]
    for _, reference in opened:
        till.provider.pay(reference)
        await till.notice(reference)
    till.provider.fails("read", *[Fault(Unavailable("ClientConnectorError"))] * 9)
    await till.turn(till.reader)
    assert await till.reader.round() == 0
    assert await till.database.fetchval(TRIES) == 0
    for _ in range(12):
        await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")] * 7
    assert await till.database.fetchval(FAILURES) == 0


async def test_held_payment_is_captured_in_full(till: Till) -> None:
    _, reference = await till.opened(uuid4())
    till.provider.becomes(reference, state="held")
    await till.notice(reference)
    await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")]


@pytest.mark.parametrize(
    "answer", [Refusal("invalid_request", "no"), Unknown("500"), Unsupported("it holds no money")]
)
async def test_failed_capture_is_tried_again(
    till: Till, answer: Refusal | Unknown | Unsupported
) -> None:
    _, reference = await till.opened(uuid4())
    till.provider.becomes(reference, state="held")
    till.provider.fails("capture", Fault(answer))  # type: ignore[arg-type]  # Or unsupported.
    await till.notice(reference)
    await till.turn(till.reader)
    assert await till.bookings() == []
    await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")]


async def test_unreadable_amount_is_parked(till: Till) -> None:
    """R-72: nothing is rounded. An operator decides."""
    till.expected.add(PARKED)
    _, reference = await till.opened(uuid4())
    till.provider.payments[reference] = Unreadable(reference, "more_digits", "0.0000000001 TON")
    await till.notice(reference)
    await till.turn(till.reader)
    assert await till.notices() == [("parked", "unreadable")]


async def test_notice_of_a_refund_is_a_hint(till: Till) -> None:
    """R-78: its payment is read back; the listing of refunds books the refund within the hour."""
    _, reference = await till.opened(uuid4())
    till.provider.pay(reference)
    await till.notice(reference, kind="refund", refund="r-1")
    await till.turn(till.reader)
    assert await till.notices() == [("done", "booked")]


async def test_dead_reader_loses_nothing(till: Till) -> None:
    """R-70: it dies between the answer of the provider and the booking."""
    _, reference = await till.opened(uuid4())
    till.provider.pay(reference)
    await till.notice(reference)
    till.provider.fails("read", Fault(hangs=True))
    dying = asyncio.create_task(till.reader.round())
    await till.provider.reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await till.turn(till.reader)
    assert await till.bookings() == [("bought", "paid")]


async def test_unknown_address_is_a_forgery(till: Till) -> None:
    """R-08: the proxy tells who sent it. Without one of ours the read back decides."""
    behind = till.webhook(trusted="10.0.0.0/8")
    headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.9, 10.1.1.1"}
    assert (await post(behind, told("r"), headers=headers, client="10.0.0.1"))[0] == 401
    assert (await post(behind, told("r"), headers=headers, client="192.0.2.1"))[0] == 200
    assert (await post(till.webhook(), told("q"), headers=headers, client="10.0.0.1"))[0] == 200


@pytest.mark.parametrize(
    ("forwarded_for", "peer"),
    [("8.8.8.8", "8.8.8.8"), ("1.1.1.1,8.8.8.8 , 10.0.0.2", "8.8.8.8"), ("", None), (None, None)],
)
def test_last_address_before_our_proxies_counts(
    forwarded_for: str | None, peer: str | None
) -> None:
    """R-08: a sender can write any address before the one that the proxy saw."""
    trusted = networks_from("10.0.0.0/8, ::1")
    assert peer_of(("10.0.0.9", 1), forwarded_for, trusted) == peer
    assert peer_of(("9.9.9.9", 1), forwarded_for, trusted) is None
    assert peer_of(None, forwarded_for, trusted) is None


def test_proxies_are_networks() -> None:
    """The sentence does not repeat the value."""
    wrong = {"dsn": "postgresql://a/b", "nats_url": "nats://n", "trusted_proxies": "10.0.0.0/8,me"}
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(wrong)
    [mistake] = refused.value.errors()
    assert mistake["msg"] == "Value error, it is no list of networks, as 10.0.0.0/8,192.0.2.7"
