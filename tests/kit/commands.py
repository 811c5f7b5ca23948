"""`turnpike …` as an operator runs it, and services that do nothing but answer him."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from pydantic import SecretStr

from shared.owners import OWNERS
from shared.service import Service
from shared.settings import ServiceSettings
from tests.kit.access import HANG_S, until
from tests.kit.servers import FreshDatabase
from turnpike_local.ports import free_port

TURNPIKE = [sys.executable, "-m", "turnpike_cli.main"]
RUN_TIMEOUT_S = 60.0


async def turnpike(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a run with these variables and none of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNPIKE_")}
    process = await asyncio.create_subprocess_exec(
        *TURNPIKE, *arguments, stdout=PIPE, stderr=PIPE, env=environment | variables
    )
    out, err = await asyncio.wait_for(process.communicate(), RUN_TIMEOUT_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def bare_services(place: FreshDatabase, nats_url: str) -> dict[str, Service]:
    """All five, without anything of their own: not running yet."""
    return {
        owner: Service(
            owner,
            ServiceSettings(
                dsn=SecretStr(place.dsn(f"{owner}_app")), nats_url=SecretStr(nats_url), http_port=free_port()
            ),
        )
        for owner in OWNERS
    }


@asynccontextmanager
async def living(services: Sequence[Service]) -> AsyncIterator[None]:
    """In this process, until the end of the block."""
    lives = [asyncio.create_task(service.run()) for service in services]
    try:
        for service, life in zip(services, lives, strict=True):
            await until(partial(_opened, service, life))
        yield
    finally:
        for service in services:
            service.stopping.set()
        await asyncio.wait(lives, timeout=HANG_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


def _opened(service: Service, life: asyncio.Task[int]) -> bool:
    assert not life.done(), f"{service.owner} ended at its start"
    return service.health.opened
