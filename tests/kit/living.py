"""A service that runs in the process of the test."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr

from payments.settings import Settings
from shared.service import Service
from tests.kit.waiting import HANG_S, until
from turnpike_local.ports import LOOPBACK, free_port


def settings(dsn: str, nats_url: str) -> Settings:
    return Settings(dsn=SecretStr(dsn), nats_url=SecretStr(nats_url), http_port=free_port())


@asynccontextmanager
async def living(subject: Service, *, until_open: bool = True) -> AsyncIterator[asyncio.Task[int]]:
    """Run the service. Its task answers the exit status; it is stopped at the end of the block."""
    life = asyncio.create_task(subject.run())
    try:
        if until_open:
            await until(lambda: subject.health.opened or life.done())
        yield life
    finally:
        subject.stopping.set()
        await asyncio.wait([life], timeout=HANG_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


async def probe(subject: Service, path: str) -> tuple[int, str]:
    """The answer of a health endpoint; status 0 while it is not open."""
    url = f"http://{LOOPBACK}:{subject.settings.http_port}{path}"
    try:
        async with aiohttp.request("GET", url) as answer:
            return answer.status, (await answer.text()).strip()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def readiness(subject: Service, status: int, *parts: str) -> None:
    """Wait until `/readyz` answers with that status, and a sentence with all of these parts."""
    seen: list[tuple[int, str]] = []

    async def answered() -> bool:
        seen.append(await probe(subject, "/readyz"))
        return seen[-1][0] == status and all(part in seen[-1][1] for part in parts)

    try:
        await until(answered)
    except AssertionError:
        pytest.fail(f"/readyz answers {seen[-1]}, not {status} with {parts}")
