"""Notices of the stand-in for YooKassa to the merchant's address."""

import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.kit.clock import MovedClock
from tests.kit.waiting import until
from tests.kit.yookassa import NoticeInbox, Till, notice_inbox, order, till
from turnpike_local.standin.clock import SystemClock
from turnpike_local.yookassa.client import ControlError

DAY_S = 24 * 3600


@pytest.fixture
async def inbox() -> AsyncIterator[NoticeInbox]:
    async with notice_inbox() as opened:
        yield opened


@pytest.fixture
async def running(tmp_path: Path, inbox: NoticeInbox) -> AsyncIterator[Till]:
    async with till(tmp_path) as opened:
        await opened.control.set_notice_url(inbox.url)
        yield opened


async def received(inbox: NoticeInbox, count: int) -> None:
    await until(lambda: len(inbox.received) >= count)


async def delivered(running: Till) -> bool:
    return all(one["state"] == "delivered" for one in await running.control.notices())


async def test_a_notice_shows_the_payment_of_its_moment(running: Till, inbox: NoticeInbox) -> None:
    paid = await running.paid()
    await received(inbox, 1)
    assert inbox.received == [
        {"type": "notification", "event": "payment.succeeded", "object": paid}
    ]


async def test_each_change_has_its_event(running: Till, inbox: NoticeInbox) -> None:
    held = await running.held()
    await received(inbox, 1)
    await running.merchant.done(f"payments/{held['id']}/capture")
    await received(inbox, 2)
    await running.control.refund_in_cabinet(held["id"])
    await received(inbox, 3)
    declined = await running.merchant.done("payments", order())
    await running.control.decline(declined["id"])
    await received(inbox, 4)
    assert inbox.events == [
        "payment.waiting_for_capture",
        "payment.succeeded",
        "refund.succeeded",
        "payment.canceled",
    ]
    assert inbox.received[0]["object"]["status"] == "waiting_for_capture"
    assert inbox.received[2]["object"]["payment_id"] == held["id"]


async def test_an_expired_link_is_noticed(running: Till, inbox: NoticeInbox) -> None:
    """Without any request: the stand-in looks at its clock by itself."""
    await running.merchant.done("payments", order())
    running.clock.move(seconds=3600)
    await received(inbox, 1)
    assert inbox.events == ["payment.canceled"]


async def test_a_canceled_refund_has_no_event(running: Till, inbox: NoticeInbox) -> None:
    paid = await running.paid()
    await running.control.plan_refund("insufficient_funds")
    asked = {"payment_id": paid["id"], "amount": paid["amount"]}
    await running.merchant.done("refunds", asked)
    await received(inbox, 1)
    await until(lambda: delivered(running))
    assert inbox.events == ["payment.succeeded"]


async def test_a_notice_is_repeated_until_200(running: Till, inbox: NoticeInbox) -> None:
    """W-72: neither 204 nor a redirect accepts it."""
    inbox.statuses = [500, 204, 307, 404]
    await running.paid()
    for count in range(1, 6):
        await attempts(running, count)
        running.clock.move(seconds=1)
    await until(lambda: delivered(running))
    assert inbox.events == ["payment.succeeded"] * 5
    running.clock.move(seconds=60)
    await running.merchant.get("me")
    assert (await running.control.notices())[0]["attempts"] == 5


async def attempts(running: Till, times: int) -> None:
    """Wait until the only notice was sent so often."""

    async def reached() -> bool:
        (notice,) = await running.control.notices()
        return bool(notice["attempts"] == times)

    await until(reached)


async def test_pauses_pass_by_the_real_clock(tmp_path: Path, inbox: NoticeInbox) -> None:
    """Without a clock of the test: the pauses are those of the limits."""
    inbox.statuses = [500, 500]
    async with till(tmp_path, clock=SystemClock()) as running:
        await running.control.set_notice_url(inbox.url)
        began_at_ms = time.time() * 1000
        paid = await running.paid()
        await received(inbox, 3)
        created_at_ms = datetime.fromisoformat(paid["created_at"]).timestamp() * 1000
        assert abs(created_at_ms - began_at_ms) < 60_000


async def test_repeats_end_after_a_day(running: Till, inbox: NoticeInbox) -> None:
    inbox.statuses = [503] * 100
    await running.paid()
    await attempts(running, 1)
    running.clock.move(seconds=DAY_S - 1)
    await attempts(running, 2)
    running.clock.move(seconds=1)
    assert await running.control.notices() == []
    seen = len(inbox.received)
    running.clock.move(seconds=DAY_S)
    await running.merchant.get("me")
    assert len(inbox.received) == seen


async def test_a_notice_waits_for_an_address(tmp_path: Path, inbox: NoticeInbox) -> None:
    async with till(tmp_path) as running:
        await running.paid()
        assert inbox.received == []
        await running.control.set_notice_url(inbox.url)
        await received(inbox, 1)


async def test_a_restart_keeps_undelivered_notices(tmp_path: Path, inbox: NoticeInbox) -> None:
    """W-72: so does the address that was set in the cabinet."""
    clock = MovedClock()
    inbox.statuses = [500]
    async with till(tmp_path, clock=clock) as running:
        await running.control.set_notice_url(inbox.url)
        await running.paid()
        await attempts(running, 1)
    clock.move(seconds=1)
    async with till(tmp_path, clock=clock):
        await received(inbox, 2)


async def test_a_merchant_that_is_away_gets_its_notice(tmp_path: Path) -> None:
    """W-72: nobody listens at first."""
    async with till(tmp_path) as running:
        async with notice_inbox() as gone:
            url = gone.url
        await running.control.set_notice_url(url)
        await running.paid()
        await attempts(running, 1)
        async with notice_inbox() as inbox:
            await running.control.set_notice_url(inbox.url)
            running.clock.move(seconds=1)
            await received(inbox, 1)


async def test_a_planned_notice_comes_late(running: Till, inbox: NoticeInbox) -> None:
    await running.control.plan_notice(event="payment.succeeded", late_s=300)
    await running.paid()
    running.clock.move(seconds=299)
    await running.merchant.get("me")
    assert (await running.control.notices())[0]["attempts"] == 0
    running.clock.move(seconds=1)
    await received(inbox, 1)


async def test_a_planned_notice_never_comes(running: Till, inbox: NoticeInbox) -> None:
    """The payment is there all the same; only reading it tells."""
    await running.control.plan_notice(never=True)
    paid = await running.paid()
    other = await running.paid()
    await received(inbox, 1)
    running.clock.move(seconds=3600)
    await until(lambda: dropped_only(running))
    assert [one["object"]["id"] for one in inbox.received] == [other["id"]]
    assert (await running.merchant.payment(paid["id"]))["status"] == "succeeded"


async def dropped_only(running: Till) -> bool:
    states = [one["state"] for one in await running.control.notices()]
    return states == ["delivered", "dropped"]


async def test_an_accepted_notice_can_come_again(running: Till, inbox: NoticeInbox) -> None:
    await running.paid()
    await received(inbox, 1)
    await until(lambda: delivered(running))
    (notice,) = await running.control.notices()
    await running.control.repeat(notice["id"])
    await received(inbox, 2)
    assert inbox.received[0] == inbox.received[1]
    with pytest.raises(ControlError, match="There is no such notice"):
        await running.control.repeat(notice["id"] + 1)


@pytest.mark.parametrize("url", ["http://shop.example/notices", "ftp://shop.example", ""])
async def test_an_address_without_https_is_refused(running: Till, url: str) -> None:
    with pytest.raises(ControlError, match="is expected"):
        await running.control.set_notice_url(url)
