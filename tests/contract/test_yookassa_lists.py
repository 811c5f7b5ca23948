"""The two lists of the stand-in for YooKassa: filters, order, pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.yookassa import Till, order, rubles, till


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        yield opened


def at(seconds: int) -> str:
    """So many seconds after the clock's start."""
    return f"2026-11-30T10:00:{seconds:02}.000Z"


async def three(running: Till) -> list[str]:
    """Payments of three consecutive seconds, oldest first."""
    made = []
    for _ in range(3):
        made.append((await running.merchant.done("payments", order()))["id"])
        running.clock.move(seconds=1)
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gte", [2, 1]), ("gt", [2]), ("lte", [1, 0]), ("lt", [0])],
)
async def test_payments_are_filtered_by_creation(
    running: Till, name: str, expected: list[int]
) -> None:
    made = await three(running)
    listed = await running.merchant.listed(**{f"created_at.{name}": at(1)})
    assert listed == [made[number] for number in expected]


async def test_a_zone_other_than_utc_is_read(running: Till) -> None:
    made = await three(running)
    moscow = "2026-11-30T13:00:02+03:00"
    assert await running.merchant.listed(**{"created_at.gte": moscow}) == [made[2]]


async def test_late_captures_are_found_by_capture(running: Till) -> None:
    """A payment is created on one day and captured on another."""
    held = await running.held()
    running.clock.move(seconds=10)
    await running.paid()
    running.clock.move(seconds=10)
    await running.merchant.done(f"payments/{held['id']}/capture")
    window = {"captured_at.gte": at(20), "captured_at.lt": at(21)}
    assert await running.merchant.listed(**window) == [held["id"]]
    assert await running.merchant.listed(**{"created_at.gte": at(20)}) == []


async def test_payments_are_filtered_by_status_and_method(running: Till) -> None:
    waiting = await running.merchant.done("payments", order())
    paid, held = await running.paid(), await running.held()
    declined = await running.merchant.done("payments", order())
    await running.control.decline(declined["id"])
    by_status = {
        "pending": waiting,
        "succeeded": paid,
        "waiting_for_capture": held,
        "canceled": declined,
    }
    for status, payment in by_status.items():
        assert await running.merchant.listed(status=status) == [payment["id"]]
    assert await running.merchant.listed(payment_method="bank_card") == [held["id"]]


async def test_pages_continue_where_the_last_ended(running: Till) -> None:
    """A payment made meanwhile neither repeats nor hides another."""
    made = [(await running.merchant.done("payments", order()))["id"] for _ in range(5)]
    _, page = await running.merchant.get("payments", limit="2", status="pending")
    seen = [one["id"] for one in page["items"]]
    while "next_cursor" in page:
        await running.merchant.done("payments", order())
        query = {"limit": "2", "status": "pending", "cursor": page["next_cursor"]}
        _, page = await running.merchant.get("payments", **query)
        seen += [one["id"] for one in page["items"]]
    assert seen == made[::-1]


async def test_ten_are_listed_unless_asked_otherwise(running: Till) -> None:
    for _ in range(11):
        await running.merchant.done("payments", order())
    assert len(await running.merchant.listed()) == 10
    assert len(await running.merchant.listed(limit="11")) == 11
    _, page = await running.merchant.get("payments", limit="11")
    assert "next_cursor" not in page


async def test_a_cursor_continues_its_own_list_only(running: Till) -> None:
    await three(running)
    _, page = await running.merchant.get("payments", limit="1")
    for cursor in (page["next_cursor"], "nonsense", "W10="):
        query = {"cursor": cursor, "status": "pending"}
        status, answer = await running.merchant.get("payments", **query)
        assert (status, answer["parameter"]) == (400, "cursor")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "ten"),
        ("status", "paid"),
        ("payment_method", "cash"),
        ("created_at.gte", "yesterday"),
        ("created_at.gte", "2026-11-30T10:00:00"),
        ("created_at.eq", at(0)),
        ("captured_at", at(0)),
        ("payment_id", "0" * 36),
        ("page", "2"),
    ],
)
async def test_a_wrong_filter_is_refused(running: Till, name: str, value: str) -> None:
    """W-70: a filter that is not understood is not ignored."""
    status, answer = await running.merchant.get("payments", **{name: value})
    assert (status, answer["code"], answer["parameter"]) == (400, "invalid_request", name)


async def test_a_filter_is_given_once(running: Till) -> None:
    path = "/v3/payments?limit=1&limit=2"
    async with running.merchant.http.get(path, headers=running.merchant.headers) as answer:
        assert (answer.status, (await answer.json())["parameter"]) == (400, "limit")


async def test_refunds_are_listed_with_filters(running: Till) -> None:
    refunds = []
    for _ in range(3):
        paid = await running.paid()
        asked = {"payment_id": paid["id"], "amount": rubles("1.00")}
        refunds.append(await running.merchant.done("refunds", asked))
        running.clock.move(seconds=1)
    ids = [one["id"] for one in refunds]
    assert await running.merchant.listed("refunds") == ids[::-1]
    assert await running.merchant.listed("refunds", **{"created_at.lt": at(1)}) == ids[:1]
    of_payment = {"payment_id": refunds[1]["payment_id"]}
    assert await running.merchant.listed("refunds", **of_payment) == ids[1:2]
    assert await running.merchant.listed("refunds", status="canceled") == []
    _, page = await running.merchant.get("refunds", limit="2")
    query = {"limit": "2", "cursor": page["next_cursor"]}
    assert await running.merchant.listed("refunds", **query) == ids[:1]
    status, answer = await running.merchant.get("refunds", **{"captured_at.gte": at(0)})
    assert (status, answer["parameter"]) == (400, "captured_at.gte")


async def test_payments_leave_the_list_after_three_years(running: Till) -> None:
    paid = await running.paid()
    running.clock.move(seconds=3 * 365 * 24 * 3600 - 1)
    assert await running.merchant.listed() == [paid["id"]]
    running.clock.move(seconds=1)
    assert await running.merchant.listed() == []
