"""Work that a signal cancels ends in order, even if the cancellation makes it fail."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from turnpike_local.stopping import SIGNALS, until_stopped


@pytest.fixture(autouse=True)
async def _handlers() -> AsyncIterator[None]:
    """Of this loop, which other tests use too."""
    yield
    for number in SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)


async def fails_when_cancelled() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise OSError("the connection was lost") from None
    return "done"


async def test_an_error_of_the_cancellation_is_none() -> None:
    signals: list[str] = []
    work = until_stopped(fails_when_cancelled(), on_signal=lambda: signals.append("stopping"))
    assert await work is None
    assert signals == ["stopping"]


async def test_an_error_of_the_work_is_raised() -> None:
    async def fails() -> str:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await until_stopped(fails(), on_signal=lambda: None)


async def test_work_that_ends_has_its_result() -> None:
    async def ends() -> str:
        return "done"

    assert await until_stopped(ends(), on_signal=lambda: None) == "done"
