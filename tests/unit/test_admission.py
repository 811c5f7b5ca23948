"""Admission of requests: places, the order of those that wait, and their end."""

import asyncio

import pytest

from shared.messaging.admission import Admission


async def test_oldest_is_crowded_out_by_the_newest() -> None:
    """W-37: the room has a bound, and the newest has the longest to live."""
    admission, loop = Admission(size=1, waiting=2), asyncio.get_running_loop()
    assert await admission.enter(None) == "admitted"
    oldest, older, newest = (loop.create_task(admission.enter(None)) for _ in range(3))
    assert await oldest == "crowded_out"
    admission.leave()
    assert await newest == "admitted"
    assert not older.done()
    admission.leave()
    assert await older == "admitted"


async def test_nobody_keeps_the_place_of_the_cancelled() -> None:
    admission, loop = Admission(size=1, waiting=2), asyncio.get_running_loop()
    assert await admission.enter(None) == "admitted"
    older, cancelled = (loop.create_task(admission.enter(None)) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    admission.leave()
    assert await older == "admitted"
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_expired_one_gets_no_place() -> None:
    """W-37: it has left, and the place is still free for the next."""
    admission, now = Admission(size=1, waiting=2), asyncio.get_running_loop().time()
    assert await admission.enter(now) == "admitted", "nobody waits while there is room"
    assert await admission.enter(now - 1) == "expired"
    admission.leave()
    assert await admission.enter(None) == "admitted"
