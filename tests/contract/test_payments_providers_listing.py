"""Listings of payment providers: complete by pages, within their window, resumable by a text."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from payments.domain.provider import Page, Payment, Refusal
from tests.kit.providers import STAGES, Stage, opened_on


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with STAGES[request.param](tmp_path) as running:
        yield running


async def listed(stage: Stage, since: timedelta) -> list[Payment]:
    """The whole window, page by page."""
    found: list[Payment] = []
    after: str | None = None
    for _ in range(100):
        now = stage.now() + timedelta(seconds=1)
        page = await stage.provider.list_payments(now - since, now, after)
        assert isinstance(page, Page), page
        assert not page.unreadable
        found.extend(page.payments)
        after = page.next
        if after is None:
            return found
    raise AssertionError("the listing has no end")


async def test_pages_are_complete_and_repeat_none(stage: Stage) -> None:
    """A payment whose notice never came is in the listing."""
    paid = []
    for _ in range(23):
        _, opened = await opened_on(stage)
        stage.later(seconds=10)
        await stage.pay(opened.reference)
        paid.append(opened.reference)
    found = [one for one in await listed(stage, timedelta(hours=1)) if one.state == "succeeded"]
    assert sorted(one.reference for one in found) == sorted(paid)


async def test_a_listing_ends_at_its_window(stage: Stage) -> None:
    _, old = await opened_on(stage)
    await stage.pay(old.reference)
    stage.later(hours=2)
    _, new = await opened_on(stage)
    await stage.pay(new.reference)
    assert [one.reference for one in await listed(stage, timedelta(hours=1))] == [new.reference]


async def test_an_older_invoice_paid_now_is_listed(stage: Stage) -> None:
    """It was made before the window and paid in it."""
    _, opened = await opened_on(stage, expires_in_s=3600)
    stage.later(minutes=50)
    await stage.pay(opened.reference)
    found = await listed(stage, timedelta(minutes=10))
    assert [one.reference for one in found] == [opened.reference]


async def test_a_foreign_cursor_is_refused(stage: Stage) -> None:
    now = stage.now()
    for cursor in ("elsewhere", "-1", "²"):
        assert isinstance(await stage.provider.list_payments(now, now, cursor), Refusal)
